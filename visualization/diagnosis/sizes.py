"""Questions on model size and sequence length, which trials answer."""

from visualization.diagnosis.evidence import BASELINE, RunEvidence, Trial, is_better, learns_more
from visualization.diagnosis.findings import Answer, Evidence, harmless, unknown
from visualization.diagnosis.fit import trial_panel

_LEARNED = 0.5  # of the chance loss is gone
_NOTHING_LEARNED = 0.2


def length(run: RunEvidence) -> Answer:
    """Are the sequences too long to learn from?"""
    if len(run.lengths) < 2:
        return unknown("no trial of shorter sequences was made")
    trials = dict(sorted(run.lengths.items()))
    evidence = Evidence(
        (
            trial_panel(
                "by the length of the sequence", {f"{n} steps": t for n, t in trials.items()}
            ),
        )
    )
    measurement = ", ".join(f"{n} steps: {trial.learned:.0%}" for n, trial in trials.items())
    measurement = f"learned in trials: {measurement}"
    longest, learns = max(trials), [n for n, trial in trials.items() if trial.learned > _LEARNED]
    reached = trials[longest].learned
    if (
        run.settings.get("num_stages", 1) > 1
        and run.settings.get("curriculum_loss_threshold") is not None
    ):
        text = f"The task is learned in stages that grow to its length already; {measurement}."
        return Answer("fine", measurement, text, (), evidence)
    if learns and reached < _NOTHING_LEARNED:
        if run.condition in ("learned", "learning"):
            return harmless(run, "Short sequences are learned sooner", measurement, evidence)
        text = "The sequences are too long to learn from at first; short ones are learned: "
        text += f"{measurement}."
        return Answer("problem", measurement, text, _advice(run, max(learns), longest), evidence)
    if learns and max(trials[n].learned for n in learns) - reached > _NOTHING_LEARNED:
        return harmless(run, "Short sequences are learned sooner", measurement, evidence)
    return Answer(
        "fine", measurement, f"The length is not what hinders: {measurement}.", (), evidence
    )


def _advice(run: RunEvidence, learned: int, longest: int) -> tuple[str, ...]:
    advice = []
    if run.settings.get("num_stages", 1) > 1:
        advice.append("learn in stages of growing length: --set curriculum_loss_threshold=0.05")
    for name in ("task.train_length", "task.length", "task.digits", "task.block_size"):
        value = run.settings.get(name)
        if isinstance(value, int):
            advice.append(f"--set {name}={max(1, value * learned // max(1, longest))}")
            break
    return tuple(advice)


def small(run: RunEvidence) -> Answer:
    """Has the model too few units?"""
    name = next((n for n in run.sizes if n.startswith("hidden_size=")), None)
    return _by_size(run, name, "The model is too small", "More units do not help", "a larger model")


def deep(run: RunEvidence) -> Answer:
    """Has the model too many layers?"""
    if run.settings.get("num_layers", 1) == 1:
        return Answer("fine", "one layer", "The model has one layer of a kind.")
    name = next((n for n in run.sizes if n.startswith("num_layers=")), None)
    return _by_size(
        run, name, "The model is too deep to learn", "Fewer layers do not help", "fewer layers"
    )


def dropout(run: RunEvidence) -> Answer:
    """Does dropout leave too little to learn with?"""
    rate = run.settings.get("dropout")
    if rate is None or rate == 0:
        return Answer("fine", "no dropout", "There is no dropout.")
    name = next((n for n in run.sizes if n.startswith("dropout=")), None)
    return _by_size(
        run,
        name,
        f"Dropout of {rate:g} is too strong",
        "Dropout is not what hinders",
        "no dropout",
    )


def _by_size(run: RunEvidence, name: str | None, bad: str, good: str, what: str) -> Answer:
    own = run.own
    if name is None or own is None:
        return unknown(f"no trial of {what} was made")
    other = run.sizes[name]
    trials: dict[str, Trial] = {BASELINE: own, name: other}
    evidence = Evidence((trial_panel(f"with {name}", trials),))
    shares = f"{own.learned:.0%} as it is, {other.learned:.0%} with {name}"
    measurement = f"learned in trials: {shares}"
    if is_better(run, other):
        return Answer(
            "problem", measurement, f"{bad}: {measurement}.", (f"--set {name}",), evidence
        )
    if learns_more(run, other):
        return harmless(run, f"A trial of {what} learns more", measurement, evidence)
    return Answer("fine", measurement, f"{good}: {measurement}.", (), evidence)
