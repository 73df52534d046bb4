"""Attribution of scores to the steps that a recurrent layer reads, and how faithful it is.

N samples, K scores of each, T time steps, J steps of a deletion curve. All functions return
relevances (N, K, T), signed, in units of the score: the sum over what a step reads.
"""

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, check_count, unknown_name_error
from visualization.core.inputs import inspection_mode
from visualization.core.records import brief_repr
from visualization.core.targets import batch_slices
from visualization.recurrent.relevance import LayerwiseRelevance, layerwise_relevance
from visualization.recurrent.step_scores import StepScores, as_texts, gradients_by_score

LRP, OCCLUSION = "LRP", "occlusion"
INTEGRATED, GRADIENT = "integrated gradients", "input × gradient"
METHODS = (LRP, INTEGRATED, GRADIENT, OCCLUSION)
RANDOM = "random order"
_CURVE_STEPS = 8  # of a deletion curve, at most


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class QuestionRelevance:
    """Relevance of each of T characters of a question for K scores of N samples, by method.

    Attributes:
        relevance: by method (N, K, T), in units of the score.
        scores: of the questions as they are (N, K).
        baseline_scores: of questions of which nothing is read (N, K).
        symbols: the characters of the questions (N, T).
        answers: what each score is of, such as a character of the answer (N, K).
        quantity: name of the scores, such as `logit`.
        deleted: numbers of characters that are deleted (J,), from 0 to T.
        deletion: by method, and for random orders, the scores with so many of the characters
            deleted of which the method says that they matter most (N, K, J): a score that falls
            soon speaks for the method.
        propagation: where relevance went that LRP does not give to the question; None: LRP is not
            among the methods.
    """

    relevance: Mapping[str, NDArray[np.float64]]
    scores: NDArray[np.float64]
    baseline_scores: NDArray[np.float64]
    symbols: NDArray[np.str_]
    answers: NDArray[np.str_]
    quantity: str
    deleted: NDArray[np.int64]
    deletion: Mapping[str, NDArray[np.float64]]
    propagation: LayerwiseRelevance | None = None

    def deletion_area(self) -> dict[str, float]:
        """Return by method the mean score under its deletion curve: low is faithful."""
        whole = self.deleted[-1]
        areas = {n: np.trapezoid(c, self.deleted, axis=2) for n, c in self.deletion.items()}
        return {name: float(area.mean() / whole) for name, area in areas.items()}

    def correlation(self, other: str = OCCLUSION) -> dict[str, float]:
        """Return by method the mean correlation over characters with another method, -1 to 1.

        Of a score for which all characters matter alike no correlation is defined: it is left out.

        Raises:
            ValueError: there is no other method of that name.
        """
        if other not in self.relevance:
            raise unknown_name_error("other", other, self.relevance)
        deviations = {n: v - v.mean(axis=2, keepdims=True) for n, v in self.relevance.items()}
        reference = deviations[other]
        return {name: _mean_cosine(values, reference) for name, values in deviations.items()}

    def incompleteness(self) -> dict[str, float]:
        """Return by method |Σ relevance - (score - score of nothing read)|, the mean over scores.

        Integrated gradients have 0 but for too few nodes (completeness); the others need not. Of
        LRP it is what of the score itself is found nowhere: neither in the question, nor in what
        else is read, nor in biases.
        """
        change = self.scores - self.baseline_scores
        gaps = {n: np.abs(v.sum(axis=2) - change).mean() for n, v in self.relevance.items()}
        if self.propagation is not None:
            gaps[LRP] = np.abs(self.propagation.rest).mean()
        return {name: float(gap) for name, gap in gaps.items()}


def _mean_cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    sizes = np.sqrt((a**2).sum(axis=2) * (b**2).sum(axis=2))
    is_defined = sizes > 1e-12 * max(float(sizes.max(initial=0.0)), 1e-300)
    cosines = (a * b).sum(axis=2)[is_defined] / sizes[is_defined]
    return float(cosines.mean()) if cosines.size else float("nan")


def input_x_gradient(scores: StepScores) -> Tensor:
    """Input × gradient: what is read at each step times the gradient of each score (N, K, T).

    Shrikumar et al. 1605.01713; Denil et al. 2014 (1412.6815) have it over words.

    Raises:
        ValueError: the scores have no gradient; or as `StepScores`.
    """
    with inspection_mode(scores.model):
        inputs = scores.read()[0].detach().requires_grad_()
        gradients = gradients_by_score(scores(scores.rows, inputs), inputs)
        return (gradients * inputs.detach()).sum(-1).transpose(0, 1)


def integrated_gradients(
    scores: StepScores, baseline: float | Tensor = 0.0, num_nodes: int = 64
) -> Tensor:
    """Integrated gradients: (input - baseline) × the mean gradient between (N, K, T).

    Integrated gradients (Sundararajan et al. 1703.01365, equation 1) by Gauss–Legendre nodes, exact
    where the gradient is a polynomial of degree up to 2 `num_nodes` - 1 along the way. They sum to
    score(input) - score(baseline), which is called completeness, up to the error of too few nodes.

    Args:
        scores: what is explained.
        baseline: what is read where the way begins: a number, or anything that goes with (N, T, I).
            0 is no character at all, where characters are read one-hot.
        num_nodes: nodes on the way.

    Raises:
        ValueError: `num_nodes` is not 1 or more; or as `input_x_gradient`.
    """
    check_count(num_nodes, "num_nodes")
    abscissae, shares = np.polynomial.legendre.leggauss(num_nodes)
    with inspection_mode(scores.model):
        inputs = scores.read()[0].detach()
        path = inputs - baseline
        remaining = torch.as_tensor((1 - abscissae) / 2).to(inputs)
        weights = torch.as_tensor(shares / 2).to(inputs)
        parts = []
        per_batch = max(1, scores.batch_size // num_nodes)
        for span in batch_slices(len(inputs), per_batch):
            left = remaining[None, :, None, None] * path[span, None]
            points = (inputs[span, None] - left).flatten(0, 1).requires_grad_()
            rows = scores.rows[span].repeat_interleave(num_nodes)
            gradients = gradients_by_score(scores(rows, points), points)
            shape = (len(gradients), -1, num_nodes, *inputs.shape[1:])
            by_node = gradients.reshape(shape) * weights[:, None, None]
            parts.append((by_node.sum(2) * path[span]).sum(-1))
        return torch.cat(parts, dim=1).transpose(0, 1)


def occlusion(scores: StepScores, baseline: float | Tensor = 0.0) -> Tensor:
    """Occlusion: the fall of each score when one step reads the baseline (N, K, T).

    Zeiler & Fergus 1311.2901, section 4.2, of characters in place of patches. Arguments and errors
    are those of `integrated_gradients`.
    """
    with inspection_mode(scores.model), torch.no_grad():
        inputs, rows = scores.read()[0], scores.rows
        num, steps = inputs.shape[:2]
        only = torch.eye(steps, dtype=torch.bool, device=inputs.device)
        deleted = only.expand(num, steps, steps).flatten(0, 1)
        each = rows.repeat_interleave(steps)
        after = _deleted_scores(scores, inputs, baseline, each, deleted)
        before = scores(rows, inputs)
        fall: Tensor = before[:, :, None] - after.reshape(num, steps, -1).transpose(1, 2)
        return fall


def _deleted_scores(
    scores: StepScores, inputs: Tensor, baseline: float | Tensor, rows: Tensor, deleted: Tensor
) -> Tensor:
    """Return scores (R, K) of samples `rows` that read the baseline where `deleted` (R, T)."""
    blank = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).expand_as(inputs)

    def read(span: slice) -> Tensor:
        own = rows[span]
        return torch.where(deleted[span, :, None], blank[own], inputs[own])

    return scores.in_batches(rows, read)


_FUNCTIONS: dict[str, Callable[[StepScores, float | Tensor, int], Tensor]] = {
    INTEGRATED: integrated_gradients,
    GRADIENT: lambda scores, baseline, num_nodes: input_x_gradient(scores),
    OCCLUSION: lambda scores, baseline, num_nodes: occlusion(scores, baseline),
}


def _check_methods(methods: Sequence[str]) -> None:
    if not methods:
        raise argument_error("methods", "is empty", ", ".join(METHODS))
    for method in methods:
        if method not in METHODS:
            raise unknown_name_error("methods", method, METHODS)


def question_relevance(
    scores: StepScores,
    symbols: ArrayLike,
    answers: ArrayLike,
    *,
    quantity: str = "score",
    methods: Sequence[str] = METHODS,
    baseline: float | Tensor = 0.0,
    num_nodes: int = 64,
    epsilon: float = 1e-3,
    num_random: int = 4,
    seed: int = 0,
) -> QuestionRelevance:
    """Relevance of the characters of a question for an answer, by several methods side by side.

    With figures of how faithful each is: deletion curves (Petsiuk et al. 1806.07421; Arras et al.
    2019, 1904.11829, section 4.2, delete words), correlation with occlusion, and completeness.

    Args:
        scores: what is explained; see `StepScores`.
        symbols: the characters of the questions (N, T), or whatever is read at each step.
        answers: what each score is of, in words (N, K).
        quantity: name of the scores.
        methods: some of `METHODS`.
        baseline: what a deleted character reads as, and where integrated gradients begin.
        num_nodes: of `integrated_gradients`.
        epsilon: of `layerwise_relevance`.
        num_random: random orders in which characters are deleted too.
        seed: of the random orders.

    Raises:
        ValueError: an unknown method; symbols or answers that do not fit; or as the methods.
    """
    _check_methods(methods)
    check_count(num_random, "num_random")
    propagation = None
    relevance: dict[str, NDArray[np.float64]] = {}
    for method in methods:
        if method == LRP:
            propagation = layerwise_relevance(scores, epsilon)
            relevance[method] = propagation.steps
        else:
            relevance[method] = to_numpy(_FUNCTIONS[method](scores, baseline, num_nodes).double())
    shape = next(iter(relevance.values())).shape
    characters = as_texts("symbols", symbols, (shape[0], shape[2]))
    written = as_texts("answers", answers, shape[:2])
    marks = np.linspace(0, shape[2], min(shape[2], _CURVE_STEPS) + 1)
    counts = np.unique(marks.round().astype(np.int64))
    rng = np.random.default_rng(seed)
    orders = {name: [_ranks(values, rng)] for name, values in relevance.items()}
    orders[RANDOM] = [_ranks(np.zeros(shape), rng) for _ in range(num_random)]
    deletion = _deletion(scores, baseline, orders, counts)
    return QuestionRelevance(
        relevance=relevance, scores=deletion[RANDOM][:, :, 0],
        baseline_scores=deletion[RANDOM][:, :, -1], symbols=characters, answers=written,
        quantity=quantity, deleted=counts, deletion=deletion, propagation=propagation,
    )  # fmt: skip


def _ranks(relevance: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the rank of each step (N, K, T), 0 for the most relevant; ties in random order."""
    ties = rng.random(relevance.shape)
    order = np.lexsort((ties, -relevance), axis=-1)
    return np.argsort(order, axis=-1)


def _deletion(
    scores: StepScores, baseline: float | Tensor,
    orders: Mapping[str, Sequence[NDArray[np.int64]]], counts: NDArray[np.int64],
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Return by method each score (N, K, J) with its first characters deleted, by their ranks."""
    curves: dict[str, NDArray[np.float64]] = {}
    with inspection_mode(scores.model), torch.no_grad():
        inputs = scores.read()[0]
        for name, several in orders.items():
            ranks = np.stack(several, axis=0)  # (orders, N, K, T)
            deleted = ranks[..., None, :] < counts[:, None]  # (orders, N, K, J, T)
            shape = deleted.shape[:-1]
            sample, score = (np.broadcast_to(index, shape).ravel()
                             for index in np.ogrid[tuple(map(slice, shape))][1:3])  # fmt: skip
            flat = torch.as_tensor(deleted.reshape(-1, deleted.shape[-1]), device=inputs.device)
            rows = torch.as_tensor(sample.copy(), device=inputs.device)
            after = _deleted_scores(scores, inputs, baseline, rows, flat)
            own = to_numpy(after.double())[np.arange(len(score)), score]
            curves[name] = own.reshape(shape).mean(axis=0)
    return curves
