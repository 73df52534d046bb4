"""Sinks: logging of the events of a run. An absent one is the null sink."""

import abc
import contextlib
import json
import os
import struct
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

import attrs
import torch
from tqdm import tqdm

from agents.core.runs.checkpoint import CannotWriteError, atomic_write
from agents.core.runs.history import History, Record
from tasks.core.paths import make_folder
from visualization import render


@attrs.frozen
class Started:
    """A run starts, or continues, after `step` of `total` steps."""

    history: History
    step: int
    total: int


@attrs.frozen
class Scalars:
    """Scalars by tag, as added to the history; `note` is a word for the console, such as `best`."""

    record: Record
    note: str = ""


@attrs.frozen
class Figure:
    """A figure: a visual record, such as a table of answers."""

    step: int
    name: str
    record: Any
    png: bytes = b""  # the figure, if it has been drawn already


@attrs.frozen
class Histograms:
    """Tensors by tag, for histograms of their values."""

    step: int
    tensors: Mapping[str, torch.Tensor]


@attrs.frozen
class Finished:
    """A run ended, with these settings and best scores."""

    settings: Mapping[str, Any]
    scores: Mapping[str, float]


Event = Started | Scalars | Figure | Histograms | Finished


class Sink(abc.ABC):
    """Base class of sinks, which log the events of a run; each ignores those it does not know."""

    @abc.abstractmethod
    def handle(self, event: Event) -> None:
        """Log one event."""

    def info(self, message: str) -> None:  # noqa: B027 - a sink of files has no console
        """Show a message on the console, if the sink has one."""

    def warn(self, message: str) -> None:  # noqa: B027 - as above
        """Show a warning, such as of a corrupt file, if the sink has a console."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close files and progress bar. Safe to call before `Started`."""


@final
class NullSink(Sink):
    """Ignores all events; a warning becomes a Python warning."""

    def handle(self, event: Event) -> None:
        """Ignored."""

    def warn(self, message: str) -> None:
        """Issue a RuntimeWarning."""
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Nothing to close."""


@final
class FanOut(Sink):
    """Passes everything on to several sinks."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def handle(self, event: Event) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.handle(event)

    def info(self, message: str) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.info(message)

    def warn(self, message: str) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.warn(message)

    def close(self) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.close()


@final
class ConsoleSink(Sink):
    """A progress bar on a terminal; elsewhere one line for each evaluation. On standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._last: Record = {}

    def handle(self, event: Event) -> None:
        """Open the bar, update it, write a line for an evaluation."""
        match event:
            case Started():
                is_terminal = sys.stderr is not None and sys.stderr.isatty()
                self._bar = tqdm(
                    total=event.total, initial=event.step, unit="step", file=sys.stderr,
                    dynamic_ncols=True, disable=not is_terminal, mininterval=0.2,
                )  # fmt: skip
            case Scalars():
                self._show(event.record, event.note)

    def _show(self, record: Record, note: str) -> None:
        self._last.update(record)
        scores = {tag[5:]: value for tag, value in record.items() if tag.startswith("eval/")}
        if "train/stage" in record:
            stage = f"stage {int(record['train/stage'])} begins"
            self.info(f"step {int(record['step']):>6}/{self._bar.total}  {stage}")
            return
        if not scores:
            self._bar.update(int(record["step"]) - self._bar.n)
            self._bar.set_postfix_str(f"loss {record['train/loss']:.4f}", refresh=False)
            return
        words = [f"step {int(record['step']):>6}/{self._bar.total}"]
        if "time/samples_per_s" in self._last:
            words.append(f"{self._last['time/samples_per_s']:,.0f} samples/s")
            words.append(f"train/loss {self._last['train/loss']:.4f}")
        words += [f"{name} {value:.4f}" for name, value in scores.items()]
        self.info("  ".join([*words, note]).rstrip())

    def info(self, message: str) -> None:
        """Write a line above the bar, if there is a standard error."""
        if sys.stderr is not None:
            tqdm.write(message, file=sys.stderr)

    def warn(self, message: str) -> None:
        """Write a line above the bar."""
        self.info(message)

    def close(self) -> None:
        """Close the bar, which stays visible."""
        self._bar.close()


def console(is_shown: bool) -> Sink:
    """Return a sink that writes progress to standard error, or one that keeps nothing."""
    return ConsoleSink() if is_shown else NullSink()


@final
class JsonlSink(Sink):
    """`metrics.jsonl`: one record per line. The file is first rewritten from the history.

    So records that a killed run wrote after its last checkpoint are removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = contextlib.ExitStack()

    def handle(self, event: Event) -> None:
        """Open the file, or append a line."""
        match event:
            case Started():
                lines = [_json_line(record) for record in event.history]
                atomic_write(self._path, "".join(lines).encode())
                try:
                    file = self._path.open("a", encoding="utf-8", buffering=1)
                except OSError as error:
                    raise CannotWriteError(self._path, error) from error
                self._file = self._open.enter_context(file)
            case Scalars():
                try:
                    self._file.write(_json_line(event.record))
                except OSError as error:
                    raise CannotWriteError(self._path, error) from error

    def close(self) -> None:
        """Close the file; a failure to write was an error before."""
        with contextlib.suppress(OSError):
            self._open.close()


def _json_line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


@final
class TensorBoardSink(Sink):
    """Event files for TensorBoard. A resumed run hides events after its checkpoint.

    Events are written by this thread, unlike those of torch's SummaryWriter, so that a full disk is
    an error here, not a traceback of another thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()

    def handle(self, event: Event) -> None:
        """Write an event in TensorBoard's format."""
        match event:
            case Started():
                self._start(event.step)
            case Scalars():
                self._scalars(event.record)
            case Figure():
                self._image(event)
            case Histograms():
                for tag, tensor in event.tensors.items():
                    self._write(event.step, summary=_histogram(tag, tensor))
            case Finished():
                self._hparams(event)

    def _start(self, step: int) -> None:
        """Open an event file; TensorBoard drops what earlier ones have after `step`."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._path = self._folder / f"events.out.tfevents.{self._next_time():019d}.{os.getpid()}"
        try:
            make_folder(self._folder)
            self._file = self._open.enter_context(self._path.open("wb"))
        except OSError as error:
            raise CannotWriteError(self._path, error) from error
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def _next_time(self) -> int:
        """Return the time in nanoseconds, or, if a clock was set back, one after earlier files'.

        TensorBoard reads the files of a folder in the order of their names.
        """
        names = [path.name.split(".")[3] for path in self._folder.glob("events.out.tfevents.*")]
        earlier = [int(name) for name in names if name.isdecimal()]
        return max([time.time_ns(), *(time_ns + 1 for time_ns in earlier)])

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as EventProto

        event = EventProto(wall_time=time.time(), step=step, **content)
        try:
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            raise CannotWriteError(self._path, error) from error

    def _scalars(self, record: Record) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        tags = [tag for tag in record if tag != "step"]
        values = [Summary.Value(tag=tag, simple_value=record[tag]) for tag in tags]
        self._write(int(record["step"]), summary=Summary(value=values))

    def _image(self, event: Figure) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        png = event.png or render.png(render.draw(event.record))
        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        value = Summary.Value(tag=f"inspect/{event.name}", image=image)
        self._write(event.step, summary=Summary(value=[value]))

    def _hparams(self, event: Finished) -> None:
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if v is not None else "none" for k, v in event.settings.items()}
        named = {f"eval/{name}": score for name, score in event.scores.items()}
        for summary in hparams(plain, named):  # type: ignore[no-untyped-call]
            self._write(0, summary=summary)

    def close(self) -> None:
        """Close the event file; a failure to write was an error before."""
        with contextlib.suppress(OSError):
            self._open.close()


def _histogram(tag: str, tensor: torch.Tensor) -> Any:
    """Histogram of a tensor in 64 bins, computed on its device; only the counts leave it."""
    from torch.utils.tensorboard.summary import histogram_raw

    values = tensor.detach().float().flatten()
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, 64, low, high)
    edges = torch.linspace(low, high, 65)[1:]
    total, squares = float(values.sum()), float(values.square().sum())
    return histogram_raw(  # type: ignore[no-untyped-call]
        tag, low, high, len(values), total, squares, edges.tolist(), counts.tolist()
    )
