"""Input conversion, target selection and inspection mode, shared by functions on bare modules.

B images, C channels, H rows, W columns.
"""

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, not_called_error, value_error
from visualization.core.layout import channels_first, intercept_maps, unit_axes
from visualization.core.preserve import check_module, clone_inputs, preserve_state
from visualization.core.tracing import NamedLayer, find_layer, intercept_outputs, layer_name

Images = Tensor | NDArray[Any]
Unit = tuple[int, int, int]  # channel, row, column of a feature map
OutputSelector = Callable[[Any], Tensor]  # from a raw output, however it is packed, to a part of it
TargetIndex = int | tuple[int, ...] | Sequence[int] | Tensor | NDArray[Any] | None
Target = TargetIndex | OutputSelector


@contextlib.contextmanager
def inspection_mode(model: nn.Module) -> Iterator[None]:
    """Inspection mode: evaluation, gradients on, and the model restored: see `preserve_state`.

    In the block its parameters ask for no gradients, which saves their half of each backward pass,
    gradients are on, and recurrent layers have a backward pass in evaluation mode on a GPU too.
    """
    check_module(model)
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn
    flags = cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    with preserve_state(model), flags, torch.inference_mode(False), torch.enable_grad():
        model.requires_grad_(False)
        yield


def device_and_dtype(
    model: nn.Module, otherwise: torch.dtype | None = None
) -> tuple[torch.device, torch.dtype]:
    """Device and floating type of a model's parameters, or of its buffers.

    Without either: the CPU, and the type `otherwise` (None: torch's default).
    """
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), otherwise or torch.get_default_dtype()


def as_tensor(values: Any, name: str = "values") -> Tensor:
    """Tensor without a graph, from numbers of any kind.

    A tensor stays where and what it is. Arrays may be flipped views, read-only or of another byte
    order, and lists may hold tensors.

    Raises:
        ValueError: they are not numbers, or lists of different lengths.
    """
    if isinstance(values, Tensor):
        return values.detach()
    problem = f"a {type(values).__name__} is not accepted"
    accepted = "a tensor, an array or lists of numbers, of one length"
    try:
        if isinstance(values, (list, tuple)) and any(isinstance(each, Tensor) for each in values):
            return torch.stack([as_tensor(each, name) for each in values])
        array = np.asarray(values)
    except (ValueError, RuntimeError) as error:
        raise argument_error(name, f"{problem}: {error}", accepted) from error
    if array.dtype.kind not in "biufc":
        raise argument_error(name, f"{problem}: {array.dtype} is not a number type", accepted)
    size = min(array.dtype.itemsize, 16 if array.dtype.kind == "c" else 8)  # long double is none
    return torch.from_numpy(np.array(array, f"={array.dtype.kind}{size}", order="C"))


def at_least_float32(values: Tensor) -> Tensor:
    """Numbers of at least 32 bits: numpy and much of torch lack operations on fewer."""
    return values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values


def as_record(values: Tensor) -> Tensor:
    """Return a tensor as records that hold tensors do: on the CPU, and `numpy()` takes it."""
    return at_least_float32(values.detach()).cpu()


def as_images(images: Images, model: nn.Module, name: str = "images") -> Tensor:
    """Return a copy of images (B, C, H, W) on the model's device and in its type.

    One (C, H, W) is a batch.

    Raises:
        ValueError: no numbers, or complex ones; another number of axes, or an empty one; NaN or
            inf.
    """
    tensor = as_tensor(images, name)
    if tensor.is_complex():
        raise value_error(name, tensor.dtype, "real numbers")
    device, dtype = device_and_dtype(model, tensor.dtype if tensor.is_floating_point() else None)
    if tensor.ndim not in (3, 4) or 0 in tensor.shape:
        accepted = "(images, channels, height, width) or (channels, height, width), none of them 0"
        raise value_error(name, f"shape {tuple(tensor.shape)}", accepted)
    tensor = tensor.reshape(-1, *tensor.shape[-3:]).to(
        device, dtype, copy=isinstance(images, Tensor)
    )
    if not (tensor.sum().isfinite() or tensor.isfinite().all()):  # the sum is quick
        raise argument_error(name, "has NaN or inf", "finite numbers")
    return tensor


def one_image(image: Images, model: nn.Module, name: str = "image") -> Tensor:
    """Return a single image as a batch (1, C, H, W).

    Raises:
        ValueError: as `as_images`, or more than one image.
    """
    images = as_images(image, model, name)
    if len(images) != 1:
        raise argument_error(name, f"{len(images)} images are not accepted", "one")
    return images


def batches(images: Images | Iterable[Any], model: nn.Module, batch_size: int) -> Iterator[Tensor]:
    """Batches (B, C, H, W): slices of an array, or what an iterable, such as a loader, gives.

    Of tuples, such as (images, labels), the first part is taken.
    """
    if isinstance(images, (Tensor, np.ndarray)):
        for first in range(0, len(images), batch_size):
            yield as_images(images[first : first + batch_size], model)
    else:
        for batch in images:
            yield as_images(batch[0] if isinstance(batch, (tuple, list)) else batch, model)


def activation(model: nn.Module, images: Tensor, layer: NamedLayer | None = None) -> Tensor:
    """Activation of a layer (B, …), or the model's output (layer None); the pass ends there.

    Of a layer that runs several times in a pass the first call is meant; `relu@1` is the second.
    The output keeps its graph if gradients are on. Feature maps come as (B, C, H, W), also those of
    a layer that outputs (B, H, W, C); see `layout`.

    Raises:
        ValueError: no such layer; it was never called; or it outputs no single tensor.
    """
    name = optional_layer_name(model, layer)
    with clone_inputs(model):
        if name:
            return check_tensor(_first_call(model, images, name, intercept_maps), repr(name))
        with unit_axes(model) as axis:
            return check_tensor(channels_first(model(images), axis, model), "the model")


def raw_output(model: nn.Module, images: Tensor, layer: NamedLayer | None = None) -> Any:
    """Raw output of a layer, or of the model (layer None), however it is packed.

    Raises:
        ValueError: no such layer; or it was never called.
    """
    name = optional_layer_name(model, layer)
    with clone_inputs(model):
        return _first_call(model, images, name, intercept_outputs) if name else model(images)


def _first_call(model: nn.Module, images: Tensor, layer: str, tap: Any) -> Any:
    outputs: list[Any] = []
    with tap(model, {numbered_call(model, layer): outputs.append}, stop=True):
        model(images)
    if not outputs:
        raise not_called_error("layer", layer)
    return outputs[0]


def optional_layer_name(
    model: nn.Module, layer: NamedLayer | None, argument: str = "layer"
) -> str | None:
    """Name of a layer that is given by name or as a module; None: the model's output.

    Raises:
        ValueError: the module is not part of the model.
    """
    return None if layer is None else layer_name(model, layer, argument)


def numbered_call(model: nn.Module, layer: str) -> str:
    """Layer name with the number of the call that is meant: the first, if it has none.

    Raises:
        ValueError: no such layer.
    """
    return layer if find_layer(model, layer).call is not None else f"{layer}@0"


def copy_model(model: nn.Module) -> nn.Module:
    """Deep copy of a model, also of one that keeps results of its last pass."""
    results = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf  # such as by weight_norm's hook
    }
    return copy.deepcopy(model, results)


def check_tensor(output: Any, name: str) -> Tensor:
    """Return an output that is a single tensor, (B, …).

    Raises:
        ValueError: it is none.
    """
    if isinstance(output, Tensor):
        return output.dequantize() if output.is_quantized else output
    problem = f"{name} outputs a {type(output).__name__}"
    if name == "the model":
        accepted = "one tensor, or a function that picks it: `output`, of attributions `target`"
        raise argument_error("model", problem, accepted)
    raise argument_error("layer", problem, "layers that output one tensor")


def select_output(output: Any, pick: OutputSelector | None) -> Tensor:
    """One tensor (B, …) of what a model outputs.

    Args:
        output: as it is, however it is packed.
        pick: a function that returns the part; None: it is one tensor.

    Raises:
        ValueError: it is not a tensor.
    """
    part: Any = output if pick is None else pick(output)
    if pick is not None and not isinstance(part, Tensor):
        problem = f"the function returns a {type(part).__name__}"
        raise argument_error("output", problem, "one tensor of what the model outputs")
    return check_tensor(part, "the model")


def as_logits(output: Tensor) -> Tensor:
    """Logits of answers (B, K): the logarithm of those that are a softmax already."""
    if is_softmax(output):
        return output.clamp(min=torch.finfo(output.dtype).tiny).log()
    return output


def is_softmax(output: Tensor) -> bool:
    """Whether outputs (B, K, …) are probabilities: none below 0, each row's sum 1.

    The sum is 1 up to the rounding of the type that they have.
    """
    if output.ndim < 2 or not bool((output >= 0).all()):
        return False
    rounding = 16 * torch.finfo(output.dtype).eps
    sums = output.detach().double().sum(dim=1)
    return bool(((sums - 1).abs() <= rounding).all())


def select_target(output: Tensor, target: TargetIndex) -> Tensor:
    """Target selection: one number for each image (B,) of an output (B, K) or (B, C, H, W).

    Args:
        output: of a layer or a model.
        target: a class or place of a vector (B, K); of feature maps (B, C, H, W) a channel, which
            means the mean of its map; a list or an array with one of these numbers for each
            image; a tuple: all numbers of one place, such as a unit (channel, row, column), of an
            output of any shape; None: for each image its own largest class, of (B, K). Functions
            that explain a model also take a function, from the output as it is to (B,).

    Raises:
        ValueError: names the place that does not exist, and those that do; or a single number for
            an output such as (B, time, K), in which it could mean several things.
    """
    flat = output[:, None] if output.ndim == 1 else output
    index = normalise_target(target)
    if index is None:
        if flat.ndim != 2:
            problem = f"None is not accepted for an output of shape {tuple(output.shape)}"
            raise argument_error("target", problem, _accepted_targets(flat))
        return flat.amax(dim=1)
    if isinstance(index, tuple) and len(index) == flat.ndim - 1:
        return _select_unit(flat, index)
    check_channels_first(flat, "target", target)
    if isinstance(index, (int, tuple)):
        return _select_unit(flat, index if isinstance(index, tuple) else (index,))
    return _select_per_image(flat, index.to(output.device))


def normalise_target(target: TargetIndex) -> int | tuple[int, ...] | Tensor | None:
    """Target as a number, an index tuple, a number for each image (B,), or None.

    Raises:
        ValueError: it is not a number.
    """
    if target is None or isinstance(target, (int, tuple)):
        return target
    numbers = as_tensor(target, "target")
    is_one = numbers.ndim == 0 and not numbers.is_floating_point()  # such as `argmax()` gives
    return int(numbers) if is_one else numbers


def check_channels_first(output: Tensor, name: str, target: object) -> None:
    """Raise a ValueError unless a single number says what is meant of an output."""
    if output.ndim not in (2, 4):
        shape = tuple(output.shape)
        problem = f"{target} does not say what is meant of an output of shape {shape}"
        raise argument_error(name, problem, _accepted_targets(output))


def _accepted_targets(output: Tensor) -> str:
    """Return what says which number of an output (B, …) is meant, in words."""
    function = "a function of the output that returns (B,)"
    if output.ndim == 4:
        return f"a channel, a unit (channel, row, column), or {function}"
    return f"a tuple of {output.ndim - 1} numbers, one for each axis after the first, or {function}"


def _select_unit(output: Tensor, unit: tuple[int, ...]) -> Tensor:
    check_unit(unit, tuple(output.shape[1:]))
    values = output
    for index in unit:
        values = values.select(1, index)
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values


def select_channels(channels: Sequence[int] | None, num: int) -> list[int]:
    """Return the numbers of channels that are meant, of `num`; None: all.

    Raises:
        ValueError: there is no such channel, or none is given.
    """
    numbers = list(range(num)) if channels is None else [int(channel) for channel in channels]
    if not numbers:
        raise value_error("channels", "[]", "one or more, or None for all")
    for number in numbers:
        check_unit((number,), (num,), "channels")
    return numbers


def check_unit(unit: Sequence[int], shape: Sequence[int], name: str = "target") -> None:
    """Raise a ValueError unless a unit, or a channel (channel,), is one of an output's (C, …)."""
    if len(unit) not in (1, len(shape)):
        form = "(channel, row, column)" if len(shape) == 3 else f"{len(shape)} numbers"
        problem = f"{tuple(unit)} is not a unit of an output of shape {tuple(shape)}"
        raise argument_error(name, problem, form)
    axes = ("channel", "row", "column")
    for axis, (index, size) in enumerate(zip(unit, shape, strict=False)):
        if not 0 <= index < size:
            of = axes[axis] if axis < len(axes) else f"axis {axis}"
            raise argument_error(name, f"{of} {index} does not exist", f"0 to {size - 1}")


def _select_per_image(output: Tensor, numbers: Tensor) -> Tensor:
    if numbers.ndim != 1 or len(numbers) != len(output) or numbers.is_floating_point():
        problem = f"{numbers.dtype} of shape {tuple(numbers.shape)} does not go with"
        accepted = f"{len(output)} whole numbers, one for each image"
        raise argument_error("target", f"{problem} {len(output)} images", accepted)
    for bound in (int(numbers.min()), int(numbers.max())):
        check_unit((bound,), tuple(output.shape[1:]))
    values = output[torch.arange(len(output), device=output.device), numbers.long()]
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values
