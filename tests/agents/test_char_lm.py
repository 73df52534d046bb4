"""The language model: a state that is carried, texts that are drawn, and what it beats."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import agents
import tasks
from agents.char_lm import CharLM, _sample_code
from agents.core.runs.checkpoint import Checkpoint
from agents.core.training.loop import to_device
from main import main
from tasks.core.settings import ConfigError
from tasks.core.synthetic import easy_task
from tests.conftest import SMALL, exact, in_double, same, small_agent, trained_agent, weights
from visualization import render

SENTENCES = (  # told apart by their first letters
    "the cat (sat) here.", 'a "dog" ran off.', "who knows that one?", "never (ever) again!",
    "I 'think' so too.", "my oh my, she said.", "go to (the) sea.", "you were right.",
    "or 'not', he said.", "zebras are white.", "x is (x) itself.", "be quick (now).",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CharLM:
    """Return an agent that has learned a text of a few sentences by heart."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("corpus") / "sentences.txt"
    path.write_text("".join(rng.choice([f"{line}\n" for line in SENTENCES], 2000)))
    task = tasks.make("text", path=str(path), block_size=32, length=160, validation=0.2, test=0.2)
    agent = trained_agent(
        "char_lm", task=task, hidden_size=48, steps=500, batch_size=16, eval_every=500,
        eval_samples=50,
    )  # fmt: skip
    assert isinstance(agent, CharLM)
    return agent


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_chunks_with_a_carried_state_are_one_long_text(cell: str) -> None:
    """The losses of two chunks in a row, the state carried, are those of the joined text."""
    agent = small_agent("char_lm", cell=cell, num_layers=2, batch_size=4, state_reset_prob=0.0)
    in_double(agent)
    first, second, *_ = (
        b for _, b in zip(range(2), agent.task.batches("train", 4, 0, 0), strict=False)
    )
    assert not second.reset_state.any()
    agent.model.train()
    losses = [agent.loss(to_device(batch, agent.device)).item() for batch in (first, second)]
    text = torch.as_tensor(np.concatenate([first.text, second.text], axis=1)).long()
    following = torch.as_tensor(np.concatenate([first.targets, second.targets], axis=1)).long()
    joined = F.cross_entropy(
        agent.model(text)[0].transpose(1, 2), following, reduction="none"
    ).mean(0)
    chunk = first.text.shape[1]
    assert losses == pytest.approx([joined[:chunk].mean().item(), joined[chunk:].mean().item()])
    agent.model.eval()
    alone = agent.loss(to_device(second, agent.device)).item()
    assert alone != pytest.approx(losses[1], rel=1e-4)
    agent.model.train()
    begins = type(second)(second.text, second.targets, np.ones(4, bool))
    assert agent.loss(to_device(begins, agent.device)).item() == pytest.approx(alone)


def test_a_row_that_begins_starts_from_zeros_and_the_others_go_on() -> None:
    """Of a batch in which one text begins, that row has its loss alone, and no other has."""
    agent = in_double(small_agent("char_lm", batch_size=4, state_reset_prob=0.0))
    batches = agent.task.batches("train", 4, 0, 0)
    first, second = next(batches), next(batches)
    agent.model.train()

    def losses(begins: list[bool], rows: int = 4) -> list[float]:
        """Return the loss of each row, found by asking for that row's targets alone."""
        found = []
        for row in range(rows):
            following = np.full((rows, first.text.shape[1]), -1, np.int64)
            following[row] = second.targets[row]
            agent.loss(to_device(first, agent.device))
            batch = type(second)(second.text[:rows], following, np.array(begins[:rows]))
            found.append(agent.loss(to_device(batch, agent.device)).item())
        return found

    carried, alone = losses([False] * 4), losses([True] * 4)
    assert losses([False, True, False, False]) == pytest.approx(
        [carried[0], alone[1], carried[2], carried[3]]
    )
    assert losses([False] * 4, rows=2) == pytest.approx(carried[:2])
    assert all(abs(a - b) > 1e-6 for a, b in zip(carried, alone, strict=True))


def test_without_a_carried_state_each_chunk_stands_alone() -> None:
    """With stateful false nothing is kept, and the run has other bits."""
    plain = small_agent("char_lm", stateful=False).learn()
    assert plain.state.hidden_state == {}
    stateful = small_agent("char_lm").learn()
    assert set(stateful.state.hidden_state) == {"0", "1"}  # h and c
    assert not same(
        weights(plain), {k: v for k, v in weights(stateful).items() if "carried" not in k}
    )


def test_a_share_of_the_streams_begins_anew() -> None:
    """A share of one half makes about half of the rows begin from zeros, and leaves the others."""
    agent = small_agent("char_lm", state_reset_prob=0.5, batch_size=400)
    agent.state.hidden_state = {name: torch.ones(400, 1, 16) for name in "01"}
    kept = agent._initial_state(torch.zeros(400, dtype=torch.bool))[0][:, 0, 0]
    assert 0.4 < kept.mean() < 0.6
    assert set(kept.tolist()) == {0.0, 1.0}


def test_a_run_goes_on_with_larger_batches(tmp_path: Path) -> None:
    """From a checkpoint of smaller batches a run begins, with states of its own batch."""
    path = small_agent("char_lm", batch_size=8).learn(5).save(tmp_path / "small.safetensors")
    agent = small_agent("char_lm").learn(run_dir=tmp_path / "run", resume=str(path), progress=False)
    assert agent.state.cursor.step == 12
    assert len(agent.state.hidden_state["0"]) == 16


def test_the_carried_state_is_in_the_checkpoint(tmp_path: Path) -> None:
    """Saved in the middle of an epoch, a run goes on to the same bits."""
    whole = small_agent("char_lm", schedule="constant").learn()
    half = small_agent("char_lm", schedule="constant").learn(7)
    saved = half.checkpoint()
    bare = Checkpoint(
        saved.values, {n: t for n, t in saved.tensors.items() if not n.startswith("carried/")}
    )
    ends = []
    for name, found in (("kept", saved), ("lost", bare)):  # the second as before there was one
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(found.to_bytes())
        ends.append(agents.load(path, device="cpu"))
    assert same(half.state.hidden_state, ends[0].state.hidden_state)
    assert ends[1].state.hidden_state == {}
    ends[0].learn(12)
    assert same(weights(whole), weights(ends[0]))
    assert exact(whole.history)[-1] == exact(ends[0].history)[-1]


def test_an_epochs_short_last_batch_keeps_its_rows(tmp_path: Path) -> None:
    """Over the ends of epochs, with fewer rows at each, the run in parts is the run at once."""
    path = tmp_path / "text.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("abcde\n"), 3000)))
    task = tasks.make("text", path=str(path), block_size=16, length=16)
    assert task.num_samples_in("train") % 16 not in (0, 1)
    settings = {"task": task, "steps": 40, "schedule": "constant"}
    whole = small_agent("char_lm", **settings).learn()
    assert whole.state.cursor.epoch >= 3
    parts = small_agent("char_lm", **settings)
    for steps in (9, 11, 12, 23, 40):
        parts.learn(steps)
        parts = agents.load(parts.save(tmp_path / "a.safetensors"), device="cpu")
    assert same(weights(whole), weights(parts))


def test_bits_are_the_loss_over_ln_2() -> None:
    """Before training all characters are about equally likely: log2 of their number, in bits."""
    agent = small_agent("char_lm")
    bits = agent.bits_per_character("validation", 20)
    assert bits == agent.mean_loss(agent.task.samples("validation", 20)) / math.log(2)
    assert bits == pytest.approx(math.log2(len(agent.task.spec.characters)), abs=0.2)


def test_it_learns_sentences_by_heart(trained: CharLM) -> None:
    """Within sentences that it has read nothing is left to guess; only the next one is a draw."""
    task = trained.task
    text = 'a "dog" ran off.\nthe cat (sat) h'
    answers = task.decode(trained.predict_arrays(task.encode([text])))[0]
    assert answers[2:15] == text[3:16]
    assert answers[19:] == text[20:] + "e"
    assert trained.sample(text, 6, 0) == "ere.\n" + trained.sample(text, 6, 0)[-1]
    written = trained.sample("the cat", 400, seed=3).split("\n")[1:-1]
    assert len(written) > 10
    assert sum(line in SENTENCES for line in written) >= 0.9 * len(written)


def test_a_draw_is_its_seed(trained: CharLM) -> None:
    """Equal seeds draw equal texts, others do not, and nothing of the agent or torch changes."""
    before, state = weights(trained), torch.get_rng_state()
    texts = [trained.sample(".\n", 200, 1.0, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) == 200 for text in texts)
    assert trained.sample(".\n", 50, 0, seed=0) == trained.sample(".\n", 50, 0, seed=9)
    assert trained.sample(".\n", 50, 1.0, top_k=1) == trained.sample(".\n", 50, 0)
    assert same(before, weights(trained))
    assert torch.equal(state, torch.get_rng_state())


def test_drawn_codes_have_the_odds_of_the_softmax() -> None:
    """Over many draws the shares are those of softmax(logits / temperature), of the k likeliest."""
    logits = np.array([[1.0, 0.0, 3.0, 2.0]], np.float32)
    rows = np.repeat(logits, 40_000, axis=0)
    rng = np.random.default_rng(0)
    for temperature, top_k, kept in (
        (1.0, None, [0, 1, 2, 3]),
        (2.0, None, [0, 1, 2, 3]),
        (0.5, 2, [2, 3]),
    ):
        share = np.bincount(
            _sample_code(rows, temperature, top_k, rng.random((len(rows), 1))), minlength=4
        ) / len(rows)
        expected = np.zeros(4)
        expected[kept] = np.exp(logits[0, kept] / temperature)
        np.testing.assert_allclose(share, expected / expected.sum(), atol=0.01)
    assert _sample_code(rows[:3], 0, None, 0.5).tolist() == [2, 2, 2]


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e300])
def test_extreme_temperatures_can_be_drawn_with(temperature: float) -> None:
    """The least temperature is that of the likeliest code, the greatest makes all codes alike."""
    logits = np.array([[1.0, 0.0, 30.0, -2.0]], np.float32).repeat(4, axis=0)
    falls = np.array([[0.1], [0.3], [0.6], [0.9]])
    found = _sample_code(logits, temperature, None, falls).tolist()
    assert found == ([2, 2, 2, 2] if temperature < 1 else [0, 1, 2, 3])


def test_of_equal_logits_no_more_than_k_are_drawn_from() -> None:
    """Of the k likeliest there are k, ties or not; of equal ones the first, as without a draw."""
    logits = np.array([[0.0, 1.0, 1.0, 1.0, 2.0, 1.0]], np.float32).repeat(100, axis=0)
    falls = np.linspace(0, 1, 100, endpoint=False)[:, None]
    assert set(_sample_code(logits, 1.0, 3, falls)) == {1, 2, 4}
    assert set(_sample_code(np.zeros_like(logits), 1.0, 1, falls)) == {0}
    assert set(_sample_code(logits, 1.0, 6, falls)) == set(range(6))


def test_replies_are_continuations_of_the_config(trained: CharLM) -> None:
    """A batch is continued as `sample` continues each text, by the config's length and heat."""
    texts, config = ["the c", "who k"], trained.config
    found = trained.task.decode(trained.generate(trained.task.encode(texts)).numpy())
    length, heat = config.sample_length, config.temperature
    assert found == [trained.sample(text, length, heat, None, config.seed) for text in texts]
    assert found[0][:10] == "at (sat) h"
    longer = [*texts, "the cat (sat) h", ".\nI 'th", "b"]
    assert trained.predict(longer) == [trained.predict(text) for text in longer]
    assert trained.predict("b") != trained.predict("\n" * 14 + "b")  # padding would be read


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "is not text"),
        ({"prompt": "€"}, "'€', character 1, is not in"),
        ({"length": 0}, r"sample\(\): length: 0 is out of range; accepted: ≥ 1"),
        ({"temperature": -0.1}, r"temperature: -0.1 is out of range; accepted: ≥ 0"),
        ({"temperature": math.nan}, r"temperature: nan is out of range"),
        ({"top_k": 0}, r"top_k: 0 is out of range; accepted: ≥ 1"),
        ({"top_k": -3}, r"top_k: -3 is out of range; accepted: ≥ 1"),
    ],
)
def test_bad_arguments_of_a_draw_are_refused(
    trained: CharLM, arguments: dict[str, object], message: str
) -> None:
    """What cannot be drawn is an error that names the argument and what is accepted."""
    with pytest.raises(ConfigError, match=message):
        trained.sample(**{"prompt": "the", **arguments})  # type: ignore[arg-type]


def test_a_trained_agent_answers_without_its_corpus(trained: CharLM, tmp_path: Path) -> None:
    """Loaded where the corpus is gone, it predicts as before; only its samples are missing."""
    path = trained.save(tmp_path / "agent.safetensors")
    corpus = Path(trained.task.path)
    content = corpus.read_bytes()
    corpus.unlink()
    try:
        loaded = agents.load(path, device="cpu")
        assert loaded.predict("the cat") == trained.predict("the cat")
        assert loaded.sample("the c", 9) == trained.sample("the c", 9)
        with pytest.raises(ConfigError, match=r"sentences\.txt cannot be read"):
            loaded.evaluate()
    finally:
        corpus.write_bytes(content)


def test_another_corpus_is_scored_if_its_characters_are_known(
    trained: CharLM, tmp_path: Path
) -> None:
    """It is evaluated on another text of the same characters; one with others is refused."""
    other, spec = tmp_path / "other.txt", trained.task.spec
    rng = np.random.default_rng(0)
    other.write_text("".join(rng.choice(list("the cat\n"), 4000)))
    settings = {"path": str(other), "characters": spec.characters, "block_size": 32, "length": 80}
    assert 0 < trained.evaluate(tasks.make("text", **settings))["accuracy"] < 0.6
    other.write_text(other.read_text() + "Z")
    with pytest.raises(ConfigError, match=r"has 'Z' in line"):
        trained.evaluate(tasks.make("text", **settings))


def test_other_characters_do_not_fit(trained: CharLM) -> None:
    """A corpus whose characters are other ones is a task of other sizes."""
    with pytest.raises(ConfigError, match="text has other sizes than text"):
        trained.evaluate(tasks.make("text"))


def test_its_views_find_the_quotes(trained: CharLM) -> None:
    """A probe of the trained states tells what is inside quotes, and shuffled labels do not."""
    report = trained.inspect(["probes", "samples", "baseline"])
    table = report["probes"]["reader"]
    row = table.quantities.index("inside quotes")
    assert table.scores[row, -1] > 0.97
    assert table.controls[row, -1] < 0.95
    assert set(report["samples"]) == {"temperature 0.5", "temperature 1.0"}
    (bars,) = report["baseline"].panels.values()
    assert bars["char_lm"] == trained.bits_per_character()
    assert bars["0 characters"] > bars["6 characters"]


def test_n_grams_are_shown_of_tasks_that_have_them(trained: CharLM) -> None:
    """Of another task that tells how a text goes on there are all views but that of n-grams."""
    other = small_agent("char_lm", task=easy_task(trained.task))
    assert set(trained.views()) - set(other.views()) == {"baseline"}
    assert set(other.inspect(["samples"])["samples"]) == {"temperature 0.5", "temperature 1.0"}


def test_a_nul_can_be_read_written_and_viewed(tmp_path: Path) -> None:
    """A corpus with NUL is studied with a sign in its place, and every view of it is drawn."""
    path = tmp_path / "zeros.txt"
    letters = np.random.default_rng(0).choice(["a", "b", "\n", "\0"], 4000)
    path.write_text("".join(letter or "\0" for letter in letters))
    task = tasks.make("text", path=str(path), block_size=16, length=24)
    agent = small_agent("char_lm", task=task)
    assert task.characters[0] == "\0"
    batch = task.samples("test", 30)
    (part,) = agent.observe(batch).recurrent
    assert set(np.unique(part.input_text)) == {"\n", "a", "b", "∅"}
    np.testing.assert_array_equal(part.input_text == "∅", batch.text == 0)
    for _, record in agent.inspect(["samples", "matches", "cells", "wrong_answers"]).flat():
        assert render.png(render.draw(record), dpi=20).startswith(b"\x89PNG")
    assert agent.intervene("a∅b", donor="bab").after in "a b ⏎ ∅ \n \0"


def test_another_state_gives_another_continuation(trained: CharLM) -> None:
    """With the states of another text, what comes next is what comes next there."""
    changed = trained.intervene("\nthe cat (s", donor="who knows t")
    assert (changed.before, changed.after) == ("a", "h")


def test_how_it_replies_may_be_changed_and_what_it_is_may_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking takes a length and a heat of its own; another size is an error that names both."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"{number} is not {number + 1}\n" for number in range(500)))
    settings = {**SMALL, "task.path": corpus, "task.block_size": 16, "task.length": 32}
    options = [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
    folder = ["--run-dir", str(tmp_path / "run")]
    assert main(["--agent", "char_lm", "--task", "text", "--device", "cpu", *options, *folder]) == 0
    capsys.readouterr()
    ask = ["--mode", "predict", "--device", "cpu", *folder, "--input", "12 is"]
    assert main([*ask, "--set", "sample_length=9", "--set", "temperature=0"]) == 0
    agent = agents.load(tmp_path / "run" / "best.safetensors", "cpu")
    assert capsys.readouterr().out == agent.sample("12 is", 9, temperature=0) + "\n"
    assert main([*ask, "--set", "hidden_size=3"]) == 2
    assert "hidden_size: the run in" in capsys.readouterr().err
