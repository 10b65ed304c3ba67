"""Which digits of RTS does an ST-CNN Aff read wrongly: those that stand badly, or the same ones however they stand?

The network of a run with --holdout, rebuilt in PyTorch from its model.safetensors, on eight draws of the last 5,000 training images of MNIST,
which it was not trained on; the distortion is PyTorch's here (bilinear), drawn by a seed of its own. PyTorch, pyarrow, Pillow and safetensors:

    python rts-errors.py data/mnist/train-00000-of-00001.parquet RUN/model.safetensors...
"""

import io
import sys

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

IMAGES, DRAWS, CANVAS, SIDE = 5000, 8, 42, 28


def validation(path):
    rows = pq.read_table(path).slice(60000 - IMAGES, IMAGES).to_pydict()
    pixels = [np.array(Image.open(io.BytesIO(image["bytes"]))) for image in rows["image"]]
    return torch.from_numpy(np.stack(pixels)).float().unsqueeze(1) / 255, torch.tensor(rows["label"])


def uniform(low, high, generator):
    return low + (high - low) * torch.rand(IMAGES, generator=generator)


def rts(digits, generator):
    """Turned by up to 45 degrees, scaled by 0.7 to 1.2, anywhere in 42x42 pixels."""
    degrees, scale = uniform(-45, 45, generator), uniform(0.7, 1.2, generator)
    free = (CANVAS - scale * SIDE) / 2
    x0, y0 = uniform(-1, 1, generator) * free, uniform(-1, 1, generator) * free
    y, x = torch.meshgrid(torch.arange(CANVAS), torch.arange(CANVAS), indexing="ij")
    x, y = x - (CANVAS - 1) / 2 - x0[:, None, None], y - (CANVAS - 1) / 2 - y0[:, None, None]
    cos, sin = (f(degrees.deg2rad())[:, None, None] / scale[:, None, None] for f in (torch.cos, torch.sin))
    grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1) / ((SIDE - 1) / 2)
    return F.grid_sample(digits, grid, align_corners=True), degrees, scale


def network(w, images):
    """The logits and the transform, appendix A.4."""
    conv = lambda name, x: F.relu(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"]))
    fc = lambda name, x: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
    x = F.max_pool2d(conv("transformer.conv1", F.avg_pool2d(images, 2)), 2)
    x = F.relu(fc("transformer.fc", conv("transformer.conv2", x).flatten(1)))
    theta = fc("transformer.regression", x).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    x = F.avg_pool2d(F.grid_sample(images, grid, align_corners=True), 2)
    for name in ("classifier.conv1", "classifier.conv2"):
        x = F.max_pool2d(conv(name, x), 2, ceil_mode=True)
    return fc("classifier.fc", x.flatten(1)), theta


def main():
    digits, labels = validation(sys.argv[1])
    for path in sys.argv[2:]:
        weights, generator = load_file(path), torch.Generator().manual_seed(5)
        wrong, degrees, scale, turned = [], [], [], []
        with torch.no_grad():
            for _ in range(DRAWS):
                images, d, s = rts(digits, generator)
                logits, theta = network(weights, images)
                wrong.append((logits.argmax(1) != labels).float())
                degrees.append(d)
                scale.append(s)
                turned.append(torch.atan2(theta[:, 1, 0] - theta[:, 0, 1], theta[:, 0, 0] + theta[:, 1, 1]).rad2deg())
        times = torch.stack(wrong).sum(0)
        wrong, degrees, scale, turned = map(torch.cat, (wrong, degrees, scale, turned))
        print(f"{path}\n  wrong: {100 * wrong.mean():.2f} %")
        often = times >= DRAWS / 2
        print(f"  digits wrong in every draw: {int((times == DRAWS).sum())}, in at least half: {int(often.sum())}, in one at least: {int((times > 0).sum())}")
        print(f"  share of the errors that are of digits wrong in at least half: {100 * times[often].sum() / times.sum():.0f} %")
        part = lambda of, low, high: f"{100 * wrong[(of >= low) & (of < high)].mean():.2f}"
        print("  wrong by scale 0.7, 0.8 to 1.2:", ", ".join(part(scale, s, s + 0.1) for s in np.arange(0.7, 1.15, 0.1)))
        print("  wrong by rotation -45, -30 to 45:", ", ".join(part(degrees, d, d + 15) for d in range(-45, 45, 15)))
        r, slope = np.corrcoef(degrees, turned)[0, 1], np.polyfit(degrees, turned, 1)[0]
        print(f"  rotation of the transform against that of the distortion: r = {r:.2f}, slope {slope:.2f} (-1 undoes it)")


main()
