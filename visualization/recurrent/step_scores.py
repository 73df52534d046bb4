"""Scores of a model as functions of what a recurrent layer of it reads at each step.

N samples, R variants of them, K scores of each, T time steps, I inputs.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.arrays import check_shape
from visualization.core.errors import argument_error
from visualization.core.preserve import hooks
from visualization.core.targets import batch_slices, no_gradient_error
from visualization.recurrent.edits import check_edits
from visualization.recurrent.inputs import prepared

Respond = Callable[[Tensor], Tensor]  # numbers of samples (R,) -> scores (R, K)
BATCH_SIZE = 512  # variants that run at once


@attrs.frozen(eq=False, kw_only=True)
class StepScores:
    """Scores of N samples as functions of the input of a recurrent layer at each step.

    Attributes:
        model: the module in which `rnn` is; it is left as it was.
        rnn: the nn.LSTM, nn.GRU or nn.RNN that reads the question, called once by `respond`.
        respond: runs the model on samples by their numbers (R,) and returns K scores of each
            (R, K), such as the logit of each character of a given answer. Greedy decoding is no
            such function: an answer that changes on the way is another target.
        num_samples: N.
        batch_size: variants of samples that run at once, which bounds the memory.

    Raises:
        ValueError: `rnn` is not a recurrent layer.
    """

    model: nn.Module
    rnn: nn.RNNBase
    respond: Respond
    num_samples: int
    batch_size: int = BATCH_SIZE

    def __attrs_post_init__(self) -> None:
        """Refuse a layer of another kind."""
        check_edits([], self.rnn)

    def __call__(self, rows: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Return the scores (R, K) of samples `rows` (R,) of which `rnn` reads `inputs` (R, T, I).

        Raises:
            ValueError: `rnn` is not called once, or the scores are not (R, K).
        """
        with self._reading(inputs):
            scores = self.respond(rows)
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(rows):
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else repr(scores)
            problem = f"the scores have the shape {shape}"
            raise argument_error("respond", problem, f"({len(rows)}, K): K of each sample")
        return scores

    def in_batches(self, rows: Tensor, inputs: Callable[[slice], Tensor]) -> Tensor:
        """Return scores (R, K) without gradients; `inputs` makes those of some of the variants."""
        with torch.no_grad():
            spans = batch_slices(len(rows), self.batch_size)
            return torch.cat([self(rows[span], inputs(span)) for span in spans])

    def read(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what `rnn` reads of all samples (N, T, I), and its initial states (L, N, U)."""
        with torch.no_grad(), self._reading(None) as calls:
            self.respond(self.rows)
        return calls[0]

    @property
    def rows(self) -> Tensor:
        """Numbers of all samples (N,)."""
        return torch.arange(self.num_samples, device=next(self.rnn.parameters()).device)

    @contextlib.contextmanager
    def _reading(
        self, inputs: Tensor | None
    ) -> Iterator[list[tuple[Tensor, Tensor, Tensor | None]]]:
        """Let `rnn` read other inputs for a block; the list has what it would have read."""
        calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

        def replace(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Any, dict[str, Any]] | None:
            values = dict(zip(("input", "hx"), args, strict=False)) | kwargs
            calls.append(prepared(self.rnn, values["input"], values.get("hx")))
            if inputs is None:
                return None
            read = inputs if self.rnn.batch_first else inputs.transpose(0, 1)
            return (), {**values, "input": read}

        with hooks([self.rnn.register_forward_pre_hook(replace, with_kwargs=True)]):
            yield calls
        if len(calls) != 1:
            accepted = "a layer that is called once for the whole question"
            raise argument_error("rnn", f"it was called {len(calls)} times", accepted)


def as_texts(name: str, values: ArrayLike, shape: Sequence[int]) -> NDArray[np.str_]:
    """Return texts as an array; ValueError: their shape is not that of steps, or scores."""
    texts = np.asarray(values).astype(str)
    check_shape(name, texts.shape, shape, "the samples and what is read or scored of them")
    return texts


def gradients_by_score(scores: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient of each score (R, K) with respect to the inputs, (K, R, T, I).

    Raises:
        ValueError: the scores do not depend on them by differentiable steps.
    """
    if not scores.requires_grad:
        raise no_gradient_error("what rnn reads")
    num = scores.shape[1]
    gradients = [
        torch.autograd.grad(scores[:, k].sum(), inputs, retain_graph=k + 1 < num, allow_unused=True)
        for k in range(num)
    ]
    return torch.stack([torch.zeros_like(inputs) if g is None else g for (g,) in gradients])
