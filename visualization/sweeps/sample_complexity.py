"""Sample complexity: the score of models against the number of samples that they learned from."""

import math
from collections.abc import Mapping, Sequence

import attrs

from visualization.core.errors import NothingToShow
from visualization.core.records import brief_repr


@attrs.frozen(kw_only=True)
class SamplePoint:
    """Scores of a model that learned from so many samples, means over seeds.

    Attributes:
        num_samples: training samples.
        test: score on unseen samples.
        low: lower end of its 95 % interval over seeds; NaN with one seed.
        high: upper end.
        train: score on the training samples, NaN where it is not known: how well they are fitted.
    """

    num_samples: int
    test: float
    low: float = math.nan
    high: float = math.nan
    train: float = math.nan


def _numbers_of_points(panels: Mapping[str, Mapping[str, Sequence[SamplePoint]]]) -> str:
    num = sum(len(points) for curves in panels.values() for points in curves.values())
    return f"<{num} points in {len(panels)} panels>"


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class SampleComplexity:
    """Sample-complexity curves: panel (a task) → model → points, few samples first.

    Attributes:
        score_name: what the points are scores of, with its unit.
        panels: at least one curve in each.
    """

    score_name: str
    panels: Mapping[str, Mapping[str, Sequence[SamplePoint]]] = attrs.field(repr=_numbers_of_points)

    @classmethod
    def of(
        cls, score_name: str, panels: Mapping[str, Mapping[str, Sequence[SamplePoint]]]
    ) -> "SampleComplexity":
        """Return the curves of those panels and models that have points.

        Raises:
            NothingToShow: there is no point.
        """
        kept = {
            panel: found
            for panel, curves in panels.items()
            if (found := {model: _sorted(points) for model, points in curves.items() if points})
        }
        if not kept:
            raise NothingToShow("no model has a score yet")
        return cls(score_name=score_name, panels=kept)

    @property
    def models(self) -> list[str]:
        """Names of the models of any panel, each once."""
        return list(dict.fromkeys(model for curves in self.panels.values() for model in curves))


def _sorted(points: Sequence[SamplePoint]) -> list[SamplePoint]:
    return sorted(points, key=lambda point: point.num_samples)
