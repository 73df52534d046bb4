"""The command line with streams that are closed, full, or of a narrow encoding."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.core.runs.run_folder import RunFolder
from agents.core.runs.sinks import ConsoleSink
from main import main
from tests.conftest import small_agent
from tests.system.test_run import COMMAND

ROOT = Path(__file__).parents[2]
ONE_STEP = [*COMMAND, "--set=steps=1", "--set=record_diagnostics=false"]
QUICK = [["--list-agents"], ["--list-tasks"], ["--help"], [*COMMAND, "--print-config"]]


@pytest.fixture(autouse=True)
def short_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score few samples after training: none of these tests is about scores."""
    monkeypatch.setattr("agents.cli.running.NUM_TESTED", 20)


@pytest.mark.parametrize("closed", [["stderr"], ["stdin", "stdout", "stderr"]])
def test_a_run_learns_with_closed_streams(
    closed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that was closed before the start is None in Python; training does without it."""
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert main([*ONE_STEP, "--run-dir", str(tmp_path)]) == 0
    assert RunFolder(tmp_path).is_done()
    for name in closed:
        getattr(sys, name).close()


def test_closed_streams_are_the_null_device(tmp_path: Path) -> None:
    """Numbers 0 to 2 lead to /dev/null, so that no file of a run takes one of them."""
    code = (
        "import os, main\n"
        "main.main(['--list-agents'])\n"
        "names = {os.readlink(f'/proc/self/fd/{number}') for number in range(3)}\n"
        "os._exit(0 if names == {os.devnull} else 1)"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], cwd=ROOT, check=False
    )
    assert done.returncode == 0


def test_progress_without_standard_error_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python too: `learn(progress=True)` where standard error is None."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert small_agent(steps=4).learn(progress=True).state.cursor.step == 4
    ConsoleSink().warn("nobody reads this")


@pytest.mark.parametrize("arguments", QUICK, ids=str)
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_what_an_encoding_lacks_is_replaced(
    arguments: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where standard output cannot hold a character, such as `≥`, a question mark stands for it."""
    narrow = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", narrow)
    if arguments == ["--help"]:
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    else:
        assert main(arguments) == 0
    narrow.flush()
    assert b"?" in narrow.buffer.getvalue()


def test_training_ends_well_in_a_narrow_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of answers after training has marks that ASCII lacks; the exit code is 0."""
    for name in ("stdout", "stderr"):
        narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
        monkeypatch.setattr(sys, name, narrow)
    assert main([*ONE_STEP, "--run-dir", str(tmp_path)]) == 0


def test_earlier_commands_stay_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """command.txt keeps its bytes at every start, of whatever encoding, also of an argument."""
    earlier = "python main.py --run-dir ä\n".encode() + b"python main.py --run-dir \xe4\n"
    (tmp_path / "command.txt").write_bytes(earlier)
    monkeypatch.setattr(sys, "argv", ["main.py", "b\udce4"])  # a byte that is no UTF-8
    for _ in range(2):
        RunFolder(tmp_path).start("", print)
    again = b"main.py 'b\xe4'\n"
    assert (tmp_path / "command.txt").read_bytes() == earlier + again + again


def test_standard_input_is_read_in_its_own_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was typed in ISO-8859-1 is named as it was typed; a byte-order mark is not read."""
    small_agent(steps=1).learn(run_dir=tmp_path, progress=False)
    command = ["--mode", "predict", "--run-dir", str(tmp_path)]
    typed = io.TextIOWrapper(io.BytesIO(b"1+\xe4+3\n"), encoding="iso-8859-1")
    monkeypatch.setattr("sys.stdin", typed)
    assert main(command) == 2
    assert "line 1: input '1+ä+3': 'ä' is neither a digit" in capsys.readouterr().err
    typed = io.TextIOWrapper(io.BytesIO("\ufeff1+2+3\n".encode()), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", typed)
    assert main(command) == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--list-agents >/dev/full", 74),
        ("--agent x 2>/dev/full", 2),
        ("--sead 3 2>/dev/full", 2),
        ("--device x 2>/dev/full", 2),
    ],
)
def test_a_full_disk_behind_a_stream_has_its_exit_code(arguments: str, code: int) -> None:
    """What cannot be said ends with 74, a mistake with its own code, and no traceback follows."""
    command = ["sh", "-c", f'"$0" main.py {arguments}', sys.executable]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        """Refuse as the system does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_with_standard_error_on_a_full_disk_ends_with_74(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code of what cannot be written, and not that of a bug."""
    monkeypatch.setattr(sys, "stderr", Full())
    assert main([*ONE_STEP, "--run-dir", str(tmp_path)]) == 74
    sys.stderr.close()  # the null device, which took its place
