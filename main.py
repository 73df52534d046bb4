"""Command line: parse arguments, look up agent and task, call one method of the agent."""

import gc
import signal
import sys
from collections.abc import Sequence

from agents.cli import modes, streams
from agents.cli.options import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0 done, 1 a bug, 2 usage or settings, 65 corrupt checkpoint, 71 out of memory, 74 cannot read or
    write, 75 the folder is in use, 76 diverged, 130 after SIGINT, 143 after SIGTERM.
    """
    streams.open_streams()
    try:
        code = modes.run(parse(arguments))
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return streams.fail(error)
    return code


def command() -> None:
    """Run the command line and end the process."""
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # or one more Ctrl-C would show a traceback
    gc.freeze()  # collecting all that torch has made would take a second of a process that ends
    sys.exit(code)


if __name__ == "__main__":
    command()
