"""Trainer: runs the training loop; logs, evaluates, saves and stops when due."""

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
from agents.core.runs.sinks import Figure, Finished, Histograms, Scalars, Sink, Started
from agents.core.runs.snapshots import Snapshots, snapshot_steps
from agents.core.training import devices, parallel
from agents.core.training.loop import (
    DivergedError,
    Loss,
    StepRecord,
    TrainStep,
    describe_divergence,
    total_steps,
    train_steps,
)
from agents.core.training.monitoring import SAMPLES_BETWEEN_DIAGNOSTICS, gradient_norms
from agents.core.training.signals import StopRequest, stop_requests
from agents.core.training.state import Best, RunningSums, State
from tasks.core.paths import expand_user
from tasks.core.registry import look_up
from tasks.core.settings import mutable_settings, present_values
from tasks.core.task import Task, num_batches


class Evaluation(NamedTuple):
    """Scores on the validation split, a table of answers, and training diagnostics."""

    scores: dict[str, float]
    answers: Any
    diagnostics: Record


@attrs.frozen
class TrainingContext:
    """What the trainer needs of an agent."""

    state: State
    task: Task
    config: AgentConfig
    device: torch.device
    identity: Mapping[str, Any]  # what the agent was made from, as plain values
    loss_fn: Callable[[Any], Loss]
    evaluate: Callable[[bool], Evaluation]  # whether with training diagnostics
    snapshots: Snapshots  # where copies of the weights are kept, if the config asks for any
    parts_for: Callable[[int], int]  # parts of a batch for a number of threads

    @property
    def total(self) -> int:
        """The exact number of steps of the run."""
        return total_steps(self.config, self.task)

    @property
    def num_parts(self) -> int:
        """Number of parts of a batch that are computed in parallel."""
        return self.parts_for(self.state.threads)

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or training has stopped early, with no phase unfinished."""
        enough = self.state.stopped_early or self.state.cursor.step >= self.total
        return enough and not self.state.cursor.unfinished


class Trainer:
    """Trains an agent until the last step, early stopping, or a signal."""

    def __init__(self, context: TrainingContext, folder: Folder, sink: Sink) -> None:
        self.context, self.folder, self.sink = context, folder, sink
        self.state, self.config, self.total = context.state, context.config, context.total
        context.state.optimizer.config = (
            context.config
        )  # which `learn` may have given another total
        self._eval_every = self.config.eval_every or num_batches(
            context.task, context.config.batch_size
        )
        self._snapshot_steps = snapshot_steps(self.total, self.config.num_weight_snapshots or 0)
        self._clock_start = time.perf_counter()

    def run(self) -> None:
        """Take the remaining steps, and finish the run."""
        try:
            self._check_no_half_step()
            self.folder.start(_config_text(self.context.identity), self.sink.warn)
            self._write_status("running")
            self._warn_of_settings()
            self.sink.handle(Started(self.state.history, self.state.cursor.step, self.total))
            with stop_requests() as request:
                self._train(request)
            self._finish()
        except BaseException as error:
            with contextlib.suppress(CannotWriteError):  # report the first error
                self._write_status(_status_of(error), reason=str(error))
            raise
        finally:
            self.sink.close()

    def _check_no_half_step(self) -> None:
        if self.state.cursor.unfinished == "step":
            step = self.state.cursor.step + 1
            problem = f"was interrupted inside step {step}, which may have half of its effect"
            accepted = "a checkpoint from before, or a new agent"
            raise ConfigError(self.context.identity["agent"], "", problem, accepted)

    def _warn_of_settings(self) -> None:
        """Warn of settings that have no effect."""
        if self.config.optimizer == "muon" and not self.state.optimizer.num_matrices:
            self.sink.warn(
                "optimizer=muon: this model has no hidden-to-hidden matrices, so Adam optimises "
                "all weights; optimizer=adam gives the same result"
            )

    def _train(self, request: StopRequest) -> None:
        context, state = self.context, self.state
        if context.is_done:
            return
        train_step = TrainStep(
            state.model, context.loss_fn, context.config, state.optimizer, context.device,
            state.precision,
            context.num_parts,
        )  # fmt: skip
        steps = train_steps(train_step, context.task, state.cursor)
        with (
            devices.threads(parallel.threads_each(state.threads, context.num_parts)),
            devices.seeded_rng(context.device, context.config.seed, state.rng_state),
            devices.float32(),
        ):
            context.snapshots.prune(self._snapshot_steps, state.cursor.step)
            self._save_snapshot()
            self._clock_start = time.perf_counter()
            try:
                if state.cursor.unfinished:  # of an earlier call of `learn`
                    self._finish_step(request)
                while not context.is_done:
                    self._after_step(next(steps), request)
            finally:
                self._sync_state()

    def _after_step(self, record: StepRecord, request: StopRequest) -> None:
        """Log, evaluate and save as is due after a step."""
        cursor, sums = self.state.cursor, self.state.sums
        sums.loss += record.loss
        sums.highest_loss = max(sums.highest_loss, record.loss)
        sums.grad_norm += record.grad_norm
        sums.steps += 1
        sums.samples += record.samples
        for name, value in record.parts.items():
            sums.parts[name] = sums.parts.get(name, 0.0) + value
        self._advance_curriculum(record)
        evaluates = record.step == self.total or record.step % self._eval_every == 0
        if evaluates or record.step % self.config.log_every == 0:
            self._log(record)
        cursor.unfinished = "evaluation" if evaluates else "saving"
        self._finish_step(request)

    def _finish_step(self, request: StopRequest) -> None:
        """Evaluate and save as is due after a step that has been recorded."""
        state, config, step = self.state, self.config, self.state.cursor.step
        if state.cursor.unfinished == "evaluation":
            self._evaluate()
        self._save_snapshot()
        stop = step == self.total or state.stopped_early or request.signum is not None
        if stop or step % config.save_every == 0:
            self.folder.save(step, self._checkpoint, config.keep_checkpoints)
        state.cursor.unfinished = ""
        request.raise_if_requested()

    def _save_snapshot(self) -> None:
        """Save a weight snapshot if one is due."""
        step = self.state.cursor.step
        if step in self._snapshot_steps or (self._snapshot_steps and self.state.stopped_early):
            self.context.snapshots.save(step, self.state.model)

    def _advance_curriculum(self, record: StepRecord) -> None:
        """Advance the curriculum if the mean loss is low enough."""
        cursor, config = self.state.cursor, self.config
        if (
            config.curriculum_loss_threshold is None
            or cursor.stage + 1 >= self.context.task.num_stages
        ):
            return
        if self.state.curriculum.should_advance(record.loss, config):
            cursor.stage += 1
            self._record({"step": record.step, "train/stage": cursor.stage})

    def _log(self, record: StepRecord) -> None:
        self._sync_state()
        sums, state = self.state.sums, self.state
        state.seconds += sums.seconds
        state.sums = RunningSums()
        metrics = {
            "step": record.step,
            "train/loss": sums.loss / sums.steps,
            **{f"train/loss/{name}": total / sums.steps for name, total in sums.parts.items()},
            "train/grad_norm": sums.grad_norm / sums.steps,
            "train/lr": record.learning_rate,
            "time/samples_per_s": sums.samples / sums.seconds,
            "time/seconds": state.seconds,
        }
        if self.config.record_diagnostics:
            before_clipping = max(1.0, record.grad_norm / (self.config.clip_norm or math.inf))
            metrics["train/highest_loss"] = sums.highest_loss
            metrics |= gradient_norms(state.model, before_clipping)
        self._record(metrics)

    def _record(self, metrics: Record) -> None:
        self.state.history.add(metrics)
        self.sink.handle(Scalars(metrics))

    def _evaluate(self) -> None:
        self._sync_state()
        state, config, step = self.state, self.config, self.state.cursor.step
        with_diagnostics = config.record_diagnostics and self._are_diagnostics_due(step)
        evaluation = self.context.evaluate(with_diagnostics)
        state.diagnostics_step = step if with_diagnostics else state.diagnostics_step
        self._clock_start = time.perf_counter()  # evaluation is not counted
        if not all(math.isfinite(value) for value in evaluation.scores.values()):
            raise DivergedError(
                describe_divergence(state.model, step, f"scores {evaluation.scores}")
            )
        score = evaluation.scores[self.context.task.monitor[0]]
        better = self._is_better(score, evaluation.scores["loss"])
        if better:
            state.best = Best(score, evaluation.scores["loss"], step)
        else:
            state.best.evals_since_best += 1
        scores = {f"eval/{name}": value for name, value in evaluation.scores.items()}
        metrics = {"step": step, **scores, **evaluation.diagnostics}
        state.history.add(metrics)
        state.cursor.unfinished = "saving"
        if better:
            self.folder.save_best(self._checkpoint)
        out_of_patience = (
            config.patience is not None and state.best.evals_since_best >= config.patience
        )
        state.stopped_early = out_of_patience or self._reaches_target(score)
        self.sink.handle(Scalars(metrics, "best" if better else ""))
        self.sink.handle(Figure(step, "answers", evaluation.answers))
        if config.histograms_every and step % (self._eval_every * config.histograms_every) == 0:
            self.sink.handle(Histograms(step, _parameters_and_gradients(state.model)))
        self._clock_start = time.perf_counter()  # evaluation is not counted

    def _are_diagnostics_due(self, step: int) -> bool:
        """Tell whether enough was trained since the last diagnostics that they cost little."""
        num_samples = (step - self.state.diagnostics_step) * self.config.batch_size
        return (
            not self.state.diagnostics_step
            or num_samples >= SAMPLES_BETWEEN_DIAGNOSTICS
            or step == self.total
        )

    def _is_better(self, score: float, loss: float) -> bool:
        best = self.state.best
        if best.score is None:
            return True
        sign = 1 if self.context.task.monitor[1] == "max" else -1
        return (sign * score, -loss) > (sign * best.score, -best.loss)

    def _reaches_target(self, score: float | None) -> bool:
        target, sign = self.config.target_score, 1 if self.context.task.monitor[1] == "max" else -1
        return target is not None and score is not None and sign * score >= sign * target

    def _sync_state(self) -> None:
        """Update the state of the random number generators, and the time since the last update."""
        self.state.rng_state = devices.get_rng_state(self.context.device)
        now = time.perf_counter()
        self.state.sums.seconds += now - self._clock_start
        self._clock_start = now

    def _checkpoint(self) -> Checkpoint:
        self._sync_state()
        return self.state.to_checkpoint(self.context.identity)

    def _finish(self) -> None:
        best, monitor = self.state.best, self.context.task.monitor[0]
        scores = {} if best.score is None else {monitor: best.score}
        self.sink.handle(Finished(flat_settings(self.context.identity), scores))
        reason = "enough" if self._reaches_target(best.score) else "no better score"
        reason = f"early: {reason}" if self.state.stopped_early else "all steps taken"
        self._write_status("done", reason=reason, best=attrs.asdict(best))

    def _write_status(self, status: str, **values: Any) -> None:
        self.folder.write_status(status, step=self.state.cursor.step, steps=self.total, **values)


def _config_text(identity: Mapping[str, Any]) -> str:
    task = {"name": identity["task"], **identity["task_settings"]}
    values = {"agent": identity["agent"], "task": task, **identity["config"]}
    return yaml.safe_dump(values, sort_keys=False)


def _parameters_and_gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    tensors = {f"params/{name}": p.detach() for name, p in named.items()}
    return tensors | {f"grads/{n}": p.grad for n, p in named.items() if p.grad is not None}


def _status_of(error: BaseException) -> str:
    if isinstance(error, DivergedError):
        return "diverged"
    return "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"


def resume_from_folder(context: TrainingContext, folder: Folder, place: str, sink: Sink) -> None:
    """Resume: restore the folder's latest checkpoint, if it has more steps than the agent.

    An agent that was interrupted inside a step, by a second SIGINT or an error, is restored too. A
    run that stopped early continues if its total is now larger.
    """
    checkpoint = folder.latest_valid_checkpoint(sink.warn)
    if checkpoint is None:
        if context.config.init_from is not None and context.state.cursor.step == 0:
            load_initial_weights(expand_user(context.config.init_from), context.state, sink)
        return
    _check_same_settings(context, checkpoint, place)
    if (
        context.state.cursor.unfinished
        or checkpoint.values["cursor"]["step"] >= context.state.cursor.step
    ):
        context.state.restore(checkpoint)
        steps, epochs = (checkpoint.values["config"][name] for name in ("steps", "epochs"))
        earlier_config = attrs.evolve(context.config, steps=steps, epochs=epochs)
        if context.total > total_steps(earlier_config, context.task):
            context.state.reset_early_stopping()


def _check_same_settings(context: TrainingContext, checkpoint: Checkpoint, place: str) -> None:
    values, mutable = checkpoint.values, mutable_settings(type(context.config))
    present: dict[str, Any] = {}
    if look_up(values["task"], tasks.TASKS):  # perhaps by an earlier name
        settings = present_values(tasks.task_class(values["task"]), values["task_settings"])
        task = tasks.make(values["task"], **settings)
        present = {"task": task.name, "task_settings": tasks.settings_of(task)}
    config = present_values(type(context.config), values["config"])
    run_settings = flat_settings({**values, **present, "config": config})
    for name, value in flat_settings(context.identity).items():
        # A setting that did not exist when the run started had no effect on it.
        if run_settings.get(name, value) != value and name not in mutable:
            raise ConfigError(
                place,
                name,
                f"the run in this folder has {run_settings.get(name)!r}, this one {value!r}",
                "the same settings, another --run-dir, or --resume never",
            )


def start_from(path: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Start from a checkpoint of the same agent and task, without its best score."""
    checkpoint = read_agent(path)
    for kind in ("agent", "task"):
        if checkpoint.values[kind] != identity[kind]:
            problem = f"is of the {kind} {checkpoint.values[kind]!r}, and not {identity[kind]!r}"
            raise ConfigError(str(path), "", problem, f"a checkpoint of {identity[kind]!r}")
    state.restore(checkpoint)
    state.best, state.stopped_early = Best(), False
    state.hidden_state = {}  # of other data, perhaps


def load_initial_weights(path: Path, state: State, sink: Sink) -> None:
    """Fine-tuning: load the weights of a run wherever name and shape are the same.

    Other weights, such as a head for other labels, keep their random initialisation, with a
    warning. Optimiser, history and random state are this run's own.

    Raises:
        CheckpointError: the file is missing, cut off or damaged.
        ConfigError: none of its weights fits.
    """
    saved = {
        name.removeprefix("model/"): tensor
        for name, tensor in read_agent(path).tensors.items()
        if name.startswith("model/")
    }
    own = state.model.state_dict()
    fitting = {n: t for n, t in saved.items() if n in own and t.shape == own[n].shape}
    if not fitting:
        accepted = f"a checkpoint with some of {', '.join(list(own)[:3])}, …"
        raise ConfigError("init_from", "", f"no weight of {path} fits this model", accepted)
    state.model.load_state_dict({**own, **fitting})
    others = [name for name in own if name not in fitting]
    if others:
        sink.warn(
            f"init_from: {', '.join(others)} are initialised at random: {path} has no such shape"
        )


def use_native_precision(context: TrainingContext, sink: Sink) -> None:
    """Refuse bf16 where the device emulates it; a run that started in it continues in fp32."""
    state, device = context.state, context.device
    if state.precision != "bf16" or devices.computes_bf16(device):
        return
    problem = f"'bf16' is not computed natively by this {device.type}"
    if state.cursor.step == 0:
        raise ConfigError("precision", "", problem, "fp32 or auto")
    sink.warn(f"precision: {problem}; the run started in it and continues in fp32")
    state.precision = "fp32"
