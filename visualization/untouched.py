"""Looking without leaving a trace: what is switched or hooked is put back, also on an exception."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import nn


class _Removable(Protocol):
    def remove(self) -> None: ...


@contextlib.contextmanager
def hooks(handles: Iterable[_Removable]) -> Iterator[None]:
    """Hold hooks for the length of a `with` block."""
    held: list[_Removable] = []
    try:
        held.extend(handles)
        yield
    finally:
        for handle in held:
            handle.remove()


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation for a block, then each of its modules back to its own mode."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run a block with `model` in evaluation mode; afterwards all is as before.

    Put back are each module's mode, each parameter's gradient and whether it asks for one, and the
    state of torch's random generators.
    """
    asking = {p: p.requires_grad for p in model.parameters()}
    gradients = {p: p.grad for p in asking}
    values = [(grad, grad.clone()) for grad in gradients.values() if grad is not None]
    devices = {p.device for p in asking if p.device.type == "cuda"}
    with evaluation_mode(model), torch.random.fork_rng(devices):
        try:
            yield
        finally:
            for parameter, asks in asking.items():
                parameter.requires_grad_(asks)
                parameter.grad = gradients[parameter]
            for grad, value in values:
                grad.copy_(value)
