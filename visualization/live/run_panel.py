"""Panel of the live page that follows a run: curves, verdicts, and what each snapshot makes of it.

U units or maps of a view, h and w of a map; of the cells of a recurrent layer, h units × w steps.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import argument_error
from visualization.core.pixels import data_uri, image_colors
from visualization.live.image_panel import quantised
from visualization.live.messages import Arguments, Reply
from visualization.live.run_records import RunRecords, label_of
from visualization.live.run_verdicts import Verdicts
from visualization.live.session import Call, LivePanel

PLOTS = (  # title, what is measured, whether its axis is logarithmic at first
    ("loss", "loss", True), ("scores", "score", False), ("gradient norm", "norm", True),
    ("learning rate", "rate", False),
)  # fmt: skip
_MOST_MAPS = 512


@attrs.frozen(eq=False, kw_only=True)
class SnapshotAnswer:
    """Answer to a fixed sample with the weights of a snapshot, as text, and whether it is right."""

    answer: str
    is_right: bool


@attrs.frozen(eq=False, kw_only=True)
class SnapshotMaps:
    """Maps (U, h, w) of one sample; with the text at each of w steps, of the cells of a layer."""

    maps: NDArray[np.float32]
    steps: Sequence[str] = ()


@attrs.frozen(eq=False, kw_only=True)
class Snapshots:
    """Weight snapshots of a run, and what the model makes of a few fixed samples with each.

    Attributes:
        stamps: returns of each snapshot, by its step, what changes when it is written again.
        samples: question and right answer of each sample.
        images: of the samples (N, C, H, W) from 0, black, to 1, white; None: they are none.
        views: names of layers, and whether each has feature `maps` or `cells`.
        answers: of a step: the answer to each sample.
        maps: of a step, a view and the number of a sample.
    """

    stamps: Callable[[], Mapping[int, Any]]
    samples: Sequence[tuple[str, str]]
    images: NDArray[np.float32] | None = None
    views: Mapping[str, Literal["maps", "cells"]]
    answers: Callable[[int], Sequence[SnapshotAnswer]]
    maps: Callable[[int, str, int], SnapshotMaps]


@attrs.frozen(eq=False, kw_only=True)
class RunSource:
    """What a page follows of a run.

    Attributes:
        folder: of the run, which is only read.
        records: the file of its records.
        status: returns what the run says of itself: `state` (`running`, `done`, `diverged`,
            `interrupted`, `failed`, `killed`), `steps` in all, and `reason`; {}: nothing.
        settings: as in `RunEvidence`.
        monitor: likewise.
        batch_size: samples of a step; 0: unknown.
        snapshots: of the weights; None: there are none to show.
        now: the time (s), to say how old the last record is.
    """

    folder: Path
    records: Path
    status: Callable[[], Mapping[str, Any]]
    settings: Mapping[str, Any]
    monitor: tuple[str, Literal["max", "min"]]
    batch_size: int = 0
    snapshots: Snapshots | None = None
    now: Callable[[], float] = time.time


@final
class RunWatch:
    """What was read of a run, shared by all open pages."""

    def __init__(self, source: RunSource) -> None:
        self.source, self.records = source, RunRecords(source.records)
        self.verdicts = Verdicts(source.folder.name, source.settings, source.monitor)
        self.is_behind = False
        self._answers: dict[int, tuple[Any, Sequence[SnapshotAnswer]]] = {}

    def update(self) -> Mapping[str, Any]:
        """Read what was added, and judge it; return the status as JSON values."""
        changed = self.records.update()
        status = dict(self.source.status())
        state = status.get("state", "")
        self.is_behind = self.records.is_behind
        if not self.is_behind:
            self.is_behind = self.verdicts.update(self.records, state == "diverged")
        size = self.source.batch_size
        age = None if changed is None else max(0.0, self.source.now() - changed)
        total, step = status.get("steps"), self.records.last_step
        return {
            "state": state, "reason": str(status.get("reason", "")), "step": step, "age": age,
            "steps": total, "records": self.records.num_records, "problem": self._problem(changed),
            "steps_per_s": self.records.samples_per_s / size if size else None,
            "left": max(0, total - step) if isinstance(total, int) else None,
        }  # fmt: skip

    def _problem(self, changed: float | None) -> str:
        """Return what is wrong with the folder; empty: nothing."""
        source, num = self.source, self.records.num_unreadable
        if not source.folder.is_dir():
            return f"{source.folder} is gone: what was read before is still shown"
        if changed is None:
            return f"{source.records.name} does not exist yet: nothing is recorded"
        return f"{num:,} lines of {source.records.name} are no records" if num else ""

    def snapshots(self) -> Snapshots:
        """Return the snapshots.

        Raises:
            ValueError: there are none to show.
        """
        if self.source.snapshots is None:
            raise argument_error("call", "there are no snapshots", "an agent that has some")
        return self.source.snapshots

    def answers(self, step: int) -> Sequence[SnapshotAnswer]:
        """Return the answers of a step, which are kept until its snapshot is another."""
        snapshots = self.snapshots()
        stamp = snapshots.stamps().get(step)
        if step not in self._answers or self._answers[step][0] != stamp:
            self._answers[step] = stamp, snapshots.answers(step)
        return self._answers[step][1]


@final
class RunPanel(LivePanel):
    """Panel that follows a run: what one page was sent of it, and what is new."""

    name: ClassVar[str] = "run"

    def __init__(self, watch: RunWatch) -> None:
        self._watch, self._revision = watch, 0
        self._sent: dict[str, tuple[int, int]] = {}  # of each curve: stride, number of full bins
        self._last: dict[str, Any] = {}  # what else was sent, by name

    @property
    def calls(self) -> Mapping[str, Call]:
        """What the page can call."""
        return {"poll": self._poll, "answers": self._answers, "maps": self._maps}

    def describe(self) -> Mapping[str, Any]:
        """Return names of plots, samples and layers."""
        shown = self._watch.source.snapshots
        images = shown.images if shown is not None else None
        return {
            "title": "Run", "folder": str(self._watch.source.folder),
            "plots": [{"name": name, "unit": unit, "log": log} for name, unit, log in PLOTS],
            "samples": [] if shown is None else list(shown.samples),
            "images": [] if images is None else [data_uri(image_colors(image)) for image in images],
            "views": [] if shown is None else [
                {"name": name, "kind": kind} for name, kind in shown.views.items()
            ],
        }  # fmt: skip

    def _poll(self, arguments: Arguments) -> Reply:
        """Return what is new since the page's revision; 0: it has nothing."""
        if arguments.integer("revision", 0, 2**53) != self._revision:
            self._sent, self._last = {}, {}
        status = self._watch.update()
        records, verdicts = self._watch.records, self._watch.verdicts
        data: dict[str, Any] = {"status": status, "behind": self._watch.is_behind}
        if self._is_news("generation", records.generation):
            self._sent, data["reset"] = {}, True
        if self._is_news("verdicts", verdicts.revision):
            data["verdicts"] = {
                "step": verdicts.step, "findings": verdicts.findings, "changes": verdicts.changes,
                "thinned": records.is_thinned,
            }  # fmt: skip
        shown = self._watch.source.snapshots
        stamps = {} if shown is None else dict(shown.stamps())
        if self._is_news("snapshots", stamps):
            data["snapshots"] = [[step, repr(stamps[step])] for step in sorted(stamps)]
        curves, buffers = self._news()
        self._revision += 1
        return Reply({**data, "curves": curves, "revision": self._revision}, buffers)

    def _is_news(self, name: str, value: Any) -> bool:
        """Tell whether a value is another than the page was sent, and take it as sent."""
        is_news = name not in self._last or self._last[name] != value
        self._last[name] = value
        return is_news

    def _news(self) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Return the curves that have grown, each from its first bin that the page has not."""
        curves, buffers = [], []
        for tag, series in self._watch.records.series.items():
            stride, num = self._sent.get(tag, (0, 0))
            if self._is_news(f"curve {tag}", len(series)) or not stride:
                first = num if stride == series.stride else 0
                plot, label = label_of(tag) or ("", "")
                curves.append({
                    "tag": tag, "plot": plot, "label": label, "first": first,
                    "stride": series.stride, "last": series.last, "num": len(series),
                })  # fmt: skip
                buffers.append(series.bins(first).astype("<f8").tobytes())
                self._sent[tag] = series.stride, len(series) // series.stride
        return curves, buffers

    def _step(self, arguments: Arguments) -> int:
        """Return the step of a snapshot that is asked for."""
        step = arguments.integer("step", 0, 2**53)
        steps = sorted(self._watch.snapshots().stamps())
        if step not in steps:
            shown = ", ".join(map(str, steps)) or "none yet"
            raise argument_error("step", f"there is no snapshot of step {step} now", shown)
        return step

    def _answers(self, arguments: Arguments) -> Reply:
        """Return the answers to the fixed samples with the weights of a step."""
        step = self._step(arguments)
        found = self._watch.answers(step)
        return Reply({"step": step, "answers": [[each.answer, each.is_right] for each in found]})

    def _maps(self, arguments: Arguments) -> Reply:
        """Return maps of a view of one sample, with the weights of a step."""
        shown, step = self._watch.snapshots(), self._step(arguments)
        view = arguments.choice("view", list(shown.views))
        sample = arguments.integer("sample", 0, len(shown.samples) - 1)
        found = shown.maps(step, view, sample)
        maps = found.maps
        if not np.isfinite(maps).all():
            raise argument_error(
                "step", f"{view!r} of step {step} has NaN or inf", "finite numbers"
            )
        if shown.views[view] == "cells":
            levels, limits = _levels_of_cells(maps)
            channels = list(range(len(maps)))
        else:
            channels = arguments.integers("channels", 0, max(len(maps) - 1, 0), _MOST_MAPS)
            levels, limits = quantised(maps[channels], has_signs=False)
        data = {
            "step": step, "view": view, "sample": sample, "num": len(maps), "channels": channels,
            "limits": limits, "size": levels.shape[1:], "steps": list(found.steps),
        }  # fmt: skip
        return Reply(data, [levels.tobytes()])


def _levels_of_cells(
    maps: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], list[Sequence[float]]]:
    """Return states in 256 levels from −1 to 1, or the largest, so that snapshots compare."""
    most = max(1.0, float(np.abs(maps).max(initial=0)))
    levels = np.rint((maps / most + 1) / 2 * 255).astype(np.uint8)
    return levels, [[-most, most]] * len(maps)
