"""The code that pages show runs, and the commands that they name exist."""

import re
import shlex
from pathlib import Path

import pytest

import main
from agents.cli import modes
from benchmarks.__main__ import COMMANDS
from tests.helpers.pages import HIDDEN, PAGES, ROOT, Block, blocks, name_of

BLOCKS = {name_of(page): blocks(page) for page in PAGES}
WITH_PYTHON = [name for name, own in BLOCKS.items() if any(b.language == "python" for b in own)]


def run(name: str, own: list[Block]) -> None:
    """Run the blocks of Python of a page one after the other, with one set of names."""
    names = {"__name__": "page"}
    for block in own:
        if block.language in ("python", HIDDEN) and not block.skipped:
            code = "\n" * (block.line - 1) + block.code  # a traceback has the lines of the page
            exec(compile(code, name, "exec"), names)


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_examples_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of Python of a page runs, after those before it, unless the page says why not."""
    monkeypatch.chdir(tmp_path)
    run(name, BLOCKS[name])


def commands(own: list[Block]) -> list[str]:
    """Return the lines of a page's blocks that call main.py, as they are typed."""
    lines = (
        line
        for block in own
        if block.language in ("", "bash")
        for line in block.code.replace("\\\n", " ").splitlines()
    )
    return [
        line for line in lines if re.match(r"python main\.py|printf .*\| python main\.py", line)
    ]


@pytest.mark.parametrize("name", [name for name, own in BLOCKS.items() if commands(own)])
def test_commands_of_a_page_are_understood(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command of a page has options, a mode, an agent, a task and settings that exist."""
    monkeypatch.chdir(ROOT)
    for command in commands(BLOCKS[name]):
        arguments = shlex.split(command.partition("main.py")[2], comments=True)
        options = main.parse(arguments)
        assert options.mode in {None, *modes.MODES}, command
        if options.config or options.agent:
            code = main.main([*arguments, "--print-config"])
            said = capsys.readouterr()
            needs_file = "is not a folder" in said.err or "cannot be read" in said.err
            assert (code == 0 and "agent:" in said.out) or needs_file, (command, said.err)


def test_scripts_and_targets_that_pages_name_exist() -> None:
    """Each script, benchmark and make target of a command in a page is there."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    scripts = re.findall(r"python ((?:docs|tests|benchmarks)/[\w/]+\.py)", text)
    assert len(scripts) > 10
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    assert set(re.findall(r"`make ([a-z0-9-]+)", text)) - targets == set()
    benchmarks = re.findall(r"python -m benchmarks ([a-z]\w*)", text)
    assert set(benchmarks) - {*COMMANDS, "all", "summary"} == set()
