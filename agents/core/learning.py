"""One call of `learn()`: it drives the loop, and logs, evaluates, saves and stops when due."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import yaml

from agents.core import devices
from agents.core.checkpoint import Checkpoint, read
from agents.core.config import ConfigError
from agents.core.history import Record
from agents.core.logs import Sink
from agents.core.loop import DivergedError, StepRecord, total_steps, train_steps
from agents.core.run_folder import NullFolder
from agents.core.signals import StopRequest, stop_requests
from tasks.core.settings import to_values

if TYPE_CHECKING:
    from agents.core.agent import Agent


_MAY_CHANGE = ("steps", "epochs", "save_every", "keep")  # when a run goes on in its folder


@attrs.define
class Window:
    """Sums since the last record of the history."""

    loss: float = 0.0
    grad_norm: float = 0.0
    steps: int = 0
    samples: int = 0


@attrs.define
class Best:
    """The best evaluation so far."""

    score: float | None = None
    step: int = 0
    stale: int = 0  # evaluations since then


class Learning:
    """Learns until the last step, or until it is asked to stop."""

    def __init__(self, agent: "Agent", folder: NullFolder, sink: Sink) -> None:
        self.agent, self.folder, self.sink = agent, folder, sink
        self.config = agent.config
        self.total = total_steps(agent.config, agent.task)
        self._since = time.perf_counter()

    def run(self) -> None:
        """Take all steps that are left."""
        agent = self.agent
        self.folder.start(self._config_text())
        self.folder.status("running", step=agent.cursor.step, steps=self.total)
        self.sink.start(agent.history, agent.cursor.step, self.total)
        self._since = time.perf_counter()
        try:
            with stop_requests() as request:
                self._steps(request)
            self._end()
        except BaseException as error:
            self.folder.status(
                _state_of(error), step=agent.cursor.step, steps=self.total, reason=str(error)
            )
            raise
        finally:
            self.sink.close()

    def _steps(self, request: StopRequest) -> None:
        agent, config = self.agent, self.config
        steps = train_steps(
            agent.model,
            agent.loss,
            agent.task,
            agent.optimizer,
            agent.cursor,
            agent.device,
            agent.precision,
        )
        with (
            devices.threads(agent.threads),
            devices.own_randomness(agent.device, config.seed, agent.random),
        ):
            for record in steps:
                agent.random = devices.random_state(agent.device)
                self._add(record)
                last = record.step == self.total
                if last or record.step % config.log_every == 0:
                    self._log(record)
                if last or record.step % config.eval_every == 0:
                    self._evaluate(record.step)
                if last or agent.stopped_early or record.step % config.save_every == 0:
                    self._save(record.step)
                if agent.stopped_early:
                    return
                if request.signum is not None:
                    self._save(record.step)
                    request.raise_if_asked()

    def _add(self, record: StepRecord) -> None:
        window = self.agent.window
        window.loss += record.loss
        window.grad_norm += record.grad_norm
        window.steps += 1
        window.samples += record.samples

    def _log(self, record: StepRecord) -> None:
        window, now = self.agent.window, time.perf_counter()
        self.agent.seconds += now - self._since
        self._note(
            {
                "step": record.step,
                "train/loss": window.loss / window.steps,
                "train/grad_norm": window.grad_norm / window.steps,
                "train/lr": record.learning_rate,
                "time/samples_per_s": window.samples / (now - self._since),
                "time/seconds": self.agent.seconds,
            }
        )
        self.agent.window = Window()
        self._since = time.perf_counter()

    def _note(self, record: Record, word: str = "") -> None:
        self.agent.history.add(record)
        self.sink.record(record, word)

    def _evaluate(self, step: int) -> None:
        agent, config, begun = self.agent, self.config, time.perf_counter()
        answers, batch = agent.answers("validation", config.eval_samples)
        scores = agent.task.score(answers, batch)
        better = agent.is_better(scores)
        agent.best = (
            Best(agent.monitored(scores), step)
            if better
            else attrs.evolve(agent.best, stale=agent.best.stale + 1)
        )
        self._note(
            {
                "step": step,
                "eval/loss": agent.mean_loss(batch),
                **{f"eval/{name}": score for name, score in scores.items()},
            },
            "best" if better else "",
        )
        if better:
            self.folder.save_best(agent.checkpoint)
        self.sink.picture(step, "answers", agent.answer_table(answers, batch, 12))
        if config.histograms_every and step % (config.eval_every * config.histograms_every) == 0:
            self.sink.histograms(step, agent.tensors_to_watch())
        agent.stopped_early = config.patience is not None and agent.best.stale >= config.patience
        self._since += time.perf_counter() - begun  # evaluating is not training time

    def _save(self, step: int) -> None:
        begun = time.perf_counter()
        self.folder.save(step, self.agent.checkpoint, self.config.keep)
        self._since += time.perf_counter() - begun

    def _end(self) -> None:
        agent = self.agent
        why = "early: no better score" if agent.stopped_early else "all steps taken"
        scores = {} if agent.best.score is None else {agent.task.monitor[0]: agent.best.score}
        self.sink.finish(flat_settings(agent), scores)
        self.folder.status(
            "done",
            step=agent.cursor.step,
            steps=self.total,
            reason=why,
            best=attrs.asdict(agent.best),
        )

    def _config_text(self) -> str:
        agent = self.agent
        task = {"name": agent.task.name, **agent.task_settings()}
        values = {"agent": agent.name, "task": task, **to_values(agent.config)}
        return yaml.safe_dump(values, sort_keys=False)


def flat_settings(agent: "Agent") -> dict[str, Any]:
    """Return the settings of an agent and its task with dotted names."""
    task = {f"task.{name}": value for name, value in agent.task_settings().items()}
    return {"task": agent.task.name, **to_values(agent.config), **task}


def _state_of(error: BaseException) -> str:
    if isinstance(error, DivergedError):
        return "diverged"
    return "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"


def find_start(agent: "Agent", folder: NullFolder, resume: str, sink: Sink) -> Checkpoint | None:
    """Return the checkpoint from which to go on: none, the folder's newest, or a given file."""
    if resume == "never":
        return None
    if resume != "auto":
        return read(Path(resume))
    checkpoint = folder.newest_good(sink.say)
    if checkpoint is None or checkpoint.values["cursor"]["step"] < agent.cursor.step:
        return None
    demand_same_settings(agent, checkpoint, str(folder.path))
    return checkpoint


def demand_same_settings(agent: "Agent", checkpoint: Checkpoint, place: str) -> None:
    """Raise a ConfigError where a run folder holds a run with other settings."""
    mine = agent.identity()
    theirs = {key: checkpoint.values[key] for key in mine}
    pairs = [("agent", theirs["agent"], mine["agent"]), ("task", theirs["task"], mine["task"])]
    for group in ("task_settings", "config"):
        names = theirs[group].keys() | mine[group].keys()
        pairs += [(n, theirs[group].get(n), mine[group].get(n)) for n in sorted(names)]
    for name, old, new in pairs:
        if old != new and name not in _MAY_CHANGE:
            raise ConfigError(
                place,
                name,
                f"the run in this folder has {old!r}, this one {new!r}",
                "the same settings, another --run-dir, or --resume never",
            )
