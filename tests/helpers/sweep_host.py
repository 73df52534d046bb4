"""The command line in a process that dies or waits at a known step, for tests of workers.

`python -m tests.helpers.sweep_host kill=20 WORDS` kills itself after step 20. With `wait=20:FOLDER`
it and its workers each make a file in FOLDER there, and wait for a signal that stops a run.
"""

import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from agents.core.training.optimizer import Optimizer
from agents.core.training.signals import StopRequest
from main import main
from tests.helpers import crash_host

received: list[int] = []


def arm(fault: str) -> None:
    """Make this process do what `kill=STEP` or `wait=STEP:FOLDER` says, after that step."""
    name, _, rest = fault.partition("=")
    step, _, folder = rest.partition(":")
    if name == "kill":
        crash_host.arm("step-after", int(step))
        return
    count, plain, handle = itertools.count(1), Optimizer.step, StopRequest.handle

    def stepping(self: Optimizer, *arguments: Any) -> None:
        plain(self, *arguments)
        if next(count) != int(step):
            return
        (Path(folder) / str(os.getpid())).touch()
        while not received:
            time.sleep(0.01)

    def handling(self: StopRequest, signum: int, frame: Any) -> None:
        handle(self, signum, frame)
        received.append(signum)

    Optimizer.step = stepping
    StopRequest.handle = handling


if __name__ in ("__main__", "__mp_main__"):  # also in workers, which multiprocessing starts
    arm(sys.argv[1])

if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
