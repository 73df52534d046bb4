"""The standard streams of the command line: closed ones, narrow encodings, full disks."""

import io
import os
import sys


def open_streams() -> None:
    """Open closed standard streams on the null device; write `?` for what an encoding lacks.

    A stream that was closed (`2>&-`) is None in Python. The null device takes its number, so that
    the next file that is opened does not, and receive what others write to the stream.
    """
    sys.stdin = sys.stdin or _null("r")
    sys.stdout = sys.stdout or _null("w")
    sys.stderr = sys.stderr or _null("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # and not what a notebook or a test put there
            stream.reconfigure(errors="replace")


def end(message: str, code: int) -> int:
    """Write a last message to standard error, where that can be written; return the exit code.

    What a stream does not take is dropped, so that it does not fail again at the interpreter's end.
    """
    try:
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
