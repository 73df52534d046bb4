"""Training and testing in a run folder: what modes of the command line share."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.cli.run_spec import RunSpec
from agents.core.training.launch import is_main
from tasks.core.paths import make_folder

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.training.processes import Group
    from visualization.report import Report

NUM_TESTED = 10_000  # test samples at most


def learn(
    spec: RunSpec, progress: bool = True, prune: Callable[[int, float], bool] | None = None
) -> "Agent":
    """Train in the run folder, and write the losses to loss.csv; return the agent."""
    from agents.core.runs.checkpoint import atomic_write
    from agents.core.training.devices import keep_freed_memory

    keep_freed_memory()
    if progress and is_main():
        print(f"run folder: {spec.run_dir}", file=sys.stderr)
    agent = spec.make()
    agent.learn(run_dir=spec.run_dir, resume=spec.options.resume, progress=progress, prune=prune)
    if not is_main():
        return agent
    losses = csv_bytes([["step", "loss", "val_loss"], *agent.history.losses()])
    atomic_write(spec.run_dir / "loss.csv", losses)
    return agent


def score_best(
    spec: RunSpec, agent: "Agent | None" = None, group: "Group | None" = None
) -> tuple["Agent", Any, Any, dict[str, float]]:
    """Return the best agent of a run, its predictions for the test split, the batch, the scores.

    Ranks of a group, each with the `agent` that it trained, predict a share; rank 0 alone reads and
    writes the run's folder, and has the scores.
    """
    from agents.core.training.evaluation import predict_shares
    from agents.core.training.processes import SINGLE
    from agents.core.training.resume import share_state

    group = group or SINGLE
    best = group.on_main(spec.load_trained) or agent
    assert best is not None
    share_state(best, group)
    batch = best.task.samples("test", NUM_TESTED)
    answers = predict_shares(best, batch, group)
    if not group.is_main:
        return best, answers, batch, {}
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


def save_report(report: "Report", folder: Path, name: str, step: int, processes: int = 1) -> None:
    """Save a report as a page, its arrays, and its figures as TensorBoard events.

    In as many processes at once, forks of this one; 1: all in it.
    """
    make_folder(folder)
    works: dict[str, Callable[[], object]] = {
        "page": lambda: report.save(folder / f"{name}.html"),
        "events": lambda: _save_events(report, folder / name, step),
        "arrays": lambda: report.save_arrays(folder / f"{name}.npz"),
    }
    if processes == 1:
        paths = {kind: work() for kind, work in works.items()}
    else:
        from agents.core.inspection.side_by_side import compute

        paths = dict(compute(works, {}, processes))
    where = f"arrays in {paths['arrays']}; figures for TensorBoard in {name}/"
    print(f"{paths['page']}: open it in a browser; {where}")


def _save_events(report: "Report", folder: Path, step: int) -> None:
    """Save figures as a TensorBoard run of their own.

    They replace those of an earlier report, not of training.
    """
    from agents.core.runs.history import History
    from agents.core.runs.sinks import Figure, Started, TensorBoardSink

    with contextlib.closing(TensorBoardSink(folder)) as events:
        events.handle(Started(History([]), step - 1, step))
        for view, record in report.flat():
            events.handle(Figure(step, view, record, report.picture(view)))
