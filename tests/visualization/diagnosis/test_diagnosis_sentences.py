"""Sentences, figures and headline of the doctor agree, whatever was recorded and tried."""

import itertools
from typing import Any

import attrs
import numpy as np
import pytest

from tests.visualization.diagnosis.test_diagnosis import (
    CHANCE,
    FALLING,
    SETTINGS,
    SLOW,
    STUCK,
    case,
    history,
    trial,
)
from visualization import render
from visualization.diagnosis import BASELINE, RunEvidence, Trial, diagnose

LEARNING = [CHANCE * (1 - 0.7 * k / 39) for k in range(40)]  # unfinished, but more than half-way
COURSES = {"learned": FALLING, "learning": LEARNING, "stuck": STUCK}
SHORT_RUN = {"log_every": 100, "eval_every": 500}  # as the runs below, of 300 steps, have them


def trials_of(shares: dict[int, float]) -> dict[int, Trial]:
    """Return trials by length that learned these shares."""
    return {length: trial(share) for length, share in shares.items()}


def short_run(settings: dict[str, Any] | None = None, **changed: Any) -> RunEvidence:
    """Return a run of 300 steps that is at chance and recorded three losses, with an evaluation."""
    of_case = {k: changed.pop(k) for k in list(changed) if k in attrs.fields_dict(RunEvidence)}
    records = [r for r in history(STUCK, **changed) if r["step"] in (100, 200, 300)]
    return case(STUCK, SHORT_RUN | (settings or {}), records=records, **of_case)


@pytest.mark.parametrize("course", [*COURSES, "short"])
@pytest.mark.parametrize("near", [0.6, 1.0])
@pytest.mark.parametrize("far", [0.0, 0.1, 0.3])
def test_short_sequences_that_alone_are_learned_say_that_length_hinders(
    course: str, near: float, far: float
) -> None:
    """Where short ones alone are learned, no sentence denies that length hinders."""
    lengths = trials_of({64: far, 16: far, 3: near, 2: near})
    examined = (
        short_run(lengths=lengths) if course == "short" else case(COURSES[course], lengths=lengths)
    )
    answer = diagnose(examined)["sequence too long"].answer
    assert "not what hinders" not in answer.explanation
    hinders = far < 0.2 and course in ("stuck", "short")
    assert (answer.verdict == "problem") == hinders
    if hinders:
        assert "too long to learn from" in answer.explanation
    elif far < 0.2:
        assert "nonetheless" in answer.measurement


@pytest.mark.parametrize("course", [*COURSES, "short"])
@pytest.mark.parametrize("left", [0.0, 1e-30, 1e-9, 1e-5, 1e-3, 1.0])
def test_a_gradient_of_which_nothing_is_left_does_not_get_where_it_is_needed(
    course: str, left: float
) -> None:
    """Whatever share is left, the sentence says what the figure says, and 0 is called none."""
    flow = {"flow0": 1.0, "flow1": 1.0, "flow63": left}
    examined = short_run(**flow) if course == "short" else case(COURSES[course], **flow)
    answer = diagnose(examined)["vanishing gradients"].answer
    assert ("gets where it is needed" in answer.explanation) == (left >= 1e-4)
    assert "0 of it" not in answer.measurement.split()
    if left == 0:
        assert answer.measurement.startswith("none of it is left 63 steps back")
    if left < 1e-4:
        assert answer.verdict == ("problem" if course in ("stuck", "short") else "fine")


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize(
    ("name", "setting", "denial"),
    [
        ("model too small", "hidden_size=32", "do not help"),
        ("model too deep", "num_layers=1", "do not help"),
        ("dropout too strong", "dropout=0", "not what hinders"),
        ("learning rate too low", "learning_rate=0.003", "not too low"),
    ],
)
def test_a_trial_that_learns_more_is_not_denied(
    course: str, name: str, setting: str, denial: str
) -> None:
    """A setting whose trial learned all, where that without it learned nothing, is said to help."""
    sizes = {BASELINE: trial(0.0), setting: trial(0.95)}
    answer = diagnose(case(COURSES[course], {"learning_rate": 5e-4}, sizes=sizes))[name].answer
    assert denial not in answer.explanation
    assert answer.verdict == ("problem" if course == "stuck" else "fine")
    assert answer.verdict == "problem" or "nonetheless" in answer.measurement


@pytest.mark.parametrize("course", COURSES)
def test_signs_in_units_and_gradients_are_not_denied(course: str) -> None:
    """Most units dead or shut, and a gradient that grows, are said also where they do no harm."""
    found = diagnose(
        case(COURSES[course], {"clip_norm": None}, dead=0.8, saturated=0.8, flow63=1e4,
             norm=[2.0] * 40)
    )  # fmt: skip
    for name, denial in (
        ("dead units", "Few enough"), ("saturated units", "Few enough"),
        ("exploding gradients", "within bounds"),
    ):  # fmt: skip
        assert denial not in found[name].answer.explanation
        assert (found[name].answer.verdict == "problem") == (course == "stuck")


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.6, 0.7])
def test_a_rate_that_a_trial_outruns_is_too_high_though_the_loss_falls(
    rate: float, share: float
) -> None:
    """At chance, climbing stages by luck, where the suggested rate learns all: it is too high."""
    sizes = {BASELINE: trial(share), "learning_rate=0.003": trial(1.0)}
    settings = {"learning_rate": rate, "num_stages": 5, "curriculum_loss_threshold": 0.05}
    fit = (1 - 5 * max(0.0, share - 0.4)) * CHANCE
    climbing = case(SLOW, settings, sizes=sizes, fit=max(0.0, fit), eval=2.4, score=0.51)
    stage = {"step": 255, "train/stage": 2}
    examined = attrs.evolve(climbing, records=[*climbing.records, stage])
    assert examined.is_improving
    assert [f.name for f in diagnose(examined).problems] == ["learning rate too high"]


@pytest.mark.parametrize("far", [0.0, 0.6])
def test_at_chance_it_is_never_said_that_there_is_no_problem(far: float) -> None:
    """Stuck, learning yet, by heart alone or short: a run at chance is named, or called so."""
    at_chance = {"eval": CHANCE, "score": 0.5}
    lengths = trials_of({64: far, 2: 0.9})
    for examined in (
        case(STUCK, lengths=lengths), case(SLOW, lengths=lengths, **at_chance),
        case(FALLING, lengths=lengths, **at_chance), short_run(lengths=lengths),
        case(SLOW, {"num_stages": 5, "curriculum_loss_threshold": 0.05}, **at_chance),
    ):  # fmt: skip
        found = diagnose(examined)
        assert examined.is_at_chance
        assert found["no better than chance"].verdict != "fine"
        assert "no problem found" not in render.text(found)
    learning = diagnose(case(SLOW, fit=CHANCE, **at_chance))
    assert learning.headline.startswith("no better than a guess yet, but it still learns: --set")


def test_a_short_run_says_what_its_trials_show_and_how_long_to_run() -> None:
    """Three records: length and gradient are judged by the trials, and 1,000 steps are advised."""
    found = diagnose(
        short_run(lengths=trials_of({128: 0.0, 62: 0.0, 15: 0.0, 3: 1.0, 2: 1.0}), flow63=0.0)
    )
    assert [finding.name for finding in found.problems] == ["sequence too long"]
    assert found["no better than chance"].cause == "sequence too long"
    assert found["vanishing gradients"].cause == "sequence too long"
    assert found.headline.startswith("sequence too long; ")
    assert found.headline.endswith("the run is too short; 1,000 steps are enough")


def test_where_most_is_unknown_the_headline_says_so_first() -> None:
    """With three records and no trial nothing is found, which is not called no problem."""
    nothing = short_run(
        {"dropout": 0.0, "num_layers": 1}, one_batch=None, synthetic=None, rates=None,
        lengths={}, sizes={}, leak=None,
    )  # fmt: skip
    found = diagnose(nothing)
    unknown = sum(finding.verdict == "unknown" for finding in found.findings)
    assert 2 * unknown > len(found.findings)
    assert found.headline == (
        f"too early to tell; {unknown} of {len(found.findings)} questions have no answer: "
        "the run is too short; 1,000 steps are enough"
    )


def test_a_short_run_that_learns_has_no_problem() -> None:
    """Where the trial as it is learns, or has only a few steps, a short run is not found to ail."""
    well = {BASELINE: trial(0.95), "learning_rate=0.003": trial(0.95)}
    assert short_run(sizes=well).condition == "learning"
    assert diagnose(short_run(sizes=well)).problems == ()
    assert short_run(sizes={BASELINE: trial(0.0, 20)}).condition == "unknown"
    assert diagnose(short_run(sizes={BASELINE: trial(0.0, 20)})).problems == ()
    assert short_run(sizes={BASELINE: trial(0.0)}).condition == "stuck"


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("at_loss", [0.2, 1.0, 3.0])
def test_losses_are_called_falling_or_low_only_where_they_are(course: str, at_loss: float) -> None:
    """No sentence says that a loss still falls, or is fitted, where the figure is another."""
    found = diagnose(case(COURSES[course], fit=at_loss * CHANCE, eval=at_loss * CHANCE))
    said = found["underfit"].answer
    assert ("are fitted" in said.explanation) == (at_loss < 0.5)
    if "still falling" in said.explanation:
        assert course != "stuck"


def test_what_is_equal_within_noise_is_named_in_the_same_order() -> None:
    """Two trials that mend about as much, each now a little ahead, name the same cause."""
    for rate, size in itertools.permutations((0.73, 0.76, 0.8), 2):
        sizes = {
            BASELINE: trial(0.3), "learning_rate=0.003": trial(rate), "hidden_size=32": trial(size),
        }  # fmt: skip
        found = diagnose(case(STUCK, {"learning_rate": 0.5}, sizes=sizes))
        assert [finding.name for finding in found.problems] == ["learning rate too high"]


def test_a_trial_as_bad_as_the_run_speaks_for_no_rate() -> None:
    """A rate far past the best is too high, whichever of two hopeless trials is a hair ahead."""
    for own, other in itertools.permutations((0.01, 0.02)):
        sizes = {BASELINE: trial(own), "learning_rate=0.003": trial(other)}
        found = diagnose(case(STUCK, {"learning_rate": 0.5}, sizes=sizes))
        assert [finding.name for finding in found.problems] == ["learning rate too high"]


@pytest.mark.parametrize("seed", range(3))
def test_random_evidence_is_never_contradicted(seed: int) -> None:
    """Over evidence drawn at random: at chance nothing is well, and no sign is denied."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        share = {name: float(rng.uniform()) for name in ("own", "size", "rate", "near", "far")}
        left = 10 ** float(rng.uniform(-12, 0))  # of a gradient of 1 near the end
        rate = 10 ** float(rng.uniform(-5, 1))
        examined = case(
            COURSES[str(rng.choice(list(COURSES)))],
            {"learning_rate": rate},
            lengths=trials_of({64: share["far"], 2: share["near"]}),
            sizes={
                BASELINE: trial(share["own"]), "hidden_size=32": trial(share["size"]),
                "learning_rate=0.003": trial(share["rate"]),
            },
            flow0=1.0, flow1=1.0, flow63=left, dead=float(rng.uniform()),
            saturated=float(rng.uniform()),
            eval=float(rng.uniform(0.05, 2)) * CHANCE, score=float(rng.uniform(0.4, 1)),
        )  # fmt: skip
        found = diagnose(examined)
        said = {finding.name: finding.answer.explanation for finding in found.findings}
        if share["near"] > 0.5 and share["far"] < 0.2:
            assert "not what hinders" not in said["sequence too long"]
        if left < 1e-4:
            assert "gets where it is needed" not in said["vanishing gradients"]
        if share["size"] - share["own"] > 0.2:
            assert "do not help" not in said["model too small"]
        if examined.is_at_chance:
            assert found["no better than chance"].verdict != "fine"
            assert found.headline != "no problem found"
        if rate > 0.03 and share["rate"] - share["own"] > 0.2:
            assert "not too high" not in said["learning rate too high"]


def test_the_steps_that_are_enough_are_those_of_records_and_evaluations() -> None:
    """Eight records, two evaluations; of a run that took as many, no number is named."""
    examined = RunEvidence(title="", records=[{"step": 300}], settings={**SETTINGS, **SHORT_RUN},
                    monitor=("accuracy", "max"))  # fmt: skip
    assert examined.steps_to_take == 1000
    assert attrs.evolve(examined, records=[{"step": 1000}]).steps_to_take == 0
    seldom = {**SETTINGS, "log_every": 200, "eval_every": None}
    assert attrs.evolve(examined, settings=seldom).steps_to_take == 1600
