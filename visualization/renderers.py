"""Renderers: who draws the figures of a report as PNG files, and when; each is drawn once."""

import abc
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, final

import torch

from visualization import render


class Renderer(abc.ABC):
    """Draws figures of records, and keeps them."""

    @abc.abstractmethod
    def announce(self, name: str, record: Any) -> None:
        """Learn of a record whose figure will be asked for later."""

    @abc.abstractmethod
    def keep(self, name: str, picture: bytes) -> None:
        """Take a figure that has been drawn already."""

    @abc.abstractmethod
    def picture(self, name: str, record: Any) -> bytes:
        """Return a record's figure as the content of a PNG file."""


@final
class LazyRenderer(Renderer):
    """Draws a figure when it is asked for the first time."""

    def __init__(self) -> None:
        self._pictures: dict[str, bytes] = {}

    def announce(self, name: str, record: Any) -> None:
        """Wait until it is asked for."""

    def keep(self, name: str, picture: bytes) -> None:
        """Take a figure that has been drawn already."""
        self._pictures[name] = picture

    def picture(self, name: str, record: Any) -> bytes:
        """Return a record's figure as the content of a PNG file."""
        if name not in self._pictures:
            self._pictures[name] = png(record)
        return self._pictures[name]


@final
class BackgroundRenderer(Renderer):
    """Draws figures in a second process while the caller computes further records.

    A context manager: leaving it ends the process. What the process cannot draw, such as a record
    of a class that is defined in a script, is drawn by the caller's process when it is asked for.

    A fork of a caller without other threads shares what that has imported. Elsewhere the process
    imports all of it again, and the caller's main module too, which then needs
    `if __name__ == "__main__"`.
    """

    def __init__(self) -> None:
        can_fork = sys.platform == "linux" and threading.active_count() == 1
        context = multiprocessing.get_context("fork" if can_fork else "spawn")
        self._process = ProcessPoolExecutor(1, context, live_with_parent)
        self._process.submit(int)  # so that it starts now
        self._futures: dict[str, Future[bytes]] = {}
        self._lazy = LazyRenderer()

    def __enter__(self) -> "BackgroundRenderer":
        """Return the renderer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop what is not drawn yet, and end the process."""
        self._process.shutdown(wait=True, cancel_futures=True)

    def announce(self, name: str, record: Any) -> None:
        """Send a record to the process."""
        with contextlib.suppress(BrokenProcessPool):  # then it is drawn when it is asked for
            self._futures[name] = self._process.submit(png, record)

    def keep(self, name: str, picture: bytes) -> None:
        """Take a figure that has been drawn already."""
        self._lazy.keep(name, picture)

    def picture(self, name: str, record: Any) -> bytes:
        """Return a record's figure, when the process has drawn it."""
        future = self._futures.get(name)
        if future is None or future.exception() is not None:  # which is raised again here
            return self._lazy.picture(name, record)
        return future.result()


def png(record: Any) -> bytes:
    """Draw a record's figure, and return it as the content of a PNG file."""
    return render.png(render.draw(record))


def load_matplotlib() -> None:
    """Import what figures are drawn with, so that processes which are forked later have it."""
    from visualization import figures
    from visualization.core import legible

    del figures, legible


def live_with_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when that does, however it ends.

    torch's threads do not come through a fork: without others it does not wait for them.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
