"""Signals: SIGINT and SIGTERM stop a run between two steps, not inside one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """The first SIGINT or SIGTERM; a second SIGINT raises at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def raise_if_requested(self) -> None:
        """Raise what the signal would have raised: KeyboardInterrupt, or SystemExit(143)."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is not None:
            raise SystemExit(128 + self.signum)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Defer SIGINT and SIGTERM until the current step has finished.

    Outside the main thread no handler can be installed, and the signal handlers are unchanged.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {s: signal.signal(s, request.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
