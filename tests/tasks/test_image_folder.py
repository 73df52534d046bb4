"""Pictures in folders: which are in which split, how they are varied, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import agents
import tasks
from tasks import image_files
from tasks.core.images import read_pixels
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, ImageToLabel
from tests.conftest import make_task, small_agent
from tests.helpers.images import PIXELS, RNG, save
from tests.helpers.imports import printed_without


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of ninety pictures: ants, bees and flies in turn."""
    for number, pixels in enumerate(PIXELS):
        save(tmp_path / "pets" / ("ant", "bee", "fly")[number % 3] / f"{number:02}.bmp", pixels)
    return tmp_path / "pets"


def splits(task: tasks.core.task.Task) -> dict[str, str]:
    """Return the split of each picture by its name."""
    found = {}
    for split in SPLITS:
        batch = task.samples(split, 1000)
        found |= {row.question: split for row in task.rows(batch.label, batch)}
    return found


def test_each_picture_is_in_one_split_with_its_folders_label(folder: Path) -> None:
    """All pictures are dealt once, as their pixels say, and their label is their folder."""
    task = tasks.make("image_folder", path=str(folder))
    assert task.spec == ImageToLabel(3, 5, 4, ("ant", "bee", "fly"))
    assert sum(task.num_samples_in(split) for split in SPLITS) == 90
    names = splits(task)
    assert len(names) == 90
    for split in SPLITS:
        batch = task.samples(split, 1000)
        assert len(batch.image) == task.num_samples_in(split) > 0
        for image, label, row in zip(
            batch.image, batch.label[:, 0], task.rows(batch.label, batch), strict=True
        ):
            number = int(row.question[-6:-4])
            assert (row.target, label) == (row.question[:3], number % 3)
            np.testing.assert_array_equal(
                image, PIXELS[number].transpose(2, 0, 1) / np.float32(255)
            )
    again = task.encode([*names])
    assert [row.question for row in task.rows(again.label, again)] == [*names]
    first = task.encode(["test/0", "validation/1"])
    assert [names[row.question] for row in task.rows(first.label, first)] == ["test", "validation"]


def test_shares_are_about_as_wide_as_asked_for(tmp_path: Path) -> None:
    """Of many pictures the withheld ones are near the shares, and wider for larger shares."""
    for number in range(600):
        pixels = np.full((1, 1), number % 256, np.uint8).repeat(1 + number // 256, axis=1)
        save(tmp_path / "ab"[number % 2] / f"{number}.bmp", pixels)
    sizes = {"height": 1, "width": 1}
    for test, validation in ((0.2, 0.1), (0.4, 0.05)):
        task = tasks.make(
            "image_folder", path=str(tmp_path), test=test, validation=validation, **sizes
        )
        shares = [task.num_samples_in(split) / 600 for split in SPLITS]
        np.testing.assert_allclose(shares, [1 - test - validation, validation, test], atol=0.06)


def test_no_picture_moves_when_others_come_and_go(folder: Path, tmp_path: Path) -> None:
    """Added, removed and renamed pictures leave every other one in its split."""
    before = splits(tasks.make("image_folder", path=str(folder)))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "ant" / "00.bmp").rename(other / "ant" / "renamed.bmp")
    (other / "bee" / "01.bmp").unlink()
    for number in range(40):
        save(other / "fly" / f"new{number}.bmp", RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8))
    after = splits(tasks.make("image_folder", path=str(other)))
    assert len(after) == 129
    assert {name: after[name] for name in before if name in after} == {
        name: split for name, split in before.items() if name in after
    }
    assert after["ant/renamed.bmp"] == before["ant/00.bmp"]


def test_one_file_in_two_places_is_in_one_split(folder: Path) -> None:
    """Copies of a file, of another name or label, are in the split of the file."""
    for number in range(30):
        label = ("ant", "bee", "fly")[number % 3]
        shutil.copy(folder / label / f"{number:02}.bmp", folder / "fly" / f"copy{number}.bmp")
    found = splits(tasks.make("image_folder", path=str(folder)))
    assert len(found) == 120
    for number in range(30):
        original = f"{('ant', 'bee', 'fly')[number % 3]}/{number:02}.bmp"
        assert found[f"fly/copy{number}.bmp"] == found[original]
    assert set(found.values()) == set(SPLITS)


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_folders_of_splits_are_the_splits(folder: Path, tmp_path: Path, name: str) -> None:
    """Pictures stay in the split that their folder names; one in two is not learned from."""
    for part, numbers in (("train", range(60)), (name, range(57, 75)), ("test", range(72, 90))):
        for number in numbers:
            label = ("ant", "bee", "fly")[number % 3]
            target = tmp_path / "dealt" / part / label / f"{number:02}.bmp"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / label / f"{number:02}.bmp", target)
    task = tasks.make("image_folder", path=str(tmp_path / "dealt"))
    found = splits(task)
    assert [task.num_samples_in(split) for split in SPLITS] == [57, 15, 18]
    for picture, split in found.items():
        number = int(picture[-6:-4])
        assert split == ("train" if number < 57 else "validation" if number < 72 else "test")
        assert picture.startswith(name if split == "validation" else split)
    shutil.rmtree(tmp_path / "dealt" / "test")
    (tmp_path / "without_test").mkdir()
    moved = shutil.move(tmp_path / "dealt", tmp_path / "without_test")
    drawn = splits(tasks.make("image_folder", path=str(moved)))
    assert {split for picture, split in drawn.items() if picture.startswith("train")} == {
        "train", "test",
    }  # fmt: skip
    own = {picture: split for picture, split in drawn.items() if not picture.startswith("train")}
    assert set(own.values()) == {"validation"}
    assert len(own) == 18


def test_only_pictures_count_in_whatever_depth(folder: Path) -> None:
    """Folders in folders and capitals are read; hidden files and other kinds are left alone."""
    save(folder / "ant" / "deep" / "deeper" / "a.BMP", PIXELS[0] // 2)
    (folder / "ant" / "notes.txt").write_text("no picture")
    (folder / "ant" / ".hidden.bmp").write_text("no picture")
    (folder / ".git" / "objects").mkdir(parents=True)
    task = tasks.make("image_folder", path=str(folder))
    assert task.spec.labels == ("ant", "bee", "fly")
    names = splits(task)
    assert "ant/deep/deeper/a.BMP" in names
    assert len(names) == 91


def test_chosen_classes_are_read_in_their_order(folder: Path) -> None:
    """With classes given their order is that of the labels, and other folders are left out."""
    task = tasks.make("image_folder", path=str(folder), classes="fly/ant")
    assert task.spec.labels == ("fly", "ant")
    batch = task.encode(["ant/03.bmp", "fly/02.bmp"])
    assert batch.label.tolist() == [[1], [0]]
    assert {name[:3] for name in splits(task)} == {"fly", "ant"}


def test_pictures_of_any_size_are_brought_to_one(folder: Path) -> None:
    """With height and width given, files of other sizes are pictures of the task."""
    save(folder / "ant" / "large.bmp", np.full((40, 30), 51, np.uint8))
    task = tasks.make("image_folder", path=str(folder), height=6, width=7, num_channels=1)
    batch = task.encode(["ant/large.bmp"])
    assert batch.image.shape == (1, 1, 6, 7)
    np.testing.assert_allclose(batch.image, 0.2, atol=1e-6)
    assert task.decode(batch.label) == ["ant"]


def test_each_file_is_decoded_once_where_there_is_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs read each file once; without room for all pictures none is kept; all agree."""
    reads: list[Path] = []

    def counted(path: Path, *arguments: object) -> np.ndarray:
        reads.append(path)
        return read_pixels(path, *arguments)

    monkeypatch.setattr(image_files, "read_pixels", counted)
    found = {}
    all_pictures = 90 * 60 / 2**20
    for room, second in ((all_pictures, 0), (all_pictures * 0.999, 1), (0.0, 1)):
        task = tasks.make("image_folder", path=str(folder), cache_memory=room)
        num = task.num_samples_in("train")
        for epoch, times in ((0, 1), (1, second)):
            reads.clear()
            batches = [*task.batches("train", 7, 0, epoch)]
            assert len(reads) == times * num
            images = np.concatenate([batch.image for batch in batches])
            np.testing.assert_array_equal(found.setdefault(epoch, images), images)


def test_training_pictures_are_moved_and_mirrored(folder: Path) -> None:
    """Each is its picture, or its mirror image, moved by at most `shift`; others stay."""
    plain = tasks.make("image_folder", path=str(folder))
    varied = tasks.make("image_folder", path=str(folder), shift=1, flip=True)
    seen = set()
    for epoch in range(4):
        for still, other in zip(
            plain.batches("train", 8, 0, epoch), varied.batches("train", 8, 0, epoch), strict=True
        ):
            np.testing.assert_array_equal(still.number, other.number)
            for before, after in zip(still.image, other.image, strict=True):
                ways = {
                    (flip, 1 - top, 1 - left)
                    for flip in (False, True)
                    for top in range(3)
                    for left in range(3)
                    if np.array_equal(
                        np.pad(before[..., ::-1] if flip else before, ((0, 0), (1, 1), (1, 1)))[
                            :, top : top + 5, left : left + 4
                        ],
                        after,
                    )
                }
                assert ways
                seen |= ways
    assert len(seen) == 18
    for split in SPLITS:
        np.testing.assert_array_equal(*(t.samples(split, 50).image for t in (plain, varied)))
    again = next(iter(varied.batches("train", 8, 0, 3, start=2)))
    np.testing.assert_array_equal(again.image, [*varied.batches("train", 8, 0, 3)][2].image)


def test_a_trained_agent_does_without_its_folder(folder: Path, tmp_path: Path) -> None:
    """A checkpoint names sizes and labels: it loads, and answers, where the folder is gone."""
    task = tasks.make("image_folder", path=str(folder))
    agent = small_agent("digits_lstm", task=task)
    outside = save(tmp_path / "outside.jpg", np.full((30, 20, 3), 90, np.uint8))
    array = np.random.default_rng(1).random((3, 5, 4))
    saved = agent.save(tmp_path / "a.safetensors")
    answers = agent.predict([array, str(outside)])
    shutil.rmtree(folder)
    loaded = agents.load(saved, device="cpu")
    assert loaded.task == task
    assert loaded.predict([array, str(outside)]) == answers
    for name in ("ant/00.bmp", "elsewhere.bmp"):
        with pytest.raises(ConfigError, match="is neither the name of a picture nor a file"):
            loaded.predict(name)
    with pytest.raises(ConfigError, match=r"pets.* cannot be read: No such file"):
        loaded.predict("test/0")


BAD_INPUTS = {
    "shape": (np.zeros((5, 4)), r"input: has the shape \(5, 4\); .* of the shape \(3, 5, 4\)$"),
    "range": (
        np.full((3, 5, 4), 255),
        "has values from 255 to 255; accepted: numbers from 0, black",
    ),
    "name": ("tset/3", "input 'tset/3': is neither the name of a picture nor a file"),
    "gone": (
        "ant/77777.bmp",
        "is neither the name of a picture nor a file; accepted: a picture's name",
    ),
    "number": ("test/4000", r"test has \d+ pictures; accepted: test/0 to test/\d+$"),
    "text": (__file__, "cannot be read: cannot identify image file"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_what_is_no_picture_is_refused(case: str, folder: Path) -> None:
    """Every wrong input is an error that names it and what is accepted."""
    given, problem = BAD_INPUTS[case]
    with pytest.raises(ConfigError, match=problem):
        tasks.make("image_folder", path=str(folder)).encode([given])


def empty(folder: Path) -> None:
    shutil.rmtree(folder / "bee")
    (folder / "bee").mkdir()
    (folder / "bee" / "notes.txt").write_text("no picture")


def cut_off(folder: Path) -> None:
    data = (folder / "ant" / "00.bmp").read_bytes()
    (folder / "ant" / "00.bmp").write_bytes(data[: len(data) // 2])


def one_left(folder: Path) -> None:
    for name in ("ant", "bee"):
        shutil.rmtree(folder / name)


def named_twice(folder: Path) -> None:
    for name in ("ant", "bee", "fly"):
        (folder / name).rename(folder / {"ant": "train", "bee": "val", "fly": "valid"}[name])


def beside_train(folder: Path) -> None:
    (folder / "ant").rename(folder / "train")
    (folder / "bee").rename(folder / "test")


def strange(folder: Path) -> None:
    save(folder / "train" / "a" / "0.bmp", PIXELS[0])
    save(folder / "train" / "b" / "0.bmp", PIXELS[1])
    save(folder / "test" / "c" / "0.bmp", PIXELS[2])
    for name in ("ant", "bee", "fly"):
        shutil.rmtree(folder / name)


def few(folder: Path) -> None:
    for path in folder.rglob("*.bmp"):
        if path.name not in ("00.bmp", "01.bmp", "02.bmp"):
            path.unlink()


def larger(folder: Path) -> None:
    save(folder / "bee" / "04.bmp", np.zeros((7, 9), np.uint8))


def nothing(folder: Path) -> None:
    pass


FIXED = {"height": 5, "width": 4}
BAD_FOLDERS = {
    "empty class": (empty, {}, r"path: .*pets/bee has no pictures; accepted: a whole file"),
    "one class": (one_left, {}, "path: .*pets has only the folder 'fly'; .* two labels at least"),
    "mixed sizes": (larger, {}, r"height: .*bee/04.bmp has 7 × 9 pixels, and .*ant/00.bmp 5 × 4"),
    "broken": (cut_off, FIXED, r"ant/00.bmp: cannot be read: .*; accepted: a whole file"),
    "unread": (nothing, {"path": "nowhere"}, r"path: .*nowhere cannot be read: No such file"),
    "zero": (nothing, {"path": "a\0b"}, "path: .* cannot be read: embedded null"),
    "a file": (nothing, {"path": __file__}, "cannot be read: Not a directory"),
    "no folders": (nothing, {"path": "ant"}, "path: .*ant has no folders"),
    "misspelt": (
        nothing,
        {"classes": "ant/bees"},
        "classes: .*no folder 'bees'; accepted: ant, bee",
    ),
    "twice": (nothing, {"classes": "ant/ant"}, "classes: 'ant/ant' has a name twice"),
    "alone": (nothing, {"classes": "ant"}, "classes: 'ant' has .* fewer than two"),
    "channels": (nothing, {"num_channels": 2}, "num_channels: 2 are neither grey nor colours"),
    "height": (nothing, {"height": 5}, "width: null cannot be combined"),
    "shift": (nothing, {"shift": 4}, "shift: 4 moves a picture of 5 × 4 out of sight; .* than 4"),
    "two validations": (named_twice, {}, "has the folders train, val, valid; accepted: of train"),
    "beside": (beside_train, {}, "has the folders fly, test, train; .* no others"),
    "strange": (
        strange,
        {},
        "path: .*test has 'c', which is not a folder of train; accepted: a, b",
    ),
    "few": (few, {}, r"of the 3 pictures in .*pets none is in \w+; accepted: more pictures"),
}


def read_all(**settings: object) -> None:
    """Make a task and read every picture that it has."""
    splits(tasks.make("image_folder", **settings))


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_what_is_wrong_with_a_folder_is_said(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake is an error that names the setting or the file, and what is accepted."""
    spoil, settings, problem = BAD_FOLDERS[case]
    spoil(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=problem):
        read_all(**{"path": str(folder), **settings})


def test_without_a_folder_the_error_says_what_belongs_there() -> None:
    """No path is an error only when something is asked of the pictures; it names the setting."""
    for known in ({}, {"classes": "a/b", **FIXED}):
        task = tasks.make("image_folder", **known)
        with pytest.raises(ConfigError, match=r"task image_folder: path: is required: .*for e"):
            task.samples("test", 1)
    assert task.spec == ImageToLabel(3, 5, 4, ("a", "b"))


def test_naming_pictures_imports_neither_torch_nor_pillow() -> None:
    """Lists and settings are printed without the time that those imports take."""
    words = ["--agent", "digits_lstm", "--task", "image_folder", "--print-config"]
    printed = printed_without({"torch", "PIL"}, f"import main; main.main({words})")
    assert "  path: null" in printed


def test_light_is_summed_row_by_row() -> None:
    """Row, light and light so far are those of a loop over the rows of all channels."""
    task = make_task("image_folder")
    batch = task.samples("test", 4)
    known = task.probe_targets(batch).encoder
    assert [*known] == ["row", "light", "light so far", "label"]
    for sample, image in enumerate(batch.image):
        total = 0.0
        for row in range(8):
            total += image[:, row].sum(dtype=float)
            assert known["light"][sample, row] == pytest.approx(image[:, row].sum(dtype=float))
            assert known["light so far"][sample, row] == pytest.approx(total)
