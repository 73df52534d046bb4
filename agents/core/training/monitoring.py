"""What a run records of itself for the doctor: cheap, and without any effect on the run."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from agents.core.training.loop import Loss, to_device, total_loss
from tasks.core.batch import num_samples, take
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.config import AgentConfig
    from agents.core.training.state import State
    from tasks.core.task import Task

Sequence = Tensor | PackedSequence  # what a recurrent layer reads and says

NUM_FITTED = 128  # training samples that are answered as the validation samples are
NUM_WATCHED = 16  # of them, those on which units and the gradient's way back are watched
LEARNED_BETWEEN = 5_000  # samples: measuring takes as long as learning some hundred of them
_BOUNDS = {nn.Tanh: (-1, 1), nn.Sigmoid: (0, 1), nn.ReLU: None, nn.GELU: None, nn.SiLU: None}
_SAME = 1e-3  # a unit whose values differ by less says nothing of what was read
_NEAR = 0.05  # of a bound, as a share of the range
_NUM_GATED = 8  # samples on which gates are watched
_MOSTLY = 0.9  # of all samples and steps


class Measured(Protocol):
    """What measuring needs of an agent."""

    task: "Task"
    config: "AgentConfig"
    device: torch.device
    state: "State"
    model: nn.Module
    network: Any

    def loss(self, batch: Any) -> Loss:
        """Return the scalar loss of a batch, or its named parts."""

    def mean_loss(self, batch: Any) -> float:
        """Return the loss of a task's batch in evaluation mode."""

    def predict_arrays(self, batch: Any) -> Any:
        """Return the predictions for a task's batch."""


def layer_of(parameter: str) -> str:
    """Return the layer that a parameter belongs to: `reader.l0` for `reader.weight_hh_l0`."""
    module, _, name = parameter.rpartition(".")
    layer = re.search(r"_(l\d+)", name)
    return ".".join(part for part in (module, layer[1] if layer else "") if part) or name


def gradient_norms(model: nn.Module, scale: float) -> dict[str, float]:
    """Return `grad/<layer>`, the L2 norms of the gradients that stand, times `scale`."""
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    if not found:
        return {}
    norms = torch.stack(torch._foreach_norm(list(found.values()))).tolist()
    squares: dict[str, float] = {}
    for name, norm in zip(found, norms, strict=True):
        tag = f"grad/{layer_of(name)}"
        squares[tag] = squares.get(tag, 0.0) + norm**2
    return {tag: scale * square**0.5 for tag, square in squares.items()}


def measure(agent: Measured, validation: Any) -> dict[str, float]:
    """Return what a run records beside its evaluation.

    `fit/…`: loss and score on training samples, answered as the validation samples are, without
    dropout; they are the first ones of the run's seed, of the stage that it is in. `chance/…`: the
    same of the best answer that knows no question: the commonest code at each place, or the mean;
    its loss in nats, or as a squared error. And what `watch` returns.
    """
    task, stage = agent.task, agent.state.cursor.stage
    batch = next(task.batches("train", NUM_FITTED, agent.config.seed, 0, 0, stage))
    few = take(batch, 0, NUM_WATCHED)
    fit = {"loss": agent.mean_loss(batch), **task.score(agent.predict_arrays(batch), batch)}
    found = {f"chance/{name}": value for name, value in _chance(task, batch, validation).items()}
    found |= {f"fit/{name}": value for name, value in fit.items()}
    with evaluation_mode(agent.model), _unwrapped(agent):
        found |= watch(agent.model, agent.loss, to_device(few, agent.device))
    return {tag: value for tag, value in found.items() if math.isfinite(value)}


def _chance(task: "Task", batch: Any, validation: Any) -> dict[str, float]:
    """Return loss and scores of the best constant prediction; none where targets are ragged."""
    targets, others = task.targets(batch), task.targets(validation)
    if not (isinstance(targets, np.ndarray) and isinstance(others, np.ndarray)):
        return {}
    constant, loss = constant_answer(targets)
    judged = validation if others.shape[1:] == constant.shape else batch
    guesses = np.broadcast_to(constant, (num_samples(judged), *constant.shape))
    return {"loss": loss, **task.score(guesses, judged)}


@contextlib.contextmanager
def _unwrapped(agent: Measured) -> Iterator[None]:
    """Let an agent's loss call its bare model: a wrapper's replicas would each be watched."""
    wrapper, agent.network = agent.network, agent.model
    try:
        yield
    finally:
        agent.network = wrapper


def constant_answer(targets: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the best single answer to all of the targets (batch, …), and its loss.

    Of codes the commonest at each place, with the entropy there in nats, the mean over places; of
    numbers the mean, with the variance.
    """
    if targets.dtype.kind == "f":
        return targets.mean(axis=0), float(targets.var(axis=0).mean())
    flat = targets.reshape(len(targets), -1)
    counts = [np.unique(column, return_counts=True) for column in flat.T]
    shares = [count / len(flat) for _, count in counts]
    entropy = float(np.mean([-(share * np.log(share)).sum() for share in shares]))
    answer = np.array([codes[count.argmax()] for codes, count in counts], targets.dtype)
    return answer.reshape(targets.shape[1:]), entropy


def watch(model: nn.Module, loss_of: Callable[[Any], Loss], batch: Any) -> dict[str, float]:
    """Return how units behave on a batch, and how far back the gradient of its loss reaches.

    `units/<layer>/dead`: share of units whose output stays the same, whatever is read;
    `units/<layer>/saturated`: share that is within 5 % of a bound nine tenths of the time; of an
    LSTM or GRU of one layer the share of units whose gates are, taken together.
    `flow/<layer>/<k>`: mean L2 norm, over the samples, of the gradient of a sample's loss by what a
    recurrent layer reads k steps before its end, for k = 0, 1, 2, 4, … and the first step; in a
    packed sequence each sample has its own end, and the mean is over those that have the step.
    """
    inputs: dict[str, list[Sequence]] = {}
    outputs: dict[str, list[Tensor]] = {}
    gates: dict[str, list[Tensor]] = {}
    cudnn = torch.backends.cudnn.flags(enabled=False)  # which has no backward pass in this mode
    with torch.enable_grad(), cudnn, _watched(model, inputs, outputs, gates):
        loss = total_loss(loss_of(batch))
        read = [_values(sequence) for sequences in inputs.values() for sequence in sequences]
        gradients = iter(torch.autograd.grad(loss, read, allow_unused=True) if read else ())
    found: dict[str, float] = {}
    for name, tensors in outputs.items():
        found |= _behaviour(name, model.get_submodule(name), tensors)
    for name, tensors in gates.items():
        stuck = torch.cat([t.flatten(0, -3) for t in tensors]).mean((0, 1)) > _MOSTLY
        found[f"units/{name}/saturated"] = float(stuck.float().mean())
    for name, sequences in inputs.items():
        layer = cast("nn.RNNBase", model.get_submodule(name))
        steps = [_norms(layer, s, next(gradients)) for s in sequences]
        found |= _flow(name, torch.cat(steps).tolist())
    return found


@contextlib.contextmanager
def _watched(
    model: nn.Module,
    inputs: dict[str, list[Sequence]],
    outputs: dict[str, list[Tensor]],
    gates: dict[str, list[Tensor]],
) -> Iterator[None]:
    """Collect, within a block, what recurrent layers read, and what units and gates say."""

    def read(name: str) -> Callable[..., Any]:
        def hook(
            module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            given = dict(zip(("input", "hx"), arguments, strict=False)) | named
            sequence = _differentiable(given["input"])
            inputs.setdefault(name, []).append(sequence)
            return (sequence, given.get("hx")), {}

        return hook

    def said(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            sequence = output[0] if isinstance(module, nn.RNNBase) else output
            outputs.setdefault(name, []).append(_values(sequence).detach())
            if _has_visible_gates(module):
                gates.setdefault(name, []).append(gates_of(module, arguments, sequence))

        return hook

    watched: tuple[type[nn.Module], ...] = (nn.RNNBase, *_BOUNDS)
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.RNNBase):
                stack.callback(
                    module.register_forward_pre_hook(read(name), with_kwargs=True).remove
                )
            if isinstance(module, watched):
                stack.callback(module.register_forward_hook(said(name)).remove)
        yield


def _values(sequence: Sequence) -> Tensor:
    return sequence.data if isinstance(sequence, PackedSequence) else sequence


def _differentiable(sequence: Sequence) -> Sequence:
    """Return what a layer reads, or a copy of it, as a tensor that has a gradient."""
    x = _values(sequence)
    x = x if x.requires_grad else x.detach().clone()
    x.requires_grad_()
    return PackedSequence(x, *sequence[1:]) if isinstance(sequence, PackedSequence) else x


def _padded(module: nn.RNNBase, sequence: Sequence) -> tuple[Tensor, Tensor]:
    """Return what a layer reads or says as (batch, time, features), and which steps there are."""
    if isinstance(sequence, PackedSequence):
        padded, lengths = pad_packed_sequence(sequence, batch_first=True)
        return padded, torch.arange(padded.shape[1]) < lengths[:, None]
    if sequence.ndim == 2:
        batch = sequence[None]
    else:
        batch = sequence if module.batch_first else sequence.transpose(0, 1)
    return batch, torch.ones(batch.shape[:2], dtype=torch.bool)


def _has_visible_gates(module: nn.Module) -> TypeGuard[nn.RNNBase]:
    """Tell whether a layer's gates follow from what it reads and says: one layer, one direction."""
    return (
        isinstance(module, nn.RNNBase)
        and module.mode in ("LSTM", "GRU")
        and module.num_layers == 1
        and not module.bidirectional
        and module.proj_size == 0
    )


@torch.no_grad()
def gates_of(module: nn.RNNBase, arguments: tuple[Any, ...], output: Sequence) -> Tensor:
    """Return where gates are within 5 % of a bound: (batch, time, gates, units), 0 or 1.

    Of at most 8 samples, for this is a product of matrices as large as the layer's own. Of packed
    sequences there are only the steps that they have: (steps, gates, units).
    """
    (x, there), (h, _) = (_padded(module, sequence) for sequence in (arguments[0], output))
    x, h = x[:_NUM_GATED].float(), h[:_NUM_GATED].float()
    state = arguments[1] if len(arguments) > 1 and arguments[1] is not None else None
    begin = torch.zeros_like(h[:, :1])
    if state is not None:
        held = state[0] if isinstance(state, tuple) else state
        begin = held[0].reshape(-1, 1, module.hidden_size)[:_NUM_GATED].float()
    before = torch.cat([begin, h[:, :-1]], dim=1)
    read, kept = (
        nn.functional.linear(what, getattr(module, f"weight_{kind}_l0")).float()
        + (getattr(module, f"bias_{kind}_l0") if module.bias else 0.0)
        for what, kind in ((x, "ih"), (before, "hh"))
    )
    read, kept = (t.reshape(*t.shape[:2], -1, module.hidden_size) for t in (read, kept))
    lstm = module.mode == "LSTM"  # i, f, g, o; of a GRU r, z, n, with r before W h of n
    tanh = 2
    gates = (read + kept).sigmoid()
    new = read[..., tanh, :] + kept[..., tanh, :] * (1 if lstm else gates[..., 0, :])
    gates[..., tanh, :] = (new.tanh() + 1) / 2
    near = ((gates < _NEAR) | (gates > 1 - _NEAR)).float()
    return near[there[:_NUM_GATED]] if isinstance(output, PackedSequence) else near


def _behaviour(name: str, module: nn.Module, tensors: list[Tensor]) -> dict[str, float]:
    """Return the shares of units that are dead and saturated."""
    unit = 1 if tensors[0].ndim == 4 else -1
    values = torch.cat([t.movedim(unit, 0).flatten(1) for t in tensors], dim=1).float()
    dead = (values.amax(1) - values.amin(1)) < _SAME
    found = {f"units/{name}/dead": float(dead.float().mean())}
    bounds = _bounds(module)
    if bounds is not None:
        near = _NEAR * (bounds[1] - bounds[0])
        at_bound = (values < bounds[0] + near) | (values > bounds[1] - near)
        saturated = at_bound.float().mean(1) > _MOSTLY
        found[f"units/{name}/saturated"] = float(saturated.float().mean())
    return found


def _bounds(module: nn.Module) -> tuple[int, int] | None:
    if isinstance(module, nn.RNNBase):
        return None if module.mode == "RNN_RELU" else (-1, 1)
    return _BOUNDS[type(module)]


def _norms(module: nn.RNNBase, read: Sequence, gradient: Tensor | None) -> Tensor:
    """Return the mean norm (T,) of each sample's own gradient by what was read.

    The loss is a mean over the samples, so that the sum of norms is the mean of their own.
    """
    if gradient is None:
        gradient = torch.zeros_like(_values(read))
    norms = gradient.norm(dim=-1)
    if not isinstance(read, PackedSequence):
        return _padded(module, norms[..., None])[0].sum((0, 2))
    sizes = read.batch_sizes
    lengths = (sizes[None] > torch.arange(int(sizes[0]))[:, None]).sum(1)
    lags = torch.cat([lengths[:size] - 1 - at for at, size in enumerate(sizes.tolist())])
    sums = torch.zeros(len(sizes)).index_add(0, lags, norms.cpu().float())
    return (sums * len(lengths) / lags.bincount()).flip(0)


def _flow(name: str, norms: list[float]) -> dict[str, float]:
    last = len(norms) - 1
    lags = [0, *(2**k for k in range(last.bit_length())), last]
    return {f"flow/{name}/{lag}": norms[last - lag] for lag in lags if lag <= last}
