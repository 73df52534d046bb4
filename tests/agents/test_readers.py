"""Readers of lines: padding, impossible texts, fine-tuning, decoders, parts for inspection."""

import logging
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

import agents
import tasks
from agents.attention_reader import AttentionReader
from agents.core import reading
from agents.core.agent import Agent
from agents.core.decoding.language_model import NgramModel
from agents.core.inspection.lines import written_columns
from agents.core.line_encoder import LineEncoder, columns_of
from agents.core.training.loop import to_device, total_loss
from agents.ctc_reader import CtcReader
from tasks.core.batch import take
from tasks.handwriting.digit_strings import DigitStrings
from tasks.handwriting.lines import LineImages

READERS = {"ctc_reader": CtcReader, "attention_reader": AttentionReader}
QUICK = {"steps": 3, "batch_size": 8, "eval_every": 3, "eval_samples": 6, "log_every": 1,
         "precision": "fp32"}  # fmt: skip


@attrs.frozen(kw_only=True)
class FewDigits(DigitStrings):
    """Digit strings of which the codes are in another order, with a character that is new."""

    @property
    def own_characters(self) -> str:
        """The digits backwards, and a sign that is in no text."""
        return "9876543210§"


def make(name: str, task: Any = "digit_strings", **settings: Any) -> Any:
    """Return a fresh reader."""
    task = tasks.make(task) if isinstance(task, str) else task
    cls: type[Agent] = READERS[name]
    return cls(task, cls.Config(**{**QUICK, **settings}), "cpu")


@pytest.fixture(params=READERS, scope="module")
def reader(request: pytest.FixtureRequest) -> Any:
    """Return a reader after a few steps, with statistics of batch normalisation of its own."""
    return make(request.param).learn()


def padded(batch: LineImages, pixels: int) -> LineImages:
    """Return a batch whose images are padded further."""
    wide = np.pad(batch.image, [(0, 0)] * 3 + [(0, pixels)])
    return batch._replace(image=wide)


def test_padding_changes_no_answer(reader: Any) -> None:
    """The logits of a line's own columns are the same alone, beside longer ones, and padded."""
    batch = reader.task.samples("test", 5)
    wide = to_device(padded(batch, 37), reader.device)
    with torch.no_grad():
        reader.model.eval()
        together = reader.model(wide.image, wide.width)
        for line in range(5):
            alone = take(batch, line, line + 1)
            own = int(alone.width[0])
            logits = reader.model(torch.as_tensor(alone.image[..., :own]))
            torch.testing.assert_close(
                together[line, : logits.shape[1]], logits[0], atol=1e-4, rtol=1e-3
            )


@pytest.mark.parametrize("decoder", ["greedy", "beam", "attention", "joint"])
def test_every_decoder_answers_the_same_in_any_batch(reader: Any, decoder: str) -> None:
    """Answers of lines one by one are those of all together, whatever decoder is chosen later."""
    if decoder not in reader.Config.__annotations__["decoder"].__args__:
        pytest.skip("a reader without attention has no such decoder")
    before = reader.config
    batch = reader.task.samples("test", 4)
    reader.config = attrs.evolve(before, decoder=decoder, beam_size=4)
    together = reader.predict_arrays(padded(batch, 21))
    for line, codes in enumerate(together):
        alone = reader.predict_arrays(take(batch, line, line + 1))[0]
        assert alone.tolist() == codes.tolist()
    reader.config = before


def test_training_computes_what_evaluation_does() -> None:
    """Without dropout the LSTM of a training step gives what the packed one does."""
    torch.manual_seed(0)
    encoder = LineEncoder("large", dropout=0.0)
    features, num = torch.randn(3, 9, 128, requires_grad=True), torch.tensor([9, 4, 1])
    own = torch.arange(9) < num[:, None]
    outputs = [encoder.train(mode).contexts(features, num)[own] for mode in (True, False)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(o.square().sum(), features)[0] for o in outputs]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", READERS)
def test_impossible_texts_are_counted_and_harmless(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A text that is too long for its width is told and counted, and the gradient is finite."""
    agent = make(name)
    batch = agent.task.samples("train", 4)
    width = batch.width.copy()
    width[1] = 4 * batch.length[1] - 4  # a column too few
    moved = to_device(batch._replace(width=width), agent.device)
    with caplog.at_level(logging.WARNING):
        loss = total_loss(agent.loss(moved))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in agent.model.parameters() if p.grad is not None)
    assert agent.num_impossible == 1
    assert "1 of 4 lines of a batch have a text that is too long for their width" in caplog.text


def test_a_repeat_needs_a_column_more() -> None:
    """Known answer: 1 1 2 2 fits six columns, and not five; padding is no repeat."""
    text = torch.tensor([[1, 1, 2, 2], [1, 2, 0, 0], [1, 1, 2, 2]])
    batch = LineImages(
        torch.zeros(3, 1, 16, 24), text, torch.tensor([20, 8, 24]), torch.tensor([4, 2, 4])
    )
    assert reading.fits(batch).tolist() == [False, True, True]


@pytest.mark.parametrize("name", READERS)
def test_fine_tuning_keeps_the_rows_of_known_characters(name: str, tmp_path: Path) -> None:
    """With another charset a character's weights are those that it had, wherever its code is."""
    first = make(name).learn()
    path = first.save(tmp_path / "first.safetensors")
    settings = {"init_from": str(path), "learning_rate": 1e-30, "steps": 1,
                "characters": "9876543210§"}  # fmt: skip
    second = make(name, FewDigits(), **settings)
    drawn = second.model.head.weight[11].detach().clone()
    second.learn()
    for weights in ("head.weight", "head.bias"):
        before, after = (a.model.state_dict()[weights] for a in (first, second))
        torch.testing.assert_close(after[0], before[0])
        torch.testing.assert_close(after[1:11], before[1:].flip(0))
    torch.testing.assert_close(second.model.head.weight[11].detach(), drawn)
    assert second.config.characters == "9876543210§"


def folder_of_lines(folder: Path, texts: str) -> Any:
    """Return a task of lines of noise, each with a text of one character or two."""
    folder.mkdir()
    for number, text in enumerate([*texts, *texts, *texts, texts]):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 24)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.gt.txt").write_text(text, encoding="utf-8")
    return tasks.make("line_images", path=str(folder), height=16)


@pytest.mark.parametrize("name", READERS)
def test_a_fine_tuned_reader_forgets_no_character(name: str, tmp_path: Path) -> None:
    """A reader of a and b that goes on with lines of b and c knows a, b and c, also when resumed.

    The rows of a and b are as they were, before its first step and in the file of the run.
    """
    first = make(name, folder_of_lines(tmp_path / "ab", "ab")).learn()
    settings = {"init_from": str(first.save(tmp_path / "first.safetensors")),
                "learning_rate": 1e-30, "muon_learning_rate": 1e-30,
                "task": folder_of_lines(tmp_path / "bc", "bc")}  # fmt: skip
    whole = agents.make(name, device="cpu", **{**QUICK, **settings})
    assert whole.task.characters == whole.config.characters == "abc"
    assert whole.learn().task.decode([[1, 2, 3]]) == ["abc"]
    for weights in ("head.weight", "head.bias"):
        before, after = (a.model.state_dict()[weights] for a in (first, whole))
        torch.testing.assert_close(after[:3], before)
    run = tmp_path / "run"
    make(name, **settings).learn(2, run_dir=run, progress=False)
    resumed = make(name, **settings).learn(3, run_dir=run, progress=False)
    loaded = agents.load(run / "best.safetensors", "cpu")
    for agent in (resumed, loaded):
        assert agent.task.charset == agent.config.characters == "abc"
        for mine, other in zip(agent.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, other)


def test_a_loaded_reader_knows_its_characters(tmp_path: Path) -> None:
    """The checkpoint names them; a task with others is refused, and one with low lines too."""
    agent = make("ctc_reader").learn()
    loaded = agents.load(agent.save(tmp_path / "a.safetensors"), "cpu")
    assert loaded.config.characters == "0123456789"
    with pytest.raises(ValueError, match="characters: the task's are '9876543210§'"):
        make("ctc_reader", FewDigits(), characters="0123456789")
    with pytest.raises(ValueError, match="lines of 8 pixels are too low"):
        make("ctc_reader", tasks.make("digit_strings", height=8))


def test_a_language_model_changes_what_is_read(tmp_path: Path) -> None:
    """A beam with a model that has seen one text alone, at a great weight, reads no other."""
    agent = make("ctc_reader", beam_size=8).learn()
    path = NgramModel.estimate(["77"] * 9, order=4).write(tmp_path / "lm.arpa")
    agent.config = attrs.evolve(
        agent.config, decoder="beam", language_model=str(path), lm_weight=50.0
    )
    batch = agent.task.samples("test", 3)
    assert set(agent.task.decode(agent.predict_arrays(batch))) == {"77"}
    assert [line.text for line in agent.read(batch)] == ["77"] * 3


def test_what_is_read_has_places_and_confidences(reader: Any) -> None:
    """Characters stand in order within the line; confidences are between 0 and 1."""
    if not isinstance(reader, CtcReader):
        pytest.skip("asked of the columns")
    batch = reader.task.samples("test", 4)
    wild = make("ctc_reader")
    torch.manual_seed(1)
    torch.nn.init.normal_(wild.model.head.weight, std=3.0)
    for line, width in zip(wild.read(batch), batch.width, strict=True):
        assert len(line.text) == len(line.confidence) == len(line.spans)
        assert ((line.confidence >= 0) & (line.confidence <= 1)).all()
        assert (line.boxes() <= width + 4).all()
        assert (np.diff(line.spans.ravel()) >= 0).all()


def test_the_attention_is_over_a_lines_own_columns() -> None:
    """Weights sum to 1 over the columns of the line, and are 0 beyond."""
    agent = make("attention_reader")
    batch = to_device(padded(agent.task.samples("test", 4), 40), agent.device)
    num_columns = columns_of(batch.width)
    with torch.no_grad():
        contexts = agent.model.eval().contexts(batch.image, batch.width)
        looks = agent.model.write(contexts, num_columns, 3, batch.text[:, :2])[1]
    torch.testing.assert_close(looks.sum(-1), torch.ones(4, 3))
    for line, num in enumerate(num_columns):
        assert float(looks[line, :, num:].abs().max()) == 0.0


def test_parts_of_the_attention_readers_loss_change_places() -> None:
    """λ falls from 1: at first all of the loss is CTC's, at the end most is the decoder's."""
    history = make("attention_reader", steps=8, ctc_weight=0.1, transition_steps=4).learn().history
    ctc, attention = (history.series(f"train/loss/{name}")[1] for name in ("ctc", "attention"))
    assert attention[0] == 0.0
    assert attention[-1] > ctc[-1]


def test_each_column_belongs_to_the_nearest_character() -> None:
    """What stands in a column: of a and b at columns 1 and 4 of 6, a has the first three."""
    rows = np.full((6, 3), 0.05)
    rows[:, 0] = 0.9
    rows[1], rows[4] = (0.05, 0.9, 0.05), (0.05, 0.05, 0.9)
    codes, numbers = written_columns([np.log(rows)], [np.array([1, 2])])
    assert codes.tolist() == [[1, 1, 1, 2, 2, 2]]
    assert numbers.tolist() == [[0, 0, 0, 1, 1, 1]]


def test_what_is_observed_has_its_parts(reader: Any) -> None:
    """The LSTM over columns with what stands in them, images, and four characters as targets."""
    batch = reader.task.samples("test", 3)
    seen = reader.observe(batch)
    (part,) = seen.recurrent
    assert part.input_text.shape == (3, int(batch.width.max()) // 4)
    first = [text[0] for text in reader.task.decode(reader.task.targets(batch))]
    assert part.input_text[:, 0].tolist() == first
    known = part.probe_targets
    assert set(known) == {
        "character", "kind of character", "is written here", "place in line", "ink"
    }  # fmt: skip
    own = known["character"] >= 0
    kinds = [(" ", 0), ("A", 1), ("a", 2), ("7", 3), ("-", 4)]
    for character, kind in kinds:
        code = reader.task.spec.characters.find(character) + 1
        assert set(known["kind of character"][own & (known["character"] == code)]) <= {kind}
    assert set(known["is written here"][own]) <= {0, 1}
    assert (known["is written here"][~own] == -1).all()
    assert list(seen.targets) == [f"character {place}" for place in (1, 2, 3, 4)]
    output = seen.image.model(seen.image.images[:1])
    assert seen.targets["character 1"](output, 0).shape == (1,)
    assert part.images.shape == (3, 32, 4 * part.input_text.shape[1])
    np.testing.assert_array_equal(part.images, batch.image[:, 0, :, : part.images.shape[2]])
    assert set(part.score()) >= {"loss"}
    assert bool(seen.attention) == (reader.name == "attention_reader")


def test_errors_of_a_reader_are_a_view() -> None:
    """The worst lines with their own pictures, characters, and lengths; of pages there are none."""
    agent = make("ctc_reader", tasks.make("digit_strings", height=16, most_digits=2))
    torch.manual_seed(0)
    torch.nn.init.normal_(agent.model.head.weight, std=8.0)
    records = agent.inspect(["errors"])["errors"]
    assert list(records) == ["worst lines", "characters", "by length"]
    worst = records["worst lines"]
    assert worst.num_lines == 1000
    assert worst.images[0].shape[0] == 16
    assert f"{worst.images[0].shape[1]} pixels" in worst.names[0]
    assert records["characters"].num_errors == records["by length"].total.num_edits


@pytest.mark.parametrize("name", READERS)
def test_the_loss_of_blanks_only_is_that_of_a_reader_that_knows_no_more(name: str) -> None:
    """With all columns alike at the best of levels, the loss of a batch is the constant one."""
    agent = make(name, ctc_weight=0.999999) if name == "attention_reader" else make(name)
    batch = agent.task.samples("train", 16)
    counts = np.bincount(np.concatenate(agent.task.targets(batch)), minlength=11)
    best = np.inf
    for percent in range(60, 100):
        p = counts / counts.sum() * (1 - percent / 100)
        p[0] = percent / 100
        torch.nn.init.zeros_(agent.model.head.weight)
        agent.model.head.bias.data = torch.as_tensor(np.log(p)).float()
        best = min(best, agent.mean_loss(batch))
    assert agent.constant_loss(batch) == pytest.approx(best, rel=1e-3)
