"""A record of each kind that is drawn of what is read, what of it matters, how sure an agent is."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.helpers.samples import HAN, RNG, Size, reproducible, shares, spread
from visualization.calibration.reliability import ReliabilityDiagram, reliability
from visualization.recurrent.attribution import LRP, METHODS, RANDOM, QuestionRelevance
from visualization.recurrent.gate_paths import GatePaths
from visualization.recurrent.relevance import LayerwiseRelevance
from visualization.sweeps.sample_complexity import SampleComplexity, SamplePoint
from visualization.sweeps.trials import ParallelCoordinates, Slices, TrialScores
from visualization.transcription.errors import (
    Confusions,
    ErrorRates,
    WorstLines,
    confusions,
    errors_by_group,
    errors_by_length,
    worst_lines,
)


def texts(size: Size) -> tuple[list[str], list[str]]:
    """Return what was read in lines, and what is right; the first is wrong in its first letter."""
    num = max(2, min(size.layers, 50))
    letters = list("abcdefghijklmnopqrstuvwxyz ,.-é1" + (HAN if size.long else ""))
    right = ["".join(RNG.choice(letters, 1 + min(size.steps, 300) * n // num)) for n in range(num)]
    read = [
        "".join(RNG.choice(letters) if RNG.random() < 0.2 else letter for letter in text)[: n + 40]
        for n, text in enumerate(right)
    ]
    return ["_", *read[1:]], right


def rates(size: Size) -> ErrorRates:
    """Return error rates of pages, or of lengths where there are few lines."""
    read, right = texts(size)
    if not size.long:
        return errors_by_length(read, right)
    return errors_by_group(read, right, size.names(len(right)), "page")


def worst(size: Size) -> WorstLines:
    """Return lines with errors, with pictures."""
    read, right = texts(size)
    images = list(size.images(len(right))[:, 0].astype(np.float32))
    return worst_lines(read, right, images, size.names(len(right)))


def diagram(size: Size) -> ReliabilityDiagram:
    """Return how sure an agent is of few or many words."""
    sure = shares(size.steps)
    right = RNG.random(size.steps) < sure**2
    return ReliabilityDiagram(
        name="characters", before=reliability(sure, right), after=reliability(sure**2, right),
        temperatures=(1.0, 1.5), fitted_on=f"{size.steps:,} characters of validation",
    )  # fmt: skip


def trials(size: Size) -> dict[str, Any]:
    """Return scores of few or many trials, of which some were pruned, as records of sweeps."""
    num = max(4, min(size.steps, 400))
    scores = shares(num)
    return {
        "score_name": size.words("best accuracy on validation"), "is_higher_better": True,
        "scores": list(scores), "low": list(scores - 0.02), "high": list(scores + 0.02),
        "statuses": ["pruned" if number % 4 == 3 else "done" for number in range(num)],
    }  # fmt: skip


def swept(size: Size) -> dict[str, list[Any]]:
    """Return settings of those trials: rates, numbers of units, kinds of cells, some without."""
    num, names = len(trials(size)["scores"]), size.names(max(2, min(size.layers, 12)))
    columns = (
        [10.0 ** -(1 + number % 4) for number in range(num)],
        [4 + number % 9 for number in range(num)],
        [size.name(number % 5) if number % 7 else None for number in range(num)],
    )
    return {name: columns[number % 3] for number, name in enumerate(names)}


def complexity(size: Size) -> SampleComplexity:
    """Return scores of few or many models, on few or many tasks, over numbers of samples."""
    num = max(2, min(size.layers, 12))

    def points(number: int) -> list[SamplePoint]:
        scores = np.sort(shares(max(2, min(size.steps, 30))))
        return [
            SamplePoint(num_samples=10 * 2**place, test=score, low=score / 2, high=score + number)
            for place, score in enumerate(scores)
        ]

    models = {name: points(number) for number, name in enumerate(size.names(num))}
    panels = dict.fromkeys(size.names(num), models)
    return SampleComplexity.of(size.words("accuracy"), panels)


def confused(size: Size) -> Confusions:
    """Return which characters were read for which."""
    return confusions(*texts(size))


def question(size: Size) -> QuestionRelevance:
    """Return the relevance of few or very many characters for as many answers."""
    num, answers, steps = size.samples, min(size.layers, 50), size.steps
    relevance = {name: spread(num, answers, steps) for name in METHODS}
    counts = np.unique(np.linspace(0, steps, min(steps, 8) + 1).round().astype(int))
    parts = {name: spread(num, answers) for name in ("others", "biases", "scores")}
    return QuestionRelevance(
        relevance=relevance, scores=parts["scores"], baseline_scores=spread(num, answers),
        symbols=size.characters(num, steps), answers=size.characters(num, answers),
        quantity=size.words("logit"), deleted=counts,
        deletion={name: spread(num, answers, len(counts)) for name in (*METHODS, RANDOM)},
        propagation=LayerwiseRelevance(steps=relevance[LRP], **parts),
    )  # fmt: skip


def gate_effects(size: Size) -> GatePaths:
    """Return the effect of each gate at few or very many steps."""
    num, steps, gates = size.samples, size.steps, ("i", "f", "g", "o")
    symbols = size.characters(num, steps)
    return GatePaths(
        gates=gates, effect=spread(num, 2, 4, steps), gate_effect=spread(num, 2, 4),
        joint_effect=spread(num, 2), total_effect=spread(num, 2), scores=spread(num, 2),
        sender="both", units=None, symbols=symbols,
        changed=np.where(np.arange(steps) == steps // 2, "9", "")[None].repeat(num, axis=0),
        answers=size.characters(num, 2), quantity=size.words("logit"),
    )  # fmt: skip


SAMPLES: dict[type, Callable[[Size], Any]] = reproducible({
    Confusions: confused, ErrorRates: rates, WorstLines: worst, ReliabilityDiagram: diagram,
    QuestionRelevance: question, GatePaths: gate_effects,
    TrialScores: lambda size: TrialScores.of(**trials(size)),
    ParallelCoordinates: lambda size: ParallelCoordinates.of(swept(size), **trials(size)),
    Slices: lambda size: Slices.of(swept(size), **trials(size)),
    SampleComplexity: complexity,
})  # fmt: skip
