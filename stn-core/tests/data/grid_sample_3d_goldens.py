"""Prints grid_sample_3d_goldens.json: values and gradients of PyTorch's 5-D grid_sample in float64.

All cases share the input, the grid and the upstream gradient; the gradients are those of sum(output * upstream).
"""

import itertools
import json

import torch
import torch.nn.functional as F

torch.manual_seed(0)
SIZE = (3, 5, 7)  # D, H, W


def tensor(t):
    """Twelve decimals; zeros in short."""
    return {"shape": list(t.shape), "values": [round(v, 12) or 0 for v in t.flatten().tolist()]}


def random(*shape, limit=1500):
    """Numbers of three decimals, so that the file holds them exactly."""
    return torch.randint(-limit, limit, shape).to(torch.float64) / 1000


def near_kink(coordinate, size):
    """Within 0.02 voxels of a whole or a half one, in either convention: there float32 may fall on the other side."""
    pixels = ((coordinate + 1) / 2 * (size - 1), ((coordinate + 1) * size - 1) / 2)
    return any(abs(2 * p - round(2 * p)) < 0.04 for p in pixels)


def points(*shape):
    """A grid of random points, x y z, about a third of them outside and some far outside."""
    grid = random(*shape, 3, limit=1800)
    grid[..., 0, :, :] *= 1.5
    flat = grid.reshape(-1, 3)
    for point in flat:
        for axis, size in enumerate(reversed(SIZE)):
            while near_kink(point[axis].item(), size):
                point[axis] = round(point[axis].item() + 0.013, 4)
    return flat.reshape(grid.shape)


inputs = {"input": random(2, 2, *SIZE), "grid": points(2, 3, 2, 5)}
upstream = random(2, 2, 3, 2, 5)


def case(mode, padding, align_corners):
    u, g = (t.clone().requires_grad_() for t in inputs.values())
    out = F.grid_sample(u, g, mode=mode, padding_mode=padding, align_corners=align_corners)
    (out * upstream).sum().backward()
    return {
        "mode": mode,
        "padding": padding,
        "align_corners": align_corners,
        "output": tensor(out),
        "gradients": {"input": tensor(u.grad), "grid": tensor(g.grad)},
    }


shared = {
    "origin": "printed by grid_sample_3d_goldens.py, PyTorch " + torch.__version__.split("+")[0] + ", float64",
    **{name: tensor(t) for name, t in inputs.items()},
    "upstream": tensor(upstream),
}
modes = itertools.product(("bilinear", "nearest"), ("zeros", "border", "reflection"), (True, False))
lines = [f'"{name}": {json.dumps(value)}' for name, value in shared.items()]
lines.append('"cases": [\n' + ",\n".join(json.dumps(case(*mode)) for mode in modes) + "\n]")
print("{\n" + ",\n".join(lines) + "\n}")
