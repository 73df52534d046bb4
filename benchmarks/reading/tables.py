"""One table of all scores, as Markdown and CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.reading.scores import Score

_NONE = "–"


def _percent(name: str) -> Callable[[Score], str]:
    """Return what writes a score in percent; a dash where it is of another kind of row."""
    return lambda score: _or_none(score.values.get(name), lambda value: f"{100 * value:.2f}")


def _seconds(score: Score, name: str) -> str:
    """Return seconds of training, with ≥ where the time of a killed process is not among them."""
    return _or_none(
        getattr(score, name), lambda value: f"{'' if score.complete else '≥ '}{value:,.0f}"
    )


def _or_none(value: Any, write: Callable[[Any], str]) -> str:
    return _NONE if value is None else write(value)


COLUMNS: Mapping[str, Callable[[Score], str]] = {
    "data": lambda score: score.data,
    "split": lambda score: score.split,
    "n": lambda score: f"{score.num:,}",
    "agent": lambda score: score.agent,
    "learned from": lambda score: score.recipe,
    "decoder": lambda score: score.decoder or _NONE,
    "CER %": _percent("cer"),
    "WER %": _percent("wer"),
    "exact %": _percent("exact"),
    "AP50 %": _percent("AP50"),
    "mAP %": _percent("mAP"),
    "parameters": lambda score: _or_none(score.parameters, lambda value: f"{value:,}"),
    "CPU ms each": lambda score: _or_none(score.ms, lambda value: f"{value:.1f}"),
    "training s": lambda score: _seconds(score, "train_wall_seconds"),
    "CPU s": lambda score: _seconds(score, "train_cpu_seconds"),
    "threads": lambda score: _or_none(score.threads, str),
}
TO_THE_LEFT = ("data", "split", "agent", "learned from", "decoder")
_NOT_IN_CSV = ("values", "worst", "settings")
METRICS = ("cer", "wer", "exact", "AP50", "mAP")


def markdown(scores: Iterable[Score]) -> str:
    """Return the table in Markdown; columns that are of no row are left out."""
    rows = [[write(score) for write in COLUMNS.values()] for score in scores]
    used = [at for at in range(len(COLUMNS)) if any(row[at] != _NONE for row in rows)]
    names = [name for at, name in enumerate(COLUMNS) if at in used]
    marks = ["---" if name in TO_THE_LEFT else "---:" for name in names]
    lines = [names, marks, *([row[at].replace("|", "\\|") for at in used] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comma_separated(scores: Iterable[Score]) -> str:
    """Return the table as CSV, with all digits; the decoder's settings are `name=value` by `;`."""
    buffer = io.StringIO()
    fields = [field.name for field in attrs.fields(Score) if field.name not in _NOT_IN_CSV]
    writer = csv.DictWriter(buffer, [*fields, *METRICS, "settings"], lineterminator="\n")
    writer.writeheader()
    for score in scores:
        settings = ";".join(f"{name}={value}" for name, value in score.settings.items())
        plain = {name: getattr(score, name) for name in fields}
        writer.writerow({**plain, **score.values, "settings": settings})
    return buffer.getvalue()


def left_out(reasons: Mapping[str, str]) -> str:
    """Return what is not in the table, and why, one recipe a line."""
    return "".join(f"- {name} is left out: {reason}\n" for name, reason in reasons.items())


def plain(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return scores as JSON types, without the errors."""
    return [
        {name: value for name, value in attrs.asdict(score).items() if name != "worst"}
        for score in scores
    ]
