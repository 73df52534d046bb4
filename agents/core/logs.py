"""Sinks: where records, figures and histograms of a run go. An absent one is the null sink."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from agents.core.checkpoint import CannotWriteError, write_durably
from agents.core.history import History, Record
from visualization import render


class Sink:
    """The null sink: takes everything and keeps nothing."""

    def start(self, history: History, step: int, total: int) -> None:
        """Begin at `step` of `total`, with what is already in the history."""

    def record(self, record: Record, note: str = "") -> None:
        """Take one record of the history, and a word about it for a person."""

    def picture(self, step: int, name: str, record: Any) -> None:
        """Take a visual record, such as a table of answers."""

    def histograms(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take tensors of which the distribution is of interest."""

    def say(self, message: str) -> None:
        """Tell the person at the terminal something."""

    def finish(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """End a run that came to its end, with its settings and last scores."""

    def close(self) -> None:
        """Let go of files and of the terminal."""


NULL = Sink()


class FanOut(Sink):
    """Passes everything on to several sinks."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def start(self, history: History, step: int, total: int) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.start(history, step, total)

    def record(self, record: Record, note: str = "") -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.record(record, note)

    def picture(self, step: int, name: str, record: Any) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.picture(step, name, record)

    def histograms(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.histograms(step, tensors)

    def say(self, message: str) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.say(message)

    def finish(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.finish(settings, scores)

    def close(self) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.close()


class ConsoleSink(Sink):
    """A progress bar on a terminal; elsewhere one line for each evaluation. On standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._last: Record = {}

    def start(self, history: History, step: int, total: int) -> None:
        """Open the bar."""
        self._total = total
        self._bar = tqdm(
            total=total,
            initial=step,
            unit="step",
            file=sys.stderr,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            mininterval=0.2,
        )

    def record(self, record: Record, note: str = "") -> None:
        """Move the bar on; write a line for an evaluation."""
        self._last.update(record)
        scores = {tag[5:]: value for tag, value in record.items() if tag.startswith("eval/")}
        if not scores:
            self._bar.update(int(record["step"]) - self._bar.n)
            self._bar.set_postfix_str(f"loss {record['train/loss']:.4f}", refresh=False)
            return
        words = [f"step {int(record['step']):>6}/{self._total}"]
        if "train/loss" in self._last:
            words.append(f"loss {self._last['train/loss']:.4f}")
            words.append(f"{self._last['time/samples_per_s']:,.0f} samples/s")
        words += [f"{name} {value:.4f}" for name, value in scores.items()]
        self.say("  ".join([*words, note]).rstrip())

    def say(self, message: str) -> None:
        """Write a line above the bar."""
        tqdm.write(message, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class JsonlSink(Sink):
    """`metrics.jsonl`: one record a line. Begins by writing again what the history already has.

    So whatever a killed run left in the file after its last checkpoint is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, history: History, step: int, total: int) -> None:
        """Write the history and open the file for more."""
        write_durably(self._path, "".join(json.dumps(r) + "\n" for r in history).encode())
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def record(self, record: Record, note: str = "") -> None:
        """Append a line."""
        try:
            self._file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise CannotWriteError(self._path, error) from error

    def close(self) -> None:
        """Close the file; what could not be written was said before."""
        with contextlib.suppress(OSError):
            self._file.close()


class TensorBoardSink(Sink):
    """Event files for TensorBoard. A resumed run hides what came after its checkpoint.

    Events are written by this thread, unlike those of torch's SummaryWriter, so that a full disk is
    an error here, and not a traceback of another thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, history: History, step: int, total: int) -> None:
        """Open an event file; TensorBoard purges events after `step` from earlier ones."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._path = self._folder / name
        self._file = self._path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        if step:
            self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), step=step, **content)
        try:
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            raise CannotWriteError(self._path, error) from error

    def record(self, record: Record, note: str = "") -> None:
        """Write the scalars of a record."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in record.items()
            if tag != "step"
        ]
        self._write(int(record["step"]), summary=Summary(value=values))

    def picture(self, step: int, name: str, record: Any) -> None:
        """Draw a record into the images."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        figure = render.draw(record)
        png = render.png(figure, dpi=100)
        width, height = (round(100 * inches) for inches in figure.get_size_inches())
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        value = Summary.Value(tag=f"inspect/{name}", image=image)
        self._write(step, summary=Summary(value=[value]))

    def histograms(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Count each tensor into 64 bins where it lies, and write only the counts."""
        from torch.utils.tensorboard.summary import histogram_raw

        for tag, tensor in tensors.items():
            values = tensor.detach().float().flatten()
            low, high = float(values.min()), float(values.max())
            counts = torch.histc(values, 64, low, high)
            edges = torch.linspace(low, high, 65)[1:]
            total, squares = float(values.sum()), float(values.square().sum())
            summary = histogram_raw(  # type: ignore[no-untyped-call]
                tag, low, high, len(values), total, squares, edges.tolist(), counts.tolist()
            )
            self._write(step, summary=summary)

    def finish(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Write settings and scores for the hparams page."""
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if v is not None else "none" for k, v in settings.items()}
        named = {f"eval/{name}": score for name, score in scores.items()}
        for summary in hparams(plain, named):  # type: ignore[no-untyped-call]
            self._write(0, summary=summary)

    def close(self) -> None:
        """Close the event file; what could not be written was said before."""
        with contextlib.suppress(OSError):
            self._file.close()
