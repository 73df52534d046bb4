"""The plateau of blanks in the doctor's verdicts: a stage of learning, until it lasts too long."""

from typing import Any

import attrs
import pytest

from visualization import render
from visualization.diagnosis import RunEvidence, Trial, diagnose
from visualization.diagnosis.evidence import LONGEST_PLATEAU

LEVEL = 14.0  # the loss of blanks only
SETTINGS = {
    "learning_rate": 0.003, "clip_norm": 5.0, "steps": 2000, "eval_samples": 500,
    "asked_samples": 500, "num_stages": 1, "log_every": 10, "eval_every": 50,
}  # fmt: skip


def run(losses: list[float], empty: list[float], every: int = 10, **fields: Any) -> RunEvidence:
    """Return a reader's run with a loss in each record, and every fifth an evaluation."""
    records = []
    for number, (loss, share) in enumerate(zip(losses, empty, strict=True), start=1):
        records.append({"step": number * every, "train/loss": loss, "train/highest_loss": loss})
        if number % 5 == 0:
            evaluation = {"loss": loss, "cer": share, "empty": share}
            scores = {f"{kind}/{n}": v for kind in ("eval", "fit") for n, v in evaluation.items()}
            chance = {"chance/loss": LEVEL, "chance/cer": 1.0, "chance/empty": 1.0}
            records.append({"step": number * every, **scores, **chance})
    return RunEvidence(
        title="a reader", records=records, settings=SETTINGS, monitor=("cer", "min"), **fields
    )


PLATEAU = [40.0, 25.0, 18.0, 15.0] + [LEVEL + 0.05 * (-1) ** k for k in range(36)]
TRIAL = Trial((LEVEL,) * 300, LEVEL, LEVEL)


def test_the_plateau_is_a_stage_of_learning() -> None:
    """All answers empty at the level of blanks only: no problem, and it is said how long it takes.

    The flat loss, the empty answers and short trials that show the same are no problems either.
    """
    found = diagnose(run(PLATEAU, [1.0] * 40, one_batch=TRIAL, synthetic=TRIAL))
    finding = found["only blanks"]
    assert finding.verdict == "fine"
    assert "100% of the answers are empty after 400 steps" in finding.answer.measurement
    assert "a stage of learning and no failure" in finding.explanation
    assert f"after {LONGEST_PLATEAU:,} steps it would be suspicious" in finding.explanation
    assert not found.problems
    assert "not yet, but it still learns" in found["no better than chance"].answer.measurement
    assert "let the run take all its 2,000 steps: 400 were looked at" in finding.advice


def test_a_plateau_that_lasts_is_the_problem() -> None:
    """After many thousand steps it is named, and explains that nothing is learned."""
    found = diagnose(run(PLATEAU, [1.0] * 40, every=100))
    assert [finding.name for finding in found.problems] == ["only blanks"]
    assert found["no better than chance"].cause == "only blanks"
    assert any("wide enough" in advice for advice in found["only blanks"].advice)


def test_the_end_of_the_plateau_is_told() -> None:
    """Of a run that reads, it is said until when it did not."""
    losses = PLATEAU[:20] + [LEVEL * 0.85**k for k in range(20)]
    found = diagnose(run(losses, [1.0] * 22 + [0.5] * 3 + [0.0] * 15))
    assert found["only blanks"].verdict == "fine"
    assert "until step 200 nearly all were" in found["only blanks"].answer.measurement
    assert not found.problems


def test_before_the_plateau_the_loss_still_falls_to_it() -> None:
    """Far above the level of blanks only, it is not yet the plateau."""
    found = diagnose(run([90.0 - k for k in range(40)], [1.0] * 40))
    assert "still falls to their level" in found["only blanks"].explanation


def test_only_readers_are_asked() -> None:
    """A run that has recorded no empty answers has no such question."""
    other = run(PLATEAU, [1.0] * 40)
    records = [{k: v for k, v in r.items() if "empty" not in k} for r in other.records]
    found = diagnose(attrs.evolve(other, records=records))
    assert "only blanks" not in [finding.name for finding in found.findings]


def test_the_finding_is_drawn() -> None:
    """The share of empty answers and the loss, with the level of blanks only."""
    finding = diagnose(run(PLATEAU, [1.0] * 40))["only blanks"]
    panels = finding.answer.evidence.panels
    assert [panel.title for panel in panels] == ["empty answers", "loss"]
    assert panels[1].levels == {"a constant answer": pytest.approx(LEVEL)}
    assert render.draw(finding).axes
