"""Batches that are made by another process."""

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import pytest

import tasks
from tasks import prefetch
from tasks.handwriting.digit_strings import DigitStrings
from tasks.prefetch import Prefetcher


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine have two cores, and every batch take long."""
    monkeypatch.setattr(prefetch, "_SLOW", 0.0)
    monkeypatch.setattr(prefetch.os, "cpu_count", lambda: 2)


def same(one: Any, other: Any) -> bool:
    """Return whether two batches are of a kind, and equal."""
    pairs = zip(one, other, strict=True)
    return type(one) is type(other) and all(
        all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, list)
        else np.array_equal(a, b) and getattr(a, "dtype", None) == getattr(b, "dtype", None)
        for a, b in pairs
    )


def test_batches_are_those_of_the_task() -> None:
    """Who makes a batch changes nothing, over two passes and from any number on."""
    task = tasks.make("digit_strings", height=8, most_digits=2)
    with Prefetcher(task, 600, 3, num_watched=1) as prefetcher:
        for epoch, start in ((0, 1), (1, 0)):
            mine = list(prefetcher.batches(epoch, start, 0))
            right = list(task.batches("train", 600, 3, epoch, start, 0))
            assert len(mine) == len(right) == 4 - start
            assert all(map(same, mine, right))
            assert prefetcher._worker is not None
        process = prefetcher._worker._process
        assert mine[1].image.flags.writeable
    assert process.poll() is not None


def test_boxes_go_through_the_pipe() -> None:
    """A batch with lists of arrays and names is the same; one that is not read is no harm."""
    task = tasks.make("digit_pages")
    with Prefetcher(task, 4, 0, num_watched=1) as prefetcher:
        mine = [batch for batch, _ in zip(prefetcher.batches(0, 0, None), range(3), strict=False)]
    right = [batch for batch, _ in zip(task.batches("train", 4, 0, 0), range(3), strict=False)]
    assert all(map(same, mine, right))


def test_a_process_that_is_killed_is_done_without() -> None:
    """The batches of the pass go on, made here, with none lost and none twice."""
    task = tasks.make("digit_strings", height=8, most_digits=2)
    right = list(task.batches("train", 256, 0, 0))
    with Prefetcher(task, 256, 0, num_watched=1) as prefetcher:
        mine = []
        for batch in prefetcher.batches(0, 0, None):
            mine.append(batch)
            if len(mine) == 3:
                assert prefetcher._worker is not None
                prefetcher._worker._process.kill()
        assert prefetcher._worker is None
        assert all(map(same, mine, right))
        assert len(mine) == len(right) == 8


@attrs.frozen(kw_only=True)
class OwnDigits(DigitStrings):
    """A task that is not registered, of which the third batch cannot be made."""

    def iter_batches(self, request: Any) -> Iterator[Any]:
        """Yield two batches."""
        yield from list(super().iter_batches(request))[:2]
        raise ValueError("the third batch")


@pytest.mark.parametrize("is_registered", [False, True])
def test_errors_are_raised_where_batches_are_read(
    is_registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that the process cannot make, or that fails, gives its own error here."""
    if is_registered:
        entry = tasks.Entry(__name__, "OwnDigits", "digits that end")
        monkeypatch.setitem(tasks.TASKS, "own_digits", entry)
    mine = []
    with Prefetcher(OwnDigits(), 64, 0, num_watched=1) as prefetcher:
        with pytest.raises(ValueError, match="the third batch"):
            mine += prefetcher.batches(0, 0, None)  # the process does not know the name
        assert prefetcher._worker is None


def test_cheap_batches_are_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started before many batches took long, nor where the setting says so."""
    task = tasks.make("digit_strings", height=8, most_digits=2)
    for is_on, num_watched in ((True, 5), (False, 1)):
        with Prefetcher(task, 512, 0, is_on, num_watched=num_watched) as prefetcher:
            assert len(list(prefetcher.batches(0, 0, None))) == 4
            assert prefetcher._worker is None
    monkeypatch.setattr(prefetch, "_SLOW", 1e9)
    with Prefetcher(task, 512, 0, True, num_watched=1) as prefetcher:
        assert len(list(prefetcher.batches(0, 0, None))) == 4
        assert prefetcher._worker is None
