"""How much can windows of half the image's side tell of a bird, wherever they lie?

A linear classifier on frozen ImageNet features (EfficientNet-Lite0) of windows at fixed places, and of windows laid on the true box, which no
model is given: what a 2xST-CNN could reach without fine-tuning, had it the boxes. PyTorch, timm, pyarrow and Pillow; a folder with the train and
the test file of bentrevett/caltech-ucsd-birds-200-2011 and timm/tf_efficientnet_lite0.in1k's model.safetensors:

    python windows-probe.py DATA_FOLDER MODEL.safetensors
"""

import io
import pathlib
import sys

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

SHORT, SIDE, BATCH = 512, 448, 32  # the square in the middle of the scaled image, as `--data 448` has it


def rows(folder, split):
    for path in sorted(pathlib.Path(folder).glob(f"{split}-*.parquet")):
        yield from pq.read_table(path).to_pylist()


def square(row):
    """The image, and its bird's box in coordinates of -1 to 1."""
    image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
    scale = SHORT / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    image = image.resize((width, height), Image.BILINEAR).crop((left, top, left + SIDE, top + SIDE))
    box = (np.array(row["bbox"]) * scale - [left, top, left, top]) / SIDE * 2 - 1
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1, np.clip(box, -1, 1)


def window(images, x, y):
    """Half the side, sampled one to one."""
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 0.5
    theta[:, 0, 2], theta[:, 1, 2] = x, y
    grid = F.affine_grid(theta, (len(images), 3, SIDE // 2, SIDE // 2), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def features(model, folder, split):
    found, labels, table = {}, [], list(rows(folder, split))
    for start in range(0, len(table), BATCH):
        images, boxes = zip(*(square(row) for row in table[start : start + BATCH]))
        images, boxes = torch.stack(images), torch.tensor(np.stack(boxes)).float()
        labels += [row["label"] for row in table[start : start + BATCH]]
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        aside, zero = 0.35 * (boxes[:, 2] - boxes[:, 0]) / 2, torch.zeros(len(images))
        places = {
            "left": (zero - 0.5, zero), "right": (zero + 0.5, zero), "middle": (zero, zero),
            "box": (x, y), "left of box": (x - aside, y), "right of box": (x + aside, y),
        }
        with torch.no_grad():
            views = {"whole": F.avg_pool2d(images, 2)} | {name: window(images, *at) for name, at in places.items()}
            for name, view in views.items():
                found.setdefault(name, []).append(model(view.to(memory_format=torch.channels_last)))
    return {name: torch.cat(parts) for name, parts in found.items()}, torch.tensor(labels)


def probe(names, train, test, seed):
    (x, labels), (test_x, test_labels) = ((torch.cat([found[name] for name in names], 1), y) for found, y in (train, test))
    mean, std = x.mean(0), x.std(0) + 1e-3
    x, test_x = (x - mean) / std, (test_x - mean) / std
    torch.manual_seed(seed)
    classifier = torch.nn.Linear(x.shape[1], int(labels.max()) + 1)
    torch.nn.init.zeros_(classifier.weight)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(60):
        order = torch.randperm(len(x))
        for start in range(0, len(x), 64):
            at = order[start : start + 64]
            logits = classifier(F.dropout(x[at], 0.5))
            optimiser.zero_grad()
            F.cross_entropy(logits, labels[at], label_smoothing=0.1).backward()
            optimiser.step()
    return 100 * (classifier(test_x).argmax(1) == test_labels).float().mean().item()


folder, weights = sys.argv[1:]
model = timm.create_model("tf_efficientnet_lite0.in1k", pretrained=False, num_classes=0)
model.load_state_dict(load_file(weights), strict=False)
model.eval().to(memory_format=torch.channels_last)
train, test = (features(model, folder, split) for split in ("train", "test"))
for names in (
    ["whole"], ["left"], ["right"], ["middle"], ["left", "right"], ["box"], ["left of box", "right of box"],
    ["whole", "middle"], ["whole", "box"],
):
    print(" + ".join(names), *(f"{probe(names, train, test, seed):.2f}" for seed in (0, 1)), flush=True)
