"""How long `main.py --mode inspect` takes of a small classifier of digits, with all its views.

The seconds of each view are those that the command says on a terminal; what is left of the whole
are the start, the figures, and the files.
"""

import re
import resource
import time

from benchmarks.measure import Figures, median, own, run_child, scratch, table, tell

ROUNDS = 3
STEPS = 300  # of learning: what the views show is not of interest here
AGENT = ["--agent", "cnn_classifier", "--task", "digits", "--set", f"steps={STEPS}"]
ACCEPTED = 60  # seconds of the whole
_LISTED = 12  # views of the table
# On a terminal, which standard output passes for here, the command tells how long each view took.
_WATCHED = """
import runpy, sys
sys.stdout.isatty = lambda: True
sys.stderr = sys.stdout
runpy.run_path("main.py", run_name="__main__")
"""


def measure(rounds: int = ROUNDS) -> Figures:
    """Learn once, then look into the agent several times."""
    wall, processor = [], []
    views: dict[str, list[float]] = {}
    with scratch() as folder:
        run_child(own("main.py", *AGENT, "--run-dir", str(folder)))
        for number in range(rounds):
            begun, used = time.perf_counter(), _user_seconds()
            told = run_child(own("-c", _WATCHED, "--mode", "inspect", "--run-dir", str(folder)))
            wall.append(time.perf_counter() - begun)
            processor.append(_user_seconds() - used)
            for name, seconds in re.findall(r"\d+ of \d+: (\w+), ([\d.]+) s", told):
                views.setdefault(name, []).append(float(seconds))
            tell(f"round {number + 1} of {rounds}")
    return {
        "rounds": rounds,
        "seconds": median(wall),
        "processor_seconds": median(processor),
        "views": {name: median(values) for name, values in views.items()},
    }


def _user_seconds() -> float:
    """Return the processor's seconds of all child processes so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def report(figures: Figures) -> str:
    """Return the figures as a table: the whole, then the views that take longest."""
    views = figures["views"]
    slowest = sorted(views, key=lambda name: -views[name])[:_LISTED]
    rows = [
        ["the whole command", f"{figures['seconds']:.1f}", f"≤ {ACCEPTED}"],
        ["  of the processor", f"{figures['processor_seconds']:.1f}", ""],
        ["all views", f"{sum(views.values()):.1f}", ""],
        *([f"  {name}", f"{views[name]:.1f}", ""] for name in slowest),
    ]
    return table(["--mode inspect", "seconds", "accepted"], rows)
