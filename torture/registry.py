"""Cases by name, their outcomes, and the table made of them.

A case is a function of `Effort` that returns an `Outcome`; the first line of its docstring is the
row of the table.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks.marked import replaced

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- torture: begin -->", "<!-- torture: end -->"


@attrs.frozen(kw_only=True)
class Effort:
    """What a case is given.

    Attributes:
        folder: an empty folder for its files.
        kills: number of SIGKILLs for each agent; other faults follow it where they are many.
        chance: where random moments and places come from.
        seconds: of fuzzing, for each kind of input.
    """

    folder: Path
    kills: int
    chance: random.Random
    seconds: float = 60.0


class SkippedError(Exception):
    """A case that cannot be tried here; says what is missing."""


@attrs.frozen(kw_only=True)
class Outcome:
    """How often a fault was made, how often what must hold held, and remarks of one line."""

    tried: int
    held: int
    remark: str = ""
    failures: tuple[str, ...] = ()


Case = Callable[[Effort], Outcome]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register a case under the name of its function."""
    CASES[function.__name__] = function
    return function


def summary(name: str) -> str:
    """Return the first line of a case's docstring."""
    return (CASES[name].__doc__ or "").partition("\n")[0]


def read_results(path: Path = RESULTS) -> dict[str, dict[str, object]]:
    """Return the outcomes by case; none if there is no file yet."""
    if not path.exists():
        return {}
    results: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return results


def keep(name: str, outcome: Outcome, day: str, path: Path = RESULTS) -> None:
    """Put an outcome in the file of results, in the order of the cases, beside those of others."""
    results = read_results(path)
    results[name] = {**attrs.asdict(outcome), "day": day, "cpu": cpu()}
    ordered = {each: results[each] for each in CASES if each in results}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def cpu() -> str:
    """Return the class of the CPU: cores, and the widest vectors that it has."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    widest = next((name for name in ("avx512f", "avx2") if name in flags), "other")
    return f"{os.cpu_count()} cores, {widest.removesuffix('f').upper()}"


def table(results: dict[str, dict[str, object]]) -> str:
    """Return the table of cases; it says which did not run."""
    lines = ["| case | tried | held | remark | run |", "|---|---:|---:|---|---|"]
    for name in CASES:
        about, found = f"`{name}`: {summary(name)}", results.get(name)
        if found is None:
            lines.append(f"| {about} | 0 | | not run yet | |")
            continue
        run = f"{found['day']}, {found['cpu']}"
        lines.append(
            f"| {about} | {found['tried']} | {found['held']} | {found['remark']} | {run} |"
        )
    return "\n".join(lines) + "\n"


def with_table(page: str, results: dict[str, dict[str, object]]) -> str:
    """Return a page with its table made of results."""
    return replaced(page, _BEGIN, _END, f"\n\n{table(results)}\n")
