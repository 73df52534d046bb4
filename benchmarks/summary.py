"""One line for each headline figure, with a column for each class of CPU that was measured."""

import json
from collections.abc import Callable
from typing import Any

from benchmarks import looking
from benchmarks.busy import ACCEPTED
from benchmarks.measure import RESULTS, Figures, table

_, _ACCEPTED = looking.AGENTS["cnn_classifier"]
Row = tuple[str, str, Callable[[Figures], str]]  # measurement, what it says, and its figure


def _worst_ratio(figures: Figures) -> str:
    name, worst = max(figures.items(), key=lambda item: float(item[1]["ratio"]))
    return f"{worst['ratio']:.2f} ({name})"


def _slowest_start(figures: Figures) -> str:
    return f"{figures['first_step_beyond_import']:.2f} s"


ROWS: tuple[Row, ...] = (
    ("accuracy", "add3x2 to 99 % exact: Terrarium, s",
     lambda f: f"{f['median_seconds']['Terrarium']:.1f}"),
    ("accuracy", "… times faster than the best Keras (≥ 10)", lambda f: f"{f['ratio']:.1f}"),
    ("adder", "add3x3, the default run: whole command, s", lambda f: f"{f['median_seconds']:.0f}"),
    ("adder", "… exact match of withheld sums (≥ 99 %)",
     lambda f: f"{100 * f['median_exact_match']:.2f} %"),
    ("busy", f"worst step beside one busy process (≤ {ACCEPTED} ×)", _worst_ratio),
    ("inspect", f"--mode inspect of a small classifier of digits (≤ {_ACCEPTED} s)",
     lambda f: f"{f['cnn_classifier']['seconds']:.0f} s"),
    ("overhead", "learn() over a bare loop: the adder, one thread (≤ 5 %)",
     lambda f: f"{f['adder, batch 128, threads 1']['overhead_percent']:+.1f} %"),
    ("ranks", "slowest of two ranks over one process with two threads (≥ 1)",
     lambda f: f"{min(each['ratio'] for each in f.values()):.2f}"),
    ("start", "from the start to the first step, beyond import torch (≤ 1.5 s)", _slowest_start),
)  # fmt: skip


def report() -> str:
    """Return the table; what was not measured on a class has a dash."""
    known: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text())
    classes = sorted({name for entries in known.values() for name in entries})
    rows = [
        [sentence]
        + [
            figure(known[name][cpu]["figures"]) if cpu in known.get(name, {}) else "–"
            for cpu in classes
        ]
        for name, sentence, figure in ROWS
    ]
    return table(["", *classes], rows)
