"""The contract of an agent: model, optimiser, wrapper, loop and checkpoints within one boundary."""

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import tasks
from agents.core.config import AgentConfig, ConfigError
from agents.core.runs import sinks
from agents.core.runs.checkpoint import Checkpoint, write_durably
from agents.core.runs.history import History
from agents.core.runs.run_folder import Folder, NullFolder, RunFolder, put_aside
from agents.core.runs.snapshots import FOLDER, Remembered, Snapshots, Written
from agents.core.training import devices, monitoring, parallel, trainer
from agents.core.training.loop import to_device
from agents.core.training.optimizer import Optimizer
from agents.core.training.pieces import Result, in_pieces, num_samples, part
from agents.core.training.state import State
from tasks.core.paths import expanded, named_folder
from tasks.core.settings import nearest, to_values
from tasks.core.task import Split, Task
from visualization.core.preserve import evaluation_mode, preserve_state
from visualization.model.cost import CostCounter, CostTable
from visualization.records import AnswerTable, Curves, record_or_reason
from visualization.report import Report

if TYPE_CHECKING:
    from agents.core.inspection.study import Study
    from visualization.recurrent import Edit, Intervention


class Agent(abc.ABC):
    """A training object. A subclass supplies `Config`, `spec_type` and six methods.

    Attributes:
        model: the bare module, on `device`; it knows nothing of loss, optimiser or wrapper.
        network: what the training step calls: `model`, or a data-parallel wrapper around it.
        state: all that learning changes, and all that a checkpoint holds.
        snapshots: copies of the weights through training, if the config's `record_progression` asks
            for them.
    """

    name: ClassVar[str]
    Config: ClassVar[type[AgentConfig]]
    spec_type: ClassVar[type]

    def __init__(self, task: Task, config: AgentConfig, device: str = "auto") -> None:
        if not isinstance(task.spec, self.spec_type):
            problem = f"{task.name!r} does not supply what {self.name} learns from"
            raise ConfigError("task", "", problem, f"tasks of kind {self.spec_type.__name__}")
        self.task, self.config = task, config
        self.device = devices.choose(device)
        with devices.own_randomness(self.device, config.seed), devices.float32():
            model = self.build_model(task.spec).to(self.device)
            random = devices.random_state(self.device)
        config = self.config  # which `build_model` may have completed
        self._total = config.steps, config.epochs
        precision = devices.resolve_precision(config.precision, self.device)
        threads = config.threads or self.num_parts(torch.get_num_threads())
        self.state = State(model, Optimizer(model, config), random, precision, threads)
        if config.raise_below is None:
            self.state.cursor.stage = task.num_stages - 1
        self._remembered = Remembered()
        self.snapshots: Snapshots = self._remembered
        self.model = model
        self.network = parallel.wrap(model, config.parallel, self.device)

    def __repr__(self) -> str:
        step, num = self.state.cursor.step, sum(map(Tensor.numel, self.model.parameters()))
        return f"<{self.name} on {self.task.name}, step {step:,}, {num:,} parameters>"

    @property
    def samples_are_independent(self) -> bool:
        """Whether `loss` is the mean, over the samples, of what each gives by itself.

        Then the parts of a batch are computed side by side, one by each CPU core, and their
        gradients added. It is not so with batch normalisation, and wherever a loss draws random
        numbers (dropout) or changes the agent. The default is False: one core, unless `threads`
        says more, with which torch then computes every product.
        """
        return False

    def num_parts(self, threads: int) -> int:
        """Return into how many parts a batch is cut, which are computed side by side."""
        beside = self.device.type == "cpu" and self.samples_are_independent
        return parallel.num_parts(threads, self.config.batch_size) if beside else 1

    @contextlib.contextmanager
    def _own_arithmetic(self) -> Iterator[None]:
        """Compute with the agent's threads and in float32, whatever the caller has set."""
        threads = self.config.threads or 1
        each = parallel.threads_each(threads, self.num_parts(threads))
        with devices.threads(each), devices.float32():
            yield

    @abc.abstractmethod
    def build_model(self, spec: Any) -> nn.Module:
        """Return a bare, freshly initialised model for the task's sizes."""

    @abc.abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Return the scalar loss of a training batch; call `self.network`, not the bare model."""

    @abc.abstractmethod
    def respond(self, batch: Any) -> Tensor:
        """Return the answers (batch, …) of the bare model to a batch's questions."""

    @abc.abstractmethod
    def reply(self, batch: Any) -> Tensor:
        """Return what a person who asks is told: mostly what `respond` returns, in codes too."""

    @abc.abstractmethod
    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the agent's own inspections by name.

        They are functions that return a record, or a mapping of names, such as layers, to records.
        """

    @abc.abstractmethod
    def study(self, batch: Any) -> "Study":
        """Return a batch with its answers, and the layers that can be watched and changed."""

    @final
    def learn(
        self,
        steps: int | None = None,
        *,
        run_dir: str | Path | None = None,
        resume: str = "auto",
        progress: bool | None = None,
    ) -> "Agent":
        """Learn until `steps` steps are taken in all; a second call goes on where this one ended.

        Args:
            steps: the exact total, in place of the `steps` or `epochs` that the agent was made
                with; it also goes on from where learning stopped early.
            run_dir: a folder for checkpoints, metrics and events; without one nothing is written.
            resume: `auto` goes on from the folder's newest whole checkpoint; `never` puts an
                earlier run's folder aside and begins with this agent as it is; anything else is
                the path of a checkpoint to begin with, and an earlier folder is put aside too.
            progress: write progress to standard error; None: only with a run folder.

        Raises:
            DivergedError: the loss or the gradient is no longer finite.
            CannotWriteError: the disk refused; the earlier checkpoints are intact.
            FolderInUseError: another living run has the folder.
            CheckpointError: no checkpoint that should be there is whole.
            ConfigError: an earlier call was cut off inside a step, and there is nothing before it.
            KeyboardInterrupt: on SIGINT, after the step was ended and saved; SystemExit on SIGTERM.
        """
        if steps is not None:
            self.state.go_on()
        total, epochs = self._total if steps is None else (steps, None)
        self.config = attrs.evolve(self.config, steps=total, epochs=epochs)
        shown = run_dir is not None if progress is None else progress
        console: sinks.Sink = sinks.ConsoleSink() if shown else sinks.NullSink()
        start = None
        if resume not in ("auto", "never"):
            trainer.start_from(expanded(resume), self.state, self.identity())
            start, self._remembered = self.checkpoint(), Remembered()
        if run_dir is None:
            self.snapshots = self._remembered
            self._go_on(NullFolder(), start, "", console)
            return self
        path = named_folder(run_dir, "learn()")
        self.snapshots = Written(path / FOLDER)
        aside = None if resume == "auto" else put_aside(path)
        if aside is not None:
            console.say(f"the earlier run was put aside as {aside}")
        with RunFolder.hold(path) as folder:
            files = [sinks.JsonlSink(path / "metrics.jsonl"), sinks.TensorBoardSink(path)]
            self._go_on(folder, start, str(path), sinks.FanOut([console, *files]))
        return self

    def _go_on(
        self, folder: Folder, start: Checkpoint | None, place: str, sink: sinks.Sink
    ) -> None:
        job = trainer.Job(
            self.state, self.task, self.config, self.device, self.identity(), self.loss,
            self._validate, self.snapshots, self.num_parts,
        )  # fmt: skip
        if start is None:
            trainer.take_up(job, folder, place, sink)
        else:  # so that a run that has no step left has something to show
            folder.save_best(lambda: start)
        step = self.state.cursor.step
        trainer.settle_precision(job, sink)
        if job.is_done and start is None and folder.is_done():
            sink.say(f"this run is done: {step} steps taken")
            return
        if step:
            sink.say(f"going on from step {step}")
        trainer.Learning(job, folder, sink).run()

    def _validate(self, measures: bool) -> trainer.Evaluation:
        answers, batch = self.answers("validation", self.config.eval_samples)
        scores = {"loss": self.mean_loss(batch), **self.task.score(answers, batch)}
        signs = monitoring.measure(self, batch) if measures else {}
        return trainer.Evaluation(scores, self.answer_table(answers, batch, 12), signs)

    @property
    def history(self) -> History:
        """The records of training so far."""
        return self.state.history

    @final
    def evaluate(
        self, task: Task | None = None, split: Split = "test", num: int = 10_000, seed: int = 0
    ) -> dict[str, float]:
        """Return the scores on at most `num` samples of a split; another seed, other samples."""
        chosen = task or self.task
        if chosen.spec != self.task.spec:
            problem = f"{chosen.name} has other sizes than {self.task.name}"
            raise ConfigError("evaluate()", "task", problem, f"a task of {self.task.spec}")
        return chosen.score(*self.answers(split, num, seed, chosen))

    @final
    def predict(self, x: Any) -> Any:
        """Answer what a person typed, drew or holds: one text or array, or a list of them.

        Raises:
            ConfigError: (a ValueError) says what was wrong with the input and what is accepted.
        """
        if not isinstance(x, (list, tuple)):
            return self.predict([x])[0]
        alone = [self.task.encode([one]) for one in x]
        groups: dict[Any, list[int]] = {}  # of inputs of one size: padding is read too
        for at, batch in enumerate(alone):
            groups.setdefault(tuple(map(np.shape, batch)), []).append(at)
        found: dict[int, Any] = {}
        for held in groups.values():
            columns = zip(*(alone[at] for at in held), strict=True)
            batch = type(alone[held[0]])(*map(np.concatenate, columns))
            answers = self.task.decode(self._gathered(self.reply, batch))
            found |= dict(zip(held, answers, strict=True))
        return [found[at] for at in range(len(x))]

    @final
    def inspect(self, views: Sequence[str] | None = None, *, progress: bool = False) -> Report:
        """Look into the agent and return a report; the agent is the same afterwards as before.

        Args:
            views: names of inspections, in any order; None: all. Among all, a view that has nothing
                to show of this agent says so in its place; asked for by name, that is an error.
            progress: a line on standard error for each view.

        Raises:
            NothingToShow: (a ValueError) a view of `views` has nothing to show.
            ConfigError: (a ValueError) there is no view of a name.
        """
        known = {
            "summary": self.cost,
            "learning_curves": self.curves,
            "wrong_answers": self.wrong_answers,
            **self.views(),
        }
        for view in views or ():
            if view not in known:
                problem = f"{view!r} is not a view of {self.name}"
                raise ConfigError("views", "", problem, ", ".join(known), nearest(view, known))
        chosen = [name for name in known if views is None or name in views]
        with preserve_state(self.model), self._own_arithmetic():
            each = sinks.one_by_one(chosen, sinks.ConsoleSink() if progress else sinks.NullSink())
            records = {name: record_or_reason(known[name], views is not None) for name in each}
        return Report(f"{self.name} on {self.task.name}, step {self.state.cursor.step}", records)

    @final
    def intervene(
        self,
        question: str,
        edits: "Mapping[str, Edit | Sequence[Edit]] | None" = None,
        *,
        donor: str | None = None,
        part: str | None = None,
        units: int | Sequence[int] | None = None,
        time: int = -1,
        layer: int | None = None,
    ) -> "Intervention":
        """Answer a question as ever, and again with states changed; the agent stays as it is.

        >>> from visualization.recurrent import Edit
        >>> import agents
        >>> agent = agents.make("seq2seq_adder", task="add3x3", device="cpu")
        >>> agent.intervene("1+2+3", {"decoder": Edit(units=[5], time=1, c=0.0)}).changes
        ('decoder: unit 5: c = 0 after step 1',)

        Args:
            question: as a person types it.
            edits: what is set or scaled, by the name of a part of `study`, such as `encoder`; see
                `Edit`. Steps count from 0.
            donor: another question, of which units take over the state.
            part: where they do; None: the first part.
            units: which of them; None: all.
            time: after which step, from 0, or from the end if negative.
            layer: in which layer; None: in every one.

        Raises:
            ValueError: says what is wrong with a question, part, unit or step.
        """
        from agents.core.inspection.study import intervene  # learning does without

        with preserve_state(self.model), self._own_arithmetic():
            return intervene(
                self.study, self.task, question, edits,
                donor=donor, part=part, units=units, time=time, layer=layer,
            )  # fmt: skip

    @final
    def save(self, path: str | Path) -> Path:
        """Write a checkpoint, from which `agents.load` makes the same agent again."""
        target = expanded(str(path))
        write_durably(target, self.checkpoint().to_bytes())
        return target

    @final
    def identity(self) -> dict[str, Any]:
        """Return what this agent was made from, as plain values."""
        return {
            "agent": self.name,
            "task": self.task.name,
            "task_settings": self.task_settings(),
            "config": to_values(self.config),
        }

    @final
    def task_settings(self) -> dict[str, Any]:
        """Return the task's settings, without those that its name already gives."""
        return tasks.settings_of(self.task)

    @final
    def checkpoint(self) -> Checkpoint:
        """Return all registered state: what `load` needs to go on with the same bits."""
        return self.state.to_checkpoint(self.identity())

    @final
    def answers(
        self, split: Split, num: int, seed: int = 0, task: Task | None = None
    ) -> tuple[NDArray[Any], Any]:
        """Return the agent's answers to samples of a split, and the batch of those samples."""
        batch = (task or self.task).samples(split, num, seed)
        return self.respond_to(batch), batch

    @final
    def respond_to(self, batch: Any) -> NDArray[Any]:
        """Return the agent's answers (batch, …) to a batch of its task, in codes."""
        return self._gathered(self.respond, batch)

    def _gathered(self, answer: Callable[[Any], Tensor], batch: Any) -> NDArray[Any]:
        pieces = self._in_pieces(lambda piece: answer(piece).cpu().numpy(), batch)
        shapes = sorted({piece.shape[1:] for piece in pieces})
        if len(shapes) > 1:
            problem = f"samples of one batch have answers of the shapes {shapes}"
            raise ConfigError(self.name, "", problem, "answers of one shape, padded to it")
        return np.concatenate(pieces)

    @final
    def answer_table(self, answers: NDArray[Any], batch: Any, num: int) -> AnswerTable:
        """Return the first `num` answers as a table."""
        rows = self.task.rows(answers[:num], part(batch, 0, num))
        return AnswerTable("worked answers", rows)

    @final
    def wrong_answers(self, num: int = 20) -> AnswerTable:
        """Return the first `num` questions of the test split that went wrong, of 2,000."""
        rows = self.task.rows(*self.answers("test", 2000))
        wrong = [row for row in rows if not row.right]
        title = f"{len(wrong)} of {len(rows)} test questions went wrong"
        return AnswerTable(title, wrong[:num])

    @final
    def cost(self) -> CostTable:
        """Count parameters and multiply-adds per layer while the agent answers one sample."""
        counter = CostCounter(self.model)
        batch = self.task.samples("test", 1)
        with counter.watch():
            self.respond_to(batch)
        return counter.table(num_samples=1)

    @final
    def curves(self) -> Curves:
        """Return loss, scores, gradient norm and learning rate over the steps."""
        return self.history.curves()

    @final
    def mean_loss(self, batch: Any) -> float:
        """Return the loss of a task's batch in evaluation mode, averaged over its samples."""
        losses = self._in_pieces(lambda piece: float(self.loss(piece)) * num_samples(piece), batch)
        return sum(losses) / num_samples(batch)

    def _in_pieces(self, call: Callable[[Any], Result], batch: Any) -> list[Result]:
        """Call with one piece of a batch after the other, in evaluation mode, without gradients."""
        with evaluation_mode(self.model), torch.inference_mode(), self._own_arithmetic():
            return in_pieces(lambda piece: call(to_device(piece, self.device)), batch, self.model)
