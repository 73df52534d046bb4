"""What it costs to find the patches that excite feature maps most, beside the forward pass.

With `MNIST=FOLDER` the 10,000 scans of the t10k file there; without it, random ones.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.measure import Figures, in_turn, median, median_ratio, table
from tasks.core.idx import read_idx
from visualization.feature_maps.fields.patches import top_patches
from visualization.feature_maps.fields.receptive import receptive_field

ROUNDS = 7
BATCH = 64
NUM_IMAGES = 10_000
K = 9


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after),
            nn.ReLU(inplace=True), nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(before, after, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, after, H / stride, W / stride)."""
        return self.relu(self.inner(x) + self.shortcut(x))


def networks() -> dict[str, tuple[nn.Sequential, dict[str, int]]]:
    """Return small classifiers, each with its first and its last layer of maps by number."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 49, 10),
    )  # fmt: skip
    residual = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
        Residual(32, 32, 2), Residual(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip
    return {
        "plain": (plain.eval(), {"first": 1, "last": 7}),
        "residual": (residual.eval(), {"first": 2, "last": 4}),
    }


def scans() -> tuple[Tensor, str]:
    """Return 10,000 images (N, 1, 28, 28) with values from 0 to 1, and what they are."""
    folder = os.environ.get("MNIST")
    if folder is None:
        drawn = torch.rand(NUM_IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        return drawn, "random images"
    pixels = read_idx(Path(folder) / "t10k-images-idx3-ubyte.gz")
    return torch.from_numpy(pixels[:NUM_IMAGES, None]).float() / 255, "MNIST scans"


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> None:
    """Run a model over all images, and keep nothing."""
    for batch in images.split(BATCH):
        model(batch)


def times(rounds: int, model: nn.Sequential, layer: int, images: Tensor) -> dict[str, list[float]]:
    """Return the seconds of each way in each round; they take turns."""
    part = model[: layer + 1]
    ways: dict[str, Callable[[], object]] = {
        "forward to the layer": lambda: forward(part, images),
        "whole forward": lambda: forward(model, images),
        "top_patches": lambda: top_patches(model, str(layer), images, k=K, batch_size=BATCH),
    }
    return in_turn(ways, rounds)


def gradient_of_unit(
    model: nn.Module, layer: str, unit: tuple[int, ...], shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient of one unit with respect to a random image: one pass there and back.

    That is how a receptive field is usually found. It has a hole where a ReLU is off, so that it is
    a part of the field, and a limit of time.
    """
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output)
    )
    try:
        image = torch.rand(1, *shape, requires_grad=True)
        model(image)
    finally:
        handle.remove()
    return torch.autograd.grad(outputs[0][(0, *unit)], image)[0][0]


def fields(rounds: int) -> Figures:
    """Return the seconds of the exact receptive field of one unit, and of one pass and back."""
    torch.manual_seed(0)
    plain, deep = networks()["plain"][0], resnet18().eval()
    cases: dict[str, tuple[nn.Module, str, tuple[int, ...], tuple[int, ...]]] = {
        "plain, last layer, 28×28": (plain, "7", (0, 3, 3), (1, 28, 28)),
        **{
            f"resnet18, layer3, {side}×{side}": (deep, "layer3", (0, 7, 7), (3, side, side))
            for side in (224, 512, 1024)
        },
    }
    found: Figures = {}
    for name, case in cases.items():
        ways: dict[str, Callable[[], object]] = {
            "receptive_field": functools.partial(receptive_field, *case),
            "gradient": functools.partial(gradient_of_unit, *case),
        }
        taken = in_turn(ways, rounds)
        found[name] = {
            "seconds": median(taken["receptive_field"]),
            "gradient_seconds": median(taken["gradient"]),
            "ratio": median_ratio(taken["receptive_field"], taken["gradient"]),
        }
    return found


def measure(rounds: int = ROUNDS) -> Figures:
    """Return for each layer the median seconds, and the medians of the ratios of each round."""
    images, what = scans()
    layers: Figures = {}
    for name, (model, chosen) in networks().items():
        for place, layer in chosen.items():
            found = times(rounds, model, layer, images)
            ratios = {
                way: median_ratio(found["top_patches"], found[way])
                for way in ("forward to the layer", "whole forward")
            }
            seconds_of = {way: median(taken) for way, taken in found.items()}
            layers[f"{name}, {place} layer"] = {"seconds": seconds_of, "ratios": ratios}
    return {"images": what, "batch": BATCH, "k": K, "layers": layers, "fields": fields(rounds)}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = []
    for name, found in figures["layers"].items():
        times_of, ratios = found["seconds"], found["ratios"]
        rows.append([
            name, f"{times_of['forward to the layer']:.2f} s", f"{times_of['top_patches']:.2f} s",
            f"{ratios['forward to the layer']:.2f}", f"{ratios['whole forward']:.2f}",
        ])  # fmt: skip
    head = [f"{NUM_IMAGES:,} {figures['images']}", "forward", "top_patches"]
    note = "accepted: ≤ 1.15 × the forward pass"
    rest = [
        [name, f"{1000 * f['seconds']:.0f} ms", f"{f['ratio']:.2f}"]
        for name, f in figures["fields"].items()
    ]
    patches = table([*head, "× forward", "× whole forward"], rows) + f"\n{note}"
    flat = "accepted: no more in a larger image, of which the unit sees the same 211×211 pixels"
    head = ["one receptive field, exact", "time", "× one pass and back"]
    return f"{patches}\n\n{table(head, rest)}\n{flat}"
