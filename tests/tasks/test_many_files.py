"""Folders of many files: tables of names, hashes that are kept, and memory for each file."""

import gc
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tasks
from tasks.core import content_hashes
from tasks.core.content_hashes import ContentHashes, hash_of_file
from tasks.core.names import NameTable
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting.line_index import LineTable, StoredLine
from tests.helpers.images import PIXELS, save
from tests.tasks.handwriting.test_page_xml import add_pages

NAMES = ["", "a", "ab", "b/ab", "é\U0001f600", "a", "\udcff.png"]


def test_a_table_of_names_is_a_list_of_them() -> None:
    """Texts of any characters come back, by place, slice and in order; the last equal is found."""
    table = NameTable(NAMES[:3])
    for name in NAMES[3:]:
        table.append(name)
    assert [*table] == NAMES
    assert len(table) == len(NAMES)
    assert table[-1] == NAMES[-1]
    assert table[1:5:2] == NAMES[1:5:2]
    for name in NAMES:
        assert table.find(name) == max(n for n, other in enumerate(NAMES) if other == name)
    for name in ("abc", "/ab", "b", "a\0ab", "\0"):
        assert table.find(name) is None
    assert NameTable().find("") is None
    with pytest.raises(IndexError):
        table[len(NAMES)]


def test_a_table_of_lines_is_a_list_of_them() -> None:
    """Lines come back as they were, and a group has the numbers of its lines."""
    lines = [StoredLine(f"p l{n}", "é" * n, n / 3, group) for n, group in enumerate([0, 0, 2, 5])]
    table = LineTable(lines)
    assert [*table] == lines
    assert table[1:] == lines[1:]
    assert [*table.texts] == [line.text for line in lines]
    np.testing.assert_array_equal(table.widths, [0, 1 / 3, 2 / 3, 1])
    assert [table.numbers_of(group) for group in (0, 2, 3, 5)] == [
        range(2), range(2, 3), range(3, 3), range(3, 4),
    ]  # fmt: skip
    assert table.find("p l2") == 2
    assert table.find("p l9") is None
    assert LineTable().widths.shape == (0,)


def test_only_files_that_changed_are_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache a file is read when it is new, or has another size or time; names may go."""
    root = tmp_path / "files"
    root.mkdir()
    for name in ("a", "b", "c", "d"):
        (root / name).write_text(name)
    read: list[str] = []
    monkeypatch.setattr(
        content_hashes,
        "hash_of_file",
        lambda path: read.append(Path(path).name) or hash_of_file(path),
    )

    def hashes(*names: str) -> list[int]:
        read.clear()
        found = ContentHashes(root, str(tmp_path / "kept"), "task")
        values = [found.of(name) for name in names]
        found.save()
        assert values == [hash_of_file(root / name) for name in names]
        return values

    first = hashes("a", "b", "c")
    assert read == ["a", "b", "c"]
    assert len(set(first)) == 3
    (root / "b").write_text("longer")
    os.utime(root / "c", ns=(1, 1))
    hashes("d", "c", "b", "a")
    assert read == ["d", "c", "b"]
    (kept,) = (tmp_path / "kept").iterdir()
    whole = kept.read_bytes()
    for spoilt in (b"", whole[:-5], b"no safetensors"):
        kept.write_bytes(spoilt)
        hashes("a", "b")
        assert read == ["a", "b"]
    hashes("a")  # the other is not kept longer
    hashes("a", "b")
    assert read == ["b"]


def test_a_cache_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    """A file in place of the folder is an error that says what is accepted."""
    for number, pixels in enumerate(PIXELS[:60]):
        save(tmp_path / "pets" / "ab"[number % 2] / f"{number}.bmp", pixels)
    (tmp_path / "file").write_text("")
    task = tasks.make("image_folder", path=str(tmp_path / "pets"), cache=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"task image_folder: cache: .*file cannot be written"):
        task.num_samples_in("train")


def test_splits_are_the_same_with_kept_hashes(tmp_path: Path) -> None:
    """A folder with a cache, at its first use and at the next, has the pictures of one without."""
    for number, pixels in enumerate(PIXELS):
        save(tmp_path / "pets" / "ab"[number % 2] / f"{number}.bmp", pixels)
    found = []
    for copy, cache in ((0, None), (1, "kept"), (2, "kept")):
        link = tmp_path / f"link{copy}"  # another path: the index of a run before is not used
        shutil.copytree(tmp_path / "pets", link)
        kept = None if cache is None else str(tmp_path / cache)
        task = tasks.make("image_folder", path=str(link), cache=kept)
        batches = [task.samples(split, 100) for split in SPLITS]
        found.append([row.question for b in batches for row in task.rows(b.label, b)])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 90


def link_pictures(folder: Path, num: int) -> None:
    """Make a folder of that many pictures, of which ninety are different."""
    files = [save(folder / f"{number}.bmp", pixels) for number, pixels in enumerate(PIXELS)]
    for number in range(num):
        place = folder / "pets" / "ab"[number % 2] / f"{number:06}.bmp"
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number // 2 % 90], place)


def held(make: Callable[[], object]) -> int:
    """Return the bytes that the package `tasks` holds after something was made."""
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/tasks/*.py")])
    tracemalloc.stop()
    del made
    return sum(trace.size for trace in own.traces)


@pytest.mark.slow
def test_an_index_takes_some_tens_of_bytes_for_each_file(tmp_path: Path) -> None:
    """Three thousand more pictures cost less than 60 bytes each; a name as text has 60."""
    sizes = {"height": 5, "width": 4, "cache_memory": 0.0}
    taken = {}
    for num in (180, 200, 3200):  # the first also imports
        link_pictures(tmp_path / str(num), num)
        task = tasks.make("image_folder", path=str(tmp_path / str(num) / "pets"), **sizes)
        taken[num] = held(lambda task=task: task.samples("train", 2))
    assert (taken[3200] - taken[200]) / 3000 < 60


@pytest.mark.slow
def test_pages_hold_neither_xml_nor_polygons(tmp_path: Path) -> None:
    """A page with one line costs less than 200 bytes: its XML is longer, as are its points."""
    taken = {}
    for num in (3, 20, 60):
        add_pages(tmp_path / str(num), num)
        task = tasks.make("page_xml", path=str(tmp_path / str(num)), charset="ab", cache_memory=0.0)
        taken[num] = held(lambda task=task: task.num_samples_in("train"))
    assert (tmp_path / "60" / "00.xml").stat().st_size > 600
    assert (taken[60] - taken[20]) / 40 < 200
