"""The plateau of blanks: the first stage of what is trained by CTC (Graves et al. 2006).

A network first learns how frequent characters are, and that each of them is in few columns: then
the likeliest code of every column is the blank, and all answers are empty. The loss is flat until
the first characters are told apart, and falls quickly from there.
"""

from visualization.diagnosis.evidence import LONGEST_PLATEAU, WRITES_NOTHING, RunEvidence
from visualization.diagnosis.findings import Answer, Evidence, Line, Panel, unknown
from visualization.diagnosis.fit import longer, loss_panel

_USUAL = "100 to 500 steps"
_REACHED = 1.15  # times the loss of columns that are all alike: as low is on the plateau


def applies(run: RunEvidence) -> bool:
    """Tell whether the run has recorded how many of its answers are empty, as readers do."""
    return run.writes_texts


def only_blanks(run: RunEvidence) -> Answer:
    """Does it write anything?"""
    steps, shares = run.series("eval/empty")
    if not len(steps):
        return unknown(run.why_missing("no evaluation was recorded"))
    evidence = Evidence((_panel(run), loss_panel(run)))
    last, step = float(shares[-1]), int(steps[-1])
    measurement = f"{last:.0%} of the answers are empty after {step:,} steps"
    if last < WRITES_NOTHING:
        silent = steps[shares >= WRITES_NOTHING]
        since = f"; until step {silent[-1]:,.0f} nearly all were" if len(silent) else ""
        text = f"It writes: {measurement}{since}."
        return Answer("fine", measurement + since, text, (), evidence)
    loss, alike = run.last("eval/loss"), run.chance
    if loss is not None and alike is not None:
        measurement += f"; loss {loss:.3g}, of blanks only {alike:.3g}"
    if step >= LONGEST_PLATEAU:
        text = (
            f"Only blanks are written, for longer than the plateau of CTC takes ({_USUAL}): "
            f"{measurement}."
        )
        return Answer("problem", measurement, text, _advice(run), evidence)
    if loss is None or alike is None or loss > _REACHED * alike:
        text = f"Only blanks are written, and the loss still falls to their level: {measurement}."
    else:
        text = (
            "This is the plateau of blanks of CTC, a stage of learning and no failure: "
            f"{measurement}. It usually ends after {_USUAL}, and the loss falls quickly then; "
            f"after {LONGEST_PLATEAU:,} steps it would be suspicious."
        )
    return Answer("fine", f"a stage of learning; {measurement}", text, longer(run), evidence)


def _panel(run: RunEvidence) -> Panel:
    tags = {"validation": "eval/empty", "training samples": "fit/empty"}
    lines: dict[str, Line] = {label: run.series(tag) for label, tag in tags.items()}
    recorded = {label: line for label, line in lines.items() if len(line[0])}
    return Panel(title="empty answers", lines=recorded, names=("step", "share"), top=1.0)


def _advice(run: RunEvidence) -> tuple[str, ...]:
    rates = tuple(f"--set learning_rate={times * run.rate:.1g}" for times in (1 / 3, 3))
    return (
        "look at a few training images with their texts: are they of the same line, is ink 1?",
        "check that lines are wide enough for their texts; a warning of the run counts those that "
        "are not",
        "begin with short lines, or with --init-from another reader",
        *rates,
    )
