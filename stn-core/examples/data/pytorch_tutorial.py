"""Makes pytorch_tutorial.safetensors: the spatial transformer of PyTorch's tutorial with random weights, four inputs, its theta and its
outputs. Needs torch alone.

    python pytorch_tutorial.py
"""
import json
import struct
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
localization = nn.Sequential(
    nn.Conv2d(1, 8, kernel_size=7), nn.MaxPool2d(2, stride=2), nn.ReLU(True),
    nn.Conv2d(8, 10, kernel_size=5), nn.MaxPool2d(2, stride=2), nn.ReLU(True))
fc_loc = nn.Sequential(nn.Linear(10 * 3 * 3, 32), nn.ReLU(True), nn.Linear(32, 3 * 2))
with torch.no_grad():  # as after some training: near the identity, not at it
    fc_loc[2].weight.mul_(4)
    fc_loc[2].bias.add_(torch.tensor([1., 0, 0, 0, 1, 0]))

x = torch.rand(4, 1, 28, 28)
with torch.no_grad():
    theta = fc_loc(localization(x).view(-1, 90)).view(-1, 2, 3)
    output = F.grid_sample(x, F.affine_grid(theta, x.size(), align_corners=False), align_corners=False)

tensors = {f"localization.{k}": v for k, v in localization.state_dict().items()}
tensors |= {f"fc_loc.{k}": v for k, v in fc_loc.state_dict().items()}
tensors |= {"input": x, "theta": theta, "output": output}

header, data = {}, b""
for name, tensor in tensors.items():
    values = tensor.flatten().tolist()
    raw = struct.pack(f"<{len(values)}f", *values)
    header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open("pytorch_tutorial.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + data)
print(theta)
