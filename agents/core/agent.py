"""Base class of agents: model, optimiser, data-parallel wrapper, training and checkpoints."""

import abc
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import attrs
import torch
from torch import Tensor, nn

import tasks
from agents.core import earlier_names
from agents.core.config import AgentConfig, ConfigError
from agents.core.runs.checkpoint import Checkpoint, atomic_write
from agents.core.runs.history import History
from agents.core.runs.snapshots import InMemorySnapshots, Snapshots
from agents.core.training import devices, model_memory, parallel, sessions
from agents.core.training.evaluation import (
    Predictions,
    Result,
    agent_threads,
    concatenate_predictions,
    map_microbatches,
)
from agents.core.training.loop import Loss, to_device, total_loss
from agents.core.training.optimizer import AnyOptimizer, Optimizer
from agents.core.training.state import State
from tasks.core.batch import num_samples, stacked
from tasks.core.paths import expand_user
from tasks.core.settings import to_values
from tasks.core.task import Split, Task
from visualization.core.preserve import evaluation_mode, preserve_state
from visualization.renderers import LazyRenderer, Renderer
from visualization.report import Report

if TYPE_CHECKING:
    from agents.core.export import Graph
    from agents.core.inspection.observation import Observation
    from visualization.live.session import Live
    from visualization.recurrent import Edit, Intervention


class Agent(abc.ABC):
    """Base class of agents: model, optimiser, data-parallel wrapper, training and checkpoints.

    A subclass supplies `Config`, `build_model`, `loss` and `predict_batch`; all else has a default.
    `name` is the class's own in snake_case, unless it says otherwise; `spec_type` is the kind of
    sizes that its tasks have, and `object`, the default, is any.

    Attributes:
        model: the bare module, on `device`; it knows nothing of loss, optimiser or wrapper.
        network: what the training step calls: `model`, or a data-parallel wrapper around it.
        state: all that training changes, and all that a checkpoint contains.
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
        task = self.complete_task(task, config)
        self.task = task
        self.device = devices.choose(device)
        with devices.seeded_rng(self.device, config.seed), devices.float32():
            with model_memory.fitting(self.name):
                model = self.build_model(config, task.spec)
            model = model.to(self.device)
            rng_state = devices.get_rng_state(self.device)
        self.config = config = self.complete_config(config, model)
        self._total = config.steps, config.epochs
        precision = devices.resolve_precision(config.precision, self.device)
        threads = config.threads or self.num_parts(torch.get_num_threads())
        self.state = State(
            model, self.configure_optimizer(model, config), rng_state, precision, threads
        )
        if config.curriculum_loss_threshold is None:
            self.state.cursor.stage = task.num_stages - 1
        self.in_memory_snapshots: Snapshots = InMemorySnapshots()
        self.snapshots: Snapshots = self.in_memory_snapshots
        self.model = model
        self.network = parallel.wrap(model, config.parallel, self.device)

    def __repr__(self) -> str:
        step, num = self.state.cursor.step, sum(map(Tensor.numel, self.model.parameters()))
        return f"<{self.name} on {self.task.name}, step {step:,}, {num:,} parameters>"

    if not TYPE_CHECKING:  # earlier names are not for type checkers

        def __getattr__(self, name: str) -> Any:
            return earlier_names.method(self, name)

    @property
    def samples_are_independent(self) -> bool:
        """Whether `loss` is the mean of a loss of each sample, independent of the other samples.

        Then the parts of a batch are computed in parallel, one by each CPU core, and their
        gradients added. It is False with batch normalisation, and if a loss uses random numbers
        (dropout) or changes the agent. The default is False: one core, unless `threads` is larger;
        torch then uses these threads in every product.
        """
        return False

    def num_parts(self, threads: int) -> int:
        """Return the number of parts of a batch that are computed in parallel."""
        is_parallel = self.device.type == "cpu" and self.samples_are_independent
        return parallel.num_parts(threads, self.config.batch_size) if is_parallel else 1

    @staticmethod
    @abc.abstractmethod
    def build_model(config: Any, spec: Any) -> nn.Module:
        """Return an initialised model: a pure function of config and task sizes."""

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
        """Return the output for `predict`: that of `predict_batch`, or sampled text."""
        return self.predict_batch(batch)

    @staticmethod
    def complete_task(task: Any, config: Any) -> Any:
        """Return the task, completed by what is known of the run that `init_from` names."""
        return task

    @staticmethod
    def complete_config(config: Any, model: nn.Module) -> Any:
        """Return the config, completed by what is known of the model, such as a file's digest."""
        return config

    @staticmethod
    def configure_optimizer(model: nn.Module, config: Any) -> AnyOptimizer:
        """Return the optimiser: Adam, or Muon beside it, as the config says.

        `TorchOptimizer(model, torch.optim.SGD(model.parameters(), lr=0.1), config)` is
        an optimiser of torch: its state is saved and restored, the schedule multiplies its rates.
        """
        return Optimizer(model, config)

    def weights_from(self, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
        """Return another run's weights by this model's names, for `init_from`; the default: all."""
        return checkpoint.model_tensors()

    def constant_loss(self, batch: Any) -> float | None:
        """Return the loss of the best constant answer to a batch; None: it follows from targets."""
        return None

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return views of this agent only, by name: functions that return records."""
        return {}

    def observe(self, batch: Any) -> "Observation":
        """Return an observation of a batch for inspection: samples, parts of the model, targets.

        The default has the recurrent layers of the model; an agent may add more.
        """
        from agents.core.inspection.observation import observe  # not needed for training

        return observe(self, batch)

    def export_graph(self) -> "Graph":
        """Return what an exported model computes; the default: the raw output of images."""
        from agents.core.export import image_graph  # not needed for training

        return image_graph(self)

    @final
    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return all views by name: those whose requirements this agent meets, and its own."""
        from agents.core.inspection.available import views_of  # not needed for training

        return {**views_of(self), **self.own_views()}

    @final
    def learn(
        self,
        steps: int | None = None,
        *,
        run_dir: str | Path | None = None,
        resume: str = "auto",
        progress: bool | None = None,
        prune: Callable[[int, float], bool] | None = None,
    ) -> "Agent":
        """Train until `steps` steps in all; a second call continues where the first one ended.

        Under `torchrun`, or in a process group of torch, all ranks train this agent together.

        Args:
            steps: the exact total, instead of the `steps` or `epochs` of the config; training that
                stopped early continues.
            run_dir: a folder for checkpoints, metrics and events; without one nothing is written.
            resume: `auto` continues from the folder's latest valid checkpoint; `never` archives an
                earlier run's folder and starts with this agent as it is; anything else is the
                path of a checkpoint to start from, and an earlier folder is archived too.
            progress: show progress on standard error; None: only with a run folder.
            prune: is called after each evaluation but the last with the step and the score on the
                validation split; True ends the run after it was saved, and `learn` continues it.

        Raises:
            PrunedError: `prune` ended the run.
            DivergedError: the loss or the gradient is no longer finite.
            CannotWriteError: a file cannot be written; the earlier checkpoints are intact.
            FolderInUseError: another running process uses the folder.
            CheckpointError: all checkpoints of the folder are corrupt.
            ConfigError: an earlier call was interrupted inside a step, before any checkpoint.
            KeyboardInterrupt, SystemExit: on SIGINT, SIGTERM, after the step was saved.
        """
        if steps is not None:
            self.state.reset_early_stopping()
        total, epochs = self._total if steps is None else (steps, None)
        self.config = attrs.evolve(self.config, steps=total, epochs=epochs)
        shown = run_dir is not None if progress is None else progress
        sessions.learn(self, run_dir, resume, shown, prune)
        return self

    @property
    def history(self) -> History:
        """The records of training so far."""
        return self.state.history

    @final
    def evaluate(
        self, task: Task | None = None, split: Split = "test", num: int = 10_000, seed: int = 0
    ) -> dict[str, float]:
        """Return the scores on at most `num` samples of a split, chosen by the seed."""
        chosen = task or self.task
        if chosen.spec != self.task.spec:
            problem = f"{chosen.name} has other sizes than {self.task.name}"
            raise ConfigError("evaluate()", "task", problem, f"a task of {self.task.spec}")
        return chosen.score(*self.predict_split(split, num, seed, chosen))

    @final
    def predict(self, x: Any) -> Any:
        """Predict for inputs of a person: one text or array, or a list of them.

        Raises:
            ConfigError: (a ValueError) the input is not accepted; says what is.
        """
        if not isinstance(x, (list, tuple)):
            return self.predict([x])[0]
        batches = [self.task.encode([item]) for item in x]
        answers: dict[int, Any] = {}
        for members, batch in stacked(batches):  # inputs of equal size, without padding
            predictions = self._map_microbatches(self.generate, batch)
            decoded = self.task.decode(concatenate_predictions(predictions))
            answers |= dict(zip(members, decoded, strict=True))
        return [answers[index] for index in range(len(x))]

    @final
    def inspect(
        self, views: Sequence[str] | None = None, *, progress: bool = False,
        renderer: Renderer | None = None, processes: int = 1,
    ) -> Report:  # fmt: skip
        """Inspect the agent and return a report; the agent is unchanged.

        Args:
            views: names of views; None: all, and of those with nothing to show the reason.
            progress: a line on standard error for each view.
            renderer: draws the report's figures; None: each when it is asked for.
            processes: views that are computed at once, in forks of this process; 1: all in it.

        Raises:
            NothingToShow: (a ValueError) a view of `views` has nothing to show.
            ConfigError: (a ValueError) there is no view of a name.
        """
        from agents.core.inspection.report import inspect  # not needed for training

        with preserve_state(self.model), agent_threads(self):
            return inspect(self, views, progress, renderer or LazyRenderer(), processes)

    @final
    def live(self) -> "Live":
        """Return what a live page shows: `visualization.live.widget(agent)` in a notebook."""
        from agents.core.inspection.live import live_of  # not needed for training

        return live_of(self)

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
        """Answer a question without and with changed hidden states; the agent is unchanged.

        >>> from visualization.recurrent import Edit
        >>> import agents
        >>> agent = agents.make("seq2seq_adder", task="add3x3", device="cpu")
        >>> agent.intervene("1+2+3", {"decoder": Edit(units=[5], time=1, c=0.0)}).changes
        ('decoder: unit 5: c = 0 after step 1',)

        Args:
            question: as a person types it.
            edits: units to set or scale, by the name of a part of `observe`, such as `encoder`; see
                `Edit`. Steps count from 0.
            donor: another question, whose states are patched in.
            part: the part that is patched; None: the first.
            units: the units that are patched; None: all.
            time: after which step, from 0, or from the end if negative.
            layer: the layer; None: all.

        Raises:
            ValueError: a question, part, unit or step is not accepted.
        """
        from agents.core.inspection.observation import intervene  # not needed for training

        with preserve_state(self.model), agent_threads(self):
            return intervene(
                self.observe, self.task, question, edits,
                donor=donor, part=part, units=units, time=time, layer=layer,
            )  # fmt: skip

    @final
    def save(self, path: str | Path) -> Path:
        """Save a checkpoint, from which `agents.load` makes the same agent."""
        target = expand_user(str(path))
        atomic_write(target, self.checkpoint().to_bytes())
        return target

    @final
    def identity(self) -> dict[str, Any]:
        """Return names and settings of agent and task, as plain values."""
        return {
            "agent": self.name, "task": self.task.name,
            "task_settings": tasks.settings_of(self.task), "config": to_values(self.config),
        }  # fmt: skip

    @final
    def checkpoint(self) -> Checkpoint:
        """Return a checkpoint: all that `load` needs to continue with the same bits."""
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
        return concatenate_predictions(self._map_microbatches(self.predict_batch, batch))

    @final
    def mean_loss(self, batch: Any) -> float:
        """Return the mean loss of a task's batch in evaluation mode."""

        def summed(microbatch: Any) -> float:
            return float(total_loss(self.loss(microbatch))) * num_samples(microbatch)

        return sum(self._map_microbatches(summed, batch)) / num_samples(batch)

    def _map_microbatches(self, call: Callable[[Any], Result], batch: Any) -> list[Result]:
        """Call with each micro-batch of a batch, in evaluation mode, without gradients."""
        with evaluation_mode(self.model), torch.inference_mode(), agent_threads(self):
            memory, device = self.config.eval_memory * 2**20, self.device
            return map_microbatches(
                lambda piece: call(to_device(piece, device)), batch, self.model, memory
            )
