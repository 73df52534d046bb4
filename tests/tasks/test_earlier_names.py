"""Earlier names: they stand for what is now called otherwise, and say so."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import pytest

import tasks
from tasks.core import earlier_names
from tasks.core.task import LanguageModelSpec, ProbeTargets, Row, Task, TextChunks
from tasks.parity import Parity


def pairs(table: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, str]]:
    return [(place, old, new) for place, names in table.items() for old, new in names.items()]


@pytest.mark.parametrize(("module", "old", "new"), pairs(earlier_names.SYMBOLS))
def test_an_earlier_symbol_is_the_present_one(module: str, old: str, new: str) -> None:
    """An import by the earlier name is of the same object, and names the present one."""
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        found = getattr(importlib.import_module(module), old)
    assert found is getattr(importlib.import_module(module), new)


def instance(cls: str) -> object:
    """Return an object of a class by name."""
    numbers = np.zeros((1, 2))
    return {
        "Task": lambda: tasks.make("digits"),
        "LabelledImages": lambda: tasks.make("digits"),
        "Row": lambda: Row("1+1", "2", "2", True, "1"),
        "ProbeTargets": lambda: ProbeTargets({"a": numbers}, {"b": numbers}, ("a", "b")),
        "TextChunks": lambda: TextChunks(numbers, numbers + 1, numbers + 2),
        "LanguageModelSpec": lambda: LanguageModelSpec("ab", 3),
    }[cls]()


@pytest.mark.parametrize(("cls", "old", "new"), pairs(earlier_names.MEMBERS))
def test_an_earlier_member_is_the_present_one(cls: str, old: str, new: str) -> None:
    """Whoever reads a method or a field by its earlier name gets the present one's value."""
    held = instance(cls)
    with pytest.warns(DeprecationWarning, match=f"{cls}.{old} is now {new}"):
        found = getattr(held, old)
    present = getattr(held, new)
    assert found is present or found == (present() if old == "viewed" else present)


def test_what_never_was_a_name_is_none() -> None:
    """Other names are the errors that they always were."""
    with pytest.raises(AttributeError, match="has no attribute 'drawn'"):
        _ = tasks.make("parity").drawn
    with pytest.raises(AttributeError, match=r"module 'tasks.core.task' has no attribute 'Passe'"):
        _ = importlib.import_module("tasks.core.task").Passe


def test_a_task_written_with_earlier_names_is_a_task() -> None:
    """A task that defines `draw`, `viewed` and `quantities` works as ever, and is told."""
    with pytest.warns(DeprecationWarning, match=r"Earlier\..* is now ") as warned:

        @attrs.frozen(kw_only=True)
        class Earlier(Parity):
            def draw(self, wanted: Any) -> Iterator[Any]:
                yield "a batch", wanted.split

            @property
            def viewed(self) -> Task:
                return attrs.evolve(self, length=2)

            def quantities(self, batch: Any) -> ProbeTargets:
                return ProbeTargets({"all": batch}, {})

    assert {str(w.message) for w in warned} == {
        "Earlier.draw is now iter_batches",
        "Earlier.viewed is now for_display",
        "Earlier.quantities is now probe_targets",
    }
    task = Earlier(length=5, train_length=5)
    assert next(task.batches("test", 1, 0, 0)) == ("a batch", "test")
    assert task.for_display().length == task.viewed.length == 2
    assert task.probe_targets(3).encoder == {"all": 3}


def test_a_warning_is_of_the_line_outside() -> None:
    """The line that is named is the caller's, and not one of the library."""
    with pytest.warns(DeprecationWarning, match="is now for_display") as warned:
        _ = tasks.make("parity").viewed
    assert [w.filename for w in warned] == [__file__]
