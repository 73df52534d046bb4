"""Context managers that restore a model's mode, gradients, hooks and random state."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error, value_error
from visualization.core.packing import map_tensors

_CLONING: set[nn.Module] = set()  # models that get copies of their inputs
_PRESERVED: set[nn.Module] = set()  # models whose gradients an outer block puts back


class _Removable(Protocol):
    def remove(self) -> None: ...


@contextlib.contextmanager
def hooks(handles: Iterable[_Removable]) -> Iterator[None]:
    """Keep hooks for a `with` block, in which compiled models respect them."""
    registered: list[_Removable] = []
    try:
        registered.extend(handles)
        with uncompiled():
            yield
    finally:
        for handle in registered:
            handle.remove()


@contextlib.contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace a module's forward for a block; an earlier replacement is back afterwards."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Run models that `torch.compile` compiled as they were written, for a block.

    What it compiled knows no hook, mode or replaced layer that came later.
    """
    if "torch._dynamo" not in sys.modules:  # nothing can be compiled, and its import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def check_module(model: object) -> None:
    """Raise a ValueError unless a model is a module whose layers can be hooked."""
    if not isinstance(model, nn.Module):
        raise value_error("model", f"a {type(model).__name__}", "an nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise closed_module_error(model)


def closed_module_error(module: nn.Module) -> ValueError:
    """Return the error of a module that torch scripted or exported, or that holds such a one."""
    problem = f"a {type(module).__name__} with scripted, frozen or exported code shows no layers"
    accepted = "the nn.Module that it was made from; or a module that calls a scripted or traced "
    accepted += "one, such as nn.Sequential(model), and layers outside of that"
    return argument_error("model", problem, accepted)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; afterwards each module has its own mode again.

    Raises:
        ValueError: it was frozen or exported, and has no mode.
    """
    modes: dict[nn.Module, bool] = {}
    try:
        try:
            modes.update({module: module.training for module in model.modules()})
            if any(modes.values()):  # to set a mode takes longer than a small layer's pass
                model.eval()
        except (AttributeError, NotImplementedError) as error:
            raise closed_module_error(model) from error
        yield
    finally:
        for module, mode in modes.items():
            if module.training is not mode:
                module.training = mode


@contextlib.contextmanager
def clone_inputs(model: nn.Module) -> Iterator[None]:
    """Clone a model's inputs in a block, so that it may change them in place."""
    if model in _CLONING:
        yield
        return

    def copied(_: nn.Module, args: Any, kwargs: Any) -> Any:
        return map_tensors((args, kwargs), Tensor.clone)

    handle = model.register_forward_pre_hook(copied, prepend=True, with_kwargs=True)
    _CLONING.add(model)
    try:
        with hooks([handle]):
            yield
    finally:
        _CLONING.discard(model)


Slot = tuple[nn.Module, str, Tensor, bool]  # a module, name and tensor; whether it is a parameter


def _slots(model: nn.Module) -> list[Slot]:
    """Return all parameters and buffers of a model's modules; what is shared comes twice."""
    return [
        (module, name, tensor, table is module._parameters)
        for module in model.modules()
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None
    ]


@contextlib.contextmanager
def _without_inference_tensors(slots: Iterable[Slot]) -> Iterator[None]:
    """Replace tensors made under `torch.inference_mode` by clones, which autograd can save."""
    slots = [slot for slot in slots if slot[2].is_inference()]
    copies: dict[Tensor, Tensor] = {}  # so that what is shared stays shared
    with torch.inference_mode(False):
        for _, _, tensor, _ in slots:
            copy = tensor.clone()
            is_parameter = isinstance(tensor, nn.Parameter)
            copies[tensor] = nn.Parameter(copy, requires_grad=False) if is_parameter else copy
    try:
        for module, name, tensor, _ in slots:
            setattr(module, name, copies[tensor])
        yield
    finally:
        for module, name, tensor, _ in slots:
            setattr(module, name, tensor)


@contextlib.contextmanager
def _gradients_restored(model: nn.Module, slots: Iterable[Slot]) -> Iterator[None]:
    """Restore each parameter's gradient, and whether it requires one."""
    parameters = [
        tensor for *_, tensor, is_parameter in slots if is_parameter and not tensor.is_inference()
    ]
    flags = {parameter: parameter.requires_grad for parameter in parameters}
    gradients = {p: p.grad for p in flags}
    outermost = model not in _PRESERVED  # whose copies serve for all blocks within it
    values = [(g, g.clone()) for g in gradients.values() if g is not None and outermost]
    _PRESERVED.add(model)
    try:
        yield
    finally:
        if outermost:
            _PRESERVED.discard(model)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
            parameter.grad = gradients[parameter]
        for gradient, value in values:
            gradient.copy_(value)


@contextlib.contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Preserve a model's state: evaluation mode in the block, afterwards all is as before.

    Restored are each module's mode, each parameter's gradient and whether it requires one, and the
    state of torch's random generators. In the block the model gets copies of its inputs, which it
    may change in place, and runs as it was written if `torch.compile` compiled it. Blocks may be
    within each other.

    Raises:
        ValueError: `model` is not a module, or is one that torch scripted or exported.
    """
    check_module(model)
    slots = _slots(model)
    devices = {tensor.device for *_, tensor, _ in slots if tensor.device.type == "cuda"}
    with (
        torch.random.fork_rng(devices), evaluation_mode(model), _without_inference_tensors(slots),
        _gradients_restored(model, slots), clone_inputs(model),
    ):  # fmt: skip
        yield
