"""The contract of an agent: model, optimiser, wrapper, loop and checkpoints within one boundary."""

import abc
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import attrs
import torch
from torch import Tensor, nn

import tasks
from agents.core import earlier_names
from agents.core.config import AgentConfig, ConfigError
from agents.core.runs import sinks
from agents.core.runs.checkpoint import Checkpoint, write_durably
from agents.core.runs.history import History
from agents.core.runs.run_folder import Folder, NullFolder, RunFolder, put_aside
from agents.core.runs.snapshots import FOLDER, Remembered, Snapshots, Written
from agents.core.training import devices, monitoring, parallel, trainer
from agents.core.training.evaluation import Predictions, Result, in_pieces, joined
from agents.core.training.loop import Loss, to_device, total_loss
from agents.core.training.optimizer import AnyOptimizer, Optimizer
from agents.core.training.state import State
from tasks.core.batch import num_samples, stacked, take
from tasks.core.paths import expand_user, folder_path
from tasks.core.settings import to_values
from tasks.core.task import Split, Task
from visualization.core.preserve import evaluation_mode, preserve_state
from visualization.records import AnswerTable
from visualization.renderers import LazyRenderer, Renderer
from visualization.report import Report

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.recurrent import Edit, Intervention


class Agent(abc.ABC):
    """A training object: model, optimiser, data-parallel wrapper, training loop and checkpoints.

    A subclass supplies `Config`, `build_model`, `loss` and `predict_batch`; all else has a default.
    `name` is the class's own in snake_case, unless it says otherwise; `spec_type` is the kind of
    sizes that its tasks have, and `object`, the default, is any.

    Attributes:
        model: the bare module, on `device`; it knows nothing of loss, optimiser or wrapper.
        network: what the training step calls: `model`, or a data-parallel wrapper around it.
        state: all that learning changes, and all that a checkpoint holds.
        snapshots: copies of the weights through training, `config.num_weight_snapshots` of them.
    """

    name: ClassVar[str]
    Config: ClassVar[type[AgentConfig]] = AgentConfig
    spec_type: ClassVar[type] = object

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        earlier_names.adopt(cls)

    def __init__(self, task: Task, config: AgentConfig, device: str = "auto") -> None:
        if not isinstance(task.spec, self.spec_type):
            problem = f"{task.name!r} does not supply what {self.name} learns from"
            raise ConfigError("task", "", problem, f"tasks of kind {self.spec_type.__name__}")
        self.task = task
        self.device = devices.choose(device)
        with devices.own_randomness(self.device, config.seed), devices.float32():
            model = self.build_model(config, task.spec).to(self.device)
            random = devices.random_state(self.device)
        self.config = config = self.complete_config(config, model)
        self._total = config.steps, config.epochs
        precision = devices.resolve_precision(config.precision, self.device)
        threads = config.threads or self.num_parts(torch.get_num_threads())
        self.state = State(
            model, self.configure_optimizer(model, config), random, precision, threads
        )
        if config.curriculum_loss_threshold is None:
            self.state.cursor.stage = task.num_stages - 1
        self._remembered = Remembered()
        self.snapshots: Snapshots = self._remembered
        self.model = model
        self.network = parallel.wrap(model, config.parallel, self.device)

    def __repr__(self) -> str:
        step, num = self.state.cursor.step, sum(map(Tensor.numel, self.model.parameters()))
        return f"<{self.name} on {self.task.name}, step {step:,}, {num:,} parameters>"

    if not TYPE_CHECKING:  # a type checker knows the names of today alone

        def __getattr__(self, name: str) -> Any:
            return earlier_names.method(self, name)

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

    @staticmethod
    @abc.abstractmethod
    def build_model(config: Any, spec: Any) -> nn.Module:
        """Return a bare, freshly initialised model: a pure function of config and task sizes."""

    @abc.abstractmethod
    def loss(self, batch: Any) -> Loss:
        """Return the scalar loss of a training batch, a mean over its samples, or its named parts.

        The parts of a mapping are summed to train, and logged as `train/loss/NAME`. The batch has
        tensors on the agent's device; call `self.network`, not the bare model.
        """

    @abc.abstractmethod
    def predict_batch(self, batch: Any) -> Tensor | list[Any]:
        """Return predictions (batch, …) of the bare model, or a list with one entry per sample.

        In the form in which the task scores them: codes, numbers, boxes.
        """

    def generate(self, batch: Any) -> Tensor | list[Any]:
        """Return what `predict` shows a person: `predict_batch`, unless an agent writes freely."""
        return self.predict_batch(batch)

    @staticmethod
    def complete_config(config: Any, model: nn.Module) -> Any:
        """Return the config with what building the model found, such as the digest of a file."""
        return config

    @staticmethod
    def configure_optimizer(model: nn.Module, config: Any) -> AnyOptimizer:
        """Return the optimiser: Adam, or Muon beside it, as the config says.

        `TorchOptimizer(model, torch.optim.SGD(model.parameters(), lr=0.1), config)` brings along
        one of torch: its state is saved and restored, the schedule multiplies its rates.
        """
        return Optimizer(model, config)

    def weights_from(self, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
        """Return another run's weights by this model's names, for `init_from`; the default: all."""
        return checkpoint.model_tensors()

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return inspections of this agent alone, by name: functions that return records."""
        return {}

    def observe(self, batch: Any) -> "Observation":
        """Return what inspection may use: samples, parts of the model, targets.

        The default finds the recurrent layers of the model; an agent that knows more says so.
        """
        from agents.core.inspection.observation import observe  # learning does without

        return observe(self, batch)

    @final
    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return all inspections by name: those whose needs this agent meets, and its own."""
        from agents.core.inspection.offered import views_of  # learning does without

        return {**views_of(self), **self.own_views()}

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
        console = sinks.console(run_dir is not None if progress is None else progress)
        start = None
        if resume not in ("auto", "never"):
            trainer.start_from(expand_user(resume), self.state, self.identity())
            start, self._remembered = self.checkpoint(), Remembered()
        if run_dir is None:
            self.snapshots = self._remembered
            self._go_on(NullFolder(), start, "", console)
            return self
        path = folder_path(run_dir, "learn()")
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
            self._validate, self.snapshots, self.num_parts, self.weights_from,
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
        answers, batch = self.predict_split("validation", self.config.eval_samples)
        scores = {"loss": self.mean_loss(batch), **self.task.score(answers, batch)}
        signs = monitoring.measure(self, batch) if measures else {}
        table = AnswerTable("worked answers", self.task.rows(answers[:12], take(batch, 0, 12)))
        return trainer.Evaluation(scores, table, signs)

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
        return chosen.score(*self.predict_split(split, num, seed, chosen))

    @final
    def predict(self, x: Any) -> Any:
        """Answer what a person typed, drew or holds: one text or array, or a list of them.

        Raises:
            ConfigError: (a ValueError) says what was wrong with the input and what is accepted.
        """
        if not isinstance(x, (list, tuple)):
            return self.predict([x])[0]
        batches = [self.task.encode([one]) for one in x]
        answers: dict[int, Any] = {}
        for members, batch in stacked(batches):  # of inputs of one size: padding is read too
            decoded = self.task.decode(joined(self._in_pieces(self.generate, batch)))
            answers |= dict(zip(members, decoded, strict=True))
        return [answers[index] for index in range(len(x))]

    @final
    def inspect(
        self, views: Sequence[str] | None = None, *, progress: bool = False,
        renderer: Renderer | None = None,
    ) -> Report:  # fmt: skip
        """Look into the agent and return a report; the agent is the same afterwards as before.

        Args:
            views: names of inspections, in any order; None: all. Among all, a view that has nothing
                to show of this agent says so in its place; asked for by name, that is an error.
            progress: a line on standard error for each view.
            renderer: draws the report's figures; None: each when it is asked for.

        Raises:
            NothingToShow: (a ValueError) a view of `views` has nothing to show.
            ConfigError: (a ValueError) there is no view of a name.
        """
        from agents.core.inspection.report import inspect  # learning does without

        with preserve_state(self.model), self._own_arithmetic():
            return inspect(self, views, progress, renderer or LazyRenderer())

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
            edits: what is set or scaled, by the name of a part of `observe`, such as `encoder`; see
                `Edit`. Steps count from 0.
            donor: another question, of which units take over the state.
            part: where they do; None: the first part.
            units: which of them; None: all.
            time: after which step, from 0, or from the end if negative.
            layer: in which layer; None: in every one.

        Raises:
            ValueError: says what is wrong with a question, part, unit or step.
        """
        from agents.core.inspection.observation import intervene  # learning does without

        with preserve_state(self.model), self._own_arithmetic():
            return intervene(
                self.observe, self.task, question, edits,
                donor=donor, part=part, units=units, time=time, layer=layer,
            )  # fmt: skip

    @final
    def save(self, path: str | Path) -> Path:
        """Write a checkpoint, from which `agents.load` makes the same agent again."""
        target = expand_user(str(path))
        write_durably(target, self.checkpoint().to_bytes())
        return target

    @final
    def identity(self) -> dict[str, Any]:
        """Return what this agent was made from, as plain values."""
        return {
            "agent": self.name,
            "task": self.task.name,
            "task_settings": tasks.settings_of(self.task),
            "config": to_values(self.config),
        }

    @final
    def checkpoint(self) -> Checkpoint:
        """Return all registered state: what `load` needs to go on with the same bits."""
        return self.state.to_checkpoint(self.identity())

    @final
    def predict_split(
        self, split: Split, num: int, seed: int = 0, task: Task | None = None
    ) -> tuple[Predictions, Any]:
        """Return predictions for samples of a split, and the batch of those samples."""
        batch = (task or self.task).samples(split, num, seed)
        return self.predict_arrays(batch), batch

    @final
    def predict_arrays(self, batch: Any) -> Predictions:
        """Return predictions for a batch of the task as arrays: (batch, …), or a list of them."""
        return joined(self._in_pieces(self.predict_batch, batch))

    @final
    def mean_loss(self, batch: Any) -> float:
        """Return the loss of a task's batch in evaluation mode, averaged over its samples."""
        losses = self._in_pieces(
            lambda piece: float(total_loss(self.loss(piece))) * num_samples(piece), batch
        )
        return sum(losses) / num_samples(batch)

    def _in_pieces(self, call: Callable[[Any], Result], batch: Any) -> list[Result]:
        """Call with one piece of a batch after the other, in evaluation mode, without gradients."""
        with evaluation_mode(self.model), torch.inference_mode(), self._own_arithmetic():
            memory = self.config.eval_memory * 2**20
            return in_pieces(
                lambda piece: call(to_device(piece, self.device)), batch, self.model, memory
            )
