"""Sinks: where the events of a run go. An absent one is the null sink."""

import abc
import contextlib
import json
import os
import struct
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs
import torch
from tqdm import tqdm

from agents.core.runs.checkpoint import CannotWriteError, write_durably
from agents.core.runs.history import History, Record
from tasks.core.paths import make_folder
from visualization import render


@attrs.frozen
class Started:
    """A run begins, or goes on, after `step` of `total` steps."""

    history: History
    step: int
    total: int


@attrs.frozen
class Recorded:
    """The history got a record; `note` is a word about it for a person."""

    record: Record
    note: str = ""


@attrs.frozen
class Pictured:
    """There is a visual record to look at, such as a table of answers."""

    step: int
    name: str
    record: Any
    png: bytes = b""  # its figure, where that is drawn already


@attrs.frozen
class Spread:
    """There are tensors of which the distribution is of interest, by tag."""

    step: int
    tensors: Mapping[str, torch.Tensor]


@attrs.frozen
class Finished:
    """The run came to its end; these are its settings and last scores."""

    settings: Mapping[str, Any]
    scores: Mapping[str, float]


Event = Started | Recorded | Pictured | Spread | Finished


class Sink(abc.ABC):
    """Takes the events of a run; each sink looks at those that it knows."""

    @abc.abstractmethod
    def take(self, event: Event) -> None:
        """Take one event."""

    @abc.abstractmethod
    def say(self, message: str) -> None:
        """Tell a person who watches."""

    @abc.abstractmethod
    def warn(self, message: str) -> None:
        """Tell what must not go unnoticed, such as a damaged file."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of files and of the terminal; a sink that never started has none."""


@final
class NullSink(Sink):
    """Keeps nothing; a warning becomes a Python warning."""

    def take(self, event: Event) -> None:
        """Keep nothing."""

    def say(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Warn as Python does."""
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Hold nothing."""


@final
class FanOut(Sink):
    """Passes everything on to several sinks; the first one does the talking."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def take(self, event: Event) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.take(event)

    def say(self, message: str) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.say(message)

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

    def take(self, event: Event) -> None:
        """Open the bar, move it on, write a line for an evaluation."""
        match event:
            case Started():
                is_terminal = sys.stderr is not None and sys.stderr.isatty()
                self._bar = tqdm(
                    total=event.total, initial=event.step, unit="step", file=sys.stderr,
                    dynamic_ncols=True, disable=not is_terminal, mininterval=0.2,
                )  # fmt: skip
            case Recorded():
                self._show(event.record, event.note)

    def _show(self, record: Record, note: str) -> None:
        self._last.update(record)
        scores = {tag[5:]: value for tag, value in record.items() if tag.startswith("eval/")}
        if "train/stage" in record:
            stage = f"stage {int(record['train/stage'])} begins"
            self.say(f"step {int(record['step']):>6}/{self._bar.total}  {stage}")
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
        self.say("  ".join([*words, note]).rstrip())

    def say(self, message: str) -> None:
        """Write a line above the bar; where standard error is None, nobody reads it."""
        if sys.stderr is not None:
            tqdm.write(message, file=sys.stderr)

    def warn(self, message: str) -> None:
        """Write a line above the bar."""
        self.say(message)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def console(is_shown: bool) -> Sink:
    """Return a sink that writes progress to standard error, or one that keeps nothing."""
    return ConsoleSink() if is_shown else NullSink()


def one_by_one(names: Sequence[str], sink: Sink) -> Iterator[str]:
    """Yield names, and tell a sink of each, when the next is asked for, how long it took."""
    for number, name in enumerate(names, start=1):
        begin = time.perf_counter()
        yield name
        sink.say(f"{number} of {len(names)}: {name}, {time.perf_counter() - begin:.1f} s")


@final
class JsonlSink(Sink):
    """`metrics.jsonl`: one record a line. Begins by writing again what the history already has.

    So whatever a killed run left in the file after its last checkpoint is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = contextlib.ExitStack()

    def take(self, event: Event) -> None:
        """Open the file, or append a line."""
        match event:
            case Started():
                lines = [_json_line(record) for record in event.history]
                write_durably(self._path, "".join(lines).encode())
                file = self._path.open("a", encoding="utf-8", buffering=1)
                self._file = self._open.enter_context(file)
            case Recorded():
                try:
                    self._file.write(_json_line(event.record))
                except OSError as error:
                    raise CannotWriteError(self._path, error) from error

    def say(self, message: str) -> None:
        """Keep no talk."""

    def warn(self, message: str) -> None:
        """Keep no talk."""

    def close(self) -> None:
        """Close the file; what could not be written was said before."""
        with contextlib.suppress(OSError):
            self._open.close()


def _json_line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


@final
class TensorBoardSink(Sink):
    """Event files for TensorBoard. A resumed run hides what came after its checkpoint.

    Events are written by this thread, unlike those of torch's SummaryWriter, so that a full disk is
    an error here, and not a traceback of another thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()

    def take(self, event: Event) -> None:
        """Write an event in TensorBoard's form."""
        match event:
            case Started():
                self._start(event.step)
            case Recorded():
                self._scalars(event.record)
            case Pictured():
                self._picture(event)
            case Spread():
                for tag, tensor in event.tensors.items():
                    self._write(event.step, summary=_histogram(tag, tensor))
            case Finished():
                self._hparams(event)

    def _start(self, step: int) -> None:
        """Open an event file; TensorBoard drops what earlier ones have after `step`."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        make_folder(self._folder)
        self._path = self._folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = self._open.enter_context(self._path.open("wb"))
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Written

        event = Written(wall_time=time.time(), step=step, **content)
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

    def _picture(self, event: Pictured) -> None:
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

    def say(self, message: str) -> None:
        """Keep no talk."""

    def warn(self, message: str) -> None:
        """Keep no talk."""

    def close(self) -> None:
        """Close the event file; what could not be written was said before."""
        with contextlib.suppress(OSError):
            self._open.close()


def _histogram(tag: str, tensor: torch.Tensor) -> Any:
    """Count a tensor into 64 bins where it lies; only the counts leave the device."""
    from torch.utils.tensorboard.summary import histogram_raw

    values = tensor.detach().float().flatten()
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, 64, low, high)
    edges = torch.linspace(low, high, 65)[1:]
    total, squares = float(values.sum()), float(values.square().sum())
    return histogram_raw(  # type: ignore[no-untyped-call]
        tag, low, high, len(values), total, squares, edges.tolist(), counts.tolist()
    )
