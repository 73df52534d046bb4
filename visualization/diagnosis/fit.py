"""Questions on the fit: at all, better than chance, by heart, and measured on what."""

import math

import numpy as np

from visualization.diagnosis.evidence import (
    LEARNED,
    LONGEST_PLATEAU,
    RunEvidence,
    Trial,
    quarter,
    sampling_error,
)
from visualization.diagnosis.findings import Answer, Evidence, Line, Panel, unknown

_MEMORISED_SHARE = 0.5  # share of the chance loss that must be gone after a trial
_LEAST_FALL = 0.03  # share of the chance loss: a validation loss that falls by more gets better
_LEARNABLE = 0.3  # share of the chance loss: where as much is gone in the run, the model can learn
_FITTED_SHARE = 0.5  # share of the chance loss that a fitted model has left behind
_GAP = 0.1  # of the chance loss, or of a score: between training and validation samples
_COARSE_ERROR = 0.05  # of a score: an error as large hides what is asked
_FEW = 30  # samples; of a score that is not a share of right answers
_NUM_ERRORS = 4  # times the sampling error
_SHARED_QUESTIONS = 0.005  # of the validation questions: fewer are chance


def loss_panel(run: RunEvidence) -> Panel:
    """Return the training and validation loss over the steps, with that of a guess."""
    tags = {"training": "train/loss", "validation": "eval/loss", "training samples": "fit/loss"}
    lines: dict[str, Line] = {label: run.series(tag) for label, tag in tags.items()}
    levels = {} if run.chance is None else {"a constant answer": run.chance}
    recorded = {label: line for label, line in lines.items() if len(line[0])}
    return Panel(
        title="loss", lines=recorded, names=("step", "loss"), logarithmic="y", levels=levels,
    )  # fmt: skip


def score_panel(run: RunEvidence) -> Panel:
    """Return the score that counts, on validation and training samples."""
    name = run.monitor[0]
    tags = {"validation": f"eval/{name}", "training samples": f"fit/{name}"}
    lines: dict[str, Line] = {label: run.series(tag) for label, tag in tags.items()}
    guess = run.last(f"chance/{name}")
    recorded = {label: line for label, line in lines.items() if len(line[0])}
    levels = {} if guess is None else {"a guess": guess}
    top = 1.0 if run.monitor[1] == "max" else None
    return Panel(
        title=name, lines=recorded, names=("step", name), logarithmic="", levels=levels, top=top,
    )  # fmt: skip


def _course(run: RunEvidence) -> Evidence:
    return Evidence((loss_panel(run), score_panel(run)))


def trial_panel(title: str, trials: dict[str, Trial]) -> Panel:
    """Return the losses of trials over their steps."""
    lines: dict[str, Line] = {
        label: (np.arange(1, len(trial.losses) + 1, dtype=np.float64), np.array(trial.losses))
        for label, trial in trials.items() if trial.losses
    }  # fmt: skip
    levels = {"a constant answer": next(iter(trials.values())).chance}
    return Panel(
        title=title, lines=lines, names=("step of the trial", "training loss"), logarithmic="y",
        levels=levels,
    )  # fmt: skip


def one_batch(run: RunEvidence) -> Answer:
    """Can a single batch be learned by heart?"""
    return _by_trial(run, run.one_batch, "one batch at every step", "a batch by heart")


def synthetic(run: RunEvidence) -> Answer:
    """Is an easy task of the same shapes learned?"""
    return _by_trial(run, run.synthetic, "an easy task of the same shapes", "an easy task")


def _by_trial(run: RunEvidence, trial: Trial | None, title: str, what: str) -> Answer:
    if trial is None:
        return unknown("the trial was not made")
    evidence = Evidence((trial_panel(title, {"training": trial}),))
    steps = len(trial.losses)
    measurement = (
        f"loss {trial.final:.3g} after {steps} steps, a constant answer {trial.chance:.3g}"
    )
    if trial.learned >= LEARNED:
        return Answer(
            "fine", measurement, f"A fresh model learns {what}: {measurement}.", (), evidence
        )
    if trial.learned >= _MEMORISED_SHARE:
        text = f"A fresh model has learned most of {what}: {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    if trial.is_falling:
        text = f"A fresh model is on its way to learning {what}: {measurement}, and it still falls."
        return Answer("fine", measurement, text, (), evidence)
    if run.learned >= _LEARNABLE:
        text = (
            f"A fresh model did not learn {what} in the few steps of the trial ({measurement}), "
            f"but the run itself has learned: {_fit(run)}."
        )
        return Answer("fine", measurement, text, (), evidence)
    if run.writes_texts and steps < LONGEST_PLATEAU:
        return unknown(
            f"{measurement}; a reader writes only blanks for longer than this trial took", evidence
        )
    advice = (
        "look for what keeps the gradient from the parameters: a detached tensor, a wrong axis, "
        "labels that do not belong to the questions",
    )
    text = f"A fresh model does not learn {what}: {measurement}."
    return Answer("problem", measurement, text, advice, evidence)


def chance(run: RunEvidence) -> Answer:
    """Are the answers better than the best constant one?"""
    loss, guess = run.last("eval/loss"), run.chance
    name = run.monitor[0]
    score, chance_score = run.last(f"eval/{name}"), run.last(f"chance/{name}")
    if loss is None or guess is None or score is None or chance_score is None:
        return unknown(run.why_missing("no evaluation was recorded beside a constant answer's"))
    measurement = (
        f"{name} {score:.3g}, a guess {chance_score:.3g}; loss {loss:.3g}, a guess {guess:.3g}"
    )
    evidence = _course(run)
    if not run.is_at_chance:
        text = f"The answers are better than the best constant one: {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    stage, num = run.stages
    if run.condition == "unknown":
        text = run.why_missing("too few steps were recorded")
        return unknown(f"{measurement}; {text}", evidence)
    if run.condition == "learning" or (not run.is_stuck and stage + 1 < num):
        yet = f"not yet, but it still learns{run.at_stage}"
        return Answer(
            "unknown",
            f"{yet}; {measurement}",
            f"N{yet[1:]}: {measurement}.",
            longer(run),
            evidence,
        )
    text = f"The answers are no better than always giving the same one: {measurement}."
    advice = ("check by hand that the labels belong to the questions", *longer(run))
    return Answer("problem", measurement, text, advice, evidence)


def underfit(run: RunEvidence) -> Answer:
    """Are the training samples answered well?"""
    if not run.is_known or run.last("fit/loss") is None:
        return unknown(run.why_missing("fewer than 8 losses, or no evaluation, were recorded"))
    measurement, evidence = _fit(run), _course(run)
    if run.fitted >= _FITTED_SHARE and not run.diverged:
        return Answer(
            "fine", measurement, f"The training samples are fitted: {measurement}.", (), evidence
        )
    if not run.is_stuck:
        still = "still falling" if run.is_improving else "all but the last stage are learned"
        still = "a harder stage has begun" if run.advanced_stage else still
        still = "only blanks are written yet" if run.is_on_blank_plateau else still
        text = f"The training samples are not fitted yet ({still}): {measurement}."
        return Answer("fine", f"{still}; {measurement}", text, longer(run), evidence)
    text = f"Even the training samples are not fitted, and the loss falls no more: {measurement}."
    advice = (*_larger_size_advice(run), *longer(run), "--set weight_decay=0")
    return Answer("problem", measurement, text, advice, evidence)


def _fit(run: RunEvidence) -> str:
    """Return how well training samples are answered, and at which stage."""
    fit, guess = run.last("fit/loss") or 0.0, run.chance or 0.0
    losses = f"the loss is {fit:.3g}, a constant answer's {guess:.3g}"
    return f"on training samples {losses}{run.at_stage}"


def _larger_size_advice(run: RunEvidence) -> tuple[str, ...]:
    size = run.settings.get("hidden_size")
    return (f"--set hidden_size={2 * int(size)}",) if size else ()


def longer(run: RunEvidence) -> tuple[str, ...]:
    """Return the advice to take more steps."""
    planned = run.settings.get("steps")
    if planned is None:  # the run counts epochs
        return ("more epochs",)
    if run.num_steps < planned:
        return (f"let the run take all its {planned:,} steps: {run.num_steps:,} were looked at",)
    return (f"--set steps={2 * int(planned)}",)


def overfit(run: RunEvidence) -> Answer:
    """Does what was learned hold on new samples?"""
    fit, loss, guess = run.last("fit/loss"), run.series("eval/loss")[1], run.chance
    name = run.monitor[0]
    mine, theirs = run.last(f"fit/{name}"), run.last(f"eval/{name}")
    if fit is None or guess is None or len(loss) < 2 or mine is None or theirs is None:
        return unknown(run.why_missing("fewer than two evaluations were recorded"))
    stage, num = run.stages
    if stage + 1 < num:
        return unknown(
            f"training is at stage {stage + 1} of {num}, and validation asks what comes in the last"
        )
    measurement = (
        f"{name} {mine:.3g} on training, {theirs:.3g} on validation samples; "
        f"loss {fit:.3g} and {loss[-1]:.3g}, at best {loss.min():.3g}"
    )
    evidence = _course(run)
    gaps = (loss[-1] - fit > _GAP * guess, _score_gap(run, mine, theirs))
    if any(gaps) and not all(gaps):
        text = f"New samples are answered a little less well than those of training: {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    if not any(gaps):
        text = f"New samples are answered about as well as those of training: {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    if _improves(run) and loss[-1] < loss.min() + _GAP * guess:
        text = f"New samples are answered less well, but the gap still closes: {measurement}."
        return Answer("fine", f"still closing; {measurement}", text, longer(run), evidence)
    text = (
        f"The training samples are learned by heart, which does not help on others: {measurement}."
    )
    return Answer("problem", measurement, text, _more_data(run), evidence)


def _improves(run: RunEvidence) -> bool:
    """Tell whether the validation score or loss got better over the last half of the run."""
    name, direction = run.monitor
    _, scores = run.series(f"eval/{name}")
    _, losses = run.series("eval/loss")
    sign = 1 if direction == "max" else -1
    gain = sign * (quarter(scores, 3).mean() - quarter(scores, 1).mean())
    error = 0.0
    if direction == "max":
        error = 2 * sampling_error(float(scores[-1]), int(run.settings["eval_samples"]))
    drop = np.median(quarter(losses, 1)) - np.median(quarter(losses, 3))
    return run.advanced_stage or bool(gain > error or drop > _LEAST_FALL * (run.chance or 0.0))


def _score_gap(run: RunEvidence, mine: float, theirs: float) -> bool:
    """Tell whether two scores differ by more than sampling explains, and by enough to matter."""
    if run.monitor[1] == "min":
        return theirs > 1.5 * mine
    error = sampling_error(theirs, int(run.settings["eval_samples"]))
    return mine - theirs > max(_GAP / 2, 3 * error)


def _more_data(run: RunEvidence) -> tuple[str, ...]:
    settings, advice = run.settings, []
    if settings.get("task.num_samples"):
        advice.append("--set task.num_samples=0")
    if "dropout" in settings and settings["dropout"] < 0.3:
        advice.append("--set dropout=0.3")
    if settings.get("hidden_size", 1) > 1:
        advice.append(f"--set hidden_size={max(1, int(settings['hidden_size']) // 2)}")
    patience = () if settings.get("patience") else ("--set patience=5",)
    return (*advice, "--set weight_decay=0.1", *patience, "more training data")


def leak(run: RunEvidence) -> Answer:
    """Are validation questions in the training data?"""
    overlap = run.leak
    if overlap is None:
        return unknown("the questions were not compared")
    share = overlap.shared / max(1, overlap.questions)
    if overlap.is_all and overlap.shared:
        return unknown(
            f"there are only {overlap.trained:,} different questions, and training asks them all, "
            "so that none is left to withhold: the score says nothing of new ones"
        )
    measurement = (
        f"{overlap.shared:,} of {overlap.questions:,} validation questions are among "
        f"{overlap.trained:,} of training"
    )
    if share <= _SHARED_QUESTIONS:
        return Answer("fine", measurement, f"Validation asks what training has not: {measurement}.")
    text = f"Validation rewards what was learned by heart: {measurement}."
    advice = (
        "split by question before anything is drawn, as the tasks here do by a hash of it",
        "where there are so few different questions, ask longer ones",
    )
    return Answer("problem", measurement, text, advice)


def noise(run: RunEvidence) -> Answer:
    """Is the validation score precise enough to tell one evaluation from another?"""
    name, direction = run.monitor
    _, scores = run.series(f"eval/{name}")
    if len(scores) < 2:
        return unknown(run.why_missing("fewer than two evaluations were recorded"))
    steps, climbs = run.series(f"eval/{name}")[0], run.series("train/stage")[0]
    num = int(run.settings["eval_samples"])
    scatter = _scatter(scores[steps > climbs.max(initial=0.0)])  # a new stage moves the score
    evidence = Evidence((score_panel(run),))
    more = (f"--set eval_samples={max(1000, 4 * num)}",)
    if direction == "min":
        measurement = f"{num} samples"
        coarse, jumps = num < _FEW, False
    else:
        error = max(sampling_error(float(score), num) for score in scores)
        measurement = f"{num} samples give ±{error:.3f}; evaluations scatter by {scatter:.3f}"
        coarse, jumps = error > _COARSE_ERROR, scatter > max(_COARSE_ERROR, _NUM_ERRORS * error)
    if coarse:
        text = f"One evaluation says little, for it asks too few questions: {measurement}."
        return Answer("problem", measurement, text, more, evidence)
    if jumps:
        text = f"The score jumps more than the choice of samples explains: {measurement}."
        advice = (f"--set learning_rate={run.rate / 3:.1g}", "--set schedule=one_cycle")
        return Answer("problem", measurement, text, advice, evidence)
    return Answer("fine", measurement, f"An evaluation tells enough: {measurement}.", (), evidence)


def _scatter(values: np.ndarray) -> float:
    """Return how far evaluations lie beside the mean of their neighbours, as a standard deviation.

    The median makes it blind to single steps upwards, such as the end of a plateau.
    """
    if len(values) < 5:
        return 0.0
    beside = values[1:-1] - (values[:-2] + values[2:]) / 2
    return float(np.median(np.abs(beside))) / 0.6745 / math.sqrt(1.5)
