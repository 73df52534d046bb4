"""Attribution methods beside captum's: the same maps, in the same process, in turn."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from benchmarks.measure import Figures, in_turn, median, median_ratio, table, tell
from benchmarks.patches import networks
from visualization.attribution.cams import grad_cam
from visualization.attribution.gradients import (
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
)
from visualization.attribution.masking import occlusion_map

ROUNDS = 3
STEPS = 50  # of integrated gradients
Attribute = Callable[[], Tensor]


class Subject(NamedTuple):
    """A classifier, images (B, C, H, W), the classes (B,), and the layer of Grad-CAM."""

    model: nn.Module
    images: Tensor
    target: Tensor
    layer: str


def subjects() -> dict[str, Subject]:
    """Return a plain network with 64 images of 28 × 28, and ResNet-18 with 2 of 112 × 112."""
    torch.manual_seed(0)
    deep = resnet18().eval()
    for module in deep.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # captum's hooks take none that write over their input
    return {
        "plain, 64 × 28²": Subject(
            networks()["plain"][0], torch.rand(64, 1, 28, 28), torch.randint(10, (64,)), "7"
        ),
        "ResNet-18, 2 × 112²": Subject(
            deep, torch.rand(2, 3, 112, 112), torch.randint(1000, (2,)), "layer4"
        ),
    }


def ways(subject: Subject) -> Mapping[str, tuple[Attribute, Attribute]]:
    """Return for each method ours and captum's."""
    from captum import attr

    model, images, target, layer = subject
    gauss: dict[str, Any] = {"method": "gausslegendre", "n_steps": STEPS}
    side = images.shape[-1] // 4  # pixels of the occluded window
    window, stride = ((images.shape[1], size, size) for size in (side, side // 2))

    def captum_grad_cam() -> Tensor:
        cam = attr.LayerGradCam(model, model.get_submodule(layer))
        maps = cam.attribute(images, target, relu_attributions=True)
        return F.interpolate(maps, images.shape[-2:], mode="bilinear")[:, 0]

    pairs: dict[str, tuple[Attribute, Attribute]] = {
        "saliency": (
            lambda: saliency(model, images, target),
            lambda: attr.Saliency(model).attribute(images, target, abs=False),
        ),
        "input × gradient": (
            lambda: input_x_gradient(model, images, target),
            lambda: attr.InputXGradient(model).attribute(images, target=target),
        ),
        f"integrated gradients, {STEPS} nodes": (
            lambda: integrated_gradients(model, images, target, num_steps=STEPS),
            lambda: attr.IntegratedGradients(model).attribute(images, 0, target, **gauss),
        ),
        "guided backpropagation": (
            lambda: guided_backprop(model, images, target),
            lambda: attr.GuidedBackprop(model).attribute(images, target),
        ),
        "deconvolution": (
            lambda: deconvnet(model, images, target),
            lambda: attr.Deconvolution(model).attribute(images, target),
        ),
        "Grad-CAM": (
            lambda: grad_cam(model, images, target, cam_layer=layer),
            captum_grad_cam,
        ),
        "occlusion, windows of a quarter": (
            lambda: occlusion_map(model, images, target, window=side, stride=side // 2),
            lambda: attr.Occlusion(model).attribute(images, window, stride, target=target)[:, 0],
        ),
    }
    return pairs


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference of two attributions, as a share of the largest value."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    largest = theirs.abs().max().clamp_min(torch.finfo(theirs.dtype).tiny)
    return float((ours - theirs).abs().max() / largest)


def compared(rounds: int) -> Iterator[tuple[str, Figures]]:
    """Yield a name of each method of each network, and its figures."""
    for place, subject in subjects().items():
        for name, (ours, theirs) in ways(subject).items():
            differ = agreement(ours().detach(), theirs().detach())
            times = in_turn({"ours": ours, "captum": theirs}, rounds)
            found = {
                "ms": 1e3 * median(times["ours"]),
                "captum_ms": 1e3 * median(times["captum"]),
                "ratio": median_ratio(times["captum"], times["ours"]),
                "largest_difference": differ,
            }
            tell(f"{place}, {name}: {found['ratio']:.2f} times captum's speed")
            yield f"{place}, {name}", found


def measure(rounds: int = ROUNDS) -> Figures:
    """Return the milliseconds of each method, ours and captum's, or why there are none."""
    try:
        import captum
    except ImportError as error:
        return {"missing": [f"captum: {error} (pip install captum)"], "methods": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum tells of its hooks at each call
        methods = dict(compared(rounds))
    return {"missing": [], "captum": captum.__version__, "methods": methods}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [
            name, f"{f['ms']:.1f}", f"{f['captum_ms']:.1f}", f"{f['ratio']:.2f}",
            f"{f['largest_difference']:.0e}",
        ]
        for name, f in figures["methods"].items()
    ]  # fmt: skip
    head = ["attribution of images", "ms", "captum, ms", "× its speed", "largest difference"]
    return "\n\n".join([table(head, rows), *figures["missing"]])
