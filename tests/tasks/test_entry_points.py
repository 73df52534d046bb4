"""Installed packages add tasks by entry points: found late, imported later, named in errors."""

import logging
import sys
from pathlib import Path

import pytest

import tasks
from tasks.core.settings import ConfigError
from tests.helpers.packages import install, search

TASK = """
import attrs
from tasks.addition import Addition
from tasks.core.settings import setting

@attrs.frozen(kw_only=True)
class Sums(Addition):
    colour: str = setting("red", "colour of nothing")
    terms: int = setting(2, "number of terms", ge=2)
    name = "sums"

@attrs.frozen(kw_only=True)
class SomeSums(Sums):
    @property
    def name(self):
        return f"sums_of{self.terms}"

class NoTask:
    pass
"""
POINTS = "[terrarium.tasks]\nsums = my_sums:Sums\nsums_of<terms> = my_sums:SomeSums\n"


@pytest.fixture(autouse=True)
def no_leftovers() -> object:
    """Forget the modules of a test's packages."""
    yield
    for name in ("my_sums", "my_failing", "other_sums"):
        sys.modules.pop(name, None)


def test_a_task_of_a_package_is_made_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the list and among the names; its module is imported when it is made, not before."""
    install(tmp_path, "my-sums", POINTS, {"my_sums": TASK})
    search(monkeypatch, tmp_path)
    assert [*tasks.TASKS][-2:] == ["sums", "sums_of<terms>"]
    assert len(tasks.TASKS) == len(tasks.OWN_TASKS) + 2
    assert tasks.TASKS["sums"].summary == "my_sums:Sums, of the package my-sums 1.0"
    assert "my_sums" not in sys.modules
    task = tasks.make("sums", colour="blue")
    assert (task.colour, task.name) == ("blue", "sums")
    assert tasks.make("sums_of4").terms == 4
    assert tasks.settings_of(tasks.make("sums_of4")).keys() == tasks.settings_of(task).keys() - {
        "terms"
    }


def test_a_name_of_the_project_searches_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the project itself has costs nothing more for packages that are installed."""
    search(monkeypatch, tmp_path)

    def searched(*_: object) -> None:
        raise AssertionError("packages were searched")

    monkeypatch.setattr("tasks.core.registry.installed_classes", searched)
    assert tasks.make("add2x2").terms == 2
    with pytest.raises(AssertionError, match="packages were searched"):
        tasks.make("sums")


def test_an_unknown_name_has_the_nearest_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the names of packages among those that are accepted, and as its hint."""
    install(tmp_path, "my-sums", POINTS, {"my_sums": TASK})
    search(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=r"unknown task 'summs'.*, sums, .*did you mean sums\?"):
        tasks.make("summs")


BROKEN = {
    "an import that fails": ("my_failing:Sums", r"'sums' cannot be imported: ModuleNotFoundError: "
                             r"No module named 'no_such'; accepted: a class Sums in .*my_failing"),
    "no such module": ("no_such_module:Sums", "cannot be imported: ModuleNotFoundError"),
    "no such class": ("my_sums:Summs", "cannot be imported: AttributeError.*'Summs'"),
    "no task": ("my_sums:NoTask", r"is my_sums:NoTask, which is no Task; accepted: a class that "
                r"extends tasks\.core\.task\.Task"),
    "another name": ("tasks.parity:Parity", "makes something with the name 'parity'; accepted: a "
                     "class with the name 'sums'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_package_breaks_its_own_names_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package and what is wrong; names of others go on working."""
    value, message = BROKEN[kind]
    modules = {"my_sums": TASK, "my_failing": "import no_such\n"}
    install(tmp_path, "my-broken", f"[terrarium.tasks]\nsums = {value}\n", modules)
    install(tmp_path, "others", "[terrarium.tasks]\nsums_of<terms> = my_sums:SomeSums\n")
    search(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=f"my-broken 1.0: .*{message}"):
        tasks.make("sums")
    assert tasks.make("sums_of3").terms == 3
    assert tasks.make("add2x2").terms == 2


SKIPPED = {
    "[terrarium.tasks]\nparity = my_sums:Sums\n": "'parity' is not used: Terrarium itself has that",
    "[terrarium.tasks]\na/b = my_sums:Sums\n": "'a/b' is not used: a name has letters",
    "[terrarium.tasks]\nn<a>x<a> = my_sums:Sums\n": "'n<a>x<a>' is not used: a name has letters",
    "[terrarium.tasks]\nmine = my_sums\n": "'mine' is not used: 'my_sums' is not module:class",
    "[terrarium.tasks]\nno equals sign\n": "its entry points cannot be read",
}


@pytest.mark.parametrize("points", SKIPPED)
def test_what_cannot_be_used_is_said(
    points: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is taken or no name, and a damaged file, are left out with a warning."""
    install(tmp_path, "my-sums", points)
    search(monkeypatch, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [*tasks.TASKS] == [*tasks.OWN_TASKS]
    assert "package my-sums 1.0: " in caplog.text
    assert SKIPPED[points] in caplog.text
    assert tasks.make("parity").name == "parity"


def test_a_name_of_two_packages_means_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list and the error name both packages."""
    install(tmp_path, "first", POINTS, {"my_sums": TASK})
    install(tmp_path, "second", "[terrarium.tasks]\nsums = other_sums:Sums\n")
    search(monkeypatch, tmp_path)
    summary = "cannot be used: first 1.0 and second 1.0 have this name"
    assert tasks.TASKS["sums"].summary == summary
    with pytest.raises(ConfigError, match=r"first 1\.0 and second 1\.0: both have the name 'sums'"):
        tasks.make("sums")
    assert tasks.make("sums_of3").terms == 3


def test_a_package_that_is_installed_twice_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two installations of a package the one that Python imports counts."""
    install(tmp_path / "a", "my-sums", POINTS, {"my_sums": TASK})
    install(tmp_path / "b", "My_Sums", "[terrarium.tasks]\nsums = other_sums:Sums\n")
    search(monkeypatch, tmp_path / "a", tmp_path / "b")
    assert tasks.TASKS["sums"].module == "my_sums"
    assert tasks.make("sums").name == "sums"


@pytest.mark.parametrize("damage", ["removed", "empty", "no text"])
def test_damaged_metadata_break_nothing(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package without its metadata file is named after its folder, and its names work."""
    install(tmp_path, "my-sums", POINTS, {"my_sums": TASK})
    metadata = tmp_path / "my_sums-1.0.dist-info" / "METADATA"
    metadata.unlink()
    if damage != "removed":
        metadata.write_bytes(b"" if damage == "empty" else b"\xff\xfe\x00")
    search(monkeypatch, tmp_path)
    assert "my_sums 1.0" in tasks.TASKS["sums"].summary
    assert tasks.make("sums").name == "sums"
