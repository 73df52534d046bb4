"""Trainer: runs the training loop; logs, evaluates, saves and stops when due."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import torch
import yaml
from torch import Tensor

from agents.core.config import ConfigError, TerrariumError, flat_settings
from agents.core.runs.checkpoint import CannotWriteError, Checkpoint
from agents.core.runs.history import Record
from agents.core.runs.run_folder import Folder
from agents.core.runs.sinks import Figure, Finished, Histograms, Scalars, Sink, Started
from agents.core.runs.snapshots import snapshot_steps
from agents.core.training import devices, parallel
from agents.core.training.evaluation import mean_loss_of_shares, predict_shares
from agents.core.training.loop import (
    TrainStep,
    parts_of_process,
    total_steps,
    train_steps,
    training_environment,
)
from agents.core.training.monitoring import (
    SAMPLES_BETWEEN_DIAGNOSTICS,
    gradient_norms,
    training_diagnostics,
)
from agents.core.training.processes import SINGLE, Group, rank_key
from agents.core.training.resume import (
    is_done,
    resume_from_folder,
    share_state,
    use_native_precision,
)
from agents.core.training.signals import StopRequest, stop_requests
from agents.core.training.state import Best, RunningSums
from agents.core.training.step_record import (
    DivergedError,
    StepRecord,
    UnreadSteps,
    describe_divergence,
)
from tasks.core.batch import take
from tasks.core.task import num_batches
from visualization.records import AnswerTable

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol


Prune = Callable[[int, float], bool]  # of step and validation score: whether the run ends


class PrunedError(TerrariumError):
    """A sweep ended a run whose scores were not promising; it is saved."""


class Evaluation(NamedTuple):
    """Scores on the validation split, a table of answers, and training diagnostics."""

    scores: dict[str, float]
    answers: AnswerTable
    diagnostics: Record


def train(
    agent: "AgentProtocol", folder: Folder, start: Checkpoint | None, place: str, sink: Sink,
    group: Group = SINGLE, prune: Prune | None = None,
) -> None:  # fmt: skip
    """Train an agent in a folder, from its latest checkpoint, or from `start`."""

    def restore() -> bool:
        if start is None:
            resume_from_folder(agent, folder, place, sink)
        else:  # so that there is a best checkpoint even if no steps are left
            folder.save_best(lambda: start)
        return start is None and folder.is_done()

    was_done = group.broadcast(group.on_main(restore))
    share_state(agent, group)
    step = agent.state.cursor.step
    use_native_precision(agent, sink)
    if is_done(agent) and was_done:
        sink.info(f"this run is done: {step} steps taken")
        return
    if step:
        sink.info(f"continuing from step {step}")
    Trainer(agent, folder, sink, group, prune).run()


class Trainer:
    """Trains an agent until the last step, early stopping, or a signal.

    Ranks of a group do all of it in the same order; folder and sink of all but rank 0 are null.
    """

    def __init__(
        self, agent: "AgentProtocol", folder: Folder, sink: Sink, group: Group = SINGLE,
        prune: Prune | None = None,
    ) -> None:  # fmt: skip
        self.agent, self.folder, self.sink, self.group = agent, folder, sink, group
        self._prune = prune or (lambda step, score: False)
        self.task, self.state, self.config = agent.task, agent.state, agent.config
        self.total, self.identity = total_steps(agent.config, agent.task), agent.identity()
        self.state.optimizer.config = self.config  # in which `learn` may have changed the total
        self._eval_every = self.config.eval_every or num_batches(self.task, self.config.batch_size)
        num_snapshots = self.config.num_weight_snapshots if group.is_main else 0
        self._snapshot_steps = snapshot_steps(self.total, num_snapshots or 0)
        self._unread = UnreadSteps.of(agent, group)
        self._clock_start = time.perf_counter()

    def run(self) -> None:
        """Take the remaining steps, and finish the run."""
        try:
            self._check_no_half_step()
            self.folder.start(_config_text(self.identity), self.sink.warn)
            self._write_status("running")
            self._warn_of_settings()
            self.sink.handle(Started(self.state.history, self.state.cursor.step, self.total))
            with stop_requests(self.group.size > 1) as request:
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
            raise ConfigError(self.identity["agent"], "", problem, accepted)

    def _warn_of_settings(self) -> None:
        """Warn of settings that have no effect."""
        if self.config.optimizer == "muon" and not self.state.optimizer.num_matrices:
            self.sink.warn(
                "optimizer=muon: this model has no hidden-to-hidden matrices, so Adam optimises "
                "all weights; optimizer=adam gives the same result"
            )

    def _train(self, request: StopRequest) -> None:
        state = self.state
        if is_done(self.agent):
            return
        with (
            training_environment(self.agent, self.group),
            parallel.distribute(self.agent, self.group) as network,
        ):
            parts = parts_of_process(self.agent, self.group)
            self._unread = unread = UnreadSteps.of(self.agent, self.group)
            train_step = TrainStep(
                self.agent, parts, self.group, network, request, unread.found_inf
            )
            steps = train_steps(self.agent, self.task, state.cursor, train_step)
            self.agent.snapshots.prune(self._snapshot_steps, state.cursor.step)
            self._save_snapshot()
            self._clock_start = time.perf_counter()
            try:
                if state.cursor.unfinished:  # of an earlier call of `learn`
                    self._finish_step(request)
                while not is_done(self.agent):
                    self._after_step(next(steps), request)
            except BaseException:
                with contextlib.suppress(DivergedError):  # the first error is reported
                    self._sync_state()
                raise
            else:
                self._sync_state()
            finally:
                steps.close()

    def _after_step(self, record: StepRecord, request: StopRequest) -> None:
        """Log, evaluate and save as is due after a step."""
        cursor = self.state.cursor
        self._unread.add(record, cursor)
        if self._unread.is_full:
            self._read_records()
        evaluates = record.step == self.total or record.step % self._eval_every == 0
        if evaluates or record.step % self.config.log_every == 0:
            self._log(record)
        cursor.unfinished = "evaluation" if evaluates else "saving"
        self._finish_step(request)

    def _read_records(self) -> None:
        """Read what the last steps left on the device, and add it up."""
        for record in self._unread.read(self.state):
            self.state.sums.add(record)
            self._advance_curriculum(record)

    def _finish_step(self, request: StopRequest) -> None:
        """Evaluate and save as is due after a step that has been recorded."""
        state, config, step = self.state, self.config, self.state.cursor.step
        is_pruned = False
        if state.cursor.unfinished == "evaluation":
            self._evaluate()
            is_pruned = not self._is_last and self._prune(step, self._latest_score())
        self._save_snapshot()
        stop = self._is_last or is_pruned or request.signum is not None
        if stop or step % config.save_every == 0:
            self._gather_rng_states()
            self.folder.save(step, self._checkpoint, config.keep_checkpoints)
        state.cursor.unfinished = ""
        request.raise_if_requested()
        if is_pruned:
            raise PrunedError(f"pruned at step {step}; `learn` or --mode train continues the run")

    @property
    def _is_last(self) -> bool:
        return self.state.cursor.step == self.total or self.state.stopped_early

    def _latest_score(self) -> float:
        score = self.state.history.last(f"eval/{self.task.monitor[0]}")
        assert score is not None
        return score

    def _save_snapshot(self) -> None:
        """Save a weight snapshot if one is due."""
        step = self.state.cursor.step
        if step in self._snapshot_steps or (self._snapshot_steps and self.state.stopped_early):
            self._read_records()  # it raises if this step was not taken
            self.folder.check()
            self.agent.snapshots.save(step, self.state.model)

    def _advance_curriculum(self, record: StepRecord) -> None:
        """Advance the curriculum if the mean loss is low enough."""
        cursor, config = self.state.cursor, self.config
        if config.curriculum_loss_threshold is None or cursor.stage + 1 >= self.task.num_stages:
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
        evaluation = _evaluate_agent(self.agent, with_diagnostics, self.group)
        state.diagnostics_step = step if with_diagnostics else state.diagnostics_step
        self._clock_start = time.perf_counter()  # evaluation is not counted
        if not all(math.isfinite(value) for value in evaluation.scores.values()):
            raise DivergedError(
                describe_divergence(state.model, step, f"scores {evaluation.scores}")
            )
        score = evaluation.scores[self.task.monitor[0]]
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
            self._gather_rng_states()
            self.folder.save_best(self._checkpoint)
        out_of_patience = (
            config.patience is not None and state.best.evals_since_best >= config.patience
        )
        is_learned = self._reaches_target(score) or self._reaches_target_loss()
        state.stopped_early = out_of_patience or is_learned
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
        sign = 1 if self.task.monitor[1] == "max" else -1
        return (sign * score, -loss) > (sign * best.score, -best.loss)

    def _reaches_target(self, score: float | None) -> bool:
        target, sign = self.config.target_score, 1 if self.task.monitor[1] == "max" else -1
        return target is not None and score is not None and sign * score >= sign * target

    def _reaches_target_loss(self) -> bool:
        loss, target = self.state.history.last("train/loss"), self.config.target_loss
        return target is not None and loss is not None and loss <= target

    def _sync_state(self) -> None:
        """Update sums of steps, state of the random number generators, and the time spent."""
        self._read_records()
        own, rank = devices.get_rng_state(self.agent.device), self.group.rank
        if self.group.size > 1:  # the others' are as of the last checkpoint
            own = {**self.state.rng_state, **{rank_key(kind, rank): s for kind, s in own.items()}}
        self.state.rng_state = own
        now = time.perf_counter()
        self.state.sums.seconds += now - self._clock_start
        self._clock_start = now

    def _gather_rng_states(self) -> None:
        """Gather the states of the generators of all ranks, for a checkpoint."""
        if self.group.size == 1:
            return
        own = devices.get_rng_state(self.agent.device)
        states = self.group.gather({kind: state.numpy() for kind, state in own.items()})
        self.state.rng_state = {
            rank_key(kind, rank): torch.as_tensor(state)
            for rank, kinds in enumerate(states)
            for kind, state in kinds.items()
        }

    def _checkpoint(self) -> Checkpoint:
        self._sync_state()
        return self.state.to_checkpoint(self.identity)

    def _finish(self) -> None:
        self.folder.remove_old(self.config.keep_checkpoints)  # if a kill came before it in `save`
        best, monitor = self.state.best, self.task.monitor[0]
        scores = {} if best.score is None else {monitor: best.score}
        self.sink.handle(Finished(flat_settings(self.identity), scores))
        is_learned = self._reaches_target(best.score) or self._reaches_target_loss()
        reason = "enough" if is_learned else "no better score"
        reason = f"early: {reason}" if self.state.stopped_early else "all steps taken"
        self._write_status("done", reason=reason, best=attrs.asdict(best))

    def _write_status(self, status: str, **values: Any) -> None:
        self.folder.write_status(status, step=self.state.cursor.step, steps=self.total, **values)


def _evaluate_agent(agent: "AgentProtocol", with_diagnostics: bool, group: Group) -> Evaluation:
    """Evaluate an agent on the validation split: each rank a share, rank 0 scores all answers."""
    batch = agent.task.samples("validation", agent.config.eval_samples)
    parallel.share_buffers(agent.model, group)
    answers = predict_shares(agent, batch, group)
    loss = mean_loss_of_shares(agent, batch, group)

    def measure() -> tuple[dict[str, float], dict[str, float]]:
        scores = {"loss": loss, **agent.task.score(answers, batch)}
        return scores, training_diagnostics(agent, batch) if with_diagnostics else {}

    scores, diagnostics = group.broadcast(group.on_main(measure))
    table = AnswerTable("worked answers", agent.task.rows(answers[:12], take(batch, 0, 12)))
    return Evaluation(scores, table, diagnostics)


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
    if isinstance(error, PrunedError):
        return "pruned"
    return "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
