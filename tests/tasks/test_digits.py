"""Scans by name: what is in which split, how files are read, and a network that reads rows."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import agents
import tasks
from agents.core.agent import Agent
from agents.core.inspection.recurrent import RecurrentViews
from tasks.core.images import shift_images
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, ImageToLabel
from tests.conftest import idx_bytes, make_task, small_agent, trained_agent
from tests.helpers.imports import printed_without

SCANS = np.random.default_rng(7).integers(0, 256, (60, 5, 4)).astype(np.uint8)
CODES = np.arange(60) % 10


def files(folder: Path, scans: np.ndarray = SCANS, codes: np.ndarray = CODES, name: str = "digits"):
    """Write scans and their labels, and return the settings that name the two files."""
    paths = {field: folder / f"{name}-{field}" for field in ("images", "labels")}
    paths["images"].write_bytes(idx_bytes(scans))
    paths["labels"].write_bytes(gzip.compress(idx_bytes(codes)))
    return {field: str(path) for field, path in paths.items()}


def test_bundled_scans_are_dealt_once_and_no_two_are_the_same() -> None:
    """The splits of `digits` have all 1,797 scans, each in one split, and every image is unique."""
    task = tasks.make("digits")
    batches = [task.samples(split, 10_000) for split in SPLITS]
    assert [len(batch.image) for batch in batches] == [1259, 179, 359]
    images = np.concatenate([batch.image for batch in batches])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797
    assert len(set(np.concatenate([batch.number for batch in batches]).tolist())) == 1797
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert task.spec == ImageToLabel(1, 8, 8, tuple("0123456789"))


def test_a_file_is_dealt_in_its_order(tmp_path: Path) -> None:
    """The first scans are for training, the last for the test, those before them withheld."""
    task = tasks.make("mnist", **files(tmp_path), num_test=6, num_validation=4)
    for split, first, num in (("train", 0, 50), ("validation", 50, 4), ("test", 54, 6)):
        names = [f"{split}/{index}" for index in range(num)]
        batch = task.encode(names)
        np.testing.assert_array_equal(batch.image[:, 0] * 255, SCANS[first : first + num])
        np.testing.assert_array_equal(batch.label[:, 0], CODES[first : first + num])
        assert [row.question for row in task.rows(batch.label, batch)] == names
        assert all(row.correct for row in task.rows(batch.label, batch))
        with pytest.raises(ConfigError, match=rf"{split} has {num} scans; .* to {split}/{num - 1}"):
            task.encode([f"{split}/{num}"])
    assert task.spec == ImageToLabel(1, 5, 4, tuple("0123456789"))


def test_files_of_their_own_are_the_whole_test_split(tmp_path: Path) -> None:
    """With test files, these are the test split and the last of the others validate."""
    (tmp_path / "test").mkdir()
    apart = files(tmp_path / "test", SCANS[:7] // 2, CODES[:7][::-1])
    given = files(tmp_path) | {f"test_{field}": path for field, path in apart.items()}
    task = tasks.make("mnist", **given)
    assert [task.num_samples_in(split) for split in SPLITS] == [54, 6, 7]
    batch = task.encode(["test/2", "validation/0"])
    np.testing.assert_array_equal(batch.image[0, 0] * 255, SCANS[2] // 2)
    np.testing.assert_array_equal(batch.image[1, 0] * 255, SCANS[54])
    assert batch.label.tolist() == [[4], [4]]
    with pytest.raises(ConfigError, match="num_test: 5 cannot be combined with test_images"):
        tasks.make("mnist", **given, num_test=5)
    with pytest.raises(ConfigError, match="test_labels: null cannot be combined with"):
        tasks.make("mnist", **(given | {"test_labels": None}))
    smaller = files(tmp_path, SCANS[:7, :3], CODES[:7], "smaller")
    other = {f"test_{field}": path for field, path in smaller.items()}
    with pytest.raises(ConfigError, match=r"its scans are \(3, 4\), and those of images \(5, 4\)"):
        tasks.make("mnist", **(given | other)).samples("test", 1)


def test_emnist_stands_upright(tmp_path: Path) -> None:
    """Of EMNIST rows and columns are exchanged back: a letter L stored lying is an L."""
    upright = np.array([[9, 0, 0], [9, 0, 0], [9, 0, 0], [9, 8, 7]], np.uint8)
    given = files(tmp_path, np.stack([upright.T] * 20), CODES[:20], "emnist-digits")
    task = tasks.make("emnist", **given)
    assert task.spec == ImageToLabel(1, 4, 3, tuple("0123456789"))
    np.testing.assert_array_equal(task.encode(["test/0"]).image[0, 0] * 255, upright)
    plain = tasks.make("mnist", **given).encode(["test/0"]).image[0, 0]
    np.testing.assert_array_equal(plain * 255, upright.T)


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Without a path the error says which file belongs there; a wrong one names its path."""
    with pytest.raises(ConfigError, match=r"task mnist: images: is required.*train-images"):
        _ = tasks.make("mnist").spec
    given = files(tmp_path)
    with pytest.raises(ConfigError, match="task mnist: labels: is required"):
        tasks.make("mnist", images=given["images"]).samples("test", 1)
    with pytest.raises(ConfigError, match=r"nowhere: cannot be read"):
        _ = tasks.make("mnist", images="nowhere", labels="nowhere").spec
    for strange in ("a\0b", "x" * 5000, "~nobody-here/x"):
        with pytest.raises(ConfigError, match="cannot be read: "):
            tasks.make("mnist", images=strange, labels=given["labels"])
    with pytest.raises(ConfigError, match=r"-labels: holds >u1 of the shape \(60,\); .*height"):
        _ = tasks.make("mnist", images=given["labels"], labels=given["labels"]).spec
    with pytest.raises(ConfigError, match=r"holds uint8 of the shape \(60, 5, 4\); .* of the 60"):
        tasks.make("mnist", images=given["images"], labels=given["images"]).samples("test", 1)
    with pytest.raises(ConfigError, match="images: 'a' cannot be combined with digits"):
        tasks.make("digits", images="a")
    with pytest.raises(ConfigError, match="classes: 'ab' cannot be combined with digits"):
        tasks.make("digits", classes="ab")


def test_withheld_scans_leave_some_to_learn_from(tmp_path: Path) -> None:
    """Counts that leave nothing for training are refused with their setting."""
    with pytest.raises(ConfigError, match="num_test: of 1797 scans none is left for training"):
        tasks.make("digits", num_test=1796)
    with pytest.raises(ConfigError, match="num_validation: of 60 scans none is left"):
        _ = tasks.make("mnist", **files(tmp_path), num_validation=48).num_samples_in("train")


def test_an_epoch_is_a_permutation() -> None:
    """Every training scan comes once an epoch, in another order in the next."""
    task = tasks.make("digits")
    orders = [
        np.concatenate([batch.number for batch in task.batches("train", 100, 3, epoch)])
        for epoch in (0, 1)
    ]
    assert not np.array_equal(*orders)
    assert all(np.array_equal(np.sort(order), np.arange(1259)) for order in orders)


def test_shifted_scans_are_the_scans_moved() -> None:
    """Each training image is its scan moved by at most `shift`, in every direction; others stay."""
    plain, moving = tasks.make("digits"), tasks.make("digits", shift=2)
    seen = set()
    batches = zip(plain.batches("train", 64, 0, 5), moving.batches("train", 64, 0, 5), strict=True)
    for still, moved in batches:
        np.testing.assert_array_equal(still.number, moved.number)
        for before, after in zip(still.image[:, 0], moved.image[:, 0], strict=True):
            wide = np.pad(before, 2)
            found = [
                (2 - top, 2 - left) for top in range(5) for left in range(5)
                if np.array_equal(wide[top : top + 8, left : left + 8], after)
            ]  # fmt: skip
            assert found
            seen |= set(found)
    assert len(seen) == 25
    again = next(iter(moving.batches("train", 64, 0, 5, start=3)))
    np.testing.assert_array_equal(again.image, [*moving.batches("train", 64, 0, 5)][3].image)
    for split in SPLITS:
        np.testing.assert_array_equal(*(t.samples(split, 50).image for t in (plain, moving)))
    for a, b in zip(plain.batches("test", 64, 0, 0), moving.batches("test", 64, 0, 0), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_moves_are_exact_and_leave_what_they_are_given() -> None:
    """Each image goes its own way by whole pixels, all channels alike; the arrays stay."""
    image = np.arange(2 * 2 * 3 * 3, dtype=np.float32).reshape(2, 2, 3, 3) + 1
    kept = image.copy()
    found = shift_images(image, np.array([[1, 0], [0, -2]]))
    np.testing.assert_array_equal(found[0, :, 1:], image[0, :, :-1])
    np.testing.assert_array_equal(found[1, :, :, 0], image[1, :, :, 2])
    assert not found[0, :, 0].any()
    assert not found[1, :, :, 1:].any()
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_array_equal(shift_images(image, np.zeros((2, 2), int)), image)


def test_images_of_other_sources_are_read(tmp_path: Path) -> None:
    """A picture in a file and an array are what their pixels say, averaged over areas."""
    task = tasks.make("digits")
    pixels = np.zeros((16, 24), np.uint8)
    pixels[:2, :3] = 255  # the first pixel of eight by eight
    pixels[0, 3:6] = 102
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "a.png")
    wanted = np.zeros((8, 8), np.float32)
    wanted[0, :2] = 1, 0.2
    path = tmp_path / "a.png"
    batch = task.encode([str(path), wanted, wanted[None], path, wanted > 0.5, "test/0"])
    assert batch.image.shape == (6, 1, 8, 8)
    assert batch.image.dtype == np.float32
    for image in batch.image[:4, 0]:
        np.testing.assert_allclose(image, wanted, atol=1e-6)
    assert batch.image[4].sum() == 1
    rows = task.rows(batch.label, batch)
    assert [row.question for row in rows] == ["an image"] * 5 + ["test/0"]
    assert [row.target for row in rows[:5]] == ["?"] * 5


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_paper_may_be_light_or_dark(tmp_path: Path, mode: str) -> None:
    """A saved scan is the same image with its ink bright on dark paper and dark on light."""
    task = tasks.make("digits")
    scan = task.encode(["test/17"]).image
    assert scan.mean() < 0.5
    bright = np.rint(scan[0, 0] * 255).astype(np.uint8).repeat(5, axis=0).repeat(5, axis=1)
    paths = [str(tmp_path / name) for name in ("bright.png", "dark.png")]
    for path, pixels in zip(paths, (bright, 255 - bright), strict=True):
        Image.fromarray(pixels).convert(mode).save(path)
    for image in task.encode(paths).image:
        np.testing.assert_allclose(image, scan[0], atol=1 / 255)
    agent = small_agent("digits_lstm", task=task)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.uniform_(-1, 1)
    answers = agent.predict([*paths, "test/17"])
    assert len(set(answers)) == 1
    assert len(set(agent.predict([f"test/{index}" for index in range(30)]))) > 1


BAD = {
    "shape": (np.zeros((8, 7)), r"input: has the shape \(8, 7\); .* \(8, 8\) or \(1, 8, 8\)"),
    "channels": (np.zeros((3, 8, 8)), r"has the shape \(3, 8, 8\)"),
    "range": (np.full((8, 8), 16), r"has values from 16 to 16; accepted: numbers from 0, paper"),
    "negative": (np.full((8, 8), -0.1), r"has values from -0.1"),
    "not a number": (np.full((8, 8), np.nan), r"has values from nan"),
    "objects": (None, r"input: NoneType of object is not an image"),
    "ragged": ([[1, 2], [3]], r"its rows differ in length"),
    "gradient": (
        torch.zeros(8, 8, requires_grad=True),
        r"Tensor is not an array: Can't call numpy",
    ),
    "half": (torch.zeros(8, 8, dtype=torch.bfloat16), r"Tensor is not an array: Got unsupported"),
    "name": (
        "tset/3",
        r"input 'tset/3': is neither the name of a scan nor a file; accepted: a scan's na",
    ),
    "nobody": (
        "~nobody-here/x.png",
        r"'~nobody-here/x.png': is neither the name of a scan nor a file",
    ),
    "long": ("x" * 5000, rf"input '{'x' * 100}'…: is neither the name of a scan nor a file"),
    "zero": ("a\0.png", r"is neither the name of a scan nor a file"),
    "number": ("test/359", r"test has 359 scans; accepted: test/0 to test/358"),
    "no image": (__file__, r"cannot be read: cannot identify image file"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_image_is_refused(case: str) -> None:
    """Every wrong input is an error that names it and what is accepted."""
    given, problem = BAD[case]
    with pytest.raises(ConfigError, match=problem):
        tasks.make("digits").encode([given])


def test_quantities_follow_the_rows() -> None:
    """Row, ink and ink so far are those of a loop over the rows; the label holds throughout."""
    task = tasks.make("digits")
    batch = task.samples("test", 5)
    known = task.probe_targets(batch)
    for sample, image in enumerate(batch.image[:, 0]):
        total = 0.0
        for row, pixels in enumerate(image.tolist()):
            total += sum(pixels)
            values = [known.encoder[name][sample, row] for name in ("row", "ink", "ink so far")]
            assert values == [row, sum(pixels), total]
    assert known.encoder["label"].tolist() == batch.label[:, 0].tolist()
    assert known.position_keys == ("row", "")


def test_naming_digits_imports_neither_torch_nor_sklearn() -> None:
    """Lists and settings are printed without the seconds that those imports take."""
    code = (
        "import main\n"
        "main.main(['--list-tasks'])\n"
        "main.main(['--agent', 'digits_lstm', '--task', 'digits', '--print-config'])\n"
        "main.main(['--agent', 'digits_lstm', '--task', 'mnist', '--print-config'])\n"
    )
    printed = printed_without({"torch", "sklearn", "PIL"}, code)
    assert "source:" not in printed
    assert "  images: null" in printed


def test_rows_are_read_from_the_top() -> None:
    """The layer's steps are the image's rows: what stands lower changes no earlier state."""
    agent = agents.make("digits_lstm", task="digits", device="cpu", precision="fp32")
    batch = agent.task.samples("test", 40)
    lower = batch.image.copy()
    lower[:, :, 5:] = 1 - lower[:, :, 5:]
    first, second = (
        agent.observe(batch._replace(image=image)).traces["reader"].h[0]
        for image in (batch.image, lower)
    )
    assert torch.equal(first[:, :5], second[:, :5])
    assert (first[:, 5:] != second[:, 5:]).any(dim=2).all()


@pytest.fixture(scope="module")
def trained() -> Agent:
    """Return an agent that learned the bundled scans for some seconds, with one thread."""
    return trained_agent(
        "digits_lstm", task="digits", seed=0, steps=500, hidden_size=48, eval_every=500
    )


def test_a_network_learns_to_name_scans(trained: Agent) -> None:
    """Some seconds of learning name more than nine in ten withheld scans."""
    assert trained.evaluate()["accuracy"] > 0.9
    batch = trained.task.encode(["test/0", "test/1"])
    named = trained.predict(["test/0", "test/1"])
    assert trained.predict([*batch.image]) == named
    assert trained.predict(batch.image[0]) == named[0]


def test_a_donors_state_gives_the_donors_answer(trained: Agent) -> None:
    """With all units as after another scan the answer is the other scan's, by its name."""
    names = [f"test/{index}" for index in range(30)]
    answers = trained.predict(names)
    other = next(index for index in range(30) if answers[index] != answers[3])
    changed = trained.intervene("test/3", donor=names[other])
    assert (changed.before, changed.after) == (answers[3], answers[other])
    image = trained.task.encode(["test/3"]).image[0]
    drawn = trained.intervene(image, donor=names[other])
    assert (drawn.question, drawn.after) == ("an image", answers[other])


def test_few_samples_and_few_patterns_can_be_looked_at(trained: Agent) -> None:
    """Views take a test split of fewer scans than they ask for, and see eight patterns at most."""
    views = RecurrentViews(trained)
    with torch.inference_mode():
        roles = views.roles()["reader"]
        probes = views.probes()["reader"]
    assert set(roles.symbols) <= set("·▂━▄▔═▀█")
    assert roles.by_position.shape == (8, 48)
    assert {"ink", "ink so far", "label"} <= set(probes.quantities)


def test_files_are_named_in_a_run(tmp_path: Path) -> None:
    """An agent on a file's scans is saved with the paths and made again from its checkpoint."""
    agent = agents.make("digits_lstm", task=make_task("mnist"), device="cpu", hidden_size=4)
    loaded = agents.load(agent.save(tmp_path / "a.safetensors"), device="cpu")
    assert loaded.task == agent.task
    assert loaded.evaluate() == agent.evaluate()


def test_a_trained_agent_does_without_its_files(tmp_path: Path) -> None:
    """A checkpoint names sizes and labels: it loads, and answers, where the files are gone."""
    paths = {name: tmp_path / f"emnist-letters-{name}" for name in ("images", "labels")}
    scans = np.random.default_rng(0).integers(0, 256, (60, 4, 6))
    paths["images"].write_bytes(idx_bytes(scans))
    paths["labels"].write_bytes(idx_bytes(1 + np.arange(60) % 26))
    task = tasks.make("emnist", **{name: str(path) for name, path in paths.items()})
    assert (task.spec.height, task.spec.width) == (6, 4)
    agent = small_agent("digits_lstm", task=task)
    image = np.random.default_rng(1).random((6, 4))
    drawn = tmp_path / "drawn.png"
    Image.fromarray((image * 255).astype(np.uint8)).save(drawn)
    saved = agent.save(tmp_path / "a.safetensors")
    answers = agent.predict([image, str(drawn)])
    donated = agent.intervene(str(drawn), donor=image).after
    for path in paths.values():
        path.unlink()
    loaded = agents.load(saved, device="cpu")
    assert loaded.predict([image, str(drawn)]) == answers
    assert loaded.intervene(str(drawn), donor=image).after == donated
    with pytest.raises(
        ConfigError, match=r"input 'a\.png': is neither the name of a scan nor a file"
    ):
        loaded.predict("a.png")
