"""Standard streams of the command line: closed ones, narrow encodings, full disks."""

import io
import os
import sys

from agents.core.training.launch import is_main
from tasks.core.memory import is_out_of_memory
from tasks.core.settings import TerrariumError

_AGREED = (76, 130)  # exit codes of divergence and of SIGINT


def open_streams() -> None:
    """Reopen closed standard streams on the null device; encode unknown characters as `?`.

    A closed stream (`2>&-`) is None in Python. The null device occupies its file descriptor; else
    the next file that is opened would get the descriptor, and what others write to the stream.
    """
    sys.stdin = sys.stdin or _null("r")
    sys.stdout = sys.stdout or _null("w")
    sys.stderr = sys.stderr or _null("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a replacement of a notebook's or a test's
            stream.reconfigure(errors="replace")


def fail(error: BaseException) -> int:
    """Say why the command ended; return the exit code. What is a bug is raised again."""
    if isinstance(error, TerrariumError):
        return end(str(error), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return end("interrupted; the same command continues from here", 130)
    if is_out_of_memory(error):
        advice = "smaller sizes, such as batch_size or eval_memory, take less"
        return end(f"out of memory: {str(error).partition(chr(10))[0]}; {advice}", 71)
    if isinstance(error, OSError):  # such as a closed pipe, or a folder that may not be read
        return end(str(error), 74)
    raise error


def end(message: str, code: int) -> int:
    """Write a last message to standard error, if possible; return the exit code.

    What cannot be written is dropped, so that flushing does not fail again at interpreter exit. Of
    ranks that all end by what they agreed on, the first says it.
    """
    try:
        if is_main() or code not in _AGREED:
            print(f"terrarium: {message}", file=sys.stderr)
    except OSError:
        sys.stderr = _null("w")
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = _null("w")
    return code


def _null(mode: str) -> io.TextIOWrapper:
    file = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
    assert isinstance(file, io.TextIOWrapper)
    return file
