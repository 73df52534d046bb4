"""Parity: right labels, stages of growing length, and what the trained reader is."""

import attrs
import numpy as np
import pytest

import agents
import tasks
from agents.core.agent import Agent
from agents.core.runs.checkpoint import Checkpoint
from tasks.core.settings import ConfigError
from tests.conftest import exact, same, small_agent, trained_agent, weights


@pytest.mark.parametrize("name", ["parity", "mod3", "mod7"])
def test_labels_count_the_ones(name: str) -> None:
    """Every label is the number of ones modulo the name's number, in Python's arithmetic."""
    task = tasks.make(name, length=23)
    batch = task.samples("test", 300)
    for bits, (label,) in zip(batch.sequence.tolist(), batch.label.tolist(), strict=True):
        assert label == sum(bits) % task.modulus
    assert set(batch.label[:, 0].tolist()) == set(range(task.modulus))


def test_stages_double_up_to_the_training_length() -> None:
    """Stage s has sequences of at most 1, 2, 4, … bits, longer than the stage before's."""
    task = tasks.make("parity", train_length=25)
    assert task.lengths == (1, 2, 4, 8, 16, 25)
    assert task.num_stages == 6
    before = 0
    for stage, longest in enumerate(task.lengths):
        batches = task.batches("train", 100, 0, 0, 0, stage)
        assert {b.sequence.shape[1] for b in batches} == set(range(before + 1, longest + 1))
        before = longest
    assert {b.sequence.shape[1] for b in task.batches("train", 100, 0, 0)} == set(range(17, 26))


def test_splits_of_one_length_share_no_sequence() -> None:
    """Of one length, sequences of training, validation and test are never the same."""
    task = tasks.make("parity", length=12, train_length=12)
    seen = [
        {bits.tobytes() for bits in task.samples(split, 3000).sequence}
        for split in ("train", "validation", "test")
    ]
    assert len(seen[0] | seen[1] | seen[2]) == sum(map(len, seen))


@pytest.mark.parametrize("text", ["", "0120", "1 0", "odd"])
def test_what_is_no_bit_string_is_refused(text: str) -> None:
    """Typed text other than 0 and 1 is an error that names it and what is accepted."""
    with pytest.raises(ConfigError, match="is not a bit string; accepted: text of 0 and 1"):
        tasks.make("parity").encode([text])


def climbing(**settings: object) -> Agent:
    """Return an agent whose stage rises every third step."""
    return agents.make(
        "parity_lstm", task="parity", device="cpu", steps=12, batch_size=8, eval_every=6,
        eval_samples=8, log_every=3, curriculum_loss_threshold=100.0, curriculum_window=3,
        precision="fp32", **settings
    )  # fmt: skip


def test_the_stage_rises_when_the_loss_is_low() -> None:
    """After each window of steps of a low enough loss the next stage begins, up to the last."""
    agent = climbing().learn()
    assert agent.history.series("train/stage") == ([3, 6, 9, 12], [1, 2, 3, 4])
    assert agent.state.cursor.stage == 4
    longer = climbing().learn(24)
    assert longer.state.cursor.stage == agent.task.num_stages - 1
    assert climbing(learning_rate=1e-9).learn().state.cursor.stage == 4
    never = attrs.evolve(agent.config, curriculum_loss_threshold=1e-9)
    still = agents.make("parity_lstm", task="parity", device="cpu", **attrs.asdict(never)).learn()
    assert still.state.cursor.stage == 0


def test_a_climb_in_two_parts_is_a_climb_at_once(tmp_path) -> None:
    """Saved between two looks at the stage, a run goes on to the same stages and bits."""
    whole = climbing().learn(20)
    half = climbing().learn(7)  # one step into the third block
    rest = agents.load(half.save(tmp_path / "half.safetensors"), device="cpu").learn(20)
    assert rest.state.cursor == whole.state.cursor
    assert same(weights(whole), weights(rest))
    assert exact(whole.history)[-2:] == exact(rest.history)[-2:]


@pytest.fixture(scope="module")
def trained() -> Agent:
    """Return an agent trained in stages, with one thread."""
    return trained_agent(
        "parity_lstm", task="parity", seed=1, steps=1000, eval_every=1000, eval_samples=8
    )


def test_stages_solve_what_cannot_be_learned_at_once(trained: Agent) -> None:
    """Trained on at most 128 bits in stages it is right on 1,000 bits; without stages at chance."""
    assert trained.evaluate(num=500)["accuracy"] == 1.0
    assert trained.predict("0110") == "even"
    assert trained.predict(["1" * 999, "10" * 500]) == ["odd", "even"]
    plain = agents.make(
        "parity_lstm", task="parity", device="cpu", seed=0, steps=200, eval_every=200,
        eval_samples=8, precision="fp32", curriculum_loss_threshold=None,
    ).learn()  # fmt: skip
    assert plain.state.cursor.stage == plain.task.num_stages - 1
    assert abs(plain.evaluate(num=500)["accuracy"] - 0.5) < 0.1
    assert abs(np.mean(plain.history.series("train/loss")[1][-2:]) - np.log(2)) < 0.02


def test_a_donors_state_gives_the_donors_answer(trained: Agent) -> None:
    """With all units as after another text the answer is the other text's."""
    assert trained.predict(["0110", "0111"]) == ["even", "odd"]
    changed = trained.intervene("0110", donor="0111")
    assert (changed.before, changed.after) == ("even", "odd")
    with pytest.raises(ConfigError, match=r"part: 'raeder' is not a part; .* did you mean reader"):
        trained.intervene("0110", donor="0111", part="raeder")


def test_its_automaton_is_that_of_parity(trained: Agent) -> None:
    """The trained reader boils down to two states that swap at every one."""
    machine = trained.inspect(["automaton"])["automaton"]["reader"]
    assert machine.num_states == 2
    assert machine.agreement == 1.0
    assert machine.alphabet == ("0", "1")
    assert machine.transitions.tolist() == [[0, 1], [1, 0]]
    assert machine.outputs == ("even", "odd")


def test_a_checkpoint_from_before_stages_is_read_and_goes_on(tmp_path) -> None:
    """Without the stage, and without the settings of it, a run of an earlier version resumes."""
    agent = small_agent().learn(7, run_dir=tmp_path, progress=False)
    found = agent.checkpoint()
    values = {k: v for k, v in found.values.items() if k != "climb"}
    values["cursor"] = {k: v for k, v in values["cursor"].items() if k != "stage"}
    young = ("curriculum_loss_threshold", "curriculum_window")
    values["config"] = {k: v for k, v in values["config"].items() if k not in young}
    for path in [tmp_path / "best.safetensors", *(tmp_path / "checkpoints").iterdir()]:
        path.write_bytes(Checkpoint(values, found.tensors).to_bytes())
    assert agents.load(tmp_path / "best.safetensors", device="cpu").state.cursor.step == 7
    assert small_agent().learn(run_dir=tmp_path, progress=False).state.cursor.step == 12
