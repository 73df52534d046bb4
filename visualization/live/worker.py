"""Worker thread that runs what is submitted to it one after the other."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, final


@final
class Worker:
    """One thread, in which calls of a model follow each other, whoever asks.

    It does not keep a process from ending.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="live", daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> "Future[Any]":
        """Return the future result of a call."""
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def _run(self) -> None:
        while True:
            call, future = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # its place is where the result is awaited
                future.set_exception(error)
