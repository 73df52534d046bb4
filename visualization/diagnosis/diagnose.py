"""Diagnosis: the questions in the order in which one would ask them, and what explains what."""

from collections.abc import Callable, Collection, Sequence

import attrs
import numpy as np

from visualization.diagnosis import blanks, fit, signals, sizes, steps
from visualization.diagnosis.evidence import MORE, RunEvidence
from visualization.diagnosis.findings import Answer, Diagnosis, Finding
from visualization.diagnosis.signals import is_cut_off


@attrs.frozen
class Question:
    """Question of the diagnosis: the name of what would be wrong, and what could explain it."""

    name: str
    words: str
    answer: Callable[[RunEvidence], Answer]
    causes: tuple[str, ...] = ()  # the first that is a problem, and earlier in `order`
    applies: Callable[[RunEvidence], bool] = lambda run: True  # else it is not asked
    needs_trial: bool = False  # unknown without one, or without a look at the data


_RATE = ("learning rate too high", "learning rate too low")
_INSIDE = ("exploding gradients", "saturated units", "dead units", "vanishing gradients")
# Each is tried out by itself: what a trial mends best is the cause of the others. Of those whose
# trials learned about as much the first is.
_TRIAL_SETTINGS = {
    "dropout too strong": "dropout=",
    "learning rate too high": "learning_rate=",
    "model too deep": "num_layers=",
    "model too small": "hidden_size=",
    "learning rate too low": "learning_rate=",
}
_ROOTS = (*_TRIAL_SETTINGS, "sequence too long", *_INSIDE)
_ALL = (*_ROOTS, "only blanks", "cannot learn one batch", "cannot learn an easy task")

QUESTIONS = (
    Question("cannot learn one batch", "Can it learn a single batch by heart?", fit.one_batch,
             _ROOTS, needs_trial=True),
    Question("cannot learn an easy task", "Does it learn an easy task of the same shape?",
             fit.synthetic, (*_ROOTS, "cannot learn one batch"), needs_trial=True),
    Question("no better than chance", "Is it better than always giving the same answer?",
             fit.chance, (*_ALL, "overfit")),
    Question("only blanks", "Does it write anything but blanks?", blanks.only_blanks, _RATE,
             blanks.applies),
    Question("underfit", "Does it fit its training samples?", fit.underfit,
             (*_ALL, "no better than chance", "plateau")),
    Question("overfit", "Does what it learned hold on new samples?", fit.overfit),
    Question("leaking validation", "Are the validation questions new to it?", fit.leak,
             needs_trial=True),
    Question("noisy validation", "Is the validation score precise enough?", fit.noise,
             (*_RATE, "spikes")),
    Question("learning rate too high", "Is the learning rate too high?", steps.rate_high,
             tuple(_TRIAL_SETTINGS), needs_trial=True),
    Question("learning rate too low", "Is the learning rate too low?", steps.rate_low,
             tuple(_TRIAL_SETTINGS), needs_trial=True),
    Question("spikes", "Does the training loss jump?", steps.spikes,
             ("learning rate too high", "exploding gradients")),
    Question("plateau", "Does the training loss stay flat?", steps.plateau,
             (*_ALL, "no better than chance")),
    Question("vanishing gradients", "Does the gradient reach the first steps and layers?",
             signals.vanishing, (
                 "learning rate too high", "saturated units", "dead units", "model too deep",
                 "cannot learn one batch", "sequence too long")),
    Question("exploding gradients", "Do gradients grow out of bounds?", signals.exploding,
             ("learning rate too high",)),
    Question("dead units", "Do units say the same whatever they read?", signals.dead,
             ("learning rate too high",)),
    Question("saturated units", "Are units at their bounds?", signals.saturated,
             ("learning rate too high",)),
    Question("sequence too long", "Are the sequences too long to learn from?", sizes.length,
             ("learning rate too high", "model too deep", "exploding gradients",
              "vanishing gradients", "cannot learn one batch"), needs_trial=True),
    Question("model too small", "Has the model too few units?", sizes.small,
             tuple(_TRIAL_SETTINGS), needs_trial=True),
    Question("model too deep", "Has the model too many layers?", sizes.deep,
             tuple(_TRIAL_SETTINGS), needs_trial=True),
    Question("dropout too strong", "Does dropout leave too little to learn with?", sizes.dropout,
             tuple(_TRIAL_SETTINGS), needs_trial=True),
)  # fmt: skip


def diagnose(run: RunEvidence) -> Diagnosis:
    """Diagnosis: answer every question; what another finding explains becomes its symptom."""
    with np.errstate(all="ignore"):  # a run that diverged has numbers that no mean can hold
        asked = [question for question in QUESTIONS if question.applies(run)]
        answers = {question.name: question.answer(run) for question in asked}
    roots = explain(run, {name for name, answer in answers.items() if answer.verdict == "problem"})
    findings = tuple(
        Finding(q.words, q.name, answers[q.name], roots.get(q.name, "")) for q in asked
    )
    return Diagnosis(run.title, findings, headline(run, findings), run.shortened)


def of_records(diagnosis: Diagnosis) -> tuple[Finding, ...]:
    """Return the findings of a diagnosis without trials: what no record answers is left out."""
    trials = {question.name for question in QUESTIONS if question.needs_trial}
    return tuple(f for f in diagnosis.findings if f.verdict != "unknown" or f.name not in trials)


def headline(run: RunEvidence, findings: Sequence[Finding]) -> str:
    """Return the problems by name, and that much is unknown; "no problem found" only of the known.

    Of a run that is no better than a guess yet, or has recorded too little, that is said instead.
    """
    problems = ", ".join(finding.name for finding in findings if finding.verdict == "problem")
    unanswered = sum(finding.verdict == "unknown" for finding in findings)
    if not run.is_known or 2 * unanswered > len(findings):
        gap = run.why_missing(f"{unanswered} of {len(findings)} questions have no answer")
        return f"{problems or 'too early to tell'}; {gap}"
    if not problems and run.is_at_chance:
        return f"no better than a guess yet, but it still learns: {fit.longer(run)[0]}"
    return problems or "no problem found"


def explain(run: RunEvidence, problems: Collection[str]) -> dict[str, str]:
    """Return problem → the one that explains it, and that nothing explains; roots are left out.

    A problem is explained only by one that comes before it in `order`, so that the first is always
    a root, and none explains itself by way of others.
    """
    explained_by: dict[str, str] = {}
    names = order(run)
    for index, name in enumerate(names):
        earlier = [other for other in names[:index] if other in problems]
        cause = next((other for other in causes(run, name) if other in earlier), "")
        if name in problems and cause:
            explained_by[name] = explained_by.get(cause, cause)
    return explained_by


def order(run: RunEvidence) -> tuple[str, ...]:
    """Return the names of all questions so that causes come before what they explain.

    What trials mend comes first. A plain RNN loses the gradient whatever it learns (Bengio et al.
    1994), so that its sequences are too long because the gradient vanishes. A gated cell can keep
    it, once short sequences have taught it to: there it is the other way round. A gradient that is
    cut off vanishes for the reason that nothing is learned.
    """

    def learned(name: str) -> float:
        trials = (
            trial for key, trial in run.sizes.items() if key.startswith(_TRIAL_SETTINGS[name])
        )
        return max((trial.learned for trial in trials), default=0.0)

    remaining, by_gain = list(_TRIAL_SETTINGS), list[str]()
    while remaining:
        enough = max(map(learned, remaining)) - MORE
        by_gain.append(next(name for name in remaining if learned(name) >= enough))
        remaining.remove(by_gain[-1])
    inside = ["exploding gradients", "saturated units", "dead units"]
    lost, length = "vanishing gradients", "sequence too long"
    is_plain = run.settings.get("cell") in ("rnn", "relu_rnn")
    last = [lost, length] if is_plain else [length, lost]
    batch = ["cannot learn one batch"]
    of_model = [*batch, *last] if is_cut_off(run) else [*last, *batch]
    rest = [
        "cannot learn an easy task",
        "only blanks",
        "overfit",
        "no better than chance",
        "plateau",
    ]
    first = dict.fromkeys((*by_gain, *inside, *of_model, *rest, "spikes"))
    return tuple(dict.fromkeys((*first, *(question.name for question in QUESTIONS))))


def causes(run: RunEvidence, name: str) -> tuple[str, ...]:
    """Return what could explain a problem in this case, the likeliest first."""
    possible = next(question.causes for question in QUESTIONS if question.name == name)
    num = run.settings.get("eval_samples", 0)
    if name == "noisy validation" and num < run.settings.get("asked_samples", num):
        return (*possible, "overfit")  # there are no more samples to ask, and few to learn from
    return possible
