"""The command of a worker process that reads files: `python -m tasks.core.reading_worker`."""

import contextlib

from tasks.core.workers import serve

if __name__ == "__main__":
    with contextlib.suppress(OSError, KeyboardInterrupt):
        serve()
