"""Prints grid_sample_goldens.json: values and gradients of PyTorch's grid_sample in float64, the inputs beside them.

Every mode, padding and convention; odd shapes and memory layouts. All inputs are float32 numbers, so that both precisions sample the same
points. The gradients are those of sum(output * upstream). Both sides of the differential test build the layouts from dense tensors.
"""

import itertools
import json

import torch
import torch.nn.functional as F

torch.manual_seed(7)

# Images, channels, sides of the image, sides of the output, memory layout.
SHAPES = [
    (2, 2, (3, 5), (4, 3), "dense"),
    (1, 3, (7, 2), (2, 5), "channels_last"),
    (2, 1, (1, 6), (3, 3), "transposed"),
    (1, 2, (4, 1), (1, 7), "expanded_channels"),
    (3, 1, (2, 2), (3, 2), "grid_permuted"),
]


def numbers(t):
    return [float(f"{v:.12g}") for v in t.flatten().tolist()]


def random(*shape, scale=1.0):
    """Multiples of 1/1024 with a small odd part: exact in float32, and off every kink."""
    n = torch.randint(-1024, 1024, shape, dtype=torch.float64)
    return scale * (n + 0.40625) / 1024


def views(u, g, layout):
    if layout == "channels_last":
        u = u.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if layout == "transposed":
        u = u.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "expanded_channels":
        u = u[:, :1].expand_as(u)
    if layout == "grid_permuted":
        g = g.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    return u, g


def case(mode, padding, align_corners, images, channels, size, out, layout):
    u = random(images, channels, *size).requires_grad_()
    g = random(images, *out, 2, scale=2.0).requires_grad_()
    v = F.grid_sample(*views(u, g, layout), mode=mode, padding_mode=padding, align_corners=align_corners)
    upstream = random(*v.shape)
    (v * upstream).sum().backward()
    tensors = {"input": u, "grid": g, "output": v, "upstream": upstream, "grad_input": u.grad, "grad_grid": g.grad}
    return {
        "mode": mode,
        "padding": padding,
        "align_corners": align_corners,
        "layout": layout,
        **{name: {"shape": list(t.shape), "values": numbers(t)} for name, t in tensors.items()},
    }


modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
options = list(itertools.product(modes, paddings, (True, False)))
cases = [case(*o, *s) for o in options for s in SHAPES]
origin = "printed by grid_sample_goldens.py, PyTorch " + torch.__version__.split("+")[0] + ", float64"
print('{"origin": ' + json.dumps(origin) + ', "cases": [')
print(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
print("]}")
