"""Conformance suite of agents: `check_agent(MyAgent, MyTask())` tells what breaks the contract.

    from agents.conformance import agent_checks, check_agent

    check_agent(MyAgent, MyTask(), hidden_size=16)


    @pytest.mark.parametrize("check", agent_checks(MyAgent, MyTask(), hidden_size=16), ids=str)
    def test_my_agent_conforms(check):
        check()

The agent is trained for some steps, several times, on the CPU: let the settings make it small.
"""

import contextlib
import copy
import functools
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from torch import Tensor

import agents
import tasks
from agents.core.agent import Agent
from agents.core.analysis.states import changes, exact, same, state_of, weights, with_own_modes
from agents.core.config import AgentConfig, describe, read_file
from agents.core.runs.checkpoint import read_agent
from agents.core.training.loop import to_device, total_loss
from tasks.core.batch import num_samples, take
from tasks.core.conformance import (
    Check,
    checks_of,
    equal,
    generator_states,
    require,
    require_settings,
    run_all,
)
from tasks.core.registry import Entry, look_up
from tasks.core.settings import ConfigError, SourcedValue, build, to_values
from tasks.core.task import Task
from visualization import render
from visualization.report import Report, flat

STEPS = 12
SETTINGS: Mapping[str, Any] = {
    "steps": STEPS, "batch_size": 16, "eval_every": 4, "eval_samples": 32, "save_every": 3,
    "log_every": 2, "precision": "fp32", "num_weight_snapshots": None,
    "curriculum_loss_threshold": None,  # on a task's last stage, where every weight counts
}  # fmt: skip
_NEAR = 1e-5  # absolute, of single-precision numbers that are computed in two ways


class Inspected(NamedTuple):
    """All views of an agent, and what they changed of it."""

    report: Report
    changed: list[str]


@attrs.frozen
class Candidate:
    """A class of agents that is checked, the task it learns, and the settings of its agents."""

    cls: type[Agent]
    task: Task
    settings: Mapping[str, Any]

    def make(self, **more: Any) -> Agent:
        """Return a new agent, on the CPU."""
        config = self.cls.Config(**{**SETTINGS, **self.settings, **more})
        return self.cls(self.task, config, "cpu")

    @functools.cached_property
    def trained(self) -> Agent:
        """An agent that has learned, for checks that leave it as it is."""
        return self.make().learn()

    @functools.cached_property
    def uninterrupted(self) -> Agent:
        """An agent that has learned at a constant rate, to be compared with interrupted runs."""
        return self.make(schedule="constant", steps=STEPS).learn()

    @functools.cached_property
    def inspected(self) -> Inspected:
        """All views of an agent whose modules have modes of their own."""
        agent = with_own_modes(self.make().learn())
        before = state_of(agent)
        report = agent.inspect()
        return Inspected(report, changes(before, state_of(agent)))


def check_agent(
    cls: type[Agent],
    task: Task | str | None = None,
    *,
    except_for: Mapping[str, str] | None = None,
    **settings: Any,
) -> None:
    """Check that a class of agents keeps the contract.

    Args:
        cls: the class.
        task: a task that its agents learn, or its name; None: the first registered one that has the
            sizes of `spec_type`.
        except_for: names of checks that are left out, and why.
        settings: of the agents; steps and the like are few already.

    Raises:
        ConformanceError: names each check that does not hold, what was found, what is accepted.
        ConfigError: no task is named, and none can be found.
    """
    run_all(agent_checks(cls, task, except_for=except_for, **settings))


def agent_checks(
    cls: type[Agent],
    task: Task | str | None = None,
    *,
    except_for: Mapping[str, str] | None = None,
    **settings: Any,
) -> list[Check]:
    """Return the checks of a class of agents, to be called one by one; see `check_agent`."""
    chosen = tasks.make(task) if isinstance(task, str) else task or _fitting_task(cls)
    return checks_of(Candidate(cls, chosen, settings), CHECKS, except_for, "agent_checks()")


def _fitting_task(cls: type[Agent]) -> Task:
    """Return the first registered task with the sizes that an agent learns from."""
    for pattern, entry in tasks.TASKS.items() if cls.spec_type is not object else ():
        with contextlib.suppress(ConfigError):  # it has no example, or needs files
            task = tasks.make(entry.example or pattern)
            if isinstance(task.spec, cls.spec_type):
                return task
    problem = f"no registered task says that it is for {cls.__name__}"
    accepted = f"a task that it learns, such as check_agent({cls.__name__}, MyTask())"
    raise ConfigError("check_agent()", "task", problem, accepted)


def reloaded(agent: Agent, path: Path) -> Agent:
    """Return an agent made from a checkpoint alone: by its names, or by its classes without one."""
    agent.save(path)
    task_is_named = _is_named(agent.task.name, type(agent.task), tasks.TASKS)
    if task_is_named and _is_named(agent.name, type(agent), agents.AGENTS):
        return agents.load(path, device="cpu")
    checkpoint, place = read_agent(path), str(path)
    given, config = (
        {name: SourcedValue(value, place) for name, value in checkpoint.values[part].items()}
        for part in ("task_settings", "config")
    )
    if task_is_named:
        task = tasks.from_settings(agent.task.name, given, place)
    else:
        task = build(type(agent.task), given)
    made = type(agent)(task, build(type(agent).Config, config), "cpu")
    made.state.restore(checkpoint)
    return made


def _is_named(name: str, cls: type, entries: Mapping[str, Entry]) -> bool:
    resolved = look_up(name, entries)
    return resolved is not None and resolved.makes(cls)


def config_is_of_settings(candidate: Candidate) -> None:
    """A config has settings alone, with defaults, and what --print-config prints reads back."""
    cls = candidate.cls.Config
    require(issubclass(cls, AgentConfig), f"Config is {cls.__name__}, which is no AgentConfig")
    require_settings(cls)
    default = build(cls, {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(describe(cls, to_values(default)), encoding="utf-8")
        read = build(cls, read_file(path))
    require(read == default, f"{read} was read, and {default} was printed")


def name_is_its_own(candidate: Candidate) -> None:
    """The name can be that of a folder, and means this class, with its config, in the registry."""
    name = candidate.cls.name
    require(bool(re.fullmatch(r"\w[\w.-]*", name)), f"the name is {name!r}")
    resolved = look_up(name, agents.AGENTS)
    if resolved is not None:
        entry = resolved.entry
        shown = f"the name {name!r} means {entry.module}:{entry.cls} in the registry"
        require(resolved.makes(candidate.cls), shown)
        found = resolved.load_config()
        require(found is candidate.cls.Config, f"its entry names {found.__name__} as its config")


def loss_is_differentiable(candidate: Candidate) -> None:
    """The loss of a batch is a finite scalar, or scalars by name, with finite gradients."""
    agent = candidate.make()
    agent.model.train()
    loss = agent.loss(_training_batch(agent))
    parts = loss if isinstance(loss, Mapping) else {"": loss}
    for name, part in parts.items():
        what = f"loss {name!r}" if name else "the loss"
        require(isinstance(part, Tensor), f"{what} is a {type(part).__name__}")
        require(part.ndim == 0, f"{what} has the shape {tuple(part.shape)}")
        require(bool(torch.isfinite(part)), f"{what} is {part.item()}")
    total = total_loss(loss)
    require(total.requires_grad, "no gradient: the loss does not depend on the parameters")
    total.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in agent.model.parameters() if p.grad is not None]
    require(all(bool(g.isfinite().all()) for g in gradients), "a gradient is not finite")


def _training_batch(agent: Agent) -> Any:
    size = agent.config.batch_size
    return to_device(next(agent.task.batches("train", size, 0, 0)), agent.device)


def loss_calls_the_network(candidate: Candidate) -> None:
    """The loss calls `self.network`, which may be a data-parallel wrapper, not `self.model`."""
    agent = candidate.make(parallel="data")
    called: list[bool] = []
    handle = agent.network.register_forward_pre_hook(lambda *_: called.append(True))
    agent.loss(_training_batch(agent))
    handle.remove()
    require(bool(called), "the wrapper was not called")


def loss_is_a_mean(candidate: Candidate) -> None:
    """The loss in evaluation mode is the mean over the samples, in whatever pieces they come."""
    agent = candidate.trained
    batch = agent.task.samples("validation", 9)
    whole, pieces = agent.mean_loss(batch), _in_pieces(agent).mean_loss(batch)
    is_equal = np.isclose(whole, pieces, rtol=1e-3)
    require(bool(is_equal), f"{whole} of nine samples at once, and {pieces} of one at a time")


def _in_pieces(agent: Agent) -> Agent:
    """Return an agent with the same model, which is evaluated with one sample at a time."""
    other = copy.copy(agent)
    other.config = attrs.evolve(agent.config, eval_memory=2**-20)
    return other


def independent_samples_are_independent(candidate: Candidate) -> None:
    """With `samples_are_independent` the loss in training is the mean of the losses of halves."""
    agent = candidate.make()
    if not agent.samples_are_independent:
        return
    agent.model.train()
    batch = _training_batch(agent)
    half = num_samples(batch) // 2
    begins = (0, 2 * half), (0, half), (half, 2 * half)
    whole, *halves = (total_loss(agent.loss(take(batch, *span))).item() for span in begins)
    mean = sum(halves) / 2
    require(bool(np.isclose(whole, mean, rtol=1e-3)), f"it is {whole}, and {mean} of the halves")


def learning_moves_every_parameter(candidate: Candidate) -> None:
    """learn() takes the exact steps, and changes each trainable parameter by a finite amount."""
    agent, before = candidate.trained, dict(candidate.make().model.named_parameters())
    step = agent.state.cursor.step
    require(step == agent.config.steps, f"{step} steps of {agent.config.steps} were taken")
    for name, parameter in agent.model.named_parameters():
        require(bool(parameter.isfinite().all()), f"{name} is not finite")
        is_moved = not torch.equal(parameter, before[name])
        require(is_moved or not parameter.requires_grad, f"{name} is as it was initialised")


def equal_seeds_give_equal_bits(candidate: Candidate) -> None:
    """Agents of one seed learn to the same bits, and those of another seed to others."""
    first, second = candidate.trained, candidate.make().learn()
    differing = [name for name, tensor in weights(first).items()
                 if not torch.equal(tensor, weights(second)[name])]  # fmt: skip
    require(not differing, f"two runs differ in {', '.join(differing[:3])}")
    require(exact(first.history) == exact(second.history), "two runs have other records")
    seeds = first.config.seed, first.config.seed + 1
    models = [candidate.make(seed=seed).learn(2).model.state_dict() for seed in seeds]
    require(not same(*models), "another seed gives the same weights")


def global_generators_are_left_alone(candidate: Candidate) -> None:
    """Making an agent and learning leave the global generators of torch, numpy and Python."""
    before = torch.get_rng_state(), generator_states()
    candidate.make().learn(2)
    require(torch.equal(before[0], torch.get_rng_state()), "torch's generator was drawn from")
    require(before[1] == generator_states(), "Python's or numpy's generator was drawn from")


def resuming_is_exact(candidate: Candidate) -> None:
    """A run interrupted and continued, from its folder or a file, ends with the same bits."""
    half = STEPS // 2 + 1
    whole = candidate.uninterrupted
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        first = candidate.make(schedule="constant", steps=STEPS)
        first.learn(half, run_dir=run_dir, progress=False)
        rest = {
            "a file": reloaded(first, Path(folder) / "half.safetensors").learn(STEPS),
            "its folder": candidate.make(schedule="constant", steps=STEPS).learn(
                run_dir=run_dir, progress=False
            ),
        }
    for place, agent in rest.items():
        ends, expected = weights(agent), weights(whole)
        differing = [n for n in expected if n not in ends or not torch.equal(ends[n], expected[n])]
        require(not differing, f"continued from {place}, it differs in {', '.join(differing[:3])}")
        later = half + agent.config.log_every  # a record is a mean over the steps since the last
        records = [[r for r in exact(a.history) if r["step"] > later] for a in (agent, whole)]
        require(records[0] == records[1], f"continued from {place}, it has other records")


def loading_gives_the_same_agent(candidate: Candidate) -> None:
    """A saved agent, made again from its file, has the same settings, bits, records and scores."""
    agent = candidate.trained
    with tempfile.TemporaryDirectory() as folder:
        loaded = reloaded(agent, Path(folder) / "agent.safetensors")
    require(loaded.identity() == agent.identity(), f"it is {loaded.identity()}")
    require(same(weights(agent), weights(loaded)), "it has other weights")
    require(loaded.history.records == agent.history.records, "it has other records")
    scores = loaded.evaluate(num=64), agent.evaluate(num=64)
    require(scores[0] == scores[1], f"it scores {scores[0]}, and the saved one {scores[1]}")


def predictions_are_of_samples(candidate: Candidate) -> None:
    """Each sample has one prediction, the same by itself as among others, which can be scored."""
    task = candidate.task
    batch = task.samples("test", 9)
    num, untrained = num_samples(batch), candidate.make().predict_arrays(batch)
    require(len(untrained) == num, f"{len(untrained)} predictions for {num} samples")
    agent = candidate.trained
    whole = agent.predict_arrays(batch)
    is_equal = equal(list(whole), list(_in_pieces(agent).predict_arrays(batch)), _NEAR)
    require(is_equal, "a sample by itself has another prediction than among others")
    scores, (monitor, _) = task.score(whole, batch), task.monitor
    require(monitor in scores, f"the scores are {', '.join(scores)}, without {monitor!r}")
    rows = task.rows(whole, batch)
    require(len(rows) == num, f"{len(rows)} rows for {num} predictions")


def evaluating_changes_nothing(candidate: Candidate) -> None:
    """Evaluating and predicting leave weights, gradients, modes, hooks and generators."""
    agent = with_own_modes(candidate.make().learn(2))
    before, batch = state_of(agent), agent.task.samples("test", 9)
    for name, call in (
        ("evaluate()", lambda: agent.evaluate(num=32)),
        ("predict_arrays()", lambda: agent.predict_arrays(batch)),
        ("mean_loss()", lambda: agent.mean_loss(batch)),
    ):
        call()
        changed = changes(before, state_of(agent))
        require(not changed, f"{name} changed {', '.join(changed)}")


def looking_does_not_change_the_run(candidate: Candidate) -> None:
    """A run that is evaluated and inspected in between ends as one that is not."""
    watched = candidate.make(schedule="constant", steps=STEPS).learn(STEPS // 2)
    watched.evaluate(num=32)
    watched.inspect(["summary"])
    watched.learn(STEPS)
    is_same = same(weights(candidate.uninterrupted), weights(watched))
    require(is_same, "it ends with other weights")


def views_run_and_change_nothing(candidate: Candidate) -> None:
    """Every view that an agent offers runs, has a figure, and changes nothing of the agent."""
    report, changed = candidate.inspected
    require(not changed, f"inspect() changed {', '.join(changed)}")
    for name, record in report.flat():
        require(render.draw.knows(record), f"{name} is a {type(record).__name__}, without a figure")
    for name in candidate.trained.own_views():
        for part, _ in flat(name, report.records[name]):
            report.picture(part)


CHECKS: tuple[Callable[[Candidate], None], ...] = (
    config_is_of_settings,
    name_is_its_own,
    loss_is_differentiable,
    loss_calls_the_network,
    loss_is_a_mean,
    independent_samples_are_independent,
    learning_moves_every_parameter,
    equal_seeds_give_equal_bits,
    global_generators_are_left_alone,
    resuming_is_exact,
    loading_gives_the_same_agent,
    predictions_are_of_samples,
    evaluating_changes_nothing,
    looking_does_not_change_the_run,
    views_run_and_change_nothing,
)
