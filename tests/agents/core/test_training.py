"""The mathematics of training: the optimiser, the schedule, the wrapper, the adder's variants."""

from pathlib import Path

import pytest
import torch
from torch import nn

import agents
import tasks
from agents.configs.seq2seq_adder import AdderConfig
from agents.core.config import AgentConfig
from agents.core.training import devices, parallel
from agents.core.training.loop import total_steps
from agents.core.training.optimizer import Optimizer, hidden_matrices, orthogonalize
from agents.seq2seq_adder import EncoderDecoder
from tests.conftest import same, small_agent, weights


def descend(optimizer: object, model: nn.Module, steps: int) -> list[torch.Tensor]:
    """Take steps on a fixed quadratic; return the parameters."""
    target = [torch.full_like(p, 0.3) for p in model.parameters()]
    for _ in range(steps):
        model.zero_grad()
        loss = sum(((p - t) ** 2).sum() for p, t in zip(model.parameters(), target, strict=True))
        loss.backward()
        optimizer.step(1.0) if isinstance(optimizer, Optimizer) else optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(("decay", "beta2"), [(0.0, 0.999), (0.1, 0.999), (1.0, 0.98)])
def test_adam_equals_torchs_adamw(decay: float, beta2: float) -> None:
    """Ten steps give the bits of torch.optim.AdamW(fused=True)."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(nn.Linear(5, 3))
    config = AgentConfig(learning_rate=0.01, weight_decay=decay, adam_beta2=beta2)
    ours = Optimizer(models[0], config)
    theirs = torch.optim.AdamW(
        models[1].parameters(), 0.01, (0.9, beta2), weight_decay=decay, fused=True
    )
    for a, b in zip(descend(ours, models[0], 10), descend(theirs, models[1], 10), strict=True):
        assert torch.equal(a, b)


def test_muon_equals_torchs_muon() -> None:
    """Ten steps on a hidden-to-hidden matrix agree with torch.optim.Muon to bfloat16."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(nn.RNN(3, 8, num_layers=2, bias=False))
    ours = Optimizer(models[0], AgentConfig(optimizer="muon", muon_learning_rate=0.02,
                                            muon_momentum=0.9))  # fmt: skip
    named = dict(models[1].named_parameters())
    chosen = [named[name] for name in named if name in hidden_matrices(models[0])]
    theirs = torch.optim.Muon(chosen, 0.02, weight_decay=0.0, momentum=0.9)
    descend(ours, models[0], 10)
    descend(theirs, models[1], 10)
    for name in hidden_matrices(models[0]):
        mine = dict(models[0].named_parameters())[name]
        torch.testing.assert_close(mine, named[name], atol=2e-3, rtol=0)


def test_hidden_matrices_are_those_that_multiply_hidden_states() -> None:
    """Input weights of the first layer, biases, embeddings and read-outs are left to Adam."""
    model = nn.ModuleDict({"lstm": nn.LSTM(4, 8, 2), "out": nn.Linear(8, 8)})
    assert hidden_matrices(model) == {
        "lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1"
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (8, 32)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    """The result has the matrix's singular vectors, and singular values near 1."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert (orthogonalize(matrix) * (u @ v)).sum() > 0.8 * min(shape)


def test_epochs_are_counted_in_steps() -> None:
    """Two epochs of 900 samples in batches of 256 are eight steps, the last of each short."""
    task = tasks.make("add2x2", num_samples=1000)
    assert total_steps(AgentConfig(epochs=2), task) == 8
    agent = agents.make(
        "seq2seq_adder", task=task, epochs=2, batch_size=256, hidden_size=8, device="cpu"
    )
    assert agent.learn().state.cursor.step == 8


class Inside(nn.Module):
    """A model that holds its own wrapper, as one must not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.parallel = nn.DataParallel(self)


def test_a_wrapper_inside_the_model_recurses() -> None:
    """Held inside, the wrapper's child is the model and the model's child the wrapper: no end."""
    for walk in (lambda m: m.train(), lambda m: m.state_dict(), lambda m: m.apply(print)):
        with pytest.raises(RecursionError):
            walk(Inside())


def test_a_wrapper_beside_the_model_does_not() -> None:
    """Beside, the wrapper holds the model, the model knows nothing of it: its names stay bare."""
    model = nn.Linear(2, 2)
    wrapped = parallel.wrap(model, "data", torch.device("cpu"))
    assert isinstance(wrapped, nn.DataParallel)
    assert wrapped.module is model
    assert list(model.state_dict()) == ["weight", "bias"]
    assert list(model.children()) == []
    assert torch.equal(wrapped(torch.ones(1, 2)), model(torch.ones(1, 2)))
    wrapped.train(mode=False)
    assert not model.training
    assert parallel.wrap(model, "none", torch.device("cpu")) is model


VARIANTS = [
    {"cell": "gru"}, {"cell": "rnn"}, {"num_layers": 2, "dropout": 0.1}, {"encoding": "embedding"},
    {"decoder": "repeat"}, {"decoder": "repeat", "cell": "gru"}, {"optimizer": "adam"},
    {"precision": "auto"}, {"clip_norm": None}, {"hidden_size": 1},
]  # fmt: skip


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_variant_learns_saves_and_answers(
    settings: dict[str, object], tmp_path: Path
) -> None:
    """Each way to build the adder lowers its loss, and gives the same answers once loaded."""
    agent = small_agent(**{"steps": 40, "log_every": 10, **settings}).learn()
    losses = agent.history.series("train/loss")[1]
    assert losses[-1] < losses[0]
    loaded = agents.load(agent.save(tmp_path / "a.safetensors"), "cpu")
    sums = ["1+2+3", "999+999+999"]
    assert loaded.predict(sums) == agent.predict(sums)


def test_dropout_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """With dropout, a run in two parts equals one at once, in memory as well as by a file."""
    settings = {"num_layers": 2, "dropout": 0.5, "schedule": "constant"}
    whole = small_agent(**settings).learn()
    half = small_agent(**settings).learn(7)
    loaded = agents.load(half.save(tmp_path / "half.safetensors"), "cpu")
    assert same(weights(whole), weights(half.learn(12)))
    assert same(weights(whole), weights(loaded.learn(12)))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_free_running_equals_teacher_forcing_on_its_own_words(cell: str) -> None:
    """Fed the answers that it wrote itself, the decoder gives logits whose argmax they are."""
    task = tasks.make("add2x2")
    torch.manual_seed(0)
    model = EncoderDecoder(AdderConfig(hidden_size=24, cell=cell), task.spec)
    question = torch.as_tensor(task.samples("test", 50).question).long()
    with torch.no_grad():
        answers = model.generate(model.encode(question))[0]
        again = model(question, answers).argmax(-1)
    assert torch.equal(answers, again)


def test_the_last_target_character_never_reaches_the_decoder() -> None:
    """Changing the target at position t changes the logits after t, and no others."""
    task = tasks.make("add2x2")
    model = EncoderDecoder(AdderConfig(hidden_size=8), task.spec)
    batch = task.samples("test", 1)
    question = torch.as_tensor(batch.question).long()
    answer = torch.as_tensor(batch.answer).long()
    plain = model(question, answer)
    for position in range(answer.shape[1]):
        changed = answer.clone()
        changed[0, position] = (changed[0, position] + 1) % 12
        differs = (model(question, changed) != plain).any(-1)[0]
        assert differs.tolist() == [t > position for t in range(answer.shape[1])]


@pytest.mark.parametrize(("settings", "samples"), [
    ({}, 1200), pytest.param({"reverse": "none"}, 1200, marks=pytest.mark.slow),
    pytest.param({"num_samples": 500}, 1200, marks=pytest.mark.slow),
])  # fmt: skip
def test_the_adder_learns_one_digit_sums(settings: dict[str, object], samples: int) -> None:
    """A small adder gets most one-digit sums of three terms right after some hundred steps."""
    if "num_samples" in settings:
        task = tasks.make("add2x2", **settings)
    else:
        task = tasks.make("add1x3", **settings)
    agent = agents.make("seq2seq_adder", task=task, hidden_size=48, steps=700, batch_size=64,
                        eval_every=700, precision="fp32", device="cpu").learn()  # fmt: skip
    scores = agent.evaluate(split="train", num=samples)
    assert scores["exact_match"] > 0.8
    assert scores["token_accuracy"] >= scores["exact_match"]


def test_predict_takes_one_text_or_many() -> None:
    """One text gives one answer, a list gives a list, and a bad one is a ValueError."""
    agent = small_agent()
    one = agent.predict("1+2+3")
    assert isinstance(one, str)
    assert agent.predict(["1+2+3", "4+5+6"])[0] == one
    with pytest.raises(ValueError, match="accepted"):
        agent.predict("1+2")


def test_random_state_is_put_back_after_an_error() -> None:
    """A block that fails leaves the caller's generator where it was."""
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with pytest.raises(TypeError), devices.seeded_rng(torch.device("cpu"), 9):
        torch.rand("seven")
    assert torch.equal(torch.rand(2), expected)


def test_the_thread_count_belongs_to_the_checkpoint(tmp_path: Path) -> None:
    """A loaded run goes on with the threads it began with, and gives the caller's count back."""
    path = small_agent().learn(6).save(tmp_path / "a.safetensors")
    torch.set_num_threads(2)
    agent, seen = agents.load(path, "cpu"), []
    loss_fn = agent.loss
    agent.loss = lambda batch: (seen.append(torch.get_num_threads()), loss_fn(batch))[1]
    agent.learn(12)
    assert set(seen[:6]) == {1}
    assert torch.get_num_threads() == 2
