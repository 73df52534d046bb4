"""Layer-wise relevance propagation through recurrent layers.

The rules are those of Arras et al. 2017 (1706.07206) and 2019 (1904.11829, "LRP-all"): of a gate
times a signal the signal takes all; a sum shares its relevance by the ε rule; what a nonlinearity
gets, its input gets.

Each rule is written as a factor on the gradient, so that input × gradient is the relevance (Ancona
et al. 2018, 1711.06104): with gates held, and y in place of a nonlinearity y = φ(z) the
product z · (y / z), the network is linear in its inputs, and autograd does the rest. N samples, K
scores of each, T time steps, I inputs, U units.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from visualization.core.arrays import to_numpy
from visualization.core.errors import value_error
from visualization.core.inputs import inspection_mode
from visualization.core.preserve import replaced_forward
from visualization.core.records import brief_repr
from visualization.recurrent.cells import as_rnn_returns
from visualization.recurrent.engine import Cell, DirectionOutput, by_layer, run_with_edits
from visualization.recurrent.inputs import State, prepared
from visualization.recurrent.step_scores import StepScores


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class LayerwiseRelevance:
    """Layer-wise relevance propagation: K scores of N samples shared out over T steps.

    All in units of the score.

    Attributes:
        steps: relevance of what the layer reads at each step (N, K, T).
        others: that of all else that is read, such as the answer's earlier characters (N, K).
        biases: what biases keep (N, K).
        scores: what is shared out (N, K).
    """

    steps: NDArray[np.float64]
    others: NDArray[np.float64]
    biases: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def rest(self) -> NDArray[np.float64]:
        """What is lost (N, K): to ε, and where no rule holds, such as in attention."""
        return np.asarray(self.scores - self.steps.sum(axis=2) - self.others - self.biases)


def layerwise_relevance(scores: StepScores, epsilon: float = 1e-3) -> LayerwiseRelevance:
    """Layer-wise relevance propagation (LRP) of scores to the steps of a recurrent layer.

    LRP-all of Arras et al. 2019 (1904.11829, section 2.2): through every nn.LSTM, nn.GRU, nn.RNN
    and nn.Linear of the model. In z = Σ w x + b each x gets w x / (z + ε sign z) of what z has, and
    the bias keeps its share (δ = 0 in Arras et al. 2017, equation 4). Of a gate times a signal the
    signal gets all: i, f and o of an LSTM, r and z of a GRU. All else in the model goes by input ×
    gradient, which keeps the sum where it is linear, such as in a choice of steps or a mean.

    Args:
        scores: what is explained, best before any softmax, since relevance is only kept where the
            way from the read-out to the score is linear.
        epsilon: ε, above 0: the larger, the less of the relevance arrives, and the less do small
            sums of large terms of both signs make of it.

    Raises:
        ValueError: ε is not above 0; or as `StepScores`.
    """
    if not epsilon > 0:
        raise value_error("epsilon", epsilon, "above 0")
    with inspection_mode(scores.model):
        inputs = scores.read()[0].detach().requires_grad_()
        rules = _Rules(epsilon)
        with rules.applied(scores.model):
            values = scores(scores.rows, inputs)
        (steps,) = _relevance(values, [inputs])
        others, biases = (_totals(values, sources) for sources in (rules.others, rules.biases))
    whole = to_numpy(values.double())
    return LayerwiseRelevance(
        steps=to_numpy(steps.double()).reshape(*whole.shape, inputs.shape[1], -1).sum(axis=-1),
        others=others, biases=biases, scores=whole,
    )  # fmt: skip


def _relevance(scores: Tensor, sources: list[Tensor]) -> list[Tensor]:
    """Return the relevance of each source (N, …) for each score, (N, K, …)."""
    by_score = []
    for k in range(scores.shape[1]):
        pairs = zip(sources, _gradients(scores[:, k], sources), strict=True)
        by_score.append([source * gradient for source, gradient in pairs])
    return [torch.stack(column, dim=1).detach() for column in zip(*by_score, strict=True)]


def _totals(scores: Tensor, sources: list[Tensor]) -> NDArray[np.float64]:
    """Return the relevance of all sources together for each score (N, K).

    In what order a source has the samples need not be known: in all that belongs to sample n the
    gradient of Σ (n + 1) · score_n is n + 1 times that of Σ score_n.
    """
    totals = torch.zeros(scores.shape, dtype=torch.float64, device=scores.device)
    numbers = torch.arange(1, len(scores) + 1, device=scores.device)
    for k in range(scores.shape[1] if sources else 0):
        plain = _gradients(scores[:, k], sources)
        numbered = _gradients(scores[:, k] * numbers, sources)
        for source, one, many in zip(sources, plain, numbered, strict=True):
            ratio = torch.where(one == 0, 1, many / one)
            samples = ratio.round().long().clamp(1, len(scores)) - 1
            relevance = (source * one).detach().double()
            totals[:, k].index_add_(0, samples.flatten(), relevance.flatten())
    return to_numpy(totals)


def _gradients(scores: Tensor, sources: list[Tensor]) -> list[Tensor]:
    """Return the gradients of the sum of scores with respect to sources, 0 where it has none."""
    gradients = torch.autograd.grad(scores.sum(), sources, retain_graph=True, allow_unused=True)
    pairs = zip(sources, gradients, strict=True)
    return [torch.zeros_like(s) if gradient is None else gradient for s, gradient in pairs]


class _Rules:
    """The rules, and the leaves of what is read beside the question, and of the biases."""

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self.biases: list[Tensor] = []
        self.others: list[Tensor] = []

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let recurrent and linear layers of a model propagate relevance in a block."""
        with contextlib.ExitStack() as stack:
            for module in model.modules():
                if isinstance(module, nn.RNNBase):
                    forward: Any = functools.partial(self._rnn, module)
                elif isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
                    forward = functools.partial(self._linear, module)
                else:
                    continue
                stack.enter_context(replaced_forward(module, forward))
            yield

    def _linear(self, layer: nn.Linear, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return self._sum(self._with_bias(F.linear(input, layer.weight), layer.bias))

    def _with_bias(self, values: Tensor, bias: Tensor | None) -> Tensor:
        """Add a bias of which the relevance is counted."""
        if bias is None:
            return values
        leaf = bias.detach().expand(values.shape).clone().requires_grad_()
        self.biases.append(leaf)
        return values + leaf

    def _sum(self, z: Tensor) -> Tensor:
        """Apply the ε rule to a sum: a term w x gets w x / (z + ε sign z) of its relevance."""
        return _with_gradient(z, z / (z + torch.copysign(z.new_tensor(self._epsilon), z)))

    def _source(self, values: Tensor) -> Tensor:
        """Return what is read, or an initial state, as a leaf if it depends on nothing else."""
        if values.requires_grad or not values.any():  # zeros have no relevance
            return values
        leaf = values.clone().requires_grad_()
        self.others.append(leaf)
        return leaf

    def _rnn(
        self,
        rnn: nn.RNNBase,
        input: Tensor,  # noqa: A002 - torch's name
        hx: State = None,
    ) -> tuple[Tensor, Any]:
        """Run a recurrent layer with its own values, and gradients that carry relevance."""
        x, h0, c0 = prepared(rnn, input, hx)
        x, h0 = self._source(x), self._source(h0)
        c0 = None if c0 is None else self._source(c0)

        def run(
            cell: Cell, read: Tensor, h: Tensor, c: Tensor | None, layer: int, direction: int
        ) -> DirectionOutput:
            with torch.no_grad():
                own = run_with_edits(cell, read, h, c, [], 0, with_trace=True)
            return self._direction(cell, read, h, c, own)

        output, parts = by_layer(rnn, x, h0, c0, run)
        returned = as_rnn_returns(rnn, input, output, parts, with_trace=False)
        return returned.output, returned.state

    def _direction(
        self, cell: Cell, x: Tensor, h: Tensor, c: Tensor | None, own: DirectionOutput
    ) -> DirectionOutput:
        """Propagate through one layer in one direction, whose values `own` has."""
        size = cell.w_hh.shape[0] // {"LSTM": 4, "GRU": 3}.get(cell.mode, 1)
        rows = slice(2 * size, 3 * size) if own.gates else slice(None)  # those of the candidate
        w_ih, w_hh, b_ih, b_hh = (w[rows] for w in (cell.w_ih, cell.w_hh, cell.b_ih, cell.b_hh))
        read = self._with_bias(F.linear(x, w_ih), b_ih)
        states, cells = [], []
        for t in range(x.shape[1]):
            gate = {name: values[:, t] for name, values in own.gates.items()}
            carried = self._with_bias(F.linear(h, w_hh), b_hh)
            if c is not None:
                g = _activation(self._sum(read[:, t] + carried), gate["g"])
                c = self._sum(gate["f"] * c + gate["i"] * g)
                cells.append(c)
                h = _activation(c, gate["o"] * torch.tanh(c.detach()))
                h = h if cell.w_hr is None else self._sum(F.linear(h, cell.w_hr))
            elif gate:
                n = _activation(self._sum(read[:, t] + gate["r"] * carried), gate["n"])
                h = self._sum((1 - gate["z"]) * n + gate["z"] * h)
            else:
                h = _activation(self._sum(read[:, t] + carried), own.h[:, t])
            states.append(h)
        all_cells = torch.stack(cells, 1) if cells else None
        return DirectionOutput(torch.stack(states, 1), all_cells, {}, h, c)


def _activation(z: Tensor, values: Tensor) -> Tensor:
    """Return y = φ(z), to be φ(z) / z times z: what y has of relevance, z gets."""
    return _with_gradient(z, torch.where(z == 0, 0.0, values / z), values)


def _with_gradient(z: Tensor, factor: Tensor, values: Tensor | None = None) -> Tensor:
    """Return `values`, by default z, with the gradient of z times a factor."""
    scaled = z * factor.detach()
    return scaled + ((z if values is None else values) - scaled).detach()
