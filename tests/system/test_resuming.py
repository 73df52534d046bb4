"""Going on: after an early stop, to another total, after an interruption; and what cannot."""

import functools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

import agents
import tasks
from agents.configs.seq2seq_adder import AdderConfig
from agents.core.agent import Agent
from agents.core.runs.checkpoint import CheckpointError
from agents.core.training import devices, loop
from agents.core.training.loop import train_steps
from agents.core.training.state import Cursor
from agents.core.training.trainer import Trainer
from agents.seq2seq_adder import Seq2SeqAdder
from main import main
from tasks import prefetch
from tasks.core import workers
from tasks.core.batch import plain_arrays
from tasks.core.settings import ConfigError
from tasks.core.task import BatchRequest
from tasks.prefetch import Prefetcher
from tests.conftest import exact, same, small_agent, weights
from tests.helpers.images import save
from tests.system.test_run import COMMAND, interrupt_at
from visualization.recurrent import Edit

ENOUGH = {"target_score": 0, "eval_every": 2, "steps": 6}  # a score that every evaluation has
HOPELESS = {"patience": 2, "eval_every": 2, "learning_rate": 1e-9, "muon_learning_rate": 1e-9}


def step(agent: Agent) -> int:
    """Return the steps that an agent has taken."""
    return agent.state.cursor.step


def test_a_file_of_a_run_that_stopped_early_is_gone_on_from(tmp_path: Path) -> None:
    """A run that has no `target_score` of its own takes all of its steps."""
    agent = small_agent(**ENOUGH).learn()
    assert step(agent) == 2
    path = str(agent.save(tmp_path / "a.safetensors"))
    assert step(small_agent().learn(resume=path)) == 12
    folder = tmp_path / "run"
    small_agent().learn(run_dir=folder, resume=path, progress=False)
    status = json.loads((folder / "status.json").read_text())
    assert (status["step"], status["reason"]) == (12, "all steps taken")
    assert status["best"]["score"] is not None


def test_learn_with_a_total_goes_on_after_an_early_stop() -> None:
    """In Python an explicit total learns further, until there is a reason to stop anew."""
    agent = small_agent(**ENOUGH).learn()
    assert step(agent.learn()) == 2
    assert step(agent.learn(6)) == 4
    waiting = small_agent(**HOPELESS, steps=100).learn()
    assert step(waiting) == 6
    assert step(waiting.learn(100)) == 10


def test_a_folder_whose_run_stopped_early_goes_on_to_a_higher_total(tmp_path: Path) -> None:
    """The same command leaves it as it is; one with more steps takes them."""
    for steps, taken in ((6, 2), (6, 2), (8, 4), (8, 4)):
        agent = small_agent(**ENOUGH | {"steps": steps}).learn(run_dir=tmp_path, progress=False)
        assert step(agent) == taken
        assert step(agent.learn(steps, run_dir=tmp_path, progress=False)) == taken


def test_learn_without_a_total_goes_on_to_the_agents_own(tmp_path: Path) -> None:
    """A total that one call was given is not that of the next one."""
    agent = small_agent(steps=6)
    assert step(agent.learn(3)) == 3
    assert step(agent.learn()) == 6
    path = agent.save(tmp_path / "a.safetensors")
    assert step(agents.load(path, "cpu").learn()) == 6
    epochs = small_agent(task=tasks.make("add2x2", num_samples=40), epochs=2)
    whole = step(epochs.learn(1).learn())
    assert whole == step(small_agent(task=epochs.task, epochs=2).learn())


def torn(monkeypatch: pytest.MonkeyPatch, where: str, agent: Agent, **options: object) -> None:
    """Learn until a second interrupt within an evaluation or a step ends it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        after_step = Trainer._after_step

        def begin(self: Trainer, record: object, request: object) -> None:
            after_step(self, record, request)
            if record.step == 7:
                owner, name = {
                    "evaluation": (Trainer, "_evaluate"),
                    "step": (type(agent.state.optimizer), "step"),
                }[where]
                patch.setattr(owner, name, interrupted)

        patch.setattr(Trainer, "_after_step", begin)
        with pytest.raises(KeyboardInterrupt):
            agent.learn(**options)


@pytest.mark.parametrize("where", ["evaluation", "step"])
def test_what_was_broken_off_is_learned_again(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a folder the same object goes on from its checkpoint, and ends with the same bits."""
    whole = small_agent().learn()
    agent = small_agent()
    torn(monkeypatch, where, agent, run_dir=tmp_path, progress=False)
    agent.learn(run_dir=tmp_path, progress=False)
    assert same(weights(whole), weights(agent))
    assert exact(whole.history) == exact(agent.history)


def test_a_stop_between_two_steps_breaks_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one interrupt the same object goes on to the bits of a run without it."""
    whole, agent = small_agent().learn(), small_agent()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            agent.learn()
    assert same(weights(whole), weights(agent.learn()))


def test_a_copy_of_weights_is_no_agents_checkpoint(tmp_path: Path) -> None:
    """A file of the progression is named and what is accepted, wherever an agent is read from."""
    small_agent(num_weight_snapshots=2).learn(1, run_dir=tmp_path, progress=False)
    path = tmp_path / "progression" / "step-000000001.safetensors"
    message = "progression/step-000000001.safetensors: holds a copy of weights and no agent"
    with pytest.raises(CheckpointError, match=message):
        agents.load(path)
    with pytest.raises(CheckpointError, match=message):
        small_agent().learn(resume=str(path))
    assert main([*COMMAND, "--run-dir", str(tmp_path / "a"), "--resume", str(path)]) == 65
    (tmp_path / "best.safetensors").write_bytes(path.read_bytes())
    assert main(["--mode", "predict", "--run-dir", str(tmp_path), "--input", "1+2+3"]) == 65


def test_a_task_without_a_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning from a task that draws nothing is an error, also where an epoch ends."""
    agent = small_agent()
    iter_batches = type(agent.task).iter_batches

    def first_epoch(self: object, request: BatchRequest) -> Iterator[object]:
        return iter_batches(self, request) if request.epoch == 0 else iter(())

    for batches, epoch, taken in ((lambda *_: iter(()), 0, 0), (first_epoch, 1, 1)):
        monkeypatch.setattr(type(agent.task), "iter_batches", batches)
        last = -(-agent.task.num_samples_in("train") // agent.config.batch_size)
        cursor = Cursor(start=(last - 1) * (epoch == 1))
        steps = train_steps(agent, agent.task, cursor)
        message = f"'add3x3' drew no training batch in epoch {epoch}"
        with pytest.raises(ConfigError, match=message):
            list(steps)
        assert cursor.step == taken


class Completed(Seq2SeqAdder):
    """An agent that completes its own config by what its model is."""

    @staticmethod
    def complete_config(config: AdderConfig, model: torch.nn.Module) -> AdderConfig:
        """Settle what was left open."""
        return attrs.evolve(
            config, curriculum_loss_threshold=1.0, learning_rate=0.25, threads=1, parallel="data"
        )


def test_what_complete_config_settles_is_what_is_used() -> None:
    """Optimiser, wrapper and state are made from the completed config."""
    plain = small_agent()
    agent = Completed(plain.task, plain.config, "cpu")
    assert agent.state.optimizer.config is agent.config
    assert isinstance(agent.network, torch.nn.DataParallel)
    assert agent.learn(2).state.optimizer.config is agent.config


def test_muon_without_a_matrix_to_move_is_said() -> None:
    """A model that has no weights between hidden units is told that Adam moves them all."""
    settings = {"task": "digits", "channels": 2, "num_stages": 1, "num_blocks": 1, "steps": 1}
    agent = small_agent("cnn_classifier", **settings, optimizer="muon", record_diagnostics=False)
    assert agent.state.optimizer.num_matrices == 0
    with pytest.warns(RuntimeWarning, match="optimizer=muon: this model has no hidden-to-hidden"):
        agent.learn()


def test_other_devices_generators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent seeds the generators that it draws from, and no others."""

    def refused(*_: object) -> None:
        raise AssertionError("another device's generator is seeded")

    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, refused, raising=False)
    torch.default_generator.manual_seed(4)
    expected = torch.rand(2)
    torch.default_generator.manual_seed(4)
    small_agent(steps=1).learn()
    assert torch.equal(torch.rand(2), expected)
    with devices.seeded_rng(torch.device("cpu"), 4):
        assert torch.equal(torch.rand(2), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpus_generator_is_left_alone_by_an_agent_on_the_cpu() -> None:
    """What the caller draws on the GPU does not depend on an agent beside it."""
    before = torch.cuda.get_rng_state()
    small_agent(steps=1).learn()
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("name", agents.AGENTS)
def test_agents_compute_in_float32_whatever_the_default(name: str) -> None:
    """Under a default of float64 an agent learns, answers and is looked into as under float32."""
    settings = {"steps": 2, "eval_every": 1, "eval_samples": 8}
    plain = small_agent(name, **settings).learn()
    batch = plain.task.samples("test", 4)
    scores = plain.evaluate(num=8)
    torch.set_default_dtype(torch.float64)
    try:
        agent = small_agent(name, **settings).learn()
        assert exact(agent.history) == exact(plain.history)
        assert same(weights(agent), weights(plain))
        assert agent.evaluate(num=8) == scores
        answers, expected = (
            plain_arrays("answers", each.predict_arrays(batch)) for each in (agent, plain)
        )
        assert answers.keys() == expected.keys()
        assert all(np.array_equal(answers[key], expected[key]) for key in answers)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_looking_and_changing_compute_in_float32_too() -> None:
    """Views and interventions under a default of float64 are those under float32."""
    agent = small_agent(steps=1)
    edit = {"decoder": Edit(units=[1], time=1, c=0.5)}
    expected = agent.intervene("1+2+3", edit)
    torch.set_default_dtype(torch.float64)
    try:
        changed = agent.intervene("1+2+3", edit)
        assert (changed.before, changed.after) == (expected.before, expected.after)
        agent.inspect(["gates"])
    finally:
        torch.set_default_dtype(torch.float32)


def test_batches_made_beside_training_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose batches another process makes ends with the bits of one that makes its own.

    Also when it is stopped and resumed: what was made ahead is made again.
    """
    made = []

    class Watched(Prefetcher):
        def _pays(self) -> bool:
            made.append(super()._pays())
            return made[-1]

    settings: dict[str, Any] = {"task": "digit_strings", "batch_size": 8, "schedule": "constant",
                                "eval_every": 9, "eval_samples": 4, "device": "cpu"}  # fmt: skip
    whole = agents.make("ctc_reader", prefetch=False, **settings).learn(9)
    monkeypatch.setattr(loop, "Prefetcher", functools.partial(Watched, num_watched=1))
    monkeypatch.setattr(prefetch, "_SLOW", 0.0)
    monkeypatch.setattr(prefetch.os, "cpu_count", lambda: 2)
    agents.make("ctc_reader", **settings).learn(4, run_dir=tmp_path, progress=False)
    resumed = agents.make("ctc_reader", **settings).learn(9, run_dir=tmp_path, progress=False)
    assert made == [True, True]
    assert same(weights(whole), weights(resumed))


def test_files_decoded_by_workers_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on a folder of pictures ends with the bits of one that decodes its own, also resumed.

    Another number of workers is no other run: it goes on in the same folder.
    """
    rng = np.random.default_rng(0)
    for number, pixels in enumerate(rng.integers(0, 256, (60, 9, 8, 3)).astype(np.uint8)):
        save(tmp_path / "pets" / "ab"[number % 2] / f"{number}.png", pixels)
    settings: dict[str, Any] = {
        "task": tasks.make("image_folder", path=str(tmp_path / "pets"), cache_memory=0.0),
        "batch_size": 16, "schedule": "constant", "eval_every": 3, "device": "cpu",
    }  # fmt: skip
    runs = tmp_path / "run"
    whole = agents.make("digits_lstm", num_workers=0, **settings).learn(7)
    monkeypatch.setattr(workers, "START_AFTER", 0.0)
    agents.make("digits_lstm", num_workers=2, **settings).learn(4, run_dir=runs, progress=False)
    last = agents.make("digits_lstm", num_workers=1, **settings)
    assert same(weights(whole), weights(last.learn(7, run_dir=runs, progress=False)))
