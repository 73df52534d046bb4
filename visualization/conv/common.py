"""What the functions on bare modules share: images, the unit that is asked about, hygiene.

B images, C channels, H rows, W columns.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.tracing import find_layer, tapped
from visualization.untouched import untouched

Images = Tensor | NDArray[Any]
Unit = tuple[int, int, int]  # channel, row, column of a feature map
Target = int | tuple[int, ...] | Sequence[int] | Tensor | NDArray[Any] | None


@contextlib.contextmanager
def inspecting(model: nn.Module) -> Iterator[None]:
    """Run a block on a model that is left as it was: see `untouched`.

    In the block its parameters ask for no gradients, which saves their half of each backward pass,
    gradients are on, and recurrent layers have a backward pass in evaluation mode on a GPU too.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn
    flags = cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    with untouched(model), flags, torch.inference_mode(False), torch.enable_grad():
        model.requires_grad_(False)
        yield


def home(
    model: nn.Module, otherwise: torch.dtype | None = None
) -> tuple[torch.device, torch.dtype]:
    """Return the device and the floating type of a model's parameters, or of its buffers.

    Without either: the CPU, and the type `otherwise` (None: torch's default).
    """
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), otherwise or torch.get_default_dtype()


def as_images(images: Images, model: nn.Module, name: str = "images") -> Tensor:
    """Return a copy of images (B, C, H, W) on the model's device and in its type.

    One (C, H, W) is a batch. It is a copy, for a model may begin with something in place.

    Raises:
        ValueError: another number of axes, an empty one, or NaN or inf.
    """
    held = (
        images.detach().clone() if isinstance(images, Tensor) else torch.as_tensor(np.array(images))
    )
    device, dtype = home(model, held.dtype if held.is_floating_point() else None)
    held = held[None] if held.ndim == 3 else held
    if held.ndim != 4 or 0 in held.shape:
        accepted = "(images, channels, height, width) or (channels, height, width), none of them 0"
        raise ValueError(
            f"{name}: shape {tuple(images.shape)} is not accepted; accepted: {accepted}"
        )
    held = held.to(device, dtype)
    if not (held.sum().isfinite() or held.isfinite().all()):  # the sum is quick, and tells mostly
        raise ValueError(f"{name}: has NaN or inf; accepted: finite numbers")
    return held


def one_image(image: Images, model: nn.Module, name: str = "image") -> Tensor:
    """Return a single image as a batch (1, C, H, W).

    Raises:
        ValueError: as `as_images`, or more than one image.
    """
    held = as_images(image, model, name)
    if len(held) != 1:
        raise ValueError(f"{name}: {len(held)} images are not accepted; accepted: one")
    return held


def batches(images: Images | Iterable[Any], model: nn.Module, batch_size: int) -> Iterator[Tensor]:
    """Yield batches (B, C, H, W): slices of an array, or what an iterable, such as a loader, gives.

    Of tuples, such as (images, labels), the first part is taken.
    """
    if isinstance(images, (Tensor, np.ndarray)):
        for first in range(0, len(images), batch_size):
            yield as_images(images[first : first + batch_size], model)
    else:
        for batch in images:
            yield as_images(batch[0] if isinstance(batch, (tuple, list)) else batch, model)


def activation(model: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Return what a layer puts out (B, …), or the model (layer None); the pass goes no further.

    Of a layer that runs several times in a pass the first call is meant; `relu@1` is the second.
    The output keeps its graph if gradients are on.

    Raises:
        ValueError: no such layer; it was never called; or it puts out no single tensor.
    """
    if not layer:
        return demand_tensor(model(images), "the model")
    held: list[Any] = []
    with tapped(model, {one_call(model, layer): held.append}, stop=True):
        model(images)
    if not held:
        raise ValueError(f"layer: {layer!r} was not called while the model ran")
    return demand_tensor(held[0], repr(layer))


def one_call(model: nn.Module, layer: str) -> str:
    """Return a layer's name with the number of the call that is meant: the first, if it has none.

    Raises:
        ValueError: no such layer.
    """
    return layer if find_layer(model, layer).call is not None else f"{layer}@0"


def demand_tensor(output: Any, name: str) -> Tensor:
    """Return an output that is a single tensor, (B, …).

    Raises:
        ValueError: it is none.
    """
    if not isinstance(output, Tensor):
        problem = f"{name} puts out a {type(output).__name__}"
        raise ValueError(f"layer: {problem}; accepted: layers that put out one tensor")
    return output


def score(output: Tensor, target: Target) -> Tensor:
    """Return one number for each image (B,) of an output (B, K) or (B, C, H, W).

    Args:
        output: of a layer or a model.
        target: a channel, class or place in the rows of a vector; of a feature map a channel, which
            stands for the mean of its map, or a unit (channel, row, column); a list or an array
            with one of these numbers for each image; None: for each image its own largest class.

    Raises:
        ValueError: names the place that does not exist, and those that do.
    """
    flat = output[:, None] if output.ndim == 1 else output
    if target is None:
        if flat.ndim != 2:
            accepted = "a channel, or a unit (channel, row, column)"
            problem = f"None is not accepted for an output of shape {tuple(output.shape)}"
            raise ValueError(f"target: {problem}; accepted: {accepted}")
        return flat.amax(dim=1)
    if isinstance(target, (int, np.integer)):
        return _picked(flat, (int(target),))
    if isinstance(target, tuple):
        return _picked(flat, target)
    numbers = target if isinstance(target, Tensor) else torch.as_tensor(np.asarray(target))
    return _each_picked(flat, numbers.to(output.device))


def _picked(output: Tensor, place: tuple[int, ...]) -> Tensor:
    demand_unit(place, tuple(output.shape[1:]))
    held = output
    for at in place:
        held = held.select(1, at)
    return held.flatten(1).mean(dim=1) if held.ndim > 1 else held


def demand_unit(unit: Sequence[int], shape: Sequence[int], name: str = "target") -> None:
    """Raise a ValueError unless a unit, or a channel (channel,), is one of an output's (C, …)."""
    if len(unit) not in (1, len(shape)):
        form = "(channel, row, column)" if len(shape) == 3 else f"{len(shape)} numbers"
        problem = f"{tuple(unit)} is no unit of an output of shape {tuple(shape)}"
        raise ValueError(f"{name}: {problem}; accepted: {form}")
    axes = ("channel", "row", "column")
    for axis, (at, size) in enumerate(zip(unit, shape, strict=False)):
        if not 0 <= at < size:
            of = axes[axis] if axis < len(axes) else f"axis {axis}"
            raise ValueError(f"{name}: {of} {at} does not exist; accepted: 0 to {size - 1}")


def _each_picked(output: Tensor, numbers: Tensor) -> Tensor:
    if numbers.ndim != 1 or len(numbers) != len(output) or numbers.is_floating_point():
        problem = f"{numbers.dtype} of shape {tuple(numbers.shape)} does not go with"
        accepted = f"{len(output)} whole numbers, one for each image"
        raise ValueError(f"target: {problem} {len(output)} images; accepted: {accepted}")
    for bound in (int(numbers.min()), int(numbers.max())):
        demand_unit((bound,), tuple(output.shape[1:]))
    held = output[torch.arange(len(output), device=output.device), numbers.long()]
    return held.flatten(1).mean(dim=1) if held.ndim > 1 else held
