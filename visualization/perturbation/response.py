"""Responses of maps and outputs to a changed image, or to changed feature maps.

B images, C channels, H rows, W columns; U channels of a layer's maps (h, w); K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import (
    Images,
    OutputSelector,
    as_images,
    as_tensor,
    inspection_mode,
    is_softmax,
    numbered_call,
    one_image,
    optional_layer_name,
    select_channels,
    select_output,
)
from visualization.core.inputs import (
    activation as activation_of,
)
from visualization.core.layout import intercept_maps
from visualization.core.records import brief_repr
from visualization.core.targets import batch_slices, resolve_batch_size
from visualization.core.tracing import NamedLayer, layer_name
from visualization.perturbation.perturbations import find_perturbation, perturb

ImageEdit = tuple[str, float] | Callable[[Tensor], Images] | Images


@attrs.frozen(eq=False)
class Answers:
    """Model outputs before and after a change.

    Attributes:
        before: its output without the batch axis, such as logits (K,).
        after: likewise.
        classes: their names; empty: their numbers.
        are_probabilities: whether the output is a softmax, which is noticed by its sum.
    """

    before: NDArray[np.floating]
    after: NDArray[np.floating]
    classes: tuple[str, ...] = ()
    are_probabilities: bool = False

    @property
    def are_classes(self) -> bool:
        """Whether they are vectors of two numbers or more, as logits are."""
        return self.before.ndim == 1 and len(self.before) > 1

    @property
    def probabilities(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The probability of each class (K,), (K,): the softmax of both, if they are none yet."""
        if self.are_probabilities:
            return self.before, self.after
        return _softmax(self.before), _softmax(self.after)

    def name(self, number: int) -> str:
        """Return the name of a class."""
        return self.classes[number] if self.classes else str(number)


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Response:
    """Response of a layer's maps to an edit of the image.

    Attributes:
        layer: dotted name; None: the model's output.
        edit: what was done, in words.
        original: (C, H, W).
        modified: (C, H, W).
        channels: of the layer, in the order of the maps (n,).
        before: their maps for the original (n, h, w); of a vector each is one number.
        after: for the modified image (n, h, w).
        changes: mean |after − before| of every channel (U,), in units of the activation.
        answers: of the model for both; None where it outputs no single tensor.
    """

    layer: str | None
    edit: str
    original: NDArray[np.floating]
    modified: NDArray[np.floating]
    channels: tuple[int, ...]
    before: NDArray[np.floating]
    after: NDArray[np.floating]
    changes: NDArray[np.floating]
    answers: Answers | None

    @property
    def difference(self) -> NDArray[np.floating]:
        """What the edit adds to each map (n, h, w): after − before."""
        return np.asarray(self.after - self.before)


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ChannelAblation:
    """Channel ablation: the model's output when channels of a layer are changed.

    Attributes:
        layer: dotted name.
        channels: those that were changed.
        scale: what their maps were multiplied by.
        shift: what was then added to them.
        image: (C, H, W).
        answers: of the model, untouched and with the maps changed.
    """

    layer: str
    channels: tuple[int, ...]
    scale: float
    shift: float
    image: NDArray[np.floating]
    answers: Answers


def compare_response(
    model: nn.Module,
    layer: NamedLayer | None,
    image: Images,
    edit: ImageEdit,
    channels: Sequence[int] | None = None,
    *,
    seed: int = 0,
    classes: Sequence[str] = (),
    output: OutputSelector | None = None,
) -> Response:
    """Compare a layer's maps, and the model's output, for an image and an edited version of it.

    Args:
        model: any module; it is left as it was.
        layer: dotted name, `relu@1` its second call; None: the model's output.
        image: (C, H, W) or (1, C, H, W).
        edit: (name, strength) of a perturbation, such as ("blur", 2.0); a function of images
            (1, C, H, W), such as an augmentation; or the edited image itself, such as a drawing.
        channels: of the layer, in this order; None: all, the most changed
            first.
        seed: of what a perturbation draws, and of torch's generators while a function runs.
        classes: names of the classes, for the figure.
        output: picks the answers from what the model outputs, such as
            `lambda out: out["logits"]`; None: it is one tensor, or there are no answers.

    Raises:
        ValueError: no such layer, channel or perturbation, or an edit that changes the shape.
    """
    layer = optional_layer_name(model, layer)
    with inspection_mode(model), torch.no_grad():
        batch = one_image(image, model)
        edited, words = _apply_edit(model, batch, edit, seed)
        before, answer = _maps(model, layer, batch, output)
        after, other = _maps(model, layer, edited, output)
        changes = (after - before).abs().mean(dim=(1, 2))
        numbers = _select_channels(channels, changes)
    answers = None
    if answer is not None and other is not None:
        answers = _answers(answer, other, classes)
    return Response(
        layer=layer, edit=words, original=to_numpy(batch[0]), modified=to_numpy(edited[0]),
        channels=numbers, before=to_numpy(before[list(numbers)]),
        after=to_numpy(after[list(numbers)]), changes=to_numpy(changes), answers=answers,
    )  # fmt: skip


def forward_from(
    model: nn.Module,
    layer: NamedLayer,
    activation: Images,
    images: Images,
    *,
    output: OutputSelector | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Forward pass from a layer on: the model's output when a layer's output is replaced (B, …).

    The model runs on the images as usual, but continues with `activation` in place of what the
    layer outputs. So images are needed: a forward pass begins with one, and what goes round the
    layer, such as the shortcut of a residual block, carries them on. Where nothing does, only their
    shape matters.

    Args:
        model: any module; it is left as it was.
        layer: dotted name; of several calls the first is replaced, by `relu@1` the second.
        activation: (B, …) of the shape of the layer's output, or one of them without B.
        images: (B, C, H, W) or (C, H, W). One image goes with many activations, and one activation
            with many images.
        output: picks one tensor from what the model outputs; None: it is one.
        batch_size: rows that run at once, which bounds the memory; None: at most 256
            (on a CPU 64, or 2¹⁶ numbers), of 2²² numbers of images together.

    Raises:
        ValueError: no such layer; a shape that is not the layer's; numbers that do not go together;
            or an output of several tensors.
    """
    layer = layer_name(model, layer)
    with inspection_mode(model), torch.no_grad():
        batch = as_images(images, model)
        maps = _as_activations(model, layer, activation, batch)
        num = max(len(maps), len(batch))
        if not {len(maps), len(batch)} <= {1, num}:
            problem = f"{len(maps)} do not go with {len(batch)} images"
            raise argument_error("activation", problem, f"1, or {len(batch)}")
        size = resolve_batch_size(batch_size, batch)
        pairs = zip(_rows(batch, num, size), _rows(maps, num, size), strict=True)
        return torch.cat([_forward_with_maps(model, layer, *pair, output) for pair in pairs])


def ablate_channels(
    model: nn.Module,
    layer: NamedLayer,
    image: Images,
    channels: Sequence[int],
    *,
    scale: float = 0.0,
    shift: float = 0.0,
    classes: Sequence[str] = (),
    output: OutputSelector | None = None,
) -> ChannelAblation:
    """Channel ablation: change channels of a layer to scale · map + shift, and compare outputs.

    Args:
        model: any module; it is left as it was.
        layer: dotted name; of several calls the first is changed, by `relu@1` the second.
        image: (C, H, W) or (1, C, H, W).
        channels: to change.
        scale: 0, with no shift, switches them off.
        shift: in units of the activation.
        classes: names of the classes, for the figure.
        output: picks the answers from what the model outputs, such as
            `lambda out: out["logits"]`; None: it is one tensor.

    Raises:
        ValueError: no such layer or channel; a layer without channels; an output of several
            tensors.
    """
    layer = layer_name(model, layer)
    with inspection_mode(model), torch.no_grad():
        batch = one_image(image, model)
        maps = activation_of(model, batch, layer)
        _as_maps(maps, repr(layer))
        numbers = tuple(select_channels(channels, maps.shape[1]))
        answer = select_output(model(batch), output)
        changed = maps.clone()
        changed[:, list(numbers)] = scale * changed[:, list(numbers)] + shift
        other = _forward_with_maps(model, layer, batch, changed, output)
    answers = _answers(answer, other, classes)
    return ChannelAblation(
        layer=layer, channels=numbers, scale=scale, shift=shift, image=to_numpy(batch[0]),
        answers=answers,
    )  # fmt: skip


def _answers(before: Tensor, after: Tensor, classes: Sequence[str]) -> Answers:
    """Return the answers (1, …) to one image before and after.

    Raises:
        ValueError: another number of names than of classes.
    """
    if classes and tuple(before.shape[1:]) != (len(classes),):
        problem = f"{len(classes)} names for answers of shape {tuple(before.shape[1:])}"
        raise argument_error("classes", problem, "one for each class, or none")
    are_probabilities = is_softmax(torch.cat([before, after]))
    return Answers(to_numpy(before[0]), to_numpy(after[0]), tuple(classes), are_probabilities)


def _apply_edit(model: nn.Module, image: Tensor, edit: ImageEdit, seed: int) -> tuple[Tensor, str]:
    """Return an edited image (1, C, H, W), and in words what was done.

    Raises:
        ValueError: no such perturbation, or another shape.
    """
    if isinstance(edit, (tuple, str)):
        return _apply_perturbation(image, edit, seed)
    if callable(edit):
        torch.default_generator.manual_seed(seed)  # `inspection_mode` puts it back
        edited = edit(image.clone())
    else:
        edited = edit
    batch = one_image(edited, model, "edit")
    if batch.shape != image.shape:
        problem = f"shape {tuple(batch.shape[1:])} is not accepted"
        raise argument_error("edit", problem, f"the image's, {tuple(image.shape[1:])}")
    return batch, "edited"


def _apply_perturbation(image: Tensor, edit: Any, seed: int) -> tuple[Tensor, str]:
    """Return an image under a perturbation (name, strength), and in words what was done."""
    if isinstance(edit, str) or len(edit) != 2:
        accepted = 'a name with its strength, such as ("blur", 2.0), a function, or an image'
        raise value_error("edit", repr(edit), accepted)
    name, strength = edit
    unit = find_perturbation(name).unit
    return perturb(name, image, strength, seed), f"{name} {strength:g} ({unit})"


def _maps(
    model: nn.Module, layer: str | None, image: Tensor, pick: OutputSelector | None
) -> tuple[Tensor, Tensor | None]:
    """Return a layer's maps (U, h, w) and the model's answers (1, …), if they are one tensor."""
    output = model(image)
    is_one = pick is not None or isinstance(output, Tensor) or not layer
    answers = select_output(output, pick) if is_one else None
    if layer or pick is None:
        name = repr(layer) if layer else "the model"
        return _as_maps(activation_of(model, image, layer), name), answers
    assert answers is not None
    return _as_maps(answers, "the model"), answers


def _as_maps(output: Tensor, name: str) -> Tensor:
    """Return an output for one image as maps (U, h, w).

    Raises:
        ValueError: it is neither maps nor a vector.
    """
    if output.ndim not in (2, 4):
        problem = f"{name} outputs the shape {tuple(output.shape)}"
        raise argument_error("layer", problem, "(B, channels, rows, columns) or (B, places)")
    return output[0] if output.ndim == 4 else output[0, :, None, None]


def _select_channels(channels: Sequence[int] | None, changes: Tensor) -> tuple[int, ...]:
    if channels is None:
        return tuple(changes.argsort(descending=True, stable=True).tolist())
    return tuple(select_channels(channels, len(changes)))


def _as_activations(model: nn.Module, layer: str, activations: Images, images: Tensor) -> Tensor:
    """Return activations (B, …) on the model's device and in the type of a layer's output.

    Raises:
        ValueError: no such layer, or another shape.
    """
    own = activation_of(model, images[:1], layer)
    values = as_tensor(activations, "activation")
    batch = values[None] if values.ndim == own.ndim - 1 else values
    if batch.shape[1:] != own.shape[1:] or batch.ndim != own.ndim or not len(batch):
        expected = ", ".join(map(str, own.shape[1:]))
        problem = f"shape {tuple(values.shape)} is not what {layer!r} outputs"
        raise argument_error("activation", problem, f"(B, {expected})")
    return batch.to(own)


def _rows(values: Tensor, num: int, size: int) -> list[Tensor]:
    """Return values (1 or num, …) in parts of at most `size` rows, num rows together."""
    each = values.expand(num, *values.shape[1:])
    return [each[span] for span in batch_slices(num, size)]


def _forward_with_maps(
    model: nn.Module, layer: str, images: Tensor, maps: Tensor, pick: OutputSelector | None
) -> Tensor:
    """Return the model's output when a layer outputs `maps`, which the model may then change."""
    with intercept_maps(model, {numbered_call(model, layer): lambda _: maps.clone()}):
        return select_output(model(images), pick)


def _softmax(values: NDArray[np.floating]) -> NDArray[np.floating]:
    grown = np.exp(values - values.max())
    return np.asarray(grown / grown.sum())
