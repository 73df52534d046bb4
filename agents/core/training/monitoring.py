"""Training diagnostics that a run records: cheap, and without any effect on the run."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from agents.core.training.loop import Loss, to_device, total_loss
from tasks.core.batch import num_samples, take
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

Sequence = Tensor | PackedSequence  # input or output of a recurrent layer

NUM_TRAIN_EVAL = 128  # training samples that are evaluated as the validation samples are
NUM_OBSERVED = 16  # of them, those of the statistics of units and gradient flow
SAMPLES_BETWEEN_DIAGNOSTICS = 5_000  # diagnostics take as long as some hundred samples of training
_BOUNDS = {nn.Tanh: (-1, 1), nn.Sigmoid: (0, 1), nn.ReLU: None, nn.GELU: None, nn.SiLU: None}
_DEAD_RANGE = 1e-3  # a unit whose values differ by less is dead
_NEAR = 0.05  # of a bound, as a share of the range
_NUM_GATED = 8  # samples of the statistics of gates
_SATURATED_SHARE = 0.9  # of all samples and steps


def layer_of(parameter: str) -> str:
    """Return the layer that a parameter belongs to: `reader.l0` for `reader.weight_hh_l0`."""
    module, _, name = parameter.rpartition(".")
    layer = re.search(r"_(l\d+)", name)
    return ".".join(part for part in (module, layer[1] if layer else "") if part) or name


def gradient_norms(model: nn.Module, scale: float) -> dict[str, float]:
    """Return `grad/<layer>`, the L2 norms of the present gradients, times `scale`."""
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    if not gradients:
        return {}
    norms = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist()
    squares: dict[str, float] = {}
    for name, norm in zip(gradients, norms, strict=True):
        tag = f"grad/{layer_of(name)}"
        squares[tag] = squares.get(tag, 0.0) + norm**2
    return {tag: scale * square**0.5 for tag, square in squares.items()}


def training_diagnostics(agent: "AgentProtocol", validation: Any) -> dict[str, float]:
    """Return train-set scores, the constant baseline, unit statistics and gradient flow.

    `fit/…`: loss and scores of training samples in evaluation mode, without dropout: the first
    samples of the run's seed and present stage. `chance/…`: loss and scores of the best constant
    prediction; the loss in nats, or as a squared error. The others are those of
    `unit_statistics_and_gradient_flow`.
    """
    task, stage = agent.task, agent.state.cursor.stage
    batch = next(task.batches("train", NUM_TRAIN_EVAL, agent.config.seed, 0, 0, stage))
    first = to_device(take(batch, 0, NUM_OBSERVED), agent.device)
    train = {"loss": agent.mean_loss(batch), **task.score(agent.predict_arrays(batch), batch)}
    baseline = _constant_baseline(agent, batch, validation)
    metrics = {f"chance/{name}": value for name, value in baseline.items()}
    metrics |= {f"fit/{name}": value for name, value in train.items()}
    with evaluation_mode(agent.model), _unwrapped(agent):
        metrics |= unit_statistics_and_gradient_flow(agent.model, agent.loss, first)
    return {tag: value for tag, value in metrics.items() if math.isfinite(value)}


def _constant_baseline(agent: "AgentProtocol", batch: Any, validation: Any) -> dict[str, float]:
    """Return loss and scores of the best constant prediction.

    Where the agent knows that loss, as of texts, the scores are those of empty answers; of other
    ragged targets there is neither.
    """
    task, own_loss = agent.task, agent.constant_loss(batch)
    if own_loss is not None:
        nothing = [np.zeros(0, np.int64)] * num_samples(validation)
        return {"loss": own_loss, **task.score(nothing, validation)}
    targets, validation_targets = task.targets(batch), task.targets(validation)
    if not (isinstance(targets, np.ndarray) and isinstance(validation_targets, np.ndarray)):
        return {}
    constant, loss = majority_baseline(targets)
    scored = validation if validation_targets.shape[1:] == constant.shape else batch
    guesses = np.broadcast_to(constant, (num_samples(scored), *constant.shape))
    return {"loss": loss, **task.score(guesses, scored)}


@contextlib.contextmanager
def _unwrapped(agent: "AgentProtocol") -> Iterator[None]:
    """Let an agent's loss call its bare model: a wrapper's replicas would each be hooked."""
    wrapper, agent.network = agent.network, agent.model
    try:
        yield
    finally:
        agent.network = wrapper


def majority_baseline(targets: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the best constant prediction for targets (batch, …), and its loss.

    Codes: the majority at each position; the loss is the entropy in nats, averaged over positions.
    Numbers: the mean; the loss is the variance.
    """
    if targets.dtype.kind == "f":
        return targets.mean(axis=0), float(targets.var(axis=0).mean())
    flat = targets.reshape(len(targets), -1)
    counts = [np.unique(column, return_counts=True) for column in flat.T]
    frequencies = [count / len(flat) for _, count in counts]
    entropy = float(np.mean([-(p * np.log(p)).sum() for p in frequencies]))
    answer = np.array([codes[count.argmax()] for codes, count in counts], targets.dtype)
    return answer.reshape(targets.shape[1:]), entropy


def unit_statistics_and_gradient_flow(
    model: nn.Module, loss_fn: Callable[[Any], Loss], batch: Any
) -> dict[str, float]:
    """Return shares of dead and saturated units, and norms of input gradients over time lags.

    `units/<layer>/dead`: share of units whose output is the same for every input;
    `units/<layer>/saturated`: share that is within 5 % of a bound nine tenths of the time; of an
    LSTM or GRU of one layer the share of units whose gates are, taken together.
    `flow/<layer>/<k>`: mean L2 norm, over the samples, of the gradient of a sample's loss by the
    input of a recurrent layer k steps before its end, for k = 0, 1, 2, 4, … and the first step; in
    a packed sequence each sample has its own end, and the mean is over those that have the step.
    """
    inputs: dict[str, list[Sequence]] = {}
    outputs: dict[str, list[Tensor]] = {}
    gates: dict[str, list[Tensor]] = {}
    cudnn = torch.backends.cudnn.flags(enabled=False)  # which has no backward pass in this mode
    with torch.enable_grad(), cudnn, _record_layers(model, inputs, outputs, gates):
        loss = total_loss(loss_fn(batch))
        leaves = [_values(sequence) for sequences in inputs.values() for sequence in sequences]
        gradients = iter(torch.autograd.grad(loss, leaves, allow_unused=True) if leaves else ())
    metrics: dict[str, float] = {}
    for name, tensors in outputs.items():
        metrics |= _unit_statistics(name, model.get_submodule(name), tensors)
    for name, tensors in gates.items():
        near_bound = torch.cat([t.flatten(0, -3) for t in tensors]).mean((0, 1))
        saturated = near_bound > _SATURATED_SHARE
        metrics[f"units/{name}/saturated"] = float(saturated.float().mean())
    for name, sequences in inputs.items():
        layer = cast("nn.RNNBase", model.get_submodule(name))
        norms = [_gradient_norms_by_step(layer, s, next(gradients)) for s in sequences]
        metrics |= _gradient_flow(name, torch.cat(norms).tolist())
    return metrics


@contextlib.contextmanager
def _record_layers(
    model: nn.Module,
    inputs: dict[str, list[Sequence]],
    outputs: dict[str, list[Tensor]],
    gates: dict[str, list[Tensor]],
) -> Iterator[None]:
    """Collect, within a block, inputs of recurrent layers, outputs of units, and gates."""

    def record_input(name: str) -> Callable[..., Any]:
        def hook(
            module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            by_name = dict(zip(("input", "hx"), arguments, strict=False)) | keywords
            sequence = _differentiable(by_name["input"])
            inputs.setdefault(name, []).append(sequence)
            return (sequence, by_name.get("hx")), {}

        return hook

    def record_output(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            sequence = output[0] if isinstance(module, nn.RNNBase) else output
            outputs.setdefault(name, []).append(_values(sequence).detach())
            if _has_visible_gates(module):
                gates.setdefault(name, []).append(gates_of(module, arguments, sequence))

        return hook

    kinds: tuple[type[nn.Module], ...] = (nn.RNNBase, *_BOUNDS)
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.RNNBase):
                handle = module.register_forward_pre_hook(record_input(name), with_kwargs=True)
                stack.callback(handle.remove)
            if isinstance(module, kinds):
                stack.callback(module.register_forward_hook(record_output(name)).remove)
        yield


def _values(sequence: Sequence) -> Tensor:
    return sequence.data if isinstance(sequence, PackedSequence) else sequence


def _differentiable(sequence: Sequence) -> Sequence:
    """Return a layer's input, or a copy of it, as a tensor that has a gradient."""
    x = _values(sequence)
    x = x if x.requires_grad else x.detach().clone()
    x.requires_grad_()
    return PackedSequence(x, *sequence[1:]) if isinstance(sequence, PackedSequence) else x


def _padded(module: nn.RNNBase, sequence: Sequence) -> tuple[Tensor, Tensor]:
    """Return a layer's input or output as (batch, time, features), and the mask of its steps."""
    if isinstance(sequence, PackedSequence):
        padded, lengths = pad_packed_sequence(sequence, batch_first=True)
        return padded, torch.arange(padded.shape[1]) < lengths[:, None]
    if sequence.ndim == 2:
        batch = sequence[None]
    else:
        batch = sequence if module.batch_first else sequence.transpose(0, 1)
    return batch, torch.ones(batch.shape[:2], dtype=torch.bool)


def _has_visible_gates(module: nn.Module) -> TypeGuard[nn.RNNBase]:
    """Tell whether gates follow from a layer's inputs and outputs: one layer, one direction."""
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
    sequences only the steps that exist: (steps, gates, units).
    """
    (x, mask), (h, _) = (_padded(module, sequence) for sequence in (arguments[0], output))
    x, h = x[:_NUM_GATED].float(), h[:_NUM_GATED].float()
    state = arguments[1] if len(arguments) > 1 and arguments[1] is not None else None
    h_0 = torch.zeros_like(h[:, :1])
    if state is not None:
        hidden = state[0] if isinstance(state, tuple) else state
        h_0 = hidden[0].reshape(-1, 1, module.hidden_size)[:_NUM_GATED].float()
    previous = torch.cat([h_0, h[:, :-1]], dim=1)
    from_input, from_state = (
        nn.functional.linear(values, getattr(module, f"weight_{kind}_l0")).float()
        + (getattr(module, f"bias_{kind}_l0") if module.bias else 0.0)
        for values, kind in ((x, "ih"), (previous, "hh"))
    )
    from_input, from_state = (
        t.reshape(*t.shape[:2], -1, module.hidden_size) for t in (from_input, from_state)
    )
    lstm = module.mode == "LSTM"  # i, f, g, o; of a GRU r, z, n, with r before W h of n
    tanh = 2
    gates = (from_input + from_state).sigmoid()
    reset = 1 if lstm else gates[..., 0, :]
    candidate = from_input[..., tanh, :] + from_state[..., tanh, :] * reset
    gates[..., tanh, :] = (candidate.tanh() + 1) / 2
    near = ((gates < _NEAR) | (gates > 1 - _NEAR)).float()
    return near[mask[:_NUM_GATED]] if isinstance(output, PackedSequence) else near


def _unit_statistics(name: str, module: nn.Module, tensors: list[Tensor]) -> dict[str, float]:
    """Return the shares of units that are dead and saturated."""
    unit = 1 if tensors[0].ndim == 4 else -1
    values = torch.cat([t.movedim(unit, 0).flatten(1) for t in tensors], dim=1).float()
    dead = (values.amax(1) - values.amin(1)) < _DEAD_RANGE
    metrics = {f"units/{name}/dead": float(dead.float().mean())}
    bounds = _bounds(module)
    if bounds is not None:
        near = _NEAR * (bounds[1] - bounds[0])
        at_bound = (values < bounds[0] + near) | (values > bounds[1] - near)
        saturated = at_bound.float().mean(1) > _SATURATED_SHARE
        metrics[f"units/{name}/saturated"] = float(saturated.float().mean())
    return metrics


def _bounds(module: nn.Module) -> tuple[int, int] | None:
    if isinstance(module, nn.RNNBase):
        return None if module.mode == "RNN_RELU" else (-1, 1)
    return _BOUNDS[type(module)]


def _gradient_norms_by_step(
    module: nn.RNNBase, sequence: Sequence, gradient: Tensor | None
) -> Tensor:
    """Return the mean norm (T,) of each sample's own gradient by the input at each step.

    The loss is a mean over the samples, so that the sum of norms is the mean of their own.
    """
    if gradient is None:
        gradient = torch.zeros_like(_values(sequence))
    norms = gradient.norm(dim=-1)
    if not isinstance(sequence, PackedSequence):
        return _padded(module, norms[..., None])[0].sum((0, 2))
    sizes = sequence.batch_sizes
    lengths = (sizes[None] > torch.arange(int(sizes[0]))[:, None]).sum(1)
    lags = torch.cat([lengths[:size] - 1 - at for at, size in enumerate(sizes.tolist())])
    sums = torch.zeros(len(sizes)).index_add(0, lags, norms.cpu().float())
    return (sums * len(lengths) / lags.bincount()).flip(0)


def _gradient_flow(name: str, norms: list[float]) -> dict[str, float]:
    last = len(norms) - 1
    lags = [0, *(2**k for k in range(last.bit_length())), last]
    return {f"flow/{name}/{lag}": norms[last - lag] for lag in lags if lag <= last}
