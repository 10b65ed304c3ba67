"""Prints affine_goldens.json: rotated images by scipy.ndimage.affine_transform (order 1, mode nearest), and the matrices theta.

Theta maps the output's normalised coordinates to the input's, with -1 and +1 at the centres of the corner pixels; SciPy's matrix maps the
output's indices to the input's. Rotation is about the centres of both.
"""

import json
import math

import numpy as np
import scipy
from scipy import ndimage

rng = np.random.default_rng(3)
ANGLES = [0, 15, 45, 90, 137, 180, 270, 301]
SIZES = [((3, 3), (3, 3)), ((4, 6), (5, 3)), ((5, 2), (2, 7)), ((7, 7), (4, 4)), ((2, 5), (6, 6))]


def scaling(h, w):
    """Normalised (x, y, 1) -> indices (row, column, 1)."""
    return np.array([[0, (h - 1) / 2, (h - 1) / 2], [(w - 1) / 2, 0, (w - 1) / 2], [0, 0, 1]])


def case(angle, size, out):
    image = rng.integers(-1000, 1000, size) / 1000
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    theta = np.array([[cos, -sin, 0.125], [sin, cos, -0.25], [0, 0, 1]])
    matrix = scaling(*size) @ theta @ np.linalg.inv(scaling(*out))
    result = ndimage.affine_transform(image, matrix, output_shape=out, order=1, mode="nearest")
    tensor = lambda a: {"shape": list(a.shape), "values": [float(f"{v:.12g}") for v in a.flatten()]}
    return {"angle": angle, "theta": theta[:2].flatten().tolist(), "input": tensor(image), "output": tensor(result)}


cases = [case(angle, *sizes) for angle in ANGLES for sizes in SIZES]
print('{"origin": ' + json.dumps("printed by affine_goldens.py, SciPy " + scipy.__version__) + ', "cases": [')
print(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
print("]}")
