"""One call of `learn()`: it drives the loop, and logs, evaluates, saves and stops when due."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import torch
import yaml
from torch import Tensor

import tasks
from agents.core.config import AgentConfig, ConfigError, flat_settings
from agents.core.runs.checkpoint import CannotWriteError, Checkpoint, read_agent
from agents.core.runs.history import Record
from agents.core.runs.run_folder import Folder
from agents.core.runs.sinks import Finished, Pictured, Recorded, Sink, Spread, Started
from agents.core.runs.snapshots import Snapshots, moments
from agents.core.training import devices, parallel
from agents.core.training.loop import (
    DivergedError,
    Loss,
    Stepper,
    StepRecord,
    describe_divergence,
    total_steps,
    train_steps,
)
from agents.core.training.monitoring import LEARNED_BETWEEN, gradient_norms
from agents.core.training.signals import StopRequest, stop_requests
from agents.core.training.state import Best, State, Window
from tasks.core.paths import expand_user
from tasks.core.registry import look_up
from tasks.core.settings import mutable_settings, present_values
from tasks.core.task import Task, num_batches


class Evaluation(NamedTuple):
    """Scores on the validation split, a record to look at, and what else is worth recording."""

    scores: dict[str, float]
    picture: Any
    vitals: Record


@attrs.frozen
class Job:
    """What learning needs of an agent, and no more."""

    state: State
    task: Task
    config: AgentConfig
    device: torch.device
    identity: Mapping[str, Any]  # what the agent was made from, as plain values
    loss_of: Callable[[Any], Loss]
    evaluate: Callable[[bool], Evaluation]  # whether vitals are measured too
    snapshots: Snapshots  # where copies of the weights are kept, if the config asks for any
    parts_for: Callable[[int], int]  # into how many a batch is cut for so many threads
    weights_from: Callable[[Checkpoint], Mapping[str, Tensor]]  # of another run, as they fit here

    @property
    def total(self) -> int:
        """The exact number of steps of the run."""
        return total_steps(self.config, self.task)

    @property
    def num_parts(self) -> int:
        """Into how many parts a batch is cut, which are computed side by side."""
        return self.parts_for(self.state.threads)

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or learning has stopped early; and nothing was cut off."""
        enough = self.state.stopped_early or self.state.cursor.step >= self.total
        return enough and not self.state.cursor.within


class Learning:
    """Learns until the last step, or until it is asked to stop."""

    def __init__(self, job: Job, folder: Folder, sink: Sink) -> None:
        self.job, self.folder, self.sink = job, folder, sink
        self.state, self.config, self.total = job.state, job.config, job.total
        job.state.optimizer.config = job.config  # which `learn` may have given another total
        self._eval_every = self.config.eval_every or num_batches(job.task, job.config.batch_size)
        self._moments = moments(self.total, self.config.num_weight_snapshots or 0)
        self._since = time.perf_counter()

    def run(self) -> None:
        """Take all steps that are left, and end the run."""
        try:
            self._refuse_half_a_step()
            self.folder.start(_config_text(self.job.identity), self.sink.warn)
            self._status("running")
            self._warn()
            self.sink.take(Started(self.state.history, self.state.cursor.step, self.total))
            with stop_requests() as request:
                self._steps(request)
            self._end()
        except BaseException as error:
            with contextlib.suppress(CannotWriteError):  # the first error is the one to tell
                self._status(_word_for(error), reason=str(error))
            raise
        finally:
            self.sink.close()

    def _refuse_half_a_step(self) -> None:
        if self.state.cursor.within == "step":
            step = self.state.cursor.step + 1
            problem = f"was cut off inside step {step}, which may have half of its effect"
            accepted = "a checkpoint from before, or a new agent"
            raise ConfigError(self.job.identity["agent"], "", problem, accepted)

    def _warn(self) -> None:
        """Say what a person would not expect of what is about to be learned."""
        if self.config.optimizer == "muon" and not self.state.optimizer.num_matrices:
            self.sink.warn(
                "optimizer=muon: no weight of this model leads from hidden units to hidden units, "
                "so Adam moves all of them; optimizer=adam learns the same"
            )

    def _steps(self, request: StopRequest) -> None:
        job, state = self.job, self.state
        if job.is_done:
            return
        stepper = Stepper(
            state.model, job.loss_of, job.config, state.optimizer, job.device, state.precision,
            job.num_parts,
        )  # fmt: skip
        steps = train_steps(stepper, job.task, state.cursor)
        with (
            devices.threads(parallel.threads_each(state.threads, job.num_parts)),
            devices.own_randomness(job.device, job.config.seed, state.random),
            devices.float32(),
        ):
            job.snapshots.make_room(self._moments, state.cursor.step)
            self._keep_weights()
            self._since = time.perf_counter()
            try:
                if state.cursor.within:  # what an earlier call of `learn` could not end
                    self._conclude(request)
                while not job.is_done:
                    self._take(next(steps), request)
            finally:
                self._bring_up_to_date()

    def _take(self, record: StepRecord, request: StopRequest) -> None:
        """Do what is due after a step."""
        cursor, window = self.state.cursor, self.state.window
        window.loss += record.loss
        window.highest_loss = max(window.highest_loss, record.loss)
        window.grad_norm += record.grad_norm
        window.steps += 1
        window.samples += record.samples
        for name, value in record.parts.items():
            window.parts[name] = window.parts.get(name, 0.0) + value
        self._climb(record)
        evaluates = record.step == self.total or record.step % self._eval_every == 0
        if evaluates or record.step % self.config.log_every == 0:
            self._log(record)
        cursor.within = "evaluation" if evaluates else "saving"
        self._conclude(request)

    def _conclude(self, request: StopRequest) -> None:
        """Evaluate, keep and save as is due after the step that was taken and noted."""
        state, config, step = self.state, self.config, self.state.cursor.step
        if state.cursor.within == "evaluation":
            self._evaluate()
        self._keep_weights()
        stop = step == self.total or state.stopped_early or request.signum is not None
        if stop or step % config.save_every == 0:
            self.folder.save(step, self._checkpoint, config.keep_checkpoints)
        state.cursor.within = ""
        request.raise_if_asked()

    def _keep_weights(self) -> None:
        """Keep a copy of the weights for the views of learning, when one is due."""
        step = self.state.cursor.step
        if step in self._moments or (self._moments and self.state.stopped_early):
            self.job.snapshots.keep(step, self.state.model)

    def _climb(self, record: StepRecord) -> None:
        """Go on to the task's next stage when the last steps' loss is low enough."""
        cursor, config = self.state.cursor, self.config
        if config.curriculum_loss_threshold is None or cursor.stage + 1 >= self.job.task.num_stages:
            return
        if self.state.climb.rises(record.loss, config):
            cursor.stage += 1
            self._note({"step": record.step, "train/stage": cursor.stage})

    def _log(self, record: StepRecord) -> None:
        self._bring_up_to_date()
        window, state = self.state.window, self.state
        state.seconds += window.seconds
        state.window = Window()
        noted = {
            "step": record.step,
            "train/loss": window.loss / window.steps,
            **{f"train/loss/{name}": total / window.steps for name, total in window.parts.items()},
            "train/grad_norm": window.grad_norm / window.steps,
            "train/lr": record.learning_rate,
            "time/samples_per_s": window.samples / window.seconds,
            "time/seconds": state.seconds,
        }
        if self.config.record_diagnostics:
            before_clipping = max(1.0, record.grad_norm / (self.config.clip_norm or math.inf))
            noted["train/highest_loss"] = window.highest_loss
            noted |= gradient_norms(state.model, before_clipping)
        self._note(noted)

    def _note(self, record: Record) -> None:
        self.state.history.add(record)
        self.sink.take(Recorded(record))

    def _evaluate(self) -> None:
        self._bring_up_to_date()
        state, config, step = self.state, self.config, self.state.cursor.step
        measures = config.record_diagnostics and self._is_measuring_due(step)
        found = self.job.evaluate(measures)
        state.measured = step if measures else state.measured
        self._since = time.perf_counter()  # evaluating is not learning
        if not all(math.isfinite(value) for value in found.scores.values()):
            raise DivergedError(describe_divergence(state.model, step, f"scores {found.scores}"))
        score = found.scores[self.job.task.monitor[0]]
        better = self._is_better(score, found.scores["loss"])
        if better:
            state.best = Best(score, found.scores["loss"], step)
        else:
            state.best.stale += 1
        scores = {f"eval/{name}": value for name, value in found.scores.items()}
        noted = {"step": step, **scores, **found.vitals}
        state.history.add(noted)
        state.cursor.within = "saving"
        if better:
            self.folder.save_best(self._checkpoint)
        out_of_patience = config.patience is not None and state.best.stale >= config.patience
        state.stopped_early = out_of_patience or self._is_enough(score)
        self.sink.take(Recorded(noted, "best" if better else ""))
        self.sink.take(Pictured(step, "answers", found.picture))
        if config.histograms_every and step % (self._eval_every * config.histograms_every) == 0:
            self.sink.take(Spread(step, _parameters_and_gradients(state.model)))
        self._since = time.perf_counter()  # evaluating is not learning

    def _is_measuring_due(self, step: int) -> bool:
        """Tell whether so much was learned since the last time that measuring costs little."""
        since = (step - self.state.measured) * self.config.batch_size
        return not self.state.measured or since >= LEARNED_BETWEEN or step == self.total

    def _is_better(self, score: float, loss: float) -> bool:
        best = self.state.best
        if best.score is None:
            return True
        sign = 1 if self.job.task.monitor[1] == "max" else -1
        return (sign * score, -loss) > (sign * best.score, -best.loss)

    def _is_enough(self, score: float | None) -> bool:
        enough, sign = self.config.target_score, 1 if self.job.task.monitor[1] == "max" else -1
        return enough is not None and score is not None and sign * score >= sign * enough

    def _bring_up_to_date(self) -> None:
        """Move into the state what is kept elsewhere: the generators, and the time since last."""
        self.state.random = devices.random_state(self.job.device)
        now = time.perf_counter()
        self.state.window.seconds += now - self._since
        self._since = now

    def _checkpoint(self) -> Checkpoint:
        self._bring_up_to_date()
        return self.state.to_checkpoint(self.job.identity)

    def _end(self) -> None:
        best, monitor = self.state.best, self.job.task.monitor[0]
        scores = {} if best.score is None else {monitor: best.score}
        self.sink.take(Finished(flat_settings(self.job.identity), scores))
        early = "enough" if self._is_enough(best.score) else "no better score"
        why = f"early: {early}" if self.state.stopped_early else "all steps taken"
        self._status("done", reason=why, best=attrs.asdict(best))

    def _status(self, word: str, **values: Any) -> None:
        self.folder.status(word, step=self.state.cursor.step, steps=self.total, **values)


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


def take_up(job: Job, folder: Folder, place: str, sink: Sink) -> None:
    """Restore the folder's newest checkpoint, if it is further than the agent.

    An agent that was cut off, by a second SIGINT or an error, goes back to it as a new one would. A
    run that stopped early goes on if its total is now a higher one.
    """
    checkpoint = folder.newest_good(sink.warn)
    if checkpoint is None:
        if job.config.init_from is not None and job.state.cursor.step == 0:
            initialise(expand_user(job.config.init_from), job.state, sink, job.weights_from)
        return
    _demand_same_settings(job, checkpoint, place)
    if job.state.cursor.within or checkpoint.values["cursor"]["step"] >= job.state.cursor.step:
        job.state.restore(checkpoint)
        steps, epochs = (checkpoint.values["config"][name] for name in ("steps", "epochs"))
        before = attrs.evolve(job.config, steps=steps, epochs=epochs)
        if job.total > total_steps(before, job.task):
            job.state.go_on()


def _demand_same_settings(job: Job, checkpoint: Checkpoint, place: str) -> None:
    values, may_change = checkpoint.values, mutable_settings(type(job.config))
    today: dict[str, Any] = {}
    if look_up(values["task"], tasks.TASKS):  # perhaps by a name that it had before
        settings = present_values(tasks.task_class(values["task"]), values["task_settings"])
        task = tasks.make(values["task"], **settings)
        today = {"task": task.name, "task_settings": tasks.settings_of(task)}
    config = present_values(type(job.config), values["config"])
    theirs = flat_settings({**values, **today, "config": config})
    for name, value in flat_settings(job.identity).items():
        # A setting that is younger than the run had no say in it.
        if theirs.get(name, value) != value and name not in may_change:
            raise ConfigError(
                place,
                name,
                f"the run in this folder has {theirs.get(name)!r}, this one {value!r}",
                "the same settings, another --run-dir, or --resume never",
            )


def start_from(path: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Restore a checkpoint of the same agent and task; its best score is not this run's."""
    checkpoint = read_agent(path)
    for kind in ("agent", "task"):
        if checkpoint.values[kind] != identity[kind]:
            problem = f"is of the {kind} {checkpoint.values[kind]!r}, and not {identity[kind]!r}"
            raise ConfigError(str(path), "", problem, f"a checkpoint of {identity[kind]!r}")
    state.restore(checkpoint)
    state.best, state.stopped_early = Best(), False
    state.carried = {}  # by other data, or another batch size, perhaps


def initialise(
    path: Path, state: State, sink: Sink, weights_from: Callable[[Checkpoint], Mapping[str, Tensor]]
) -> None:
    """Fine-tuning: begin with the weights of a run, wherever name and shape are the same.

    What else there is, such as a head for other labels, stays as it was drawn, which a warning
    says. Optimiser, history and random state are this run's own.

    Raises:
        CheckpointError: the file is missing, cut off or damaged.
        ConfigError: none of its weights fits.
    """
    theirs = weights_from(read_agent(path))
    own = state.model.state_dict()
    fitting = {n: t for n, t in theirs.items() if n in own and t.shape == own[n].shape}
    if not fitting:
        accepted = f"a checkpoint with some of {', '.join(list(own)[:3])}, …"
        raise ConfigError("init_from", "", f"no weight of {path} fits this model", accepted)
    state.model.load_state_dict({**own, **fitting})
    others = [name for name in own if name not in fitting]
    if others:
        sink.warn(f"init_from: {', '.join(others)} begin as drawn: {path} has none of that shape")


def settle_precision(job: Job, sink: Sink) -> None:
    """Refuse bf16 where the device only emulates it; a run that has begun goes on in fp32."""
    state, device = job.state, job.device
    if state.precision != "bf16" or devices.computes_bf16(device):
        return
    problem = f"'bf16' is not computed natively by this {device.type}"
    if state.cursor.step == 0:
        raise ConfigError("precision", "", problem, "fp32 or auto")
    sink.warn(f"precision: {problem}; the run began in it and goes on in fp32")
    state.precision = "fp32"
