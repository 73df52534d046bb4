"""How long `main.py --mode inspect` takes, with all views: of a classifier of digits, of an adder.

Views run side by side, as many at once as there are cores. The seconds of each view are those that
the command says on a terminal, its figures included; what is left of the whole are the start and
the files.
"""

import re
import resource
import time

from benchmarks.measure import Figures, median, own, run_child, scratch, table, tell

ROUNDS = 3
STEPS = 300  # of learning: what the views show is not of interest here
AGENTS = {  # and the seconds of the whole that are accepted
    "cnn_classifier": ("digits", 60),
    "seq2seq_adder": ("add3x3", 15),
}
_LISTED = 8  # views of the table
# On a terminal, which standard output passes for here, the command tells how long each view took.
_WATCHED = """
import runpy, sys
sys.stdout.isatty = lambda: True
sys.stderr = sys.stdout
runpy.run_path("main.py", run_name="__main__")
"""


def measure(rounds: int = ROUNDS) -> Figures:
    """Learn once, then look into the agent several times; of each agent."""
    return {"rounds": rounds, **{name: _looks(name, rounds) for name in AGENTS}}


def _looks(name: str, rounds: int) -> Figures:
    task, _ = AGENTS[name]
    wall, processor = [], []
    views: dict[str, list[float]] = {}
    with scratch() as folder:
        agent = ["--agent", name, "--task", task, "--set", f"steps={STEPS}"]
        run_child(own("main.py", *agent, "--run-dir", str(folder)))
        for number in range(rounds):
            begun, used = time.perf_counter(), _user_seconds()
            told = run_child(own("-c", _WATCHED, "--mode", "inspect", "--run-dir", str(folder)))
            wall.append(time.perf_counter() - begun)
            processor.append(_user_seconds() - used)
            for view, seconds in re.findall(r"\d+ of \d+: (\w+), ([\d.]+) s", told):
                views.setdefault(view, []).append(float(seconds))
            tell(f"{name}: round {number + 1} of {rounds}")
    return {
        "seconds": median(wall),
        "processor_seconds": median(processor),
        "views": {view: median(values) for view, values in views.items()},
    }


def _user_seconds() -> float:
    """Return the processor's seconds of all child processes so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def report(figures: Figures) -> str:
    """Return the figures as a table: of each agent the whole, then the views that take longest."""
    rows = []
    for name, (task, accepted) in AGENTS.items():
        views = figures[name]["views"]
        slowest = sorted(views, key=lambda view: -views[view])[:_LISTED]
        rows += [
            [f"{name} on {task}", f"{figures[name]['seconds']:.1f}", f"≤ {accepted}"],
            ["  of the processor", f"{figures[name]['processor_seconds']:.1f}", ""],
            *([f"  {view}", f"{views[view]:.1f}", ""] for view in slowest),
        ]
    return table(["--mode inspect", "seconds", "accepted"], rows)
