"""Questions on the steps: learning rate, spikes, plateaus."""

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from visualization.diagnosis.evidence import (
    BASELINE,
    FEWEST_RECORDS,
    LEARNED,
    MORE,
    Array,
    RateTest,
    RunEvidence,
    Trial,
    gets_further,
    is_better,
    learns_more,
)
from visualization.diagnosis.findings import (
    Answer,
    Evidence,
    Line,
    Panel,
    Verdict,
    harmless,
    unknown,
)
from visualization.diagnosis.fit import loss_panel, trial_panel

_FACTOR = 10.0  # between the suggested rate and one that is too low
_FAR = 30.0  # times the suggested rate: a run that is behind would do better with that
_PAST_BEST = 3.0  # times the best rate: a higher one is too high
_BETTER = 0.1  # of the chance loss: the range test gets further by this in its few steps
_HIGH = 0.75  # of the chance loss: a step whose loss is as much above its neighbours is a spike
_RATIO = 3.0  # and as many times
_TIMES = 4.0  # the distance of the highest loss from the mean in the wilder quarter of the run
_MANY = 3  # spikes
_BEGINNING = 0.1  # of the run, in which the loss is high anyway
_FLAT = 0.02  # of the chance loss: less change is none
_LONG = 0.4  # of the run: a plateau as long as this
_LOSS_LEFT = 0.1  # of the chance loss: below it there is little left to learn


def rate_panel(test: RateTest, rate: float | None = None) -> Panel:
    """Return the losses of a range test over the learning rate, and the rates that matter."""
    marks = (
        {} if test.suggestion is None else {f"suggested: {test.suggestion:.2g}": test.suggestion}
    )
    if rate is not None:
        marks[f"this run: {rate:.2g}"] = rate
    num = len(test.smoothed)
    lines = {
        "each step": (test.rates[:num], test.losses[:num]),
        "smoothed": (test.rates[:num], test.smoothed),
    }
    return Panel(
        title="learning-rate range test", lines=lines, names=("learning rate", "training loss"),
        logarithmic="x", levels={}, marks=marks,
    )  # fmt: skip


def rate_high(run: RunEvidence) -> Answer:
    """Is the learning rate too high?"""

    def judge(test: RateTest, suggestion: float) -> bool:
        past = run.is_stuck and run.rate > min(_PAST_BEST * test.best, test.diverged_at or np.inf)
        far = run.is_slow and run.rate > _FAR * suggestion
        return past or far or _is_surpassed(run) or _is_outrun(run)

    text = "The steps are too large"
    if run.rates is not None and run.rate > run.rates.best:
        text += f", for in the range test the loss falls until {run.rates.best:.2g}, not beyond"
    return _rate(run, judge, 1, text)


def rate_low(run: RunEvidence) -> Answer:
    """Is the learning rate too low?"""

    def judge(test: RateTest, suggestion: float) -> bool:
        lower = _recent_loss(run) - min(test.smoothed, default=np.inf)
        is_lower = lower > _BETTER * (run.chance or 0.0)
        crawls = run.is_slow and _FACTOR * run.rate < suggestion and is_lower
        return crawls or _is_surpassed(run)

    return _rate(run, judge, -1, "The steps are too small to get anywhere soon")


def _rate(
    run: RunEvidence, is_wrong: Callable[[RateTest, float], bool], sign: int, problem: str
) -> Answer:
    """Compare the run's rate with the suggested one; never against the trial at that rate.

    `sign` is 1 where the run's may be too high, and -1 where it may be too low.
    """
    test = run.rates
    if test is None:
        return unknown("the range test was not made")
    evidence = _rate_evidence(run, test)
    if test.suggestion is None:
        return unknown("the loss falls at no rate of the range test", evidence)
    measurement = (
        f"the run takes {run.rate:.2g}, suggested is {test.suggestion:.2g}{_comparison(run)}"
    )
    times, high, above = (run.rate / test.suggestion) ** sign, "high", "above"
    if sign < 0:
        high, above = "low", "below"
    if times > 1 and _is_contradicted(run):
        text = f"At the suggested rate a trial learns less: {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    if times > _PAST_BEST and is_wrong(test, test.suggestion):
        advice = _rate_advice(run, test.suggestion)
        return Answer("problem", measurement, f"{problem}: {measurement}.", advice, evidence)
    if times > _PAST_BEST:
        return harmless(run, f"The rate is {above} the suggested one", measurement, evidence)
    text = f"The learning rate is not too {high}: {measurement}."
    return Answer("fine", measurement, text, (), evidence)


def _suggested_trial(run: RunEvidence) -> tuple[str, Trial] | None:
    """Return the trial at the suggested rate, and its setting."""
    return next(((n, t) for n, t in run.sizes.items() if n.startswith("learning_rate=")), None)


def _comparison(run: RunEvidence) -> str:
    suggested, own = _suggested_trial(run), run.own
    if suggested is None or own is None:
        return ""
    return f" (learned in trials: {own.learned:.0%} and {suggested[1].learned:.0%})"


def _is_surpassed(run: RunEvidence) -> bool:
    """Tell whether the trial at the suggested rate learned clearly more than this one."""
    suggested = _suggested_trial(run)
    return suggested is not None and is_better(run, suggested[1])


def _is_outrun(run: RunEvidence) -> bool:
    """Tell whether the trial at the suggested rate has learned all, and the run, for longer, not.

    A run whose steps are too large may look as if it made progress: its loss leaps.
    """
    suggested = _suggested_trial(run)
    if suggested is None or suggested[1].learned < LEARNED or not learns_more(run, suggested[1]):
        return False
    return run.learned < LEARNED and gets_further(run, suggested[1])


def _is_contradicted(run: RunEvidence) -> bool:
    """Tell whether the trial at the suggested rate learned clearly less, if not both learned."""
    suggested, own = _suggested_trial(run), run.own
    if suggested is None or own is None or suggested[1].learned >= LEARNED:
        return False
    return own.learned - suggested[1].learned > MORE


def _rate_evidence(run: RunEvidence, test: RateTest) -> Evidence:
    panels = [rate_panel(test, run.rate)]
    suggested, own = _suggested_trial(run), run.own
    if suggested is not None and own is not None:
        trials = {BASELINE: own, suggested[0]: suggested[1]}
        panels.append(trial_panel("trials at both rates", trials))
    return Evidence(tuple(panels))


def _recent_loss(run: RunEvidence) -> float:
    """Return the training loss at the end of the run; 0 where too little is known of it."""
    return float(np.median(run.series("train/loss")[1][-3:])) if run.is_known else 0.0


def _rate_advice(run: RunEvidence, rate: float) -> tuple[str, ...]:
    """Return the settings that take a rate of Adam, and Muon's in proportion."""
    advice = [f"--set learning_rate={rate:.1g}"]
    if run.settings.get("optimizer") == "muon" and "muon_learning_rate" in run.settings:
        times = rate / run.rate
        advice.append(f"--set muon_learning_rate={times * run.settings['muon_learning_rate']:.1g}")
    return tuple(advice)


def spikes(run: RunEvidence) -> Answer:
    """Does the training loss jump?"""
    at_top, top = run.series("train/highest_loss")
    at_mean, mean = run.series("train/loss")
    steps, first, second = np.intersect1d(at_top, at_mean, return_indices=True)
    if not run.is_known or len(steps) < FEWEST_RECORDS:
        return unknown(run.why_missing("fewer than 8 losses, or no evaluation, were recorded"))
    highest, losses = top[first], mean[second]
    above = np.maximum(highest - around(losses), 0)
    usual = float(np.quantile(above, 0.75))
    is_spike = above > max(_HIGH * (run.chance or 0.0), _TIMES * usual)
    is_spike &= highest > _RATIO * around(losses)
    is_spike &= (steps > _BEGINNING * steps[-1]) & ~_after_a_stage(run, steps)
    spike_steps = [int(step) for step in steps[is_spike]]
    panel = loss_panel(run)
    lines: dict[str, Line] = {"highest of a step": (steps, highest), **panel.lines}
    evidence = Evidence(
        (Panel(title="loss", lines=lines, names=panel.names, logarithmic="y", levels=panel.levels),)
    )
    where = ", ".join(f"{step:,}" for step in spike_steps[:5]) + (
        " …" if len(spike_steps) > 5 else ""
    )
    count = f"{len(spike_steps)} spike{'s' * (len(spike_steps) != 1)}" + (
        f", by step {where}" if spike_steps else ""
    )
    if len(spike_steps) < _MANY:
        text = f"The loss falls without many jumps: {count}."
        return Answer("fine", count, text, (), evidence)
    clip = run.settings.get("clip_norm")
    advice = (
        f"--set learning_rate={run.rate / 3:.1g}",
        f"--set clip_norm={0.3 * clip:.2g}" if clip else "--set clip_norm=1",
        "larger batches",
    )
    text = f"The loss jumps time and again, out of what it had reached: {count}."
    return Answer("problem", count, text, advice, evidence)


def _after_a_stage(run: RunEvidence, steps: Array) -> np.ndarray:
    """Tell which records are those in which a harder stage began, or the two that follow."""
    mask = np.zeros(len(steps), bool)
    for stage in run.series("train/stage")[0]:
        first = int(np.searchsorted(steps, stage))
        mask[first : first + 3] = True
    return mask


def around(values: Array, reach: int = 2) -> Array:
    """Return the median of each value and its neighbours."""
    width = 2 * reach + 1
    if len(values) < width:
        places: Sequence[int] = range(len(values))
        inner = np.zeros(0)
    else:
        places = [*range(reach), *range(len(values) - reach, len(values))]
        inner = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    edges = [float(np.median(values[max(0, k - reach) : k + reach + 1])) for k in places]
    return np.concatenate([edges[:reach], inner, edges[reach:]])


def plateau(run: RunEvidence) -> Answer:
    """Does the training loss keep falling?"""
    if not run.is_known:
        return unknown(run.why_missing("fewer than 8 losses, or no evaluation, were recorded"))
    steps, losses = run.series("train/loss")
    guess = run.chance or 0.0
    first, last = longest_flat(losses, _FLAT * guess)
    share = (steps[last] - steps[first]) / max(1.0, steps[-1])
    level = float(np.median(losses[first : last + 1]))
    measurement = f"flat for {share:.0%} of the run, from step {steps[first]:,.0f}, at {level:.3g}"
    panel = loss_panel(run)
    marks = {"flat from": float(steps[first]), "to": float(steps[last])}
    is_long = share >= _LONG and level > _LOSS_LEFT * guess
    evidence = Evidence((attrs.evolve(panel, marks=marks if is_long else {}),))
    stuck = is_long and run.is_stuck
    if not is_long and level <= _LOSS_LEFT * guess:
        text = f"The loss is flat only where little is left to learn: {measurement}."
    elif not is_long:
        text = f"The loss is not flat for long: {measurement}."
    elif not stuck:
        text = f"The loss was flat for long, but fell again: {measurement}."
    else:
        text = f"The loss is flat: {measurement}; a constant answer has {guess:.3g}."
    verdict: Verdict = "problem" if stuck else "fine"
    return Answer(verdict, measurement, text, _plateau_advice(run) if stuck else (), evidence)


def _plateau_advice(run: RunEvidence) -> tuple[str, ...]:
    advice = [f"--set learning_rate={times * run.rate:.1g}" for times in (1 / 3, 3)]
    if run.settings.get("schedule") == "constant":
        advice.append("--set schedule=one_cycle")
    if (
        run.settings.get("num_stages", 1) > 1
        and run.settings.get("curriculum_loss_threshold") is None
    ):
        advice.append("--set curriculum_loss_threshold=0.05")
    return tuple(advice)


def longest_flat(losses: Array, width: float) -> tuple[int, int]:
    """Longest flat stretch, first and last index: its smoothed values stay within a width.

    The values are medians of five, and `width` is how far they may lie apart.
    """
    calm = around(losses)
    best, first = (0, 0), 0
    for last in range(len(calm)):
        while first < last and np.ptp(calm[first : last + 1]) > width:
            first += 1
        if last - first > best[1] - best[0]:
            best = (first, last)
    return best
