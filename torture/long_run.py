"""A run of a million steps: what grows with the number of steps."""

import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.growth import fit
from tests.helpers.ranks import ended, started
from torture.commands import LIMIT, main_py
from torture.registry import Effort, Outcome, case

_STEPS = 10**6
_DECADES = (10**3, 10**4, 10**5, 10**6)
_GROWTH = 0.05  # largest exponent of memory and of time per step: 12 % in a decade
_RUN = [
    "--agent", "parity_lstm", "--task", "xor2", "--device", "cpu", "--set=hidden_size=2",
    "--set=batch_size=2", "--set=optimizer=adam", "--set=log_every=100", "--set=eval_every=50000",
    "--set=eval_samples=4", "--set=save_every=50000", "--set=precision=fp32",
    "--set=target_score=null", "--set=target_loss=null", "--set=threads=1", "--set=prefetch=false",
    "--set=record_diagnostics=false", f"--set=steps={_STEPS}",
]  # fmt: skip


class Sample(NamedTuple):
    """A moment of a run: steps taken, memory in MiB, time of the CPU in seconds."""

    step: int
    memory: float
    seconds: float


def sample(pid: int, folder: Path) -> Sample | None:
    """Return how far a run is, and what it has taken.

    None: it has not recorded a step, or has ended, and has no memory any more.
    """
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().split(b"\n")[1:-1]
        step = json.loads(lines[-1])["step"]
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError, IndexError):
        return None
    ticks, pages = int(words[11]) + int(words[12]), int(words[21])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    if not memory:
        return None
    return Sample(step, memory, ticks / os.sysconf("SC_CLK_TCK"))


@case
def million_steps(effort: Effort) -> Outcome:
    """A run of 10⁶ steps: memory, and time of the CPU for a step, do not grow with the steps."""
    folder, samples = effort.folder / "long", list[Sample]()
    with started(main_py(*_RUN, "--run-dir", folder)) as process:
        while process.poll() is None:
            found = sample(process.pid, folder)
            if found is not None and (not samples or found.step > samples[-1].step):
                samples.append(found)
            time.sleep(0.05 if not samples or samples[-1].step < 10**4 else 1.0)
        done = ended(process, LIMIT)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found_at = [min(samples, key=lambda s: abs(s.step - step)) for step in _DECADES]
    memory = [each.memory for each in found_at]
    each_step = [
        1e6 * (b.seconds - a.seconds) / (b.step - a.step) for a, b in itertools.pairwise(found_at)
    ]
    steps = [float(each.step) for each in found_at]
    middles = [math.sqrt(a * b) for a, b in itertools.pairwise(steps)]
    growths = {
        "memory": fit(steps[1:], memory[1:]).exponent, "time": fit(middles, each_step).exponent,
    }  # fmt: skip
    failures = tuple(
        f"{name} grows with exponent {growth:.3f}" for name, growth in growths.items()
        if not growth <= _GROWTH  # nor no number
    )  # fmt: skip
    remark = (
        f"MiB at 10³ … 10⁶ steps: {', '.join(f'{each:.0f}' for each in memory)} (exponent from 10⁴ "
        f"on {growths['memory']:.3f}); µs of the CPU for a step in the decades to 10⁴ … 10⁶: "
        f"{', '.join(f'{each:.0f}' for each in each_step)} (exponent {growths['time']:.3f})"
    )
    return Outcome(tried=2, held=2 - len(failures), remark=remark, failures=failures)
