"""What PyTorch makes of the backbones: references for tests/parity.rs.

    python references.py --out FOLDER [--lite0 model.safetensors]   everything, for STN_PARITY=FOLDER
    python references.py --goldens > goldens.json                   the few numbers that are committed

It needs torch, timm, safetensors and pretrainedmodels (Cadene's port of Caffe's BN-Inception). In FOLDER each network gets its weights (random, or those of
--lite0) in float64, images, logits in evaluation in float32 and float64, and for a cross-entropy in float64 the gradients of all parameters in
evaluation ("eval") and in training ("train"), with the running statistics that training leaves.
"""

import argparse
import json
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


def bn_inception():
    from pretrainedmodels.models.bninception import BNInception

    class AnySize(BNInception):
        """Its last pool is of 7x7; a mean is the same at 224 px."""

        def logits(self, features):
            return self.last_linear(features.mean((2, 3)))

    return AnySize()


def timm_model(name):
    import timm

    return timm.create_model(name, pretrained=False)


# name: (constructor, side of the images whose gradients are compared)
NETWORKS = {
    "lite0": (lambda: timm_model("tf_efficientnet_lite0"), 75),
    "inception-v3": (lambda: timm_model("inception_v3"), 107),
    "bn-inception": (bn_inception, 96),
}


def quiet(net):
    """Without what draws at random in training."""
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if hasattr(net, "drop_rate"):
        net.drop_rate = 0.0
    for module in net.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return net


def calibrate(net, images):
    """Running statistics of these images, so that maps stay within reason."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    net.train()(images)
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
        m.running_var.mul_(1.3).add_(0.01)  # not exactly those that training would find


def write(folder, net, side):
    os.makedirs(folder, exist_ok=True)
    save_file({k: v.clone() for k, v in net.state_dict().items()}, f"{folder}/model.safetensors")
    refs = {}
    large = torch.randn(2, 3, 224, 224, dtype=torch.float64).clamp(-1, 1)
    refs["large"] = large
    net.eval()
    with torch.no_grad():
        refs["large.logits"] = net(large)
    f32 = net.float()
    with torch.no_grad():
        refs["large.logits.f32"] = f32(large.float())
    net.double()
    images, labels = torch.randn(3, 3, side, side, dtype=torch.float64).clamp(-1, 1), torch.tensor([3, 700, 41])
    refs["images"], refs["labels"] = images, labels
    for mode in ["eval", "train"]:
        net.load_state_dict(load_file(f"{folder}/model.safetensors"))
        net.train(mode == "train").zero_grad()
        logits = net(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        refs[f"{mode}.logits"], refs[f"{mode}.loss"] = logits.detach(), loss.detach()
        for name, p in net.named_parameters():
            refs[f"{mode}.grad.{name}"] = p.grad.clone()
    for name, buffer in net.named_buffers():
        if "running" in name:
            refs[f"after.{name}"] = buffer.clone()
    save_file({k: v.contiguous().clone() for k, v in refs.items()}, f"{folder}/references.safetensors")


def wave(name, shape):
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.cos(i * i * 0.1 + i * 0.7 + sum(name.encode()) * 0.01).reshape(shape)


def seen(name, t):
    """A tensor in two numbers: its length, and its product with a wave, which every place and sign in it changes."""
    return [t.norm().item(), (t * wave(name, t.shape)).sum().item()]


def formula(name, shape):
    """Weights that need no file: the test has the same formula."""
    swing = wave(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * swing
    if name.endswith("running_mean") or name.endswith("bias"):
        return 0.1 * swing
    if len(shape) == 1:
        return 1 + 0.2 * swing
    return swing * math.sqrt(4 / math.prod(shape[1:]))


def goldens():
    out = {}
    for kind, (make, _) in NETWORKS.items():
        net = quiet(make()).double()
        state = {k: v if "num_batches" in k else formula(k, v.shape) for k, v in net.state_dict().items()}
        net.load_state_dict(state)
        i = torch.arange(2 * 3 * 96 * 96, dtype=torch.float64)
        images = torch.cos(i * i * 0.001 + i * 0.01).reshape(2, 3, 96, 96)
        case = {}
        for mode in ["eval", "train"]:
            net.load_state_dict(state)
            net.train(mode == "train").zero_grad()
            logits = net(images)
            loss = F.cross_entropy(logits, torch.tensor([3, 700]))
            loss.backward()
            grads = {n: seen(n, p.grad) for n, p in net.named_parameters()}
            case[mode] = {"logits": logits[:, :4].flatten().tolist(), "loss": loss.item(), "gradients": grads}
        # What the step of training has left.
        case["statistics"] = {n: seen(n, b) for n, b in net.named_buffers() if "running" in n}
        out[kind] = case
    print(json.dumps(out, indent=0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--lite0")
    parser.add_argument("--goldens", action="store_true")
    args = parser.parse_args()
    if args.goldens:
        return goldens()
    for seed, (kind, (make, side)) in enumerate(NETWORKS.items()):
        torch.manual_seed(seed)
        net = quiet(make()).double()
        calibrate(net, torch.randn(4, 3, 224, 224, dtype=torch.float64).clamp(-1, 1))
        write(f"{args.out}/{kind}", net, side)
    if args.lite0:
        torch.manual_seed(9)
        net = quiet(NETWORKS["lite0"][0]())
        missing, unexpected = net.load_state_dict(load_file(args.lite0), strict=False)
        assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
        write(f"{args.out}/lite0-imagenet", net.double(), NETWORKS["lite0"][1])


main()
