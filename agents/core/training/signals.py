"""Signals: SIGINT and SIGTERM stop a run between two steps, not inside one."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The first SIGINT or SIGTERM; a second SIGINT raises at once.

    Attributes:
        received: the signal that this process received.
        signum: the signal by which training stops: the one received, or, where `is_shared`, the one
            that all ranks agreed on in a step, whichever of them received it.
    """

    def __init__(self, is_shared: bool = False) -> None:
        self.received: int | None = None
        self.signum: int | None = None
        self._is_shared = is_shared

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum
        if not self._is_shared:
            self.signum = signum

    def agree(self, signals: Iterable[int]) -> None:
        """Stop by one of the signals that ranks received: SIGTERM, if any rank has."""
        self.signum = max(signals, default=None)

    def raise_if_requested(self) -> None:
        """Raise what the signal would have raised: KeyboardInterrupt, or SystemExit(143)."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is not None:
            raise SystemExit(128 + self.signum)


@contextlib.contextmanager
def handling(signums: Iterable[int], handler: Any) -> Iterator[None]:
    """Handle signals in another way for a `with` block.

    Outside the main thread no handler can be installed, and the signal handlers are unchanged.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {signum: signal.signal(signum, handler) for signum in signums}
    try:
        yield
    finally:
        for signum, before in previous.items():
            signal.signal(signum, before)


@contextlib.contextmanager
def stop_requests(is_shared: bool = False) -> Iterator[StopRequest]:
    """Defer SIGINT and SIGTERM until the current step has finished; see `handling`."""
    request = StopRequest(is_shared)
    with handling(SIGNALS, request.handle):
        yield request
