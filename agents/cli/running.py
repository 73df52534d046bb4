"""Training and testing in a run folder: what modes of the command line share."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.cli.run_spec import RunSpec

if TYPE_CHECKING:
    from agents.core.agent import Agent

NUM_TESTED = 10_000  # test samples at most


def learn(spec: RunSpec) -> "Agent":
    """Train in the run folder, and write the losses to loss.csv; return the agent."""
    from agents.core.runs.checkpoint import atomic_write

    print(f"run folder: {spec.run_dir}", file=sys.stderr)
    agent = spec.make()
    agent.learn(run_dir=spec.run_dir, resume=spec.options.resume, progress=True)
    losses = csv_bytes([["step", "loss", "val_loss"], *agent.history.losses()])
    atomic_write(spec.run_dir / "loss.csv", losses)
    return agent


def score_best(spec: RunSpec) -> tuple["Agent", Any, Any, dict[str, float]]:
    """Return the best agent of a run, its predictions for the test split, the batch, the scores."""
    best = spec.load_trained()
    answers, batch = best.predict_split("test", NUM_TESTED)
    scores = best.task.score(answers, batch)
    write_scores(spec.run_dir / "test.json", scores, len(answers), seed=0)
    return best, answers, batch, scores


def scores_of_run(spec: RunSpec) -> dict[str, float]:
    """Return test scores, reusing test.json unless best.safetensors is newer."""
    path, best = (spec.run_dir / name for name in ("test.json", "best.safetensors"))
    if not path.exists() or path.stat().st_mtime_ns < best.stat().st_mtime_ns:
        return score_best(spec)[3]
    scores: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return scores


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")  # names of files in another encoding


def write_scores(path: Path, scores: Mapping[str, float], num: int, seed: int) -> None:
    """Write scores as JSON, with the number of samples and the seed that chose them."""
    from agents.core.runs.checkpoint import atomic_write

    atomic_write(path, json.dumps({**scores, "num_samples": num, "seed": seed}).encode())


def format_scores(scores: Mapping[str, float]) -> str:
    """Return scores as a person reads them."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
