"""All questions in the order in which one would ask them, and what explains what."""

from collections.abc import Callable, Mapping

import attrs

from visualization.diagnosis import fit, signals, sizes, steps
from visualization.diagnosis.case import Case
from visualization.diagnosis.findings import Answer, Diagnosis, Finding
from visualization.diagnosis.signals import is_cut_off


@attrs.frozen
class Question:
    """What is asked, the name of what would be wrong, and what would explain it."""

    name: str
    words: str
    answer: Callable[[Case], Answer]
    causes: tuple[str, ...] = ()  # the first of them that is a problem explains this one


_RATE = ("learning rate too high", "learning rate too low")
_INSIDE = ("exploding gradients", "saturated units", "dead units", "vanishing gradients")
_SHAPE = ("dropout too strong", "model too deep", "model too small", "sequence too long")
_ROOTS = (*_SHAPE, *_RATE, *_INSIDE)
_ALL = (*_ROOTS, "cannot learn one batch", "cannot learn an easy task")

QUESTIONS = (
    Question("cannot learn one batch", "Can it learn a single batch by heart?", fit.one_batch,
             _ROOTS),
    Question("cannot learn an easy task", "Does it learn an easy task of the same shape?",
             fit.synthetic, (*_ROOTS, "cannot learn one batch")),
    Question("no better than chance", "Is it better than always giving the same answer?",
             fit.chance, _ALL),
    Question("underfit", "Does it fit its training samples?", fit.underfit,
             (*_ALL, "no better than chance", "plateau")),
    Question("overfit", "Does what it learned hold on new samples?", fit.overfit),
    Question("leaking validation", "Are the validation questions new to it?", fit.leak),
    Question("noisy validation", "Is the validation score precise enough?", fit.noise,
             (*_RATE, "spikes")),
    Question("learning rate too high", "Is the learning rate too high?", steps.rate_high,
             ("dropout too strong",)),
    Question("learning rate too low", "Is the learning rate too low?", steps.rate_low,
             ("dropout too strong",)),
    Question("spikes", "Does the training loss jump?", steps.spikes,
             ("learning rate too high", "exploding gradients")),
    Question("plateau", "Does the training loss stand still?", steps.plateau,
             (*_ALL, "no better than chance")),
    Question("vanishing gradients", "Does the gradient reach the first steps and layers?",
             signals.vanishing, ("saturated units", "dead units", "model too deep")),
    Question("exploding gradients", "Do gradients grow out of bounds?", signals.exploding,
             ("learning rate too high",)),
    Question("dead units", "Do units say the same whatever they read?", signals.dead,
             ("learning rate too high",)),
    Question("saturated units", "Do units stand at their bounds?", signals.saturated,
             ("learning rate too high",)),
    Question("sequence too long", "Are the sequences too long to learn from?", sizes.length,
             ("model too deep", "exploding gradients")),
    Question("model too small", "Has the model too few units?", sizes.small,
             ("dropout too strong", "model too deep")),
    Question("model too deep", "Has the model too many layers?", sizes.deep),
    Question("dropout too strong", "Does dropout leave too little to learn with?", sizes.dropout),
)  # fmt: skip


def diagnose(case: Case) -> Diagnosis:
    """Answer every question; what another finding explains becomes a symptom of it."""
    answers = {question.name: question.answer(case) for question in QUESTIONS}
    findings = tuple(
        Finding(q.words, q.name, answers[q.name], _root(case, q.name, answers)) for q in QUESTIONS
    )
    return Diagnosis(case.title, findings)


def _root(case: Case, name: str, answers: Mapping[str, Answer]) -> str:
    """Return the name of the problem that explains this one; "" where it is none, or none does."""
    if answers[name].verdict != "problem":
        return ""
    for cause in causes(case, name):
        if answers[cause].verdict == "problem":
            return _root(case, cause, answers) or cause
    return ""


def causes(case: Case, name: str) -> tuple[str, ...]:
    """Return what would explain a problem in this case, the likeliest first.

    A plain RNN loses the gradient whatever it learns (Bengio et al. 1994), so that its sequences
    are too long because the gradient vanishes. A gated cell can keep it, once short sequences have
    taught it to: there it is the other way round.
    """
    known = next(question.causes for question in QUESTIONS if question.name == name)
    is_plain = case.settings.get("cell") in ("rnn", "relu_rnn")
    if name == "sequence too long":
        return (*known, "vanishing gradients") if is_plain else known
    if name == "vanishing gradients":
        if is_cut_off(case):
            return (*known, "cannot learn one batch")
        return known if is_plain else (*known, "sequence too long")
    if name == "cannot learn one batch" and is_cut_off(case):
        return tuple(cause for cause in known if cause != "vanishing gradients")
    if (
        name == "noisy validation"
        and case.settings["eval_samples"] < case.settings["asked_samples"]
    ):
        return (*known, "overfit")  # there are no more samples to ask, and few to learn from
    return known
