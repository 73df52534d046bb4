"""Sessions of training: a call of `learn`, with its run folder, its sinks and its ranks."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agents.core.config import ConfigError
from agents.core.runs import sinks
from agents.core.runs.checkpoint import Checkpoint
from agents.core.runs.run_folder import Folder, NullFolder, RunFolder, archive
from agents.core.runs.snapshots import FOLDER, DiskSnapshots, InMemorySnapshots
from agents.core.training import trainer
from agents.core.training.processes import process_group
from agents.core.training.resume import start_from
from tasks.core.paths import expand_user, folder_path

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol


class _Session(NamedTuple):
    """Where a call of `learn` reads and writes; the ranks but the first do neither."""

    folder: Folder = NullFolder()
    start: Checkpoint | None = None
    place: str = ""
    sink: sinks.Sink = sinks.FanOut([])


def learn(
    agent: "AgentProtocol", run_dir: str | Path | None, resume: str, progress: bool,
    prune: trainer.Prune | None = None,
) -> None:  # fmt: skip
    """Train an agent, with all ranks of the process group, in a run folder or without one."""
    with process_group(agent.device) as group, contextlib.ExitStack() as stack:
        if group.size > 1 and agent.config.parallel == "data":
            problem = "data (DataParallel) cannot be combined with several ranks"
            raise ConfigError("torchrun", "parallel", problem, "none: each rank has one device")
        session = group.on_main(lambda: _open(agent, run_dir, resume, progress, stack))
        trainer.train(agent, *(session or _Session()), group, prune)


def _open(
    agent: "AgentProtocol", run_dir: str | Path | None, resume: str, progress: bool,
    stack: contextlib.ExitStack,
) -> _Session:  # fmt: skip
    """Read the checkpoint to start from, lock the run folder until the stack ends."""
    console, start = sinks.console(progress), None
    if resume not in ("auto", "never"):
        start_from(expand_user(resume), agent.state, agent.identity())
        start, agent.in_memory_snapshots = agent.checkpoint(), InMemorySnapshots()
    if run_dir is None:
        agent.snapshots = agent.in_memory_snapshots
        return _Session(NullFolder(), start, "", console)
    path = folder_path(run_dir, "learn()")
    agent.snapshots = DiskSnapshots(path / FOLDER)
    archived = None if resume == "auto" else archive(path)
    if archived is not None:
        console.info(f"the earlier run was archived as {archived}")
    folder = stack.enter_context(RunFolder.locked(path))
    files = [sinks.JsonlSink(path / "metrics.jsonl"), sinks.TensorBoardSink(path)]
    return _Session(folder, start, str(path), sinks.FanOut([console, *files]))
