"""What explains what, what was not recorded, and cases with parts missing or no numbers."""

import itertools
import math
from typing import Any

import attrs
import numpy as np
import pytest

from tests.visualization.diagnosis.test_diagnosis import (
    BETTER,
    CHANCE,
    FALLING,
    HEALTHY,
    PLANTED,
    SETTINGS,
    SLOW,
    STUCK,
    case,
    history,
    problems,
    trial,
)
from visualization import render
from visualization.diagnosis import BASELINE, QUESTIONS, Leak, RunEvidence, Trial, diagnose
from visualization.diagnosis.diagnose import explain, order


def test_a_rate_is_not_blamed_against_its_own_trial() -> None:
    """Where the suggested rate learned less than the run's, no rate is called wrong, or advised."""
    for name, rate in (("too high", 0.5), ("too low", 1e-5)):
        sizes = {BASELINE: trial(0.63), "learning_rate=0.003": trial(0.0)}
        found = diagnose(case(STUCK, {"learning_rate": rate}, sizes=sizes))
        assert found[f"learning rate {name}"].answer.verdict == "fine"
        assert found[f"learning rate {name}"].advice == ()
        both = {BASELINE: trial(0.99), "learning_rate=0.003": trial(0.98)}  # that is no less
        found = diagnose(case(STUCK, {"learning_rate": rate}, sizes=both))
        assert found[f"learning rate {name}"].answer.verdict == "problem"


def test_what_a_trial_mends_best_is_the_cause() -> None:
    """Of a rate and a size that would both help, one is named: the better, or the size."""

    def named(rate: float, size: float) -> list[str]:
        trials = {"learning_rate=0.003": trial(rate), "hidden_size=32": trial(size)}
        sizes = {BASELINE: trial(0.0), **trials}
        return problems(case(STUCK, {"learning_rate": 1e-4}, sizes=sizes))

    assert named(rate=0.9, size=0.6) == ["learning rate too low"]
    assert named(rate=0.6, size=0.9) == ["model too small"]
    assert named(rate=0.9, size=0.9) == ["model too small"]


def test_a_run_that_learned_shows_what_a_short_trial_does_not() -> None:
    """A failed trial of one batch or an easy task is no problem of a run that has learned."""
    failed = {"one_batch": trial(0.0, 75), "synthetic": trial(0.0, 75)}
    found = diagnose(case(FALLING, **failed))
    assert found.problems == ()
    assert "the run itself has learned" in found["cannot learn an easy task"].explanation
    assert problems(case(STUCK, **failed)) == ["cannot learn one batch"]
    stuck_at = [(1 - share) * CHANCE for share in (0.25, 0.35)]  # on either side of 30 %
    verdicts = [
        diagnose(case(STUCK, fit=fit, **failed))["cannot learn one batch"].answer.verdict
        for fit in stuck_at
    ]
    assert verdicts == ["problem", "fine"]


STAGED = {"num_stages": 5, "curriculum_loss_threshold": 0.05}


def test_a_run_at_an_early_stage_is_not_compared_with_the_last_one() -> None:
    """Training at stage 1 of 5 has learned a fifth at most; validation, on the last, waits."""
    early = case(FALLING, STAGED, eval=1.5, score=0.5)
    assert early.learned < 0.2 < 0.9 < early.fitted
    assert problems(early) == []
    assert "stage 1 of 5" in diagnose(early)["overfit"].explanation
    records = [*early.records, {"step": 5, "train/stage": 4}]
    arrived = attrs.evolve(early, records=records)
    assert arrived.learned > 0.9
    assert problems(arrived) == ["overfit"]


def test_stages_are_not_advised_where_they_are_taken() -> None:
    """Long sequences are no finding of a run that grows to their length by stages."""
    lengths = {64: trial(0.0), 16: trial(0.0), 4: trial(0.9)}
    staged = diagnose(case(STUCK, STAGED, lengths=lengths))
    assert staged["sequence too long"].verdict == "fine"
    unstaged = diagnose(case(STUCK, {**STAGED, "curriculum_loss_threshold": None}, lengths=lengths))
    assert any(
        "curriculum_loss_threshold" in advice for advice in unstaged["sequence too long"].advice
    )
    planted = case(STUCK, STAGED, sizes={BASELINE: trial(0.0), "hidden_size=32": BETTER})
    assert problems(planted) == ["model too small"]


def test_where_all_questions_are_trained_none_is_withheld() -> None:
    """XOR of two bits has four questions: that they are asked again is no leak, and is said."""
    found = diagnose(case(FALLING, leak=Leak(500, 500, 4, is_all=True)))["leaking validation"]
    assert found.verdict == "unknown"
    assert "only 4 different questions" in found.explanation


def test_the_reason_for_missing_records_is_the_true_one() -> None:
    """What was not recorded is put down to record_diagnostics=false only where the run had it."""
    names = ["vanishing gradients", "dead units", "spikes", "plateau", "underfit", "overfit"]

    def said(**changed: Any) -> set[str]:
        settings = {**SETTINGS, "record_diagnostics": changed.pop("record_diagnostics", True)}
        empty = RunEvidence(
            title="", records=[], settings=settings, monitor=("accuracy", "max"), **changed
        )
        found = diagnose(empty)
        assert {found[name].verdict for name in names} == {"unknown"}
        return {found[name].explanation.partition(": ")[2].partition(": ")[2] for name in names}

    assert said() == {"the run is too short."}
    assert said(record_diagnostics=False) == {"the run had record_diagnostics=false."}
    assert said(diverged=True) == {"the run ended before in numbers that are not finite."}


def test_a_run_that_diverged_before_its_first_record_exploded() -> None:
    """Without any record, numbers that are not finite are a problem, and a high rate its cause."""
    ended = case(FALLING, {"learning_rate": 0.5}, records=[], diverged=True)
    assert problems(attrs.evolve(ended, rates=None)) == ["exploding gradients"]
    assert problems(ended) == ["learning rate too high"]
    assert diagnose(ended)["exploding gradients"].cause == "learning rate too high"


def test_a_run_that_has_not_ended_is_to_take_its_steps() -> None:
    """More steps than planned are advised of a run that took them all, and of no other."""
    for steps, wanted in ((400, "--set steps=800"), (2000, "let the run take all its 2,000 steps")):
        advice = diagnose(case(SLOW, {"steps": steps}))["underfit"].advice
        assert advice[0].startswith(wanted)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("cut", [False, True])
def test_causes_go_round_in_no_circle(cell: str, cut: bool) -> None:
    """Whatever two or three problems stand together, one is a root, and roots explain the rest."""
    records = history(STUCK)
    if cut:
        records = [{k: 0.0 if k == "grad/readout" else v for k, v in r.items()} for r in records]
    examined = case(STUCK, {"cell": cell}, records=records)
    names = [question.name for question in QUESTIONS]
    assert set(order(examined)) == set(names)
    for together in (*itertools.combinations(names, 2), *itertools.combinations(names, 3), names):
        found = explain(examined, together)
        roots = set(together) - set(found)
        assert roots
        assert set(found.values()) <= roots


def test_a_plain_rnn_with_a_layer_cut_off_is_answered() -> None:
    """One batch, a length and a gradient that fail together have one root, whatever the cell."""
    lengths = {64: trial(0.0), 16: trial(0.0), 4: trial(0.9)}
    records = [
        {k: 0.0 if k == "grad/reader.l0" else v for k, v in record.items()}
        for record in history(STUCK)
    ]
    for cell in ("rnn", "lstm"):
        planted = case(STUCK, {"cell": cell}, one_batch=trial(0.0), lengths=lengths)
        assert len(problems(attrs.evolve(planted, records=records))) == 1


def test_far_lags_alone_are_answered() -> None:
    """Of a layer whose near lags were no finite numbers the far ones are looked at."""
    records = [
        {k: v for k, v in record.items() if not k.startswith("flow/") or k.endswith("63")}
        for record in history(STUCK)
    ]
    assert problems(case(STUCK, records=records)) == ["no better than chance"]


def odd_case(rng: np.random.Generator) -> RunEvidence:
    """Return a case of those above with much of it missing, partial or no number."""
    known = [*HEALTHY.values(), *(planted for _, planted in PLANTED.values())]
    base = known[rng.integers(len(known))]
    tags = sorted({tag for record in base.records for tag in record})
    lost = {tag for tag in tags if rng.random() < 0.3 * rng.random()}
    odd = (math.nan, math.inf, -math.inf, 0.0, 1e300, -1.0)
    share = rng.choice([0.0, 0.05, 0.5, 1.0])

    def value(number: float) -> float:
        return odd[rng.integers(len(odd))] if rng.random() < share else number

    records = [
        {tag: number if tag == "step" and rng.random() < 0.95 else value(number)
         for tag, number in record.items() if tag not in lost}
        for record in base.records if rng.random() < rng.choice([0.1, 0.9, 1.0])
    ]  # fmt: skip
    records += [{"step": 3, "flow/x/far": 1.0, "grad/": 0.0, "units//dead": 1.0, "flow//7": 2.0}]
    required = ("learning_rate", "clip_norm", "steps", "eval_samples")
    settings = {k: v for k, v in base.settings.items() if k in required or rng.random() < 0.7}
    bad = Trial((), math.inf, 0.0), Trial((math.inf, 1.0), math.nan, math.nan), trial(0.9, 4)

    def tried(old: Trial | None) -> Trial | None:
        return (old, None, *bad)[rng.integers(5)]

    mappings = {
        name: {k: t for k, old in getattr(base, name).items() if (t := tried(old)) is not None}
        for name in ("lengths", "sizes")
    }
    test = base.rates and attrs.evolve(base.rates, smoothed=(), losses=(), rates=())
    return attrs.evolve(
        base, records=records if rng.random() < 0.9 else [], settings=settings, **mappings,
        diverged=bool(rng.random() < 0.3), one_batch=tried(base.one_batch),
        synthetic=tried(base.synthetic), rates=(base.rates, test, None)[rng.integers(3)],
        leak=(base.leak, None, Leak(0, 0, 0))[rng.integers(3)],
        monitor=(base.monitor, ("nothing", "min"), ("loss", "max"))[rng.integers(3)],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_no_case_crashes_the_doctor(seed: int) -> None:
    """Whatever is missing, partial or no number, every question is answered and can be written."""
    rng = np.random.default_rng(seed)
    for _ in range(25):
        odd = odd_case(rng)
        found = diagnose(odd)
        assert len(found.findings) == sum(question.applies(odd) for question in QUESTIONS)
        assert render.text(found)
