"""What all measurements share: child processes, medians, tables, and the file of results."""

import contextlib
import datetime
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.common import BENCH, ROOT

RESULTS = ROOT / "benchmarks" / "results.json"
Figures = dict[str, Any]  # JSON types


class ChildError(Exception):
    """A child process failed; the message is the last line it wrote."""


class Terminal(io.StringIO):
    """A standard error that says it is a terminal, so that progress bars are drawn."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for the length of a `with` block, on the checkout's own disk.

    A temporary folder elsewhere may lie in memory, where flushing a checkpoint costs nothing.
    """
    BENCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        yield Path(folder)


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def run_child(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """Run a command in the checkout, without GPUs, and return its standard output.

    Raises:
        ChildError: it failed.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **(variables or {})}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ChildError(last_line(done.stderr).replace(f"{ROOT}/", ""))
    return done.stdout


def own(*arguments: str) -> list[str]:
    """Return a command of the running interpreter."""
    return [sys.executable, *arguments]


def tell(message: str) -> None:
    """Write one line of progress to standard error."""
    print(message, file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def seconds(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round; they take turns, and a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, call in ways.items():
            taken = seconds(call)
            found[name] += [taken] if number else []
    return found


def median_ratio(over: Iterable[float], under: Iterable[float]) -> float:
    """Return the median of the ratios of each round."""
    return median(a / b for a, b in zip(over, under, strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines of columns: the first to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )


def processor() -> str:
    """Return the name of the CPU."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_class() -> str:
    """Return the class of this CPU, or of the one that the environment lets torch take it for."""
    import torch

    from agents.core.training import devices

    if devices.computes_bf16(torch.device("cpu")):
        return "AVX512-BF16"
    return torch.backends.cpu.get_cpu_capability()


def circumstances() -> Figures:
    """Return when and on what a measurement is made."""
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_results(name: str, figures: Figures, load: float) -> None:
    """Put the figures of one measurement on this class of CPU into the file of results.

    The others stay. `load` is the load average before the measurements, which says whether anything
    else ran. Figures that name a `device` are filed under it, and not under the class of CPU.
    """
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    entry = {**circumstances(), "load_before": load, "figures": figures}
    known.setdefault(name, {})[figures.get("device") or cpu_class()] = entry
    RESULTS.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n")
