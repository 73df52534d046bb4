"""Peers and limits of the benchmarks do the same work as what is measured beside them."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import agents
import tasks
from agents.seq2seq_adder import EncoderDecoder, Seq2SeqAdder
from benchmarks import attribution, generation, growth, measure, patches, products
from benchmarks.checkpoints import write_durably
from benchmarks.gpu import command
from benchmarks.gpu.epochs import WAYS, Sums, run_epoch
from benchmarks.gpu.model import Adder, answer_loss
from benchmarks.shapes import flops, linear_products, lstm_products, multiplication
from benchmarks.steps import seconds_of_windows
from tasks.core.settings import ConfigError
from tasks.core.task import TextChunks

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
BATCH, READ, WRITTEN, CODES, UNITS = 5, 7, 4, 12, 16


def test_the_products_of_a_step_are_those_that_torch_counts() -> None:
    """Torch's own counter sees as many operations in a step of a loop over cells.

    But for one: at the encoder's first time step the state is zero, and needs no gradient.
    """
    model = Adder(CODES, UNITS, cells=True)
    question = torch.randint(CODES, (BATCH, READ))
    answer = torch.randint(CODES, (BATCH, WRITTEN))
    with FlopCounterMode(display=False) as counter:
        answer_loss(model, question, answer).backward()
    expected = [
        *lstm_products(BATCH, READ, CODES, UNITS),
        *lstm_products(BATCH, WRITTEN, CODES, UNITS),
        *linear_products(BATCH * WRITTEN, UNITS, CODES),
    ]
    not_needed = 2 * BATCH * 4 * UNITS * UNITS
    assert counter.get_total_flops() == flops(expected) - not_needed
    for product in expected:
        multiplication(product, torch.float32)(2)


def test_the_products_of_the_language_model_are_of_the_chunks_that_it_learns_from() -> None:
    """There is a product with the hidden state for each character of a training batch."""
    case = products.CASES["language model, 192 units"]
    agent: Any = agents.make(case.agent, task=case.task, device="cpu", hidden_size=8, threads=1)
    lengths: list[int] = []
    loss_fn = agent.loss
    agent.loss = lambda batch: (lengths.append(batch.text.shape[1]), loss_fn(batch))[1]
    next(seconds_of_windows(agent, 0, 1))
    counts = {product.count for product in case.products(agent, agent.config.batch_size)}
    assert counts == {1, *lengths}


@pytest.mark.parametrize("cells", [False, True])
def test_the_model_of_the_gpu_benchmark_is_the_agents(cells: bool) -> None:
    """It takes the agent's weights, and its logits are the same."""
    spec = tasks.make("add3x2").spec
    own = EncoderDecoder(Seq2SeqAdder.Config(hidden_size=UNITS), spec)
    other = Adder(len(spec.characters), UNITS, cells)
    other.load_state_dict(own.state_dict())
    question = torch.randint(len(spec.characters), (BATCH, spec.question_length))
    answer = torch.randint(len(spec.characters), (BATCH, spec.answer_length))
    torch.testing.assert_close(other(question, answer), own(question, answer))


@pytest.fixture
def sums() -> Sums:
    """Return a few sums of the benchmark's task."""
    task = tasks.make(command.TASK)
    batch = task.samples("train", 64)
    return Sums(batch.question, batch.answer, len(task.spec.characters))


def test_all_ways_through_an_epoch_learn_the_same(sums: Sums) -> None:
    """Wherever the data are and however the LSTM is computed, the mean loss is the same."""
    ways = [way for way in WAYS if way.engine == "eager" and way.precision == "fp32"]
    losses = [run_epoch(way, sums, 16, CPU).loss for way in ways]
    assert len(losses) == 4
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    assert losses[0] < np.log(sums.num_codes)


def test_the_gpu_command_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way has seconds or a reason, learn() too, and the report names both."""
    quick = [way for way in WAYS if way.engine != "compile" and way.precision == "fp32"]
    monkeypatch.setattr(command, "WAYS", quick)
    monkeypatch.setattr(command, "_REPEATS", 1)
    figures = command.measure(Namespace(device="cpu", batch=[16], limit=64))
    ways = figures["batches"]["16"]["ways"]
    assert set(ways) == {way.name for way in quick} | {"learn()"}
    missing = {name for name, found in ways.items() if "missing" in found}
    assert missing == {way.name for way in quick if way.engine == "graph"}
    assert all(ways[name]["seconds"] > 0 for name in set(ways) - missing)
    text = command.report(figures)
    assert "CUDA graphs need a GPU" in text
    assert "at the rate of the fastest product, bf16" in text


def test_the_gpu_command_refuses_too_few_samples() -> None:
    """Less than two batches are an error that says how many are accepted."""
    with pytest.raises(ConfigError, match=r"31 samples are too few.*≥ 32"):
        command.measure(Namespace(device="cpu", batch=[16], limit=31))


def test_the_gpu_command_needs_no_package_of_the_agents() -> None:
    """It is imported without agents, yaml, safetensors, torchvision and matplotlib."""
    ask = (
        "import sys, benchmarks.__main__, benchmarks.gpu.command; "
        "print(*{'agents', 'yaml', 'safetensors', 'matplotlib', 'torchvision'} "
        "& set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.filterwarnings("ignore::UserWarning")  # captum tells of its hooks
def test_the_attributions_that_are_timed_are_those_of_captum() -> None:
    """Ours and captum's are the same maps, by every method of the benchmark.

    But for rounding: at a node of integrated gradients it may switch a ReLU.
    """
    pytest.importorskip("captum")
    subject = next(iter(attribution.subjects().values()))
    few = subject._replace(images=subject.images[:2], target=subject.target[:2])
    for name, (ours, theirs) in attribution.ways(few).items():
        assert attribution.agreement(ours().detach(), theirs().detach()) < 1e-2, name


def test_the_bare_loop_of_generation_writes_what_the_agent_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a temperature near zero both take the likeliest characters."""
    monkeypatch.setattr(generation, "TEMPERATURE", 1e-4)
    agent: Any = agents.make(
        "char_lm", task="text", device="cpu", hidden_size=8, sample_length=12, temperature=1e-4
    )
    batch = TextChunks(*(a[:, :9] if a.ndim > 1 else a for a in agent.task.samples("test", 3)))
    text = torch.as_tensor(batch.text).long()
    assert generation.bare_loop(agent, text, 12).tolist() == agent.generate(batch).tolist()


def test_the_gradient_of_a_unit_is_a_part_of_its_receptive_field() -> None:
    """Where one pass back finds a gradient, the exact field has its mask; the hook comes off."""
    model = patches.networks()["plain"][0]
    gradient = patches.gradient_of_unit(model, "7", (0, 3, 3), (1, 28, 28))
    field = patches.receptive_field(model, "7", (0, 3, 3), (1, 28, 28))
    assert gradient.abs().sum() > 0
    assert not (gradient.numpy() != 0)[~field.mask].any()
    assert not any(module._forward_hooks for module in model.modules())


def test_a_power_law_has_its_exponent() -> None:
    """Of exact times the slope is the exponent; noise widens the interval around it."""
    sizes = np.geomspace(10, 10_000, 7)
    exact = growth.fit(sizes, 3e-6 * sizes**1.7)
    assert exact.exponent == pytest.approx(1.7)
    assert exact.margin == pytest.approx(0, abs=1e-6)
    wrong = 3e-6 * sizes**1.7 * np.array([1.2, 0.8, 1.1, 0.9, 1.2, 0.8, 1.1])
    noisy = growth.fit(sizes, wrong)
    assert abs(noisy.exponent - 1.7) < noisy.margin < 0.2


def test_the_sizes_of_growth_span_three_decades() -> None:
    """Every case has seven sizes, of which the last is a thousand times the first."""
    for case in growth.CASES.values():
        assert len(case.sizes) == 7
        assert case.sizes[-1] == 1000 * case.sizes[0]


def test_steps_of_growing_length_have_that_length() -> None:
    """The curriculum of the adding problem is at its end: series are as long as they are named."""
    agent = growth.agent_of_length(200)
    lengths: list[int] = []
    loss_fn = agent.loss
    agent.loss = lambda batch: (lengths.append(batch.series.shape[1]), loss_fn(batch))[1]
    next(seconds_of_windows(agent, 1, 1))
    assert lengths
    assert set(lengths) == {200}


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    """Two rounds are three calls of each way, of which two have a time."""
    calls: list[str] = []
    times = measure.in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2
    )
    assert calls == ["a", "b"] * 3
    assert [len(each) for each in times.values()] == [2, 2]


def test_the_plain_write_beside_checkpoints_leaves_the_bytes_alone(tmp_path: Path) -> None:
    """The file has them, and no part is left."""
    write_durably(tmp_path / "a.bin", b"some bytes")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"some bytes")]
