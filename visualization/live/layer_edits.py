"""Edits of feature maps while a model runs: silence, scale, hold, paint, randomise."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import attrs
import torch
from torch import Tensor, nn

from visualization.attribution.sanity import redraw
from visualization.core.errors import argument_error
from visualization.core.layout import intercept_maps
from visualization.core.preserve import hooks
from visualization.core.tracing import find_layer, intercept_outputs

EditKind = Literal["scale", "hold", "paint", "randomise"]
KINDS: tuple[EditKind, ...] = ("scale", "hold", "paint", "randomise")
Tap = Callable[[Any], Any]


@attrs.frozen(kw_only=True)
class LayerEdit:
    """Edit of a layer's feature maps (C, h, w), at each place of a pass where the layer runs.

    Attributes:
        layer: dotted name, `relu@1` for the second call.
        kind: `scale` multiplies by `value` (0 silences), `hold` sets to `value`, `paint` sets
            `cells`, `randomise` redraws the layer's weights, with their mean and deviation, from
            the seed `value`; of a layer without a kernel (ReLU, PReLU, norms) those of the last
            module with one that ran before it.
        channel: number; None: all channels.
        place: (row, column) of one unit; None: the whole map.
        value: factor, or activation.
        cells: (row, column, activation) each.
    """

    layer: str
    kind: EditKind
    channel: int | None = None
    place: tuple[int, int] | None = None
    value: float = 0.0
    cells: Sequence[tuple[int, int, float]] = ()

    def apply(self, maps: Tensor) -> Tensor:
        """Return edited maps (B, C, h, w)."""
        if self.kind == "randomise":
            return maps
        changed = maps.clone()
        channels: Any = slice(None) if self.channel is None else self.channel
        if self.kind == "paint":
            for row, column, value in self.cells:
                changed[:, channels, row, column] = value
            return changed
        row, column = cast("tuple[Any, Any]", self.place or (slice(None), slice(None)))
        if self.kind == "scale":
            changed[:, channels, row, column] *= self.value
        else:
            changed[:, channels, row, column] = self.value
        return changed


@contextlib.contextmanager
def edited(
    model: nn.Module, edits: Sequence[LayerEdit] = (), taps: Mapping[str, Tap] | None = None,
    *, before: Mapping[str, nn.Module] | None = None, channels_first: bool = False,
) -> Iterator[None]:  # fmt: skip
    """Run a model with edits, in a block; afterwards it is as before.

    Args:
        model: any module.
        edits: in the order in which they are applied.
        taps: functions by layer that are given its maps after the edits.
        before: as `kernels_before` gives it: whose weights are redrawn for a layer without any.
        channels_first: whether it is known that no layer's channels are its last axis, so that
            nobody has to watch for that; a third of the time of a small network's pass.

    Raises:
        ValueError: no such layer, or one without weights to randomise up to it.
    """
    layers = dict.fromkeys([*(edit.layer for edit in edits), *(taps or {})])

    def function(layer: str) -> Tap:
        own = [edit for edit in edits if edit.layer == layer]
        tap = (taps or {}).get(layer)

        def change(output: Any) -> Any:
            if isinstance(output, Tensor) and output.ndim == 4:
                for edit in own:
                    output = edit.apply(output)
            if tap is not None:
                tap(output)
            return output if own else None

        return change

    with contextlib.ExitStack() as stack:
        for edit in edits:
            if edit.kind == "randomise":
                parameters = _weights(model, edit.layer, before or {})
                stack.enter_context(_randomised(parameters, int(edit.value)))
        intercept = intercept_outputs if channels_first else intercept_maps
        stack.enter_context(intercept(model, {layer: function(layer) for layer in layers}))
        yield


@contextlib.contextmanager
def kernels_before(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, nn.Module]]:
    """Give, once the model has run in the block, the last module with a kernel up to each layer.

    It is the one that was called last, whatever the order in which they were registered: before
    `relu@1` the convolution between the two calls. Slopes and norms are no kernels, and into a
    scripted module nothing can be seen. A layer without one up to it is left out.
    """
    found: dict[str, nn.Module] = {}
    last: nn.Module | None = None

    def called(module: nn.Module, _: Any) -> None:
        nonlocal last
        last = module

    def note(layer: str, _: Any) -> None:
        if last is not None:
            found.setdefault(layer, last)

    modules = [
        each for each in model.modules() if not isinstance(each, torch.jit.ScriptModule)
        and _has_kernel(each.parameters(recurse=False))
    ]  # fmt: skip
    with (
        hooks(each.register_forward_pre_hook(called) for each in modules),
        intercept_outputs(model, {layer: functools.partial(note, layer) for layer in layers}),
    ):
        yield found


def _has_kernel(parameters: Iterable[nn.Parameter]) -> bool:
    return any(parameter.ndim > 1 for parameter in parameters)


def _weights(model: nn.Module, layer: str, before: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """Return the weights of a layer; of one without a kernel, those of the module before it."""
    own = list(find_layer(model, layer).module.parameters())
    if _has_kernel(own):
        return own
    if layer not in before:
        problem = f"{layer!r} and what comes before it have no weights"
        raise argument_error("layer", problem, "a layer with weights before it")
    return list(before[layer].parameters(recurse=False))


@contextlib.contextmanager
def _randomised(parameters: Sequence[nn.Parameter], seed: int) -> Iterator[None]:
    """Redraw weights in a block."""
    source = torch.Generator().manual_seed(seed)
    before = [parameter.data for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.data = parameter.data.clone()
            redraw(parameter, source)
        yield
    finally:
        for parameter, values in zip(parameters, before, strict=True):
            parameter.data = values


@contextlib.contextmanager
def with_weights(model: nn.Module, state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Run a model with the parameters and buffers of a snapshot, in a block; None: its own.

    Tensors are put in the place of others; only those of another device are copied.

    Raises:
        ValueError: the snapshot has other names or shapes than the model.
    """
    if state is None:
        yield
        return
    slots = [
        (f"{prefix}.{name}" if prefix else name, tensor)
        for prefix, module in model.named_modules()
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None and name not in module._non_persistent_buffers_set
    ]
    for name, tensor in slots:
        if name not in state or state[name].shape != tensor.shape:
            accepted = f"a snapshot of the {type(model).__name__}"
            raise argument_error("weights", f"{name!r} is missing or of another shape", accepted)
    before = [tensor.data for _, tensor in slots]
    try:
        for name, tensor in slots:
            tensor.data = state[name].to(tensor)
        yield
    finally:
        for (_, tensor), values in zip(slots, before, strict=True):
            tensor.data = values
