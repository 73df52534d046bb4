"""Verdicts over recorded data: each planted pathology is named once, and health is left alone."""

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest

from visualization import render
from visualization.diagnosis import (
    BASELINE,
    QUESTIONS,
    Leak,
    RunEvidence,
    Trial,
    diagnose,
    has_diverged,
    rate_test,
)
from visualization.diagnosis.evidence import falls, learned, quarter, sampling_error
from visualization.diagnosis.rates import smooth
from visualization.diagnosis.steps import around, longest_flat

CHANCE = math.log(2)
SETTINGS = {
    "learning_rate": 0.01, "clip_norm": 1.0, "steps": 400, "eval_samples": 500, "dropout": 0.2,
    "asked_samples": 500, "hidden_size": 16, "num_layers": 2, "num_stages": 1, "cell": "lstm",
    "schedule": "one_cycle", "weight_decay": 0.0, "optimizer": "adam", "task.length": 64,
}  # fmt: skip
STEPS = range(10, 401, 10)
FALLING = [CHANCE * 0.9 ** (k + 1) for k in range(len(STEPS))]  # to 1 % of chance
STUCK = [CHANCE + 0.002 * (-1) ** k for k in range(len(STEPS))]


def trial(share: float, steps: int = 200) -> Trial:
    """Return a trial that ends with a share of the chance loss gone."""
    final = (1 - share) * CHANCE
    return Trial((CHANCE,) * (steps // 4) + (final,) * (steps - steps // 4), final, CHANCE)


def history(losses: list[float], **changed: list[float] | float) -> list[dict[str, float]]:
    """Return records of 40 windows; with `fit`, `eval`, `highest`, … in place of what follows."""
    found = []
    norms = changed.pop("norm", [0.5] * len(losses))
    highest = changed.pop("highest", [1.2 * loss for loss in losses])
    for step, loss, norm, top in zip(STEPS, losses, norms, highest, strict=True):
        layers = {"grad/reader.l0": norm, "grad/reader.l1": norm, "grad/readout": norm}
        found.append(
            {"step": step, "train/loss": loss, "train/grad_norm": norm, "train/highest_loss": top}
            | layers
        )
        if step % 50 == 0:
            found.append({"step": step, **evaluation(loss, step // 50 - 1, changed)})
    return found


def evaluation(loss: float, number: int, changed: Mapping[str, Any]) -> dict[str, float]:
    """Return one evaluation; the score is what the loss lets one expect."""

    def of(name: str, otherwise: float) -> float:
        value = changed.get(name, otherwise)
        return value[number] if isinstance(value, list) else value

    validation, fit = of("eval", 1.05 * loss), of("fit", loss)
    score = {"eval": validation, "fit": fit}
    found = {f"{k}/accuracy": 0.5 + 0.5 * max(0.0, 1 - v / CHANCE) for k, v in score.items()}
    found |= {f"{k}/loss": v for k, v in score.items()}
    if "score" in changed:
        found["eval/accuracy"] = of("score", 0.0)
    flow = {lag: of(f"flow{lag}", 0.1) for lag in (0, 1, 63)}
    found |= {f"flow/reader/{lag}": value for lag, value in flow.items()}
    units = {f"units/reader/{kind}": of(kind, 0.0) for kind in ("dead", "saturated")}
    return found | units | {"chance/loss": CHANCE, "chance/accuracy": 0.5}


def sweep() -> Any:
    """Return a range test: flat, steepest at 0.003, lowest at 0.03, then off."""
    rates = np.geomspace(1e-6, 1.0, 100)
    place = np.log10(rates)
    losses = 0.7 - 0.6 / (1 + np.exp(-4 * (place + 2.5))) + np.exp(3 * (place + 0.6))
    return rate_test(list(rates), list(losses))


def case(
    losses: list[float], settings: Mapping[str, Any] | None = None, **changed: Any
) -> RunEvidence:
    """Return a case whose trials all went well, with some of it changed."""
    of_case = {k: changed.pop(k) for k in list(changed) if k in attrs.fields_dict(RunEvidence)}
    own = trial(0.6 if losses[-1] < 0.5 else 0.0)
    known = {
        "title": "a run",
        "records": history(losses, **changed),
        "settings": {**SETTINGS, **(settings or {})},
        "monitor": ("accuracy", "max"),
        "one_batch": trial(0.95),
        "synthetic": trial(0.95),
        "rates": sweep(),
        "lengths": {64: own, 16: own, 4: own},
        "sizes": {BASELINE: own, "hidden_size=32": own, "num_layers=1": own, "dropout=0": own},
        "leak": Leak(0, 500, 20_000),
    }
    return RunEvidence(**{**known, **of_case})


def problems(found: RunEvidence) -> list[str]:
    """Return the names of what is wrong."""
    return [finding.name for finding in diagnose(found).problems]


def silent(times: int) -> list[dict[str, float]]:
    """Return records of a reader that is stuck and writes nothing, with as many times the steps."""
    empty = {"eval/empty": 1.0, "fit/empty": 1.0}
    return [
        {**record, "step": times * record["step"], **(empty if "eval/loss" in record else {})}
        for record in history(STUCK)
    ]


SLOW = [CHANCE * (1 - 0.4 * k / 39) for k in range(40)]  # unfinished: down to 60 % of chance
STAIRS = [0.6, *np.geomspace(0.5, 0.05, 9), *np.geomspace(0.7, 0.05, 15), 0.7, *[0.4] * 14]
HEALTHY = {
    "it learned": case(FALLING),
    "it is unfinished": case(SLOW),
    "it has only begun": case([2.5 * 0.97**k for k in range(40)]),
    "it writes only blanks yet": case(STUCK, records=silent(1)),
    "it climbs stages": attrs.evolve(
        case(STAIRS, fit=CHANCE, eval=CHANCE),
        records=[*history(STAIRS, fit=CHANCE, eval=CHANCE), {"step": 255, "train/stage": 2}],
    ),
    "it learned with a rate above the suggested": case(FALLING, {"learning_rate": 0.2}),
    "its score is an error": attrs.evolve(
        case(FALLING),
        monitor=("mse", "min"),
        records=[
            {k.replace("accuracy", "mse"): (1 - v if "accuracy" in k else v) for k, v in r.items()}
            for r in history(FALLING)
        ],
    ),
    "one spike": case(FALLING, highest=[*[0.8] * 4, *FALLING[4:30], 3.0, *FALLING[31:]]),
    "its gates are shut, but it learned": case(FALLING, saturated=0.9, dead=0.6, flow63=1e-9),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_health_is_left_alone(name: str) -> None:
    """No question about a run that learned, or is still learning, is answered with a problem."""
    assert problems(HEALTHY[name]) == []


BETTER = trial(0.6)
LATE = [*FALLING[:4], *[FALLING[4]] * 36]  # learned to 59 % of chance, then stuck
FLAT_LATE = [CHANCE * (1 - 0.3 * min(1.0, k / 20)) for k in range(40)]
PLANTED: dict[str, tuple[str, RunEvidence]] = {
    "one batch": ("cannot learn one batch", case(STUCK, one_batch=trial(0.0))),
    "easy task": ("cannot learn an easy task", case(STUCK, synthetic=trial(0.0))),
    "chance": ("no better than chance", case(STUCK)),
    "only blanks": ("only blanks", case(STUCK, records=silent(10))),
    "plateau": ("plateau", case(LATE)),
    "underfit": (
        "underfit",
        case([*np.linspace(1.0, 0.5, 8), *(0.5 + 0.04 * np.sin(np.arange(32) * 0.7))]),
    ),
    "overfit": (
        "overfit",
        case(FALLING, eval=[0.5, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], score=0.7),
    ),
    "leak": ("leaking validation", case(FALLING, leak=Leak(200, 500, 20_000))),
    "few samples": ("noisy validation", case(FALLING, {"eval_samples": 8, "asked_samples": 8})),
    "jumping score": (
        "noisy validation",
        case(FALLING, {"eval_samples": 5000}, score=[0.7, 0.99, 0.72, 0.98, 0.6, 0.99, 0.7, 0.98]),
    ),
    "rate too high": ("learning rate too high", case(STUCK, {"learning_rate": 0.5})),
    "rate too low": ("learning rate too low", case(STUCK, {"learning_rate": 1e-5})),
    "a trial at the suggested rate learns more": (
        "learning rate too low",
        case(
            STUCK,
            {"learning_rate": 4e-4},
            sizes={BASELINE: trial(0.0), "learning_rate=0.003": BETTER},
        ),
    ),
    "spikes": (
        "spikes",
        case(FALLING, highest=[3.0 if k % 8 == 7 else v for k, v in enumerate(FALLING)]),
    ),
    "vanishing in time": ("vanishing gradients", case(STUCK, flow63=1e-12)),
    "exploding in time": (
        "exploding gradients",
        case(STUCK, {"clip_norm": None}, flow63=1e4, norm=[*[2.0] * 20, 500.0, *[2.0] * 19]),
    ),
    "no finite number": ("exploding gradients", case(FALLING, diverged=True)),
    "dead": ("dead units", case(STUCK, dead=0.9)),
    "saturated": ("saturated units", case(STUCK, saturated=0.9)),
    "length": (
        "sequence too long",
        case(STUCK, lengths={64: trial(0.0), 16: trial(0.0), 4: trial(0.9)}, flow63=1e-12),
    ),
    "small": (
        "model too small",
        case(STUCK, sizes={BASELINE: trial(0.0), "hidden_size=32": BETTER}),
    ),
    "deep": ("model too deep", case(STUCK, sizes={BASELINE: trial(0.0), "num_layers=1": BETTER})),
    "dropout": (
        "dropout too strong",
        case(STUCK, sizes={BASELINE: trial(0.0), "dropout=0": BETTER}),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named_once(name: str) -> None:
    """The planted pathology is the one problem; all else is fine, unknown or follows from it."""
    wanted, planted = PLANTED[name]
    found = diagnose(planted)
    assert [finding.name for finding in found.problems] == [wanted]
    assert found[wanted].advice
    assert {f.cause for f in found.findings if f.verdict == "symptom"} <= {wanted}


def test_every_question_is_planted_somewhere() -> None:
    """Each question has a case in which it alone is the problem."""
    assert {wanted for wanted, _ in PLANTED.values()} == {q.name for q in QUESTIONS}


def test_a_symptom_says_what_explains_it_and_advises_nothing() -> None:
    """Standing still for too long sequences is a symptom, with the cause in its words."""
    found = diagnose(PLANTED["length"][1])
    for name in ("plateau", "no better than chance", "underfit", "vanishing gradients"):
        assert found[name].verdict == "symptom"
        assert found[name].cause == "sequence too long"
        assert "It follows from another finding: sequence too long." in found[name].explanation
        assert found[name].advice == ()


def test_a_plain_rnn_loses_the_gradient_by_itself() -> None:
    """With cell=rnn the gradient is the cause and the length the symptom, not the other way."""
    planted = PLANTED["length"][1]
    found = diagnose(attrs.evolve(planted, settings={**planted.settings, "cell": "rnn"}))
    assert [finding.name for finding in found.problems] == ["vanishing gradients"]
    assert found["sequence too long"].cause == "vanishing gradients"
    assert "--set cell=lstm" in found["vanishing gradients"].advice


def test_a_layer_without_any_gradient_is_cut_off() -> None:
    """A gradient of exactly zero is a symptom of a model that cannot learn a batch, no cause."""
    records = [
        {k: 0.0 if k == "grad/reader.l0" else v for k, v in record.items()}
        for record in history(STUCK)
    ]
    found = diagnose(attrs.evolve(case(STUCK, one_batch=trial(0.0)), records=records))
    assert [finding.name for finding in found.problems] == ["cannot learn one batch"]
    assert found["vanishing gradients"].cause == "cannot learn one batch"


def test_exploding_gradients_follow_from_a_rate_that_is_too_high() -> None:
    """Where the rate is too high, gradients that explode are a symptom of it."""
    planted = case(STUCK, {"learning_rate": 0.5, "clip_norm": None}, norm=[2.0] * 30 + [500.0] * 10)
    found = diagnose(planted)
    assert [finding.name for finding in found.problems] == ["learning rate too high"]
    assert found["exploding gradients"].cause == "learning rate too high"


def test_without_trials_and_records_nothing_is_claimed() -> None:
    """With an empty history and no trial each verdict is unknown, or fine by a setting alone."""
    settings = {**SETTINGS, "num_layers": 1, "dropout": 0.0}
    found = diagnose(
        RunEvidence(title="", records=[], settings=settings, monitor=("accuracy", "max"))
    )
    fine = [finding.name for finding in found.findings if finding.verdict == "fine"]
    assert fine == ["model too deep", "dropout too strong"]
    assert all(f.verdict in ("fine", "unknown") for f in found.findings)
    assert all(f.explanation.startswith("It cannot be told") for f in found.findings
               if f.verdict == "unknown")  # fmt: skip


def test_the_range_test_suggests_the_steepest_fall() -> None:
    """A loss that falls as a logistic of the log rate has its steepest fall in the middle."""
    found = sweep()
    assert found.suggestion == pytest.approx(10**-2.5, rel=0.15)
    assert 10**-2 < found.best < 10**-1
    assert found.diverged_at == pytest.approx(1.0)


def test_the_range_test_suggests_nothing_where_nothing_falls() -> None:
    """A loss that only scatters, or only rises, gives no suggestion."""
    rates = [float(rate) for rate in np.geomspace(1e-6, 1, 100)]
    assert rate_test(rates, [0.7 + 0.01 * (-1) ** k for k in range(100)]).suggestion is None
    early = [0.5, 0.5, 0.1, *[1.0] * 97]  # a fall, but before the loss has a level to fall from
    assert rate_test(rates, early).suggestion is None
    rising = rate_test(rates, list(np.linspace(0.5, 1.5, 100)))
    assert (rising.suggestion, rising.best, rising.diverged_at) == (None, rates[0], None)
    with pytest.raises(ValueError, match="at rates that rise"):
        rate_test([0.2, 0.1], [1.0, 1.0])
    nothing = rate_test([0.1], [math.inf])
    assert (nothing.suggestion, nothing.smoothed, nothing.diverged_at) == (None, (), 0.1)


def test_a_loss_that_is_no_number_ends_the_range_test() -> None:
    """Infinity and four times the first level have diverged; the rate of it is kept."""
    assert has_diverged([1.0, math.inf])
    assert has_diverged([1.0] * 10 + [4.1] * 5)
    assert not has_diverged([1.0] * 10 + [3.9] * 5)
    assert not has_diverged([1.0] * 10 + [0.1, 99.0, 0.1, 99.0, 0.1])  # a batch or two
    assert not has_diverged([1.0, 0.01, 0.9])  # far above its best, but no higher than before
    found = rate_test([1e-3, 1e-2, 1e-1, 1.0], [1.0, 0.9, 0.5, math.inf])
    assert found.diverged_at == 1.0
    assert found.best == 1e-1


def test_the_range_test_looks_no_further_than_the_fall() -> None:
    """After the fall a loss that leaps about says nothing, however low it gets by luck."""
    rates = [float(rate) for rate in np.geomspace(1e-6, 1, 100)]
    calm = [*[1.0] * 40, *np.linspace(1.0, 0.2, 20), *[0.2] * 40]
    leaps = [*calm[:65], *[0.2 + 0.6 * (k % 8 > 3) for k in range(33)], 3.0, 0.01]
    falls_again = [*calm[:60], *[3.0] * 12, *np.linspace(3.0, 0.1, 28)]
    wanted = rate_test(rates, calm).suggestion
    assert wanted is not None
    assert rates[40] <= wanted <= rates[60]
    for losses in (leaps, falls_again):
        found = rate_test(rates, losses)
        assert found.suggestion == pytest.approx(wanted, rel=1)
        assert found.best < rates[64]


def test_the_measures_have_known_answers() -> None:
    """Smoothing, medians, flat stretches, quarters, shares and sampling errors are as defined."""
    assert smooth(np.array([0.0, 3.0, 6.0, 3.0, 0.0]), 1).tolist() == [0, 3, 4, 3, 0]
    line = np.arange(9.0)
    np.testing.assert_allclose(smooth(line, 3), line)  # no shift at the ends
    assert around(np.array([1.0, 9.0, 1.0, 1.0, 1.0])).tolist() == [1, 1, 1, 1, 1]
    flat = np.array([9.0, 7.0, 5.0, 3.0, *[1.0] * 10, -3.0, -5.0, -7.0])
    assert longest_flat(flat, 0.1) == (4, 13)  # of the medians of five
    assert quarter(np.arange(8.0), 1).tolist() == [2, 3]
    assert learned(0.25, 1.0) == 0.75
    assert learned(2.0, 1.0) == learned(math.inf, 1.0) == 0.0
    assert sampling_error(0.5, 98) == pytest.approx(math.sqrt(0.25 / 98))
    assert sampling_error(1.0, 8) > 0.1
    assert falls(np.linspace(1, 0, 40), 1.0)
    assert not falls(np.linspace(1, 0.99, 40), 1.0)
    assert not falls(np.array([1.0, 0.1, 0.01]), 1.0)  # too few to tell
    few = [0.244, 0.142, 0.115, 0.065, 0.033, 0.023, 0.018, 0.017]  # a steep fall, of 8 records
    assert falls(np.array(few), 0.168)
    assert not Trial((1e30, *[1e29] * 150, *[1e28] * 49), 1e28, CHANCE).is_falling


@pytest.mark.parametrize("name", ["length", "rate too high"])
def test_a_diagnosis_is_written(name: str) -> None:
    """Summary and findings become a text of one line a question, and captions."""
    found = diagnose(PLANTED[name][1])
    lines = render.text(found).splitlines()
    for finding in found.findings:
        assert sum(finding.question in line for line in lines) == 1
        assert render.caption(finding).startswith(finding.verdict.capitalize())
        assert render.text(finding).startswith(finding.verdict)
    wanted = PLANTED[name][0]
    assert wanted in lines[0]
    assert any(line.startswith(f"{wanted}: try --set") or wanted in line for line in lines[1:])


def test_a_diagnosis_is_drawn() -> None:
    """The summary and one finding of each verdict become figures."""
    shortened = "trials took 75 steps in place of 300"
    found = diagnose(attrs.evolve(PLANTED["rate too high"][1], rates=sweep(), leak=None,
                                  shortened=shortened))  # fmt: skip
    each = {finding.verdict: finding for finding in found.findings}
    assert set(each) == {"fine", "problem", "symptom", "unknown"}
    for record in (found, *each.values()):
        assert render.png(render.draw(record), dpi=30).startswith(b"\x89PNG")
    assert shortened in render.text(found)


def test_every_panel_names_its_axes_with_what_they_count() -> None:
    """Each figure has a title, both axes named, and a legend where lines are to be told apart."""
    for finding in diagnose(PLANTED["a trial at the suggested rate learns more"][1]).findings:
        if finding.answer.evidence is not None:
            for axes in render.draw(finding).axes:
                assert axes.get_title("left")
                assert axes.get_xlabel()
                assert axes.get_ylabel()
                assert len(axes.lines) <= 1 or axes.get_legend() is not None
