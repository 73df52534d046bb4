"""Forward hooks by layer name: record outputs, or replace them.

A layer is named as `model.named_modules()` names it, such as `features.3`; "" is the model itself.
A module that runs several times in one pass has several calls, counted from 0: `relu` means each of
them, `relu@1` the second.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error
from visualization.core.packing import map_tensors
from visualization.core.preserve import check_module, hooks

NamedLayer = str | nn.Module  # a layer's dotted name, or the module itself

_MAX_LISTED_NAMES = 12  # names that an error lists


class Layer(NamedTuple):
    """A module of a model, and which of its calls in a pass is meant; None: each."""

    module: nn.Module
    call: int | None


class _StopForward(Exception):  # noqa: N818 - no error: the pass has come as far as it is wanted
    """Thrown through a forward pass to leave it."""


class Trace(Mapping[str, list[Any]]):
    """The outputs of layers by name: for each a list, with an entry for each call in order.

    Several passes of the model append to the same lists.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._calls: dict[str, list[Any]] = {name: [] for name in names}

    def __getitem__(self, name: str) -> list[Any]:
        """Return the outputs of a traced layer."""
        if name not in self._calls:
            raise KeyError(f"{name!r} was not traced; traced: {', '.join(self._calls)}")
        return self._calls[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the traced names."""
        return iter(self._calls)

    def __len__(self) -> int:
        """Return how many names are traced."""
        return len(self._calls)


def layer_name(model: nn.Module, layer: NamedLayer, argument: str = "layer") -> str:
    """Return the dotted name of a layer that is given by its name or as the module itself.

    Raises:
        ValueError: the module is not part of the model, or it is neither module nor name.
    """
    if isinstance(layer, str):
        return layer
    check_module(model)
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return str(name)
    problem = f"a {type(layer).__name__} is not a layer of the {type(model).__name__}"
    raise argument_error(argument, problem, f"its modules or their names, {_listing(modules)}")


def layer_names(
    model: nn.Module, layers: NamedLayer | Iterable[NamedLayer], argument: str = "layers"
) -> list[str]:
    """Return the dotted names of one or several layers.

    Raises:
        ValueError: as `layer_name`.
    """
    selection = [layers] if isinstance(layers, (str, nn.Module)) else layers
    return [layer_name(model, layer, argument) for layer in selection]


def find_layer(model: nn.Module, layer: NamedLayer, argument: str = "layer") -> Layer:
    """Return the module that a dotted name means, with the call that `@` chooses.

    Raises:
        ValueError: names the nearest of the names that there are; or the layer lies inside of a
            module that torch scripted, where nothing can be seen.
    """
    name = layer_name(model, layer, argument)
    check_module(model)
    dotted, separator, number = name.partition("@")
    found = _descend(model, dotted)
    if found is not None and (number.isdecimal() or not separator):
        return Layer(found, int(number) if separator else None)
    modules = dict(model.named_modules(remove_duplicate=False))
    if dotted not in modules:
        problem = f"{name!r} is not a layer of the {type(model).__name__}"
        raise argument_error(argument, problem, _listing(modules), (dotted, filter(None, modules)))
    if separator and not number.isdecimal():
        raise argument_error(argument, f"{name!r} names no call", f"{dotted}@0, {dotted}@1, …")
    if any(_hides(module, outer, dotted) for outer, module in modules.items()):
        problem = f"{name!r} lies in a scripted module, which shows nothing of its inside"
        accepted = "layers outside of it, or the module that it was made from"
        raise argument_error(argument, problem, accepted)
    return Layer(modules[dotted], int(number) if separator else None)


def _descend(model: nn.Module, dotted: str) -> nn.Module | None:
    """Return the module of a dotted name; None: there is none, or a scripted one on the way.

    Faster than a search among all names, of which a trace of every layer would make one for each.
    """
    module: nn.Module | None = model
    for part in dotted.split(".") if dotted else ():
        if module is None or isinstance(module, torch.jit.ScriptModule):
            return None
        module = module._modules.get(part)
    return None if isinstance(module, torch.jit.ScriptModule) else module


def _hides(module: nn.Module, name: str, layer: str) -> bool:
    """Tell whether a module is scripted and hides a layer: its parts, and itself if not traced."""
    if not isinstance(module, torch.jit.ScriptModule):
        return False
    is_seen = name == layer and isinstance(module, torch.jit._trace.TopLevelTracedModule)
    return f"{layer}.".startswith(f"{name}.") and not is_seen


def _listing(names: Iterable[str]) -> str:
    """Return the first of the names of layers, for an error."""
    named_layers = [name for name in names if name]
    return ", ".join(named_layers[:_MAX_LISTED_NAMES]) + (
        ", …" if len(named_layers) > _MAX_LISTED_NAMES else ""
    )


@contextlib.contextmanager
def intercept_outputs(
    model: nn.Module, functions: Mapping[str, Callable[[Any], Any]], *, stop: bool = False
) -> Iterator[None]:
    """Intercept the outputs of named layers: what a function returns replaces the output.

    None keeps the output. With `stop` a pass ends, and `model(...)` returns None, as
    soon as each named layer was called, or came to the call that its name chooses. Calls are
    counted from 0 in each pass of `model`.
    """
    layers = {name: find_layer(model, name) for name in functions}
    stops = stop and all(layer.module is not model for layer in layers.values())
    counts: dict[nn.Module, int] = {}
    pending: set[str] = set()
    depth = [0]  # of passes of the model within each other

    def begin(*_: Any) -> None:
        depth[0] += 1
        if depth[0] == 1:
            counts.clear()
            pending.update(functions)

    def end(*_: Any) -> None:
        depth[0] -= 1

    def hook(module: nn.Module, _: Any, output: Any) -> Any:
        if torch._C._current_graph_task_id() != -1:
            return output  # a checkpoint computes it again, in a backward pass
        number = counts[module] = counts.get(module, -1) + 1 if depth[0] else 0
        for name, layer in layers.items():
            if layer.module is module and layer.call in (None, number):
                replaced = functions[name](output)
                output = output if replaced is None else replaced
                pending.discard(name)
        if stops and depth[0] and not pending:
            raise _StopForward
        return output

    modules = {layer.module for layer in layers.values()}
    with hooks(module.register_forward_hook(hook) for module in modules):
        if stops:
            with _stoppable(model, begin, end):
                yield
        else:
            ends = model.register_forward_hook(end, always_call=True)
            with hooks([model.register_forward_pre_hook(begin), ends]):
                yield


@contextlib.contextmanager
def _stoppable(
    model: nn.Module, begin: Callable[[], None], end: Callable[[], None]
) -> Iterator[None]:
    """Let passes of a model return None where `_StopForward` ends them."""
    original, own = model.forward, "forward" in vars(model)

    def forward(*args: Any, **kwargs: Any) -> Any:
        begin()
        try:
            return original(*args, **kwargs)
        except _StopForward:
            return None
        finally:
            end()

    model.forward = forward
    try:
        yield
    finally:
        if own:
            model.forward = original
        else:
            del model.forward


@contextlib.contextmanager
def trace(
    model: nn.Module, layers: NamedLayer | Iterable[NamedLayer], *, stop: bool = False
) -> Iterator[Trace]:
    """Trace layer outputs while a model runs in the block; afterwards no hook is left.

    The tensors are those that the layers returned, with their graph if gradients are on: the model
    continues with copies, so that what follows in place (`nn.ReLU(inplace=True)`, `x += y`) changes
    none of them, and gradients with respect to them are right.

    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    >>> with trace(model, ["0", "1"]) as seen:
    ...     answer = model(torch.zeros(5, 1, 8, 8))
    >>> [tuple(output.shape) for output in seen["0"]]
    [(5, 2, 6, 6)]
    >>> bool((seen["1"][0] == seen["0"][0].relu()).all())
    True

    Args:
        model: any module; its mode is left as it is.
        layers: dotted names, or modules of the model, which come under theirs; `relu@1` is the
            second call of `relu` in a pass.
        stop: leave each pass as soon as all of them were called (a name without `@` after its first
            call); `model(...)` then returns None.

    Raises:
        ValueError: no such layer; names the nearest.
    """
    names = layer_names(model, layers)
    outputs = Trace(names)

    def record(name: str) -> Callable[[Any], Any]:
        def take(output: Any) -> Any:
            outputs[name].append(output)
            return map_tensors(output, Tensor.clone)

        return take

    with intercept_outputs(model, {name: record(name) for name in names}, stop=stop):
        yield outputs
