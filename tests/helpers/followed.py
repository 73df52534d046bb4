"""A run that is made up, for tests of the page that follows one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.helpers.live import CLASSES, network, samples, subject
from visualization.diagnosis import RunEvidence
from visualization.live.images import ImageEngine
from visualization.live.run_panel import (
    RunPanel,
    RunSource,
    RunWatch,
    SnapshotAnswer,
    SnapshotMaps,
    Snapshots,
)
from visualization.live.session import Live

SETTINGS = {"learning_rate": 0.01, "clip_norm": 1.0, "steps": 400, "eval_samples": 100,
            "log_every": 10, "eval_every": 50}  # fmt: skip
MONITOR: tuple[str, Literal["max", "min"]] = ("accuracy", "max")
RIGHT = ("zero", "two", "one")
TEXT = tuple("1+2=")


def record(step: int, loss: float, seed: int = 0) -> dict[str, float]:
    """Return a record of training, as a run writes it."""
    jitter = float(np.random.default_rng([seed, step]).normal(0, 0.02))
    return {
        "step": step, "train/loss": loss * (1 + jitter), "train/grad_norm": 0.5, "train/lr": 0.01,
        "time/samples_per_s": 320.0, "train/highest_loss": loss + 0.05,
    }  # fmt: skip


def evaluation(step: int, loss: float, accuracy: float, fitted: float) -> dict[str, float]:
    """Return a record of an evaluation; on training samples the loss is `fitted`."""
    return {
        "step": step, "eval/loss": loss, "eval/accuracy": accuracy, "chance/loss": 1.1,
        "chance/accuracy": 0.33, "fit/loss": fitted, "fit/accuracy": 1 - fitted / 1.1,
    }  # fmt: skip


def overfitting(num: int = 400) -> list[dict[str, float]]:
    """Return the records of a run that learns, and then overfits."""
    found = []
    for step in range(10, num + 1, 10):
        loss = 0.03 + 1.07 * float(np.exp(-step / 60))
        found.append(record(step, loss))
        if step % 50 == 0:
            worse = max(0.0, (step - 100) / 150)
            found.append(evaluation(step, loss + 0.1 + worse, 0.8 - 0.1 * worse, loss))
    return found


def append(path: Path, records: Sequence[Mapping[str, float]]) -> None:
    """Append records to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(each) + "\n" for each in records)


def evidence(records: Sequence[Mapping[str, float]], *, diverged: bool = False) -> RunEvidence:
    """Return what the doctor is given of records."""
    return RunEvidence(
        title="run", records=records, settings=SETTINGS, monitor=MONITOR, diverged=diverged
    )


class FollowedRun:
    """A folder with records that a test writes, and snapshots of a small network."""

    def __init__(self, folder: Path, steps: Sequence[int] = (0, 5, 20)) -> None:
        self.folder, self.records = folder, folder / "metrics.jsonl"
        self.model = network()
        self.states: dict[int, Mapping[str, Tensor]] = {}
        self.status: dict[str, Any] = {"state": "running", "steps": 400}
        self.now = 0.0
        for step in steps:
            self.save(step)
        own = attrs.evolve(
            subject(self.model), images=samples(len(RIGHT)), states=lambda: self.states
        )
        engine = ImageEngine(own)
        self.engine = engine
        self.source = RunSource(
            folder=folder, records=self.records, status=lambda: self.status, settings=SETTINGS,
            monitor=MONITOR, batch_size=32, now=lambda: self.now,
            snapshots=Snapshots(
                stamps=lambda: {step: id(state) for step, state in self.states.items()},
                samples=[(f"image {number}", right) for number, right in enumerate(RIGHT)],
                images=samples(len(RIGHT)),
                views={**dict.fromkeys(engine.layers, "maps"), "cells": "cells"},
                answers=self.answers, maps=self.maps,
            ),
        )  # fmt: skip
        self.watch = RunWatch(self.source)

    def save(self, step: int) -> None:
        """Save a snapshot: weights of its own."""
        torch.manual_seed(step)
        other = network()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.normal_()
        self.states[step] = other.state_dict()

    def direct(self, step: int) -> nn.Sequential:
        """Return a network with the weights of a snapshot."""
        other = network()
        other.load_state_dict(dict(self.states[step]))
        return other.eval()

    def answers(self, step: int) -> list[SnapshotAnswer]:
        """Return the answers with the weights of a step."""
        found = []
        for image, right in zip(samples(len(RIGHT)), RIGHT, strict=True):
            shares = self.engine.forward(image, None, (), step).answer["probabilities"]
            name = CLASSES[int(np.argmax(shares))]
            found.append(SnapshotAnswer(answer=name, is_right=name == right))
        return found

    def maps(self, step: int, view: str, sample: int) -> SnapshotMaps:
        """Return maps of the network, or states that are made up."""
        if view == "cells":
            return SnapshotMaps(maps=cells(step), steps=TEXT)
        image = samples(len(RIGHT))[sample]
        return SnapshotMaps(maps=self.engine.forward(image, view, (), step).maps)

    def live(self) -> Live:
        """Return the live page."""
        return Live(title="a run", panels=[lambda: RunPanel(self.watch)])


def cells(step: int) -> NDArray[np.float32]:
    """Return states (1, units, steps) that are made up."""
    return np.linspace(-1, 1, 3 * len(TEXT), dtype=np.float32).reshape(1, 3, -1) / (1 + step)
