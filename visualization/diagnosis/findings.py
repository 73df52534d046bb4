"""Findings: a verdict on each question, and its evidence."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
from numpy.typing import NDArray

from visualization.core.records import brief_repr
from visualization.diagnosis.evidence import Condition, RunEvidence

Verdict = Literal["fine", "problem", "symptom", "unknown"]
Line = tuple[Sequence[float] | NDArray[Any], Sequence[float] | NDArray[Any]]  # x and y


@attrs.frozen(kw_only=True, field_transformer=brief_repr)
class Panel:
    """Lines over a common axis.

    Attributes:
        lines: label → (x, y).
        names: of x and y, with their units.
        logarithmic: which axes are: `""`, `x`, `y` or `xy`; y only if it spans a factor of 10.
        levels: label → a level of y to compare with, drawn across.
        marks: label → a place on x, drawn from top to bottom.
        top: where y ends at least, such as 1 for a share; None: where the values end.
    """

    title: str
    lines: Mapping[str, Line]
    names: tuple[str, str]
    logarithmic: str = ""
    levels: Mapping[str, float] = attrs.Factory(dict)
    marks: Mapping[str, float] = attrs.Factory(dict)
    top: float | None = None


@attrs.frozen(field_transformer=brief_repr)
class Evidence:
    """Panels that show what a verdict rests on."""

    panels: tuple[Panel, ...]


@attrs.frozen(field_transformer=brief_repr)
class Answer:
    """What the recorded data says to one question.

    Attributes:
        verdict: `symptom` is what another finding explains; it is counted as no second problem.
        measurement: what the verdict rests on, in a few words for a table.
        explanation: one or two sentences with the figures; of `unknown`, what is missing.
        advice: settings to try, such as `--set learning_rate=0.003`, and other things to do.
    """

    verdict: Verdict
    measurement: str
    explanation: str
    advice: tuple[str, ...] = ()
    evidence: Evidence | None = None


@attrs.frozen(field_transformer=brief_repr)
class Finding:
    """A question with its answer.

    Attributes:
        name: a few words for what would be wrong, such as `learning rate too high`.
        cause: of a symptom, the name of the finding that explains it.
    """

    question: str
    name: str
    answer: Answer
    cause: str = ""

    @property
    def verdict(self) -> Verdict:
        """The answer's, but `symptom` where another finding explains it."""
        return "symptom" if self.cause else self.answer.verdict

    @property
    def explanation(self) -> str:
        """The answer's sentences, and what explains it."""
        because = f" It follows from another finding: {self.cause}." if self.cause else ""
        return self.answer.explanation + because

    @property
    def advice(self) -> tuple[str, ...]:
        """What to try; of a symptom nothing, for its cause is to be mended."""
        return () if self.cause else self.answer.advice


def unknown(missing: str, evidence: Evidence | None = None) -> Answer:
    """Return the answer to a question that cannot be answered, and what is missing for it."""
    return Answer("unknown", missing, f"It cannot be told: {missing}.", evidence=evidence)


_NONETHELESS: dict[Condition, str] = {
    "learned": "it has learned nonetheless",
    "learning": "it learns nonetheless",
    "stuck": "nothing shows that it hinders",
    "unknown": "whether that hinders cannot be told yet",
}


def harmless(
    run: RunEvidence, sign: str, measurement: str, evidence: Evidence | None = None
) -> Answer:
    """Return the answer where there is a sign of trouble, and nothing shows that it does harm.

    Args:
        run: what is known of the learning.
        sign: a sentence that says what the figure shows.
        measurement: what is seen.
        evidence: what it rests on.
    """
    nonetheless = _NONETHELESS[run.condition]
    verdict: Verdict = "unknown" if run.condition == "unknown" else "fine"
    words = f"{measurement}; {nonetheless}"
    return Answer(verdict, words, f"{sign}: {words}.", (), evidence)


@attrs.frozen(field_transformer=brief_repr)
class Diagnosis:
    """The findings of one case, in the order in which one would ask.

    Attributes:
        headline: the problems by name, or what else is to be said first.
        shortened: which trials were made shorter than usual, and why; "": none.
    """

    title: str
    findings: tuple[Finding, ...]
    headline: str
    shortened: str = ""

    def __getitem__(self, name: str) -> Finding:
        """Return a finding by its name."""
        return next(finding for finding in self.findings if finding.name == name)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that say what is wrong, without what follows from them."""
        return tuple(finding for finding in self.findings if finding.verdict == "problem")
