"""Prints pytorch_goldens.json: values and gradients of PyTorch's operations in float64, the inputs beside them.

The gradients are those of sum(output * upstream).
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(0)


def tensor(t):
    return {"shape": list(t.shape), "values": [round(v, 10) for v in t.flatten().tolist()]}


def random(*shape):
    """Numbers of three decimals, so that the file holds them exactly."""
    return torch.randint(-1500, 1500, shape).to(torch.float64) / 1000


def case(options, f, **inputs):
    for t in inputs.values():
        t.requires_grad_()
    out = f(*inputs.values())
    upstream = random(*out.shape)
    (out * upstream).sum().backward()
    return {
        **options,
        "inputs": {name: tensor(t) for name, t in inputs.items()},
        "output": tensor(out),
        "upstream": tensor(upstream),
        "gradients": {name: tensor(t.grad) for name, t in inputs.items()},
    }


def grid_sample(align_corners, padding):
    options = {"align_corners": align_corners, "padding": padding}
    f = lambda u, g: F.grid_sample(u, g, mode="bilinear", padding_mode=padding, align_corners=align_corners)
    return case(options, f, input=random(2, 2, 3, 4), grid=random(2, 3, 2, 2))


def conv2d(stride, padding, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    f = lambda u, w, b: F.conv2d(u, w, b, stride=stride, padding=padding, dilation=dilation)
    return case(options, f, input=random(2, 2, 7, 6), weight=random(2, 2, 3, 2), bias=random(2))


def pool(name, kernel, stride, padding, ceil_mode):
    options = {"op": name, "kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    f = lambda u: getattr(F, name)(u, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return case(options, f, input=random(1, 1, 7, 6))


WINDOWS = [  # kernel, stride, padding, ceil_mode
    ((2, 2), (2, 2), (0, 0), False),
    ((2, 2), (2, 2), (0, 0), True),
    ((2, 2), (2, 2), (1, 1), True),
    ((3, 3), (2, 2), (1, 1), False),
    ((3, 3), (2, 2), (1, 1), True),
    ((3, 2), (2, 3), (1, 0), True),
    ((3, 4), (1, 2), (0, 2), False),
    ((4, 5), (3, 4), (2, 2), True),
    ((1, 1), (3, 2), (0, 0), True),
    ((8, 7), (2, 3), (0, 0), True),  # larger than the image
]

goldens = {
    "origin": "printed by pytorch_goldens.py, PyTorch " + torch.__version__.split("+")[0] + ", float64",
    "grid_sample": [grid_sample(a, p) for a in (True, False) for p in ("zeros", "border", "reflection")],
    "conv2d": [conv2d(1, 0, 1), conv2d(2, 1, 1), conv2d(3, 2, 2)],
    "pool2d": [pool(name, *window) for name in ("max_pool2d", "avg_pool2d") for window in WINDOWS],
}
sections = [f'"origin": {json.dumps(goldens["origin"])}']
for name in ("grid_sample", "conv2d", "pool2d"):
    sections.append(f'"{name}": [\n' + ",\n".join(json.dumps(c) for c in goldens[name]) + "\n]")
print("{\n" + ",\n".join(sections) + "\n}")
