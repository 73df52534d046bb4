"""Steps whose losses stay on the device: an accelerator is waited for at a log only."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import agents
from agents.core.training import devices, step_record
from agents.core.training.loop import TrainStep, train_steps, training_environment
from agents.core.training.step_record import DivergedError
from tests.conftest import small_agent, weights

WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
}

NEED_NUMBERS = {  # whose losses cannot be computed without
    "ctc_reader", "attention_reader",  # CTC: torch reads the lengths
    "yolo_detector",  # how many priors have to find a box
}  # fmt: skip


@pytest.fixture
def _asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_asynchronous", lambda device: True)


class Dispatched(TorchDispatchMode):
    """Keeps the names of operators whose result has a size that the device has to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_mask = func is torch.ops.aten.index.Tensor and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if is_mask or func in WAITING:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    """Keeps the names of methods of a tensor that return its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("tolist", "numpy", "cpu"):
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def learner(name: str, steps: int, **settings: Any) -> Any:
    few = {"steps": steps, "eval_every": 1000, "log_every": 1000, "threads": 1}
    return small_agent(name, record_diagnostics=False, **{**few, **settings})


@pytest.mark.parametrize("name", sorted(set(agents.AGENTS) - NEED_NUMBERS))
def test_a_step_reads_nothing_from_the_device(name: str) -> None:
    """A step, all of it from the batch to the optimiser, needs no number from the device."""
    agent = learner(name, 3)
    train_step = TrainStep(agent, num_parts=1, found_inf=torch.zeros(()))
    with (
        training_environment(agent),
        contextlib.closing(train_steps(agent, agent.task, agent.state.cursor, train_step)) as steps,
    ):
        next(steps)
        with Dispatched() as dispatched, Called() as called:
            next(steps)
    assert [*dispatched.names, *called.names] == []


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_late_reading_changes_no_result(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and logged means are those of a run that reads each loss at once."""
    settings = {"optimizer": optimizer, "weight_decay": 0.01, "log_every": 4, "clip_norm": 0.5}
    usual = learner("seq2seq_adder", 10, **settings).learn()
    monkeypatch.setattr(devices, "is_asynchronous", lambda device: True)
    late = learner("seq2seq_adder", 10, **settings).learn()
    for name, tensor in weights(usual).items():
        torch.testing.assert_close(tensor, weights(late)[name], rtol=1e-4, atol=1e-6)
    for key in ("train/loss", "train/grad_norm"):
        steps, values = usual.history.series(key)
        assert late.history.series(key)[0] == steps == [4, 8, 10]
        assert late.history.series(key)[1] == pytest.approx(values, rel=1e-4)


@pytest.mark.usefixtures("_asynchronous")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_what_diverged_between_two_logs_is_not_taken(optimizer: str) -> None:
    """After a NaN in step 6 of 10 the weights and the cursor are those after step 5."""
    own = {"optimizer": optimizer, "schedule": "constant", "weight_decay": 0.1, "clip_norm": 0.5}
    good = learner("seq2seq_adder", 5, **own).learn()
    agent = learner("seq2seq_adder", 10, **own)
    numbers: Iterator[int] = iter(range(1, 99))
    loss = agent.loss
    agent.loss = lambda batch: loss(batch) * (math.nan if next(numbers) == 6 else 1.0)
    with pytest.raises(DivergedError, match="diverged at step 6: loss nan"):
        agent.learn()
    assert (agent.state.cursor.step, agent.state.cursor.unfinished) == (5, "")
    assert next(numbers) > 7  # the steps after it were computed
    for name, tensor in weights(good).items():
        torch.testing.assert_close(tensor, weights(agent)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("_asynchronous")
def test_an_interrupt_between_two_logs_is_not_taken_for_a_divergence() -> None:
    """After a NaN in step 6 Ctrl-C in step 8 is a KeyboardInterrupt, with the cursor after 5."""
    agent = learner("seq2seq_adder", 10)
    numbers: Iterator[int] = iter(range(1, 99))
    loss = agent.loss

    def interrupted(batch: Any) -> Any:
        number = next(numbers)
        if number == 8:
            raise KeyboardInterrupt
        return loss(batch) * (math.nan if number == 6 else 1.0)

    agent.loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        agent.learn()
    assert agent.state.cursor.step == 5
    assert agent.state.sums.steps == 5


@pytest.mark.usefixtures("_asynchronous")
def test_an_interrupt_while_losses_are_read_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are read when `learn` is left, if an interrupt cut off their reading."""
    agent, calls = learner("seq2seq_adder", 10, log_every=4), iter(range(9))
    read = step_record._read

    def cut_off(records: Any) -> None:
        if next(calls) == 0:
            raise KeyboardInterrupt
        read(records)

    monkeypatch.setattr(step_record, "_read", cut_off)
    with pytest.raises(KeyboardInterrupt):
        agent.learn()
    assert agent.state.sums.steps == agent.state.cursor.step == 4


@pytest.mark.usefixtures("_asynchronous")
def test_a_loss_of_one_element_and_in_double_precision_is_read() -> None:
    """Losses of shape (1,) are scalars, and numbers keep what float32 has no room for."""
    one, large = torch.ones(1), torch.tensor(1e300, dtype=torch.float64)
    records = [step_record.StepRecord(n, 0.1, 2, one, large, {"part": one}) for n in (1, 2)]
    step_record._read(records)
    assert records[0].is_finite_on_device().shape == ()
    assert [(r.loss, r.grad_norm, r.parts) for r in records] == [(1.0, 1e300, {"part": 1.0})] * 2
