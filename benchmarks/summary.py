"""One table of ratios: each row is ours beside a peer or a limit that was measured in the same run.

A column is a class of CPU, or a GPU. `python -m benchmarks summary --write` puts the table into
docs/performance.md, which a test holds to be that of results.json.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from benchmarks import looking
from benchmarks.marked import replaced
from benchmarks.measure import RESULTS, Figures, table
from benchmarks.peers.common import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- python -m benchmarks summary --write -->", "<!-- end of the summary -->"
NONE = "–"
READERS = "ctc_reader", "kraken"  # agents of the rows of `read` that are compared


class Pair(NamedTuple):
    """Ours and the other side, as text, and the ratio."""

    ours: str
    other: str
    ratio: float


class Goal(NamedTuple):
    """A ratio that is accepted: at least or at most."""

    sign: str  # ≥ or ≤
    value: float

    def is_reached(self, ratio: float) -> bool:
        """Return whether a ratio is accepted."""
        return ratio >= self.value if self.sign == "≥" else ratio <= self.value


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        command: the measurement, by the name of its command.
        what: what is measured, and beside what.
        kind: of the ratio: `speed` (how many times as fast), `cost` (how many times as much), or
            `share` (part of the limit).
        goal: what is accepted; None: nothing is.
        pair: takes the figures; a KeyError: an earlier version measured them without this.
    """

    command: str
    what: str
    kind: str
    goal: Goal | None
    pair: Callable[[Figures], Pair]


def _accuracy(f: Figures) -> Pair:
    middle = f["median_seconds"]
    keras = [value for name, value in middle.items() if name.startswith("Keras") and value]
    return Pair(f"{middle['Terrarium']:.1f} s", f"{min(keras):.1f} s", f["ratio"])


def _throughput(f: Figures) -> Pair:
    found = f["batches"]["128"]
    ours, keras = found["Terrarium, Keras' model"], found["Keras on JAX"]
    pair = ours["samples_per_s"], keras["samples_per_s"]
    return Pair(*(f"{value:,.0f}/s" for value in pair), ours["ratio"] / keras["ratio"])


def _overhead(name: str) -> Callable[[Figures], Pair]:
    def pair(f: Figures) -> Pair:
        f = f[name]
        texts = (f"{f[side]:,.0f} µs" for side in ("learn_us_per_step", "bare_us_per_step"))
        return Pair(*texts, 1 + f["overhead_percent"] / 100)

    return pair


def _loop(peer: str) -> Callable[[Figures], Pair]:
    def pair(f: Figures) -> Pair:
        ours, other = f["loops"]["Terrarium"], f["loops"][peer]
        texts = (f"{side['us_per_step']:,.0f} µs" for side in (ours, other))
        return Pair(*texts, other["ratio"] / ours["ratio"])

    return pair


def _products(name: str) -> Callable[[Figures], Pair]:
    def pair(f: Figures) -> Pair:
        f = f[name]
        texts = (f"{f[side]:.0f} GFLOP/s" for side in ("gflops", "limit_gflops"))
        return Pair(*texts, f["share"])

    return pair


def _busy(f: Figures) -> Pair:
    name, worst = max(f.items(), key=lambda item: float(item[1]["ratio"]))
    return Pair(
        f"{worst['busy_ms']:.1f} ms ({name})", f"{worst['quiet_ms']:.1f} ms", worst["ratio"]
    )


def _start(f: Figures) -> Pair:
    taken, torch_alone = f["seconds"]["first step"], f["seconds"]["import torch"]
    return Pair(f"{taken:.2f} s", f"{torch_alone:.2f} s", taken / torch_alone)


def _seconds_of(accepted: float, seconds: Callable[[Figures], float]) -> Callable[[Figures], Pair]:
    """Return a pair of measured seconds and those that are accepted."""

    def pair(f: Figures) -> Pair:
        taken = seconds(f)
        return Pair(f"{taken:.3g} s", f"{accepted:g} s", taken / accepted)

    return pair


def _exact_match(f: Figures) -> Pair:
    share = f["median_exact_match"]
    return Pair(f"{100 * share:.2f} %", "100 %", share)


def _memory(side: str) -> Callable[[Figures], Pair]:
    def pair(f: Figures) -> Pair:
        texts = (f"{f['megabytes'][name]:,.0f} MB" for name in (side, "bare"))
        return Pair(*texts, f["ratio"][side])

    return pair


def _ranks(f: Figures) -> Pair:
    name, worst = min(f.items(), key=lambda item: float(item[1]["ratio"]))
    texts = f"{worst['two_ranks']:,.0f}/s ({name})", f"{worst['one_process']:,.0f}/s"
    return Pair(*texts, worst["ratio"])


def _traces(f: Figures) -> Pair:
    times = f["traces"]["1,000 sums"]
    ours, loop = times["trace_cells"], times["cells, one sample at a time"]
    return Pair(f"{1e3 * ours:.1f} ms", f"{1e3 * loop:.0f} ms", loop / ours)


def _patches(f: Figures) -> Pair:
    f = f["layers"]["plain, last layer"]
    names = ("top_patches", "forward to the layer")
    return Pair(*(f"{f['seconds'][n]:.2f} s" for n in names), f["ratios"][names[1]])


def _field(f: Figures) -> Pair:
    f = next(value for name, value in f["fields"].items() if name.startswith("resnet18"))
    if not isinstance(f, dict):
        raise KeyError("gradient_seconds")
    texts = (f"{f[name]:.2f} s" for name in ("seconds", "gradient_seconds"))
    return Pair(*texts, f["ratio"])


def _slowest_attribution(f: Figures) -> Pair:
    name, worst = min(f["methods"].items(), key=lambda item: float(item[1]["ratio"]))
    return Pair(f"{worst['ms']:.1f} ms ({name})", f"{worst['captum_ms']:.1f} ms", worst["ratio"])


def _generation(f: Figures) -> Pair:
    f = f["1 at once"]
    names = ("characters_per_s", "bare_characters_per_s")
    return Pair(*(f"{f[name]:,.0f}/s" for name in names), f["ratio"])


def _beam(f: Figures) -> Pair:
    ours, other = (f["searches"][n]["ms_a_word"] for n in ("ours", "flashlight-text"))
    return Pair(f"{ours:.2f} ms", f"{other:.2f} ms", other / ours)


def _reading(f: Figures) -> Pair:
    times: dict[str, list[float]] = {}
    for score in f["scores"]:
        if score["ms"] is not None and "cer" in score["values"]:
            times.setdefault(score["agent"], []).append(score["ms"])
    ours, other = (min(times[name]) for name in READERS)
    return Pair(f"{ours:.1f} ms", f"{other:.1f} ms", other / ours)


def _checkpoint(f: Figures) -> Pair:
    f = next(iter(f["cases"].values()))
    return Pair(f"{f['ms']:.1f} ms", f"{f['write_ms']:.1f} ms", f["over_write"])


def _records(f: Figures) -> Pair:
    first, *_, last = (case["ms"] for case in f["cases"].values())
    return Pair(f"{last:.1f} ms", f"{first:.1f} ms", last / first)


def _growth(name: str) -> Callable[[Figures], Pair]:
    def pair(f: Figures) -> Pair:
        f = next(value for key, value in f.items() if key.startswith(name))
        last = f["last_decade"]
        return Pair(
            f"± {last['margin']:.2f}", f"{f['all']['exponent']:.2f} of all", last["exponent"]
        )

    return pair


def _gpu(size: str, name: str) -> Callable[[Figures], Pair]:
    def pair(f: Figures) -> Pair:
        ways = f["batches"][size]["ways"]
        base = next(iter(ways.values()))
        found = ways[name]["seconds"], base["seconds"]
        return Pair(*(f"{seconds:.2f} s" for seconds in found), found[1] / found[0])

    return pair


ROWS: tuple[Row, ...] = (
    Row("accuracy", "add3x2 to 99 % exact; the best Keras", "speed", Goal("≥", 10), _accuracy),
    Row("peers", "samples of Keras' model; Keras on JAX", "speed", None, _throughput),
    Row("overhead", "learn(), the adder, one thread; a bare loop", "cost", Goal("≤", 1.05),
        _overhead("adder, batch 128, threads 1")),
    Row("overhead", "learn(), a tiny MLP, one thread; a bare loop", "cost", Goal("≤", 1.1),
        _overhead("tiny MLP, batch 64, threads 1")),
    *(
        Row("loops", f"a step of a tiny MLP; {peer}", "speed", None, _loop(peer))
        for peer in ("Lightning", "Trainer of Hugging Face", "skorch")
    ),
    *(
        Row("products", f"training, {name}; its fastest matrix product", "share", Goal("≥", 0.6),
            _products(name))
        for name in ("adder, 128 units", "adder, 512 units", "language model, 192 units")
    ),
    Row("busy", "the worst step beside a busy process; a quiet machine", "cost", Goal("≤", 2.3),
        _busy),
    Row("start", "the first step of main.py; import torch alone", "cost", None, _start),
    Row("start", "the first step beyond import torch; what is accepted", "cost", Goal("≤", 1),
        _seconds_of(1.5, lambda f: f["first_step_beyond_import"])),
    Row("adder", "the default run of add3x3; what is accepted", "cost", Goal("≤", 1),
        _seconds_of(300, lambda f: f["median_seconds"])),
    Row("adder", "exact match of that run; all right", "share", Goal("≥", 0.99), _exact_match),
    *(
        Row("inspect", f"--mode inspect of {name} on {task}; what is accepted", "cost",
            Goal("≤", 1), _seconds_of(accepted, lambda f, name=name: f[name]["seconds"]))
        for name, (task, accepted) in looking.AGENTS.items()
    ),
    Row("memory", "most memory of learn(); a bare loop", "cost", Goal("≤", 1.5), _memory("learn")),
    Row("memory", "most memory with inspect(); a bare loop", "cost", None, _memory("inspect")),
    Row("checkpoints", "saving a checkpoint; write and fsync of its bytes", "cost", None,
        _checkpoint),
    Row("checkpoints", "saving after 1,000,000 records; after 1,000", "cost", Goal("≤", 2),
        _records),
    Row("ranks", "two ranks, the slowest agent; one process of two threads", "speed",
        Goal("≥", 1), _ranks),
    Row("recurrent", "states of 1,000 sums; LSTMCell, a sample at a time", "speed", Goal("≥", 10),
        _traces),
    Row("patches", "best patches, last layer; the forward pass", "cost", Goal("≤", 1.15), _patches),
    Row("patches", "receptive field in ResNet-18; a pass and back", "cost", None, _field),
    Row("attribution", "attribution, the slowest of all; captum", "speed", Goal("≥", 1),
        _slowest_attribution),
    Row("generation", "characters of a language model; a bare loop", "speed", None, _generation),
    Row("beam", "beam search of a word; flashlight-text", "speed", None, _beam),
    Row("read", "reading a line; kraken", "speed", None, _reading),
    *(
        Row("growth", f"exponent of the last decade, {name}", "exponent", Goal("≤", most),
            _growth(name))
        for name, most in (
            ("length: a step", 1.05), ("length: trace_cells", 1.05), ("units: a step", 2.1),
            ("units: trace_cells", 2.1), ("data: sums", 1.05), ("data: answers", 1.05),
        )
    ),
    *(
        Row("gpu", f"an epoch of 1,000,000 sums, {name}, batch {size}; as learn() does it", "speed",
            None, _gpu(size, name))
        for size, name in (
            ("256", "a CUDA graph of the step"), ("4096", "the graph in bf16"),
            ("256", "a loop over LSTM cells"),
        )
    ),
)  # fmt: skip
WORDS = {
    "speed": "{:.1f} × as fast", "cost": "{:.2f} ×", "share": "{:.3g} %", "exponent": "{:.2f}",
}  # fmt: skip


def _known() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text())
    return known


def _classes(known: dict[str, dict[str, Any]]) -> list[str]:
    names = {row.command for row in ROWS}
    return sorted({each for name, found in known.items() if name in names for each in found})


def cell(row: Row, entry: dict[str, Any] | None) -> str:
    """Return the ratio with both figures, with a mark where the goal is missed; a dash: unknown."""
    if entry is None:
        return NONE
    try:
        pair = row.pair(entry["figures"])
    except (KeyError, StopIteration, TypeError, ValueError):
        return NONE  # measured by an earlier version, without this; or a peer was missing
    missed = row.goal is not None and not row.goal.is_reached(pair.ratio)
    mark = " (missed)" if missed else ""
    shown = 100 * pair.ratio if row.kind == "share" else pair.ratio
    return f"{WORDS[row.kind].format(shown)}{mark}: {pair.ours}, {pair.other}"


def _lines() -> tuple[list[str], list[list[str]]]:
    """Return the head of the table and its rows."""
    known = _known()
    classes = _classes(known)
    rows = []
    for row in ROWS:
        cells = [cell(row, known.get(row.command, {}).get(name)) for name in classes]
        goal = f"{row.goal.sign} {_of(row.kind, row.goal.value)}" if row.goal else ""
        rows.append([row.what, f"`{row.command}`", goal, *cells])
    return ["ours; beside what", "command", "goal", *classes], rows


def _of(kind: str, value: float) -> str:
    """Return a goal as text."""
    if kind == "share":
        return f"{100 * value:g} %"
    return f"{value:g}" if kind == "exponent" else f"{value:g} ×"


def report() -> str:
    """Return the table; what was not measured on a class has a dash."""
    head, rows = _lines()
    return table(head, [[text.replace("`", "") for text in row] for row in rows])


def markdown() -> str:
    """Return the table in Markdown."""
    head, rows = _lines()
    return "".join(f"| {' | '.join(line)} |\n" for line in _with_rule(head, rows))


def _with_rule(head: list[str], rows: Iterable[list[str]]) -> Iterable[list[str]]:
    return [head, ["---"] * len(head), *rows]


def write() -> None:
    """Put the table between its marks in docs/performance.md."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(text, BEGIN, END, f"\n{markdown()}"), encoding="utf-8")
