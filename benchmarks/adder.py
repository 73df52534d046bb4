"""The default recipe of `add3x3`, run as a person runs it."""

import json
import time
from collections.abc import Sequence

from benchmarks.measure import Figures, median, own, run_child, scratch, table, tell

SEEDS = 5
ACCEPTED_EXACT = 0.99
ACCEPTED_SECONDS = 300


def run_seed(seed: int, settings: Sequence[str] = ()) -> Figures:
    """Train in a folder of its own; return seconds of the whole command and the test scores."""
    options = [text for setting in settings for text in ("--set", setting)]
    with scratch() as folder:
        begun = time.perf_counter()
        run_child(
            own(
                "main.py",
                "--agent",
                "seq2seq_adder",
                "--task",
                "add3x3",
                "--seed",
                str(seed),
                "--run-dir",
                str(folder),
                *options,
            )
        )
        seconds = time.perf_counter() - begun
        scores: Figures = json.loads((folder / "test.json").read_text())
    return {**scores, "seed": seed, "seconds": seconds}


def measure(seeds: int = SEEDS, settings: Sequence[str] = ()) -> Figures:
    """Run the recipe with the seeds 0, 1, …; `settings` change it, for a trial."""
    runs = []
    for seed in range(seeds):
        runs.append(run_seed(seed, settings))
        tell(f"seed {seed}: {runs[-1]['seconds']:.0f} s, exact {runs[-1]['exact_match']:.4f}")
    return {
        "runs": runs,
        "settings": list(settings),
        "median_seconds": median(run["seconds"] for run in runs),
        "median_exact_match": median(run["exact_match"] for run in runs),
    }


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [
            f"seed {run['seed']}",
            f"{run['seconds']:.0f}",
            f"{run['exact_match']:.4f}",
            f"{run['token_accuracy']:.4f}",
        ]
        for run in figures["runs"]
    ]
    middle = [f"{figures['median_seconds']:.0f}", f"{figures['median_exact_match']:.4f}", ""]
    accepted = [f"≤ {ACCEPTED_SECONDS}", f"≥ {ACCEPTED_EXACT}", ""]
    head = ["add3x3, default recipe", "seconds", "exact match", "token accuracy"]
    return table(head, [*rows, ["median", *middle], ["accepted", *accepted]])
