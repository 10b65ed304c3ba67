"""PyTorch's side of the race in peers/main.rs: one request a line on standard input, one answer a line on standard output, both JSON.

    {"open": {"work": ..}, "name": ..}   builds a row, runs it once     -> {"shape": [..], "params": n}
    {"time": reps, "warm": reps, "name": ..}                            -> {"ms": [..]}
    {"close": name}                      forgets it                     -> {}

Shapes, losses and optimisers are those of our side; weights are PyTorch's own. Everything is eager, contiguous and in its default
settings, as a user would write it. ReLU follows the pool: the same values as before it, on a quarter of the elements.
"""

import datetime
import json
import math
import platform
import sys
import time
import traceback
import warnings

warnings.filterwarnings("ignore", message=".*NumPy.*")
try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit(1)

# So small that nothing moves far: every step does the work of the first.
LR = 1e-6


def noise(*shape):
    return torch.rand(*shape)


def leaf(tensor, wanted):
    return tensor.requires_grad_(wanted)


class Row:
    """What is timed: `step` gives the output; `params` are the elements that get a gradient."""

    def __init__(self, step, params):
        self.step = step
        self.params = params


def op(forward, leaves, backward):
    """A row of one operation: its gradients start from ones and are dropped before the next run."""
    leaves = [tensor for tensor in leaves if tensor.requires_grad]

    def step():
        if not backward:
            with torch.no_grad():
                return forward()
        for tensor in leaves:
            tensor.grad = None
        out = forward()
        out.backward(torch.ones_like(out))
        return out

    return Row(step, sum(tensor.numel() for tensor in leaves) if backward else 0)


def matmul(work):
    n = work["n"]
    a, b = noise(n, n), noise(n, n)
    return op(lambda: a @ b, [], False)


def conv(work):
    """A convolution, or a block of convolution, bias, ReLU and max-pool 2x2."""
    image = leaf(noise(*work["input"]), work["image_gradient"])
    channels, filters, kernel = work["input"][1], work["filters"], work["kernel"]
    weight = leaf(noise(filters, channels, kernel, kernel) - 0.5, True)
    bias = leaf(torch.zeros(filters), True)

    def forward():
        out = F.conv2d(image, weight, bias, padding=work["padding"])
        return F.relu(F.max_pool2d(out, 2)) if work["pool"] else out

    return op(forward, [image, weight, bias], work["backward"])


def thetas(batch):
    """Small rotations and scales, one an image; ours are the same."""
    rows = []
    for i in range(batch):
        scale, angle = 0.9 + 0.1 * math.cos(i), 0.3 * math.sin(i)
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        rows.append([[c, -s, 0.05], [s, c, -0.05]])
    return torch.tensor(rows)


def sample(work):
    image, out = leaf(noise(*work["input"]), True), work["out"]
    size = (image.shape[0], image.shape[1], *out)
    theta = thetas(image.shape[0])
    if len(out) == 3:
        # The same turn about z, and z itself.
        volume = torch.zeros(theta.shape[0], 3, 4)
        volume[:, :2, :2], volume[:, :2, 3], volume[:, 2, 2] = theta[:, :, :2], theta[:, :, 2], 0.95
        theta = volume
    if work["affine"]:
        theta.requires_grad_(True)

        def forward():
            return F.grid_sample(image, F.affine_grid(theta, size, align_corners=True), align_corners=True)

        return op(forward, [image, theta], work["backward"])
    grid = leaf(F.affine_grid(theta, size, align_corners=True).contiguous(), True)
    return op(lambda: F.grid_sample(image, grid, align_corners=True), [image, grid], work["backward"])


def control_points(n=4):
    line = torch.linspace(-1, 1, n, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)


class Spline(nn.Module):
    """A thin plate spline: the system is solved once, so that the grid is a constant basis times theta."""

    def __init__(self, side):
        super().__init__()
        control = control_points()
        k = len(control)
        line = torch.linspace(-1, 1, side, dtype=torch.float64)
        target = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)

        def radial(a):
            squared = ((a[:, None] - control[None]) ** 2).sum(-1)
            return torch.where(squared > 0, 0.5 * squared * squared.clamp_min(1e-300).log(), 0.0)

        system = torch.zeros(k + 3, k + 3, dtype=torch.float64)
        system[:k, :k] = radial(control)
        system[:k, k], system[:k, k + 1 :] = 1, control
        system[k:, :k] = system[:k, k:].T
        right = torch.zeros(k + 3, k, dtype=torch.float64)
        right[:k] = torch.eye(k, dtype=torch.float64)
        rows = torch.cat([radial(target), torch.ones(len(target), 1, dtype=torch.float64), target], 1)
        self.register_buffer("basis", (rows @ torch.linalg.solve(system, right)).float())
        self.side, self.k = side, k

    def forward(self, theta):
        return (self.basis @ theta.view(-1, self.k, 2)).view(-1, self.side, self.side, 2)


def tps_grid(work):
    spline = Spline(work["side"])
    theta = control_points().float().flatten().repeat(work["batch"], 1)
    theta = leaf((theta + 0.05 * noise(*theta.shape)).contiguous(), True)
    return op(lambda: spline(theta), [theta], work["backward"])


class Projective(nn.Module):
    def __init__(self, side):
        super().__init__()
        line = torch.linspace(-1, 1, side)
        target = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
        self.register_buffer("target", torch.cat([target, torch.ones(len(target), 1)], 1))
        self.side = side

    def forward(self, theta):
        matrix = torch.cat([theta, torch.ones(len(theta), 1)], 1).view(-1, 3, 3)
        points = self.target @ matrix.transpose(1, 2)
        grid = points[..., :2] / points[..., 2:].clamp_min(1e-3)
        return grid.view(-1, self.side, self.side, 2)


# A transform with which no sample falls on a pixel's centre, as at the identity; ours start with the same.
TILT = [0.9, -0.2, 0.05, 0.2, 0.9, -0.05]


class Transformer(nn.Module):
    """Localisation net, grid generator and sampler; the output has the input's size."""

    def __init__(self, localisation, features, kind, channels, side):
        super().__init__()
        self.size, self.kind = (channels, side, side), kind
        if kind == "aff":
            self.grid, bias = None, torch.tensor(TILT)
        elif kind == "proj":
            self.grid, bias = Projective(side), torch.tensor([*TILT, 0.0, 0.0])
        else:
            matrix = torch.tensor(TILT).view(2, 3)
            self.grid, bias = Spline(side), (control_points().float() @ matrix[:, :2].T + matrix[:, 2]).flatten()
        regression = nn.Linear(features, len(bias))
        nn.init.zeros_(regression.weight)
        regression.bias.data.copy_(bias)
        self.localisation = nn.Sequential(*localisation, regression)

    def forward(self, x):
        theta = self.localisation(x)
        if self.grid is None:
            grid = F.affine_grid(theta.view(-1, 2, 3), (len(x), *self.size), align_corners=True)
        else:
            grid = self.grid(theta)
        return F.grid_sample(x, grid, align_corners=True)


def fc_localisation(features):
    return [nn.Flatten(), nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()], 32


def conv_localisation(side):
    """A.4: on the halved image."""
    last = (side // 2 - 4) // 2 - 4
    convs = [nn.AvgPool2d(2), nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 20, 5), nn.ReLU()]
    return convs + [nn.Flatten(), nn.Linear(20 * last * last, 20), nn.ReLU()], 20


def full_localisation():
    """On 28x28 at full resolution, with a second pool."""
    convs = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 20, 5), nn.MaxPool2d(2), nn.ReLU()]
    return convs + [nn.Flatten(), nn.Linear(320, 20), nn.ReLU()], 20


def single_localisation(side):
    """Of SVHN's ST-CNN Single."""
    last = side // 2
    convs = [nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(32, 32, 5, padding=2), nn.ReLU()]
    fcs = [nn.Flatten(), nn.Linear(32 * last * last, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
    return convs + fcs, 32


def mnist_network(work):
    side, width = work["side"], work["width"]
    layers = []
    if work["localisation"]:
        nets = {"fc": lambda: fc_localisation(side * side), "conv": lambda: conv_localisation(side), "full": full_localisation}
        net, features = nets[work["localisation"]]()
        layers.append(Transformer(net, features, work["transform"], 1, side))
        if side in (42, 60):
            layers.append(nn.AvgPool2d(2))
            side //= 2
    if work["classifier"] == "fcn":
        layers += [nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, 10))
    ceil = side == 21
    pooled = (lambda n: -(-n // 2)) if ceil else (lambda n: n // 2)
    last = pooled(pooled(side - 8) - 6)
    for inputs, kernel in [(1, 9), (width, 7)]:
        layers += [nn.Conv2d(inputs, width, kernel), nn.MaxPool2d(2, ceil_mode=ceil), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * last * last, 10))


def train(network, optimiser, images, labels, loss):
    network.train()

    def step():
        optimiser.zero_grad(set_to_none=True)
        out = network(images)
        loss(out, labels).backward()
        optimiser.step()
        return out.detach()

    return Row(step, sum(p.numel() for p in network.parameters()))


def mnist(work):
    network = mnist_network(work)
    images = noise(work["batch"], 1, work["side"], work["side"])
    if not work["train"]:
        row = op(lambda: network(images), [], False)
        row.params = sum(p.numel() for p in network.parameters())
        return row
    labels = torch.arange(work["batch"]) % 10
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.01)
    return train(network, optimiser, images, labels, F.cross_entropy)


def svhn_network(work):
    side, filters = work["side"], work["filters"]
    channels, layers = 3, []
    for i, (width, pool) in enumerate(zip(filters, [1, 0, 1, 0, 1, 0, 1, 0])):
        if i < work["transformers"]:
            net = single_localisation(side) if work["transformers"] == 1 else fc_localisation(channels * side * side)
            layers.append(Transformer(*net, "aff", channels, side))
        layers.append(nn.Conv2d(channels, width, 5, padding=2))
        if pool:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers.append(nn.ReLU())
        if i > 0:
            layers.append(nn.Dropout(work["dropout"]))
        channels = width
    layers.append(nn.Flatten())
    features, units = channels * side * side, work["units"]
    for _ in range(3):
        layers += [nn.Linear(features, units), nn.ReLU(), nn.Dropout(work["dropout"])]
        features = units
    return nn.Sequential(*layers, nn.Linear(units, 55), nn.Unflatten(1, (5, 11)))


def svhn(work):
    network = svhn_network(work)
    images = noise(work["batch"], 3, work["side"], work["side"])
    labels = torch.arange(work["batch"] * 5).view(-1, 5) % 11
    optimiser = torch.optim.SGD(network.parameters(), lr=LR, weight_decay=5e-4)

    def loss(logits, labels):
        return sum(F.cross_entropy(logits[:, i], labels[:, i]) for i in range(5))

    return train(network, optimiser, images, labels, loss)


def backbone_network(kind):
    """From timm, and the BN-Inception from Cadene's pretrainedmodels."""
    if kind == "bn-inception":
        from pretrainedmodels.models.bninception import BNInception

        return BNInception()
    import timm

    return timm.create_model({"lite0": "tf_efficientnet_lite0", "inception-v3": "inception_v3"}[kind])


def backbone(work):
    network = backbone_network(work["kind"])
    images = noise(work["batch"], 3, 224, 224)
    if not work["train"]:
        network.eval()

        def step():
            with torch.no_grad():
                return network(images)

        return Row(step, sum(p.numel() for p in network.parameters()))
    labels = torch.arange(work["batch"])
    optimiser = torch.optim.SGD(network.parameters(), lr=LR)
    row = train(network, optimiser, images, labels, F.cross_entropy)
    network.train(not work["frozen"])
    return row


BUILDERS = {
    "matmul": matmul,
    "conv": conv,
    "sample": sample,
    "tps-grid": tps_grid,
    "mnist": mnist,
    "svhn": svhn,
    "backbone": backbone,
}


def clock(step, reps):
    times = []
    for _ in range(reps):
        start = time.perf_counter_ns()
        step()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def answer(rows, request):
    if "open" in request:
        row = BUILDERS[request["open"]["work"]](request["open"])
        rows[request["name"]] = row
        return {"shape": list(row.step().shape), "params": row.params}
    if "time" in request:
        step = rows[request["name"]].step
        clock(step, request["warm"])
        return {"ms": clock(step, request["time"])}
    del rows[request["close"]]
    return {}


def main():
    threads = int(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    hello = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(hello), flush=True)
    rows = {}
    for line in sys.stdin:
        try:
            said = answer(rows, json.loads(line))
        except Exception:
            said = {"error": traceback.format_exc()}
        print(json.dumps(said), flush=True)


main()
