"""The figures of the five notes, each beside ours: `python docs/notes.py` writes docs/notes.md.

It reads the run folders of the commands in docs/notes_claims.py, as far as they are there, keeps
their scores in docs/notes.json, and makes the table of the page from that file. `--run` first runs
what is missing, and continues what was stopped (an hour on two cores); `--run 003` only commands of
that note, `--run hidden_size=1` those with these words. What takes hours is run with `--long` too.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from agents.cli.modes import MODES  # noqa: E402 - found by the line above
from agents.cli.options import parse  # noqa: E402
from agents.cli.run_spec import RunSpec, parse_run_spec  # noqa: E402
from agents.cli.sweep import Plan, plan_of  # noqa: E402
from agents.cli.sweep_space import identity, identity_in  # noqa: E402
from agents.core.sweeps.results import (  # noqa: E402
    Interval,
    describe,
    interval,
    read_result,
    without_seed,
)
from benchmarks.marked import replaced  # noqa: E402
from docs.notes_claims import ROWS  # noqa: E402
from docs.notes_row import Row  # noqa: E402

PAGE, RECORD = ROOT / "docs" / "notes.md", ROOT / "docs" / "notes.json"
BEGIN, END = "<!-- python docs/notes.py -->", "<!-- end of the table -->"
Run = dict[str, Any]  # JSON types
Record = Mapping[str, Sequence[Run]]  # runs by command

WORDS = {  # of a score, and whether it is a share
    "token_accuracy": ("token accuracy", True),
    "exact_match": ("exact match", True),
    "accuracy": ("accuracy", True),
    "cer": ("character error rate", True),
    "exact": ("lines without an error", True),
    "mse": ("squared error", False),
    "train_loss": ("training loss", False),
    "eval_loss": ("validation loss", False),
}


def commands(rows: Iterable[Row] = ROWS) -> list[str]:
    """Return the commands that give figures, each once."""
    return list(dict.fromkeys(row.command for row in rows if row.scores))


def plan(command: str) -> Plan:
    """Return what a command runs, and in which folders."""
    return plan_of(parse_run_spec(parse(shlex.split(command)), MODES), MODES)


def runs_of(command: str, recorded: Sequence[Run]) -> list[Run]:
    """Return the finished runs of a command: those whose folders are there, else as recorded.

    A recorded run counts only while its settings, defaults included, are those of the command.
    """
    runs = []
    for values, spec in plan(command).runs:
        earlier = {"values": values, "settings": digest(spec)}
        found = read_run(spec) or next(
            (run for run in recorded if all(run[key] == earlier[key] for key in earlier)), None
        )
        if found:
            runs.append({**found, **earlier})
    return runs


def read_run(spec: RunSpec) -> Run | None:
    """Return day, seconds of training, steps and scores of a run; None: it is not done.

    A folder of other settings, such as those of an earlier recipe, is not the run's.

    Scores are those of test.json, the last losses, and on the validation split those of the best
    constant answer (`constant`).
    """
    found = read_result({}, spec.run_dir, spec.task.monitor)
    scores, last = dict(found.test_scores), found.history.last
    if found.status != "done" or not scores or identity_in(spec.run_dir, MODES) != identity(spec):
        return None
    num_samples, _ = scores.pop("num_samples"), scores.pop("seed", None)
    losses = {f"{name}_loss": last(f"{name}/loss") for name in ("train", "eval")}
    return {
        "day": found.time[:10],
        "steps": int(last("step") or 0),
        "seconds": round(last("time/seconds") or 0.0, 1),
        "num_samples": num_samples,
        "scores": scores | _rounded(losses),
        "constant": _rounded({name: last(f"chance/{name}") for name in scores}),
    }


def _rounded(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(number, 6) for name, number in numbers.items() if number is not None}


def digest(spec: RunSpec) -> str:
    """Return the digest of a run's settings and its task's, defaults included."""
    return str(spec.config.digest(spec.task))


def read_record(path: Path = RECORD) -> Record:
    """Return the runs by command; none if there is no file yet."""
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; empty if there is no file yet."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def update(record: Record) -> Record:
    """Return the record with what the run folders have; commands without a run are left out."""
    runs = {command: runs_of(command, record.get(command, ())) for command in commands()}
    return {command: found for command, found in runs.items() if found}


def written(score: str, found: Interval) -> str:
    """Return a score over seeds as text: its mean, and half the width of its 95 % interval.

    >>> written("accuracy", interval([0.97, 0.98, 0.99]))
    'accuracy 98.0 ± 2.5 %'
    >>> written("mse", interval([0.0123]))
    'squared error 0.012'
    """
    words, is_share = WORDS[score]
    mean, half = found.mean, found.half
    if not is_share:
        return f"{words} {mean:.2g}" + ("" if math.isnan(half) else f" ± {half:.1g}")
    digits = 1 if math.isnan(half) or half >= 0.0005 else 2
    width = "" if math.isnan(half) else f" ± {100 * half:.{digits}f}"
    return f"{words} {100 * mean:.{digits}f}{width} %"


def result(row: Row, record: Record) -> str:
    """Return the cell of a row's result: a line for each trial, with its seeds, and the day."""
    if not row.scores:
        return row.page
    trials: dict[str, list[Run]] = {}
    for run in record.get(row.command, ()):
        if all(run["values"][name] in accepted for name, accepted in row.only.items()):
            trials.setdefault(describe(without_seed(run["values"])), []).append(run)
    runs = [run for found in trials.values() for run in found]
    lines = [_line(row, name, found) for name, found in trials.items()] or ["not run"]
    constant = [run["constant"][row.scores[0]] for run in runs if row.scores[0] in run["constant"]]
    if constant:
        mean = sum(constant) / len(constant)
        lines.append(f"a constant answer: {written(row.scores[0], interval([mean]))}")
    days = sorted({run["day"] for run in runs})
    return "<br>".join([*lines, *days[-1:], *([row.page] if row.page else [])])


def _line(row: Row, name: str, runs: Sequence[Run]) -> str:
    scores = ", ".join(
        written(score, interval([run["scores"][score] for run in runs])) for score in row.scores
    )
    swept = "" if name == describe({}) else f"`{name}`: "
    return f"{swept}{scores} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"


def table(record: Record, rows: Sequence[Row] = ROWS) -> str:
    """Return the table of all notes; it says which commands did not run."""
    lines = [
        "| note | claimed or wished | command: `python main.py …` | ours | what explains it |",
        "|---|---|---|---|---|",
    ]
    cells = (
        (row.note, row.claim, f"`{row.command}`", result(row, record), row.why) for row in rows
    )
    return "\n".join([*lines, *(f"| {' | '.join(each)} |" for each in cells)]) + "\n"


def with_table(page: str, record: Record) -> str:
    """Return the page with its table made of a record."""
    return replaced(page, BEGIN, END, f"\n\n{table(record)}\n")


def is_done(command: str, recorded: Sequence[Run] = ()) -> bool:
    """Tell whether every run of a command is done: its folder is there, or it is recorded."""
    return len(runs_of(command, recorded)) == len(plan(command).runs)


def chosen(words: Sequence[str], is_long: bool) -> list[Row]:
    """Return the rows of notes, or with commands, that have any of the words; all without words."""
    return [
        row
        for row in ROWS
        if (is_long or not row.is_long)
        and (not words or any(word == row.note or word in row.command for word in words))
    ]


def write() -> None:
    """Read the run folders; write the record and the page."""
    record = update(read_record())
    text = json.dumps(record, indent=1, ensure_ascii=False)
    RECORD.write_text(text + "\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), record), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, then write record and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    help_text = "run what is missing: of a note, of commands with these words, or all"
    parser.add_argument("--run", nargs="*", metavar="WORDS", help=help_text)
    parser.add_argument("--long", action="store_true", help="with --run: also what takes hours")
    options = parser.parse_args(arguments)
    for word in options.run or ():
        if not commands(chosen([word], options.long)):
            names = ", ".join(dict.fromkeys(row.note for row in ROWS))
            hint = "--long too, or " if commands(chosen([word], is_long=True)) else ""
            problem = f"no command is chosen by {word!r}"
            parser.error(f"argument --run: {problem}; accepted: {hint}a note ({names}), or words "
                         "that are in a command")  # fmt: skip
    os.chdir(ROOT)  # where runs/ is
    rows = [] if options.run is None else chosen(options.run, options.long)
    record = read_record()
    for command in commands(rows):
        if not is_done(command, record.get(command, ())):
            print(f"python main.py {command}", flush=True)
            subprocess.run([sys.executable, "main.py", *shlex.split(command)], check=True)
    write()


if __name__ == "__main__":
    main()
