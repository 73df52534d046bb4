"""One call of `learn()`: it drives the loop, and logs, evaluates, saves and stops when due."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
import torch
import yaml
from torch import Tensor

from agents.core import devices
from agents.core.checkpoint import Checkpoint
from agents.core.config import AgentConfig, ConfigError
from agents.core.history import Record
from agents.core.logs import Sink
from agents.core.loop import DivergedError, StepRecord, total_steps, train_steps
from agents.core.run_folder import NullFolder
from agents.core.signals import StopRequest, stop_requests
from agents.core.state import Best, State, Window
from tasks.core.task import Task

_MAY_CHANGE = ("steps", "epochs", "save_every", "keep")  # when a run goes on in its folder


class Evaluation(NamedTuple):
    """Scores on the validation split, and a record to look at."""

    scores: dict[str, float]
    picture: Any


@attrs.frozen
class Learner:
    """What learning needs to know of an agent."""

    state: State
    task: Task
    config: AgentConfig
    device: torch.device
    identity: Mapping[str, Any]  # what the agent was made from, as plain values
    loss_of: Callable[[Any], Tensor]
    evaluate: Callable[[], Evaluation]

    @property
    def total(self) -> int:
        """The exact number of steps of the run."""
        return total_steps(self.config, self.task)

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or learning has stopped early."""
        return self.state.stopped_early or self.state.cursor.step >= self.total


class Learning:
    """Learns until the last step, or until it is asked to stop."""

    def __init__(self, learner: Learner, folder: NullFolder, sink: Sink) -> None:
        self.learner, self.folder, self.sink = learner, folder, sink
        self.state, self.config, self.total = learner.state, learner.config, learner.total
        self._since = time.perf_counter()

    def run(self) -> None:
        """Take all steps that are left."""
        self.folder.start(_config_text(self.learner.identity))
        self._status("running")
        self.sink.start(self.state.history, self.state.cursor.step, self.total)
        self._since = time.perf_counter()
        try:
            with stop_requests() as request:
                self._steps(request)
            self._end()
        except BaseException as error:
            self._status(_word_for(error), reason=str(error))
            raise
        finally:
            self.sink.close()

    def _steps(self, request: StopRequest) -> None:
        learner, state, config = self.learner, self.state, self.config
        steps = train_steps(
            state.model, learner.loss_of, learner.task, state.optimizer, state.cursor,
            learner.device, state.precision,
        )  # fmt: skip
        with (
            devices.threads(state.threads),
            devices.own_randomness(learner.device, config.seed, state.random),
        ):
            for record in steps:
                self._add(record)
                last = record.step == self.total
                if last or record.step % config.log_every == 0:
                    self._log(record)
                if last or record.step % config.eval_every == 0:
                    self._evaluate(record.step)
                stop = last or state.stopped_early or request.signum is not None
                if stop or record.step % config.save_every == 0:
                    self._save(record.step)
                if stop:
                    request.raise_if_asked()
                    return

    def _add(self, record: StepRecord) -> None:
        window = self.state.window
        window.loss += record.loss
        window.grad_norm += record.grad_norm
        window.steps += 1
        window.samples += record.samples

    def _log(self, record: StepRecord) -> None:
        window, now = self.state.window, time.perf_counter()
        self.state.seconds += now - self._since
        self._note(
            {
                "step": record.step,
                "train/loss": window.loss / window.steps,
                "train/grad_norm": window.grad_norm / window.steps,
                "train/lr": record.learning_rate,
                "time/samples_per_s": window.samples / (now - self._since),
                "time/seconds": self.state.seconds,
            }
        )
        self.state.window = Window()
        self._since = now

    def _note(self, record: Record, word: str = "") -> None:
        self.state.history.add(record)
        self.sink.record(record, word)

    def _evaluate(self, step: int) -> None:
        state, config, begun = self.state, self.config, time.perf_counter()
        found = self.learner.evaluate()
        score = found.scores[self.learner.task.monitor[0]]
        better = self._is_better(score)
        state.best = Best(score, step) if better else attrs.evolve(
            state.best, stale=state.best.stale + 1
        )  # fmt: skip
        scores = {f"eval/{name}": value for name, value in found.scores.items()}
        self._note({"step": step, **scores}, "best" if better else "")
        if better:
            self.folder.save_best(self._checkpoint)
        self.sink.picture(step, "answers", found.picture)
        if config.histograms_every and step % (config.eval_every * config.histograms_every) == 0:
            self.sink.histograms(step, _parameters_and_gradients(state.model))
        state.stopped_early = config.patience is not None and state.best.stale >= config.patience
        self._since += time.perf_counter() - begun  # evaluating is not learning

    def _is_better(self, score: float) -> bool:
        best = self.state.best.score
        if best is None:
            return True
        return score > best if self.learner.task.monitor[1] == "max" else score < best

    def _checkpoint(self) -> Checkpoint:
        self.state.random = devices.random_state(self.learner.device)
        return self.state.to_checkpoint(self.learner.identity)

    def _save(self, step: int) -> None:
        self.folder.save(step, self._checkpoint, self.config.keep)

    def _end(self) -> None:
        best, monitor = self.state.best, self.learner.task.monitor[0]
        scores = {} if best.score is None else {monitor: best.score}
        self.sink.finish(flat_settings(self.learner.identity), scores)
        why = "early: no better score" if self.state.stopped_early else "all steps taken"
        self._status("done", reason=why, best=attrs.asdict(best))

    def _status(self, word: str, **values: Any) -> None:
        self.folder.status(word, step=self.state.cursor.step, steps=self.total, **values)


def flat_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an agent and its task, those of the task as `task.<name>`."""
    of_task = {f"task.{name}": value for name, value in identity["task_settings"].items()}
    named = {"agent": identity["agent"], "task": identity["task"]}
    return {**named, **identity["config"], **of_task}


def _config_text(identity: Mapping[str, Any]) -> str:
    task = {"name": identity["task"], **identity["task_settings"]}
    values = {"agent": identity["agent"], "task": task, **identity["config"]}
    return yaml.safe_dump(values, sort_keys=False)


def _parameters_and_gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = {f"params/{name}": p.detach() for name, p in named.items()}
    return found | {f"grads/{n}": p.grad for n, p in named.items() if p.grad is not None}


def _word_for(error: BaseException) -> str:
    if isinstance(error, DivergedError):
        return "diverged"
    return "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"


def find_start(learner: Learner, folder: NullFolder, sink: Sink) -> Checkpoint | None:
    """Return the folder's checkpoint from which to go on, if it is further than the agent."""
    checkpoint = folder.newest_good(sink.say)
    if checkpoint is None or checkpoint.values["cursor"]["step"] < learner.state.cursor.step:
        return None
    _demand_same_settings(learner.identity, checkpoint, str(folder.path))
    return checkpoint


def _demand_same_settings(mine: Mapping[str, Any], checkpoint: Checkpoint, place: str) -> None:
    theirs = flat_settings(checkpoint.values)
    for name, value in flat_settings(mine).items():
        if theirs.get(name) != value and name not in _MAY_CHANGE:
            raise ConfigError(
                place,
                name,
                f"the run in this folder has {theirs.get(name)!r}, this one {value!r}",
                "the same settings, another --run-dir, or --resume never",
            )
