"""The panel that follows a run: curves, verdicts and snapshots as a direct computation has them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.helpers import followed
from tests.helpers.followed import FollowedRun, append, evidence, overfitting
from tests.helpers.images import unchanged
from tests.helpers.live import CLASSES, LAYER, samples
from visualization.diagnosis import QUESTIONS, diagnose
from visualization.live.run_verdicts import Verdicts
from visualization.live.session import Session


class Page:
    """What a page knows of a run from the replies to its polls."""

    def __init__(self, run: FollowedRun) -> None:
        self.session, self.revision = Session(run.live()), 0
        self.curves: dict[str, NDArray[np.float64]] = {}
        self.verdicts: Mapping[str, Any] = {}
        self.about = self.session.handle({"id": 0}).data["panels"][0]

    def ask(self, call: str, **values: Any) -> Any:
        """Return the reply to a call."""
        return self.session.handle({"id": 1, "panel": "run", "call": call, **values})

    def poll(self) -> Mapping[str, Any]:
        """Ask what is new, until there is nothing more, and take it up; return the last reply."""
        while True:
            reply = self.ask("poll", revision=self.revision)
            data = reply.data
            json.dumps(data, allow_nan=False)
            self.revision = data["revision"]
            if data.get("reset"):
                self.curves = {}
            for about, buffer in zip(data["curves"], reply.buffers, strict=True):
                new = np.frombuffer(buffer, "<f8").reshape(4, -1)
                old = self.curves.get(about["tag"], np.zeros((4, 0)))[:, : about["first"]]
                assert old.shape[1] == about["first"]
                self.curves[about["tag"]] = np.concatenate([old, new], axis=1)
            self.verdicts = data.get("verdicts", self.verdicts)
            if not data["behind"]:
                return dict(data)


@pytest.fixture
def run(tmp_path: Path) -> FollowedRun:
    """Return a run that has just begun."""
    return FollowedRun(tmp_path)


def series(records: Sequence[Mapping[str, float]], tag: str) -> list[list[float]]:
    """Return steps and values of a tag."""
    rows = [(record["step"], record[tag]) for record in records if tag in record]
    return [list(column) for column in zip(*rows, strict=True)]


def test_curves_are_the_records_however_they_arrive(run: FollowedRun) -> None:
    """Whether a page polls seldom or after each record, it has the numbers of the file, once."""
    early, late = Page(run), Page(run)
    records = overfitting()
    for begin in range(0, len(records), 7):
        append(run.records, records[begin : begin + 7])
        early.poll()
    late.poll()
    for page in (early, late):
        assert {"train/loss", "eval/loss", "eval/accuracy", "train/lr"} < page.curves.keys()
        for tag, (steps, means, lows, highs) in page.curves.items():
            assert [steps.tolist(), means.tolist()] == series(records, tag)
            assert np.array_equal(lows, means)
            assert np.array_equal(highs, means)
    assert late.poll()["curves"] == []
    late.revision = 0  # the page was opened again
    late.curves = {}
    late.poll()
    assert late.curves.keys() == early.curves.keys()


def test_long_curves_are_sent_in_bounded_pieces(run: FollowedRun) -> None:
    """Of a curve of thousands of values a page has at most 513 points; what is new is a few."""
    page = Page(run)
    append(run.records, [{"step": step, "train/loss": 1 / step} for step in range(1, 3001)])
    page.poll()
    append(run.records, [{"step": 3001, "train/loss": 7.5}])
    reply = page.ask("poll", revision=page.revision)
    assert reply.data["curves"][0]["num"] == 3001
    assert len(reply.buffers[0]) == 4 * 8
    page.revision = reply.data["revision"] + 1  # that reply was lost
    page.poll()
    steps, _, lows, highs = page.curves["train/loss"]
    assert len(steps) <= 513
    assert (steps[-1], highs.max(), lows[:-1].min()) == (3001, 7.5, 1 / 3000)


def test_a_run_that_begins_again_replaces_the_curves(run: FollowedRun) -> None:
    """After another file has taken the place of the first, nothing of that is left."""
    page = Page(run)
    append(run.records, overfitting())
    page.poll()
    new = run.folder / "new"
    append(new, overfitting(60))
    new.replace(run.records)
    page.poll()
    for tag, (steps, means, _, _) in page.curves.items():
        assert [steps.tolist(), means.tolist()] == series(overfitting(60), tag)
    assert page.verdicts["step"] == 60
    assert all(change["step"] <= 60 for change in page.verdicts["changes"])


def expected_verdicts(
    records: Sequence[Mapping[str, float]], *, diverged: bool = False
) -> dict[str, tuple[str, str]]:
    """Return verdict and measurement of what the doctor says without trials, by name."""
    trials = {question.name for question in QUESTIONS if question.needs_trial}
    found = diagnose(evidence(records, diverged=diverged)).findings
    return {
        finding.name: (finding.verdict, finding.answer.measurement)
        for finding in found
        if finding.verdict != "unknown" or finding.name not in trials
    }


def verdicts_of(page: Page) -> dict[str, tuple[str, str]]:
    """Return what a page shows."""
    return {
        each["name"]: (each["verdict"], each["measurement"]) for each in page.verdicts["findings"]
    }


def test_verdicts_are_those_of_the_doctor_after_each_record(run: FollowedRun) -> None:
    """At each moment they are those of `diagnose`, and each change is listed at its step."""
    page, records = Page(run), overfitting()
    before: dict[str, str] = {}
    for num in range(1, len(records) + 1):
        append(run.records, records[num - 1 : num])
        page.poll()
        expected = expected_verdicts(records[:num])
        assert verdicts_of(page) == expected
        step = records[num - 1]["step"]
        now = {name: verdict for name, (verdict, _) in expected.items()}
        listed = {
            change["name"]: (change["before"], change["after"])
            for change in page.verdicts["changes"]
            if change["step"] == step
        }
        for name, verdict in now.items():
            if before.get(name, "unknown") != verdict:
                assert listed[name][1] == verdict
        before = now
    assert before["overfit"] == "problem"
    course = [change for change in page.verdicts["changes"] if change["name"] == "overfit"]
    assert course[-1]["after"] == "problem"
    assert 100 < course[-1]["step"] < 400
    overfit = next(each for each in page.verdicts["findings"] if each["name"] == "overfit")
    assert overfit["since"] == course[-1]["step"]


def test_a_finished_run_has_its_whole_course(run: FollowedRun) -> None:
    """Opened when it is done, the last verdicts are the same, and earlier changes are listed."""
    records = overfitting()
    append(run.records, records)
    run.status = {"state": "done", "steps": 400}
    page = Page(run)
    page.poll()
    assert verdicts_of(page) == expected_verdicts(records)
    course = [change for change in page.verdicts["changes"] if change["name"] == "overfit"]
    assert course[-1]["after"] == "problem"
    assert course[-1]["step"] < 400


def test_a_run_that_diverged_is_judged_as_such(run: FollowedRun) -> None:
    """When the status says so later, with no new record, the verdicts are those of such a run."""
    page, records = Page(run), overfitting(100)
    append(run.records, records)
    page.poll()
    assert verdicts_of(page) == expected_verdicts(records)
    run.status = {"state": "diverged", "steps": 400, "reason": "the loss is nan"}
    assert page.poll()["status"]["reason"] == "the loss is nan"
    assert verdicts_of(page) == expected_verdicts(records, diverged=True)


def test_a_long_run_is_judged_in_pieces(tmp_path: Path) -> None:
    """No call judges many more records than its share, and in the end all are judged."""
    run = FollowedRun(tmp_path)
    long = [followed.record(step, 1.0) for step in range(1, 3001)]
    append(run.records, long)
    run.watch.records.update()
    verdicts = Verdicts("run", followed.SETTINGS, followed.MONITOR)
    num = 1
    while verdicts.update(run.watch.records):
        num += 1
    assert num >= 3
    assert verdicts.step == 3000


def test_the_status_says_how_far_and_how_fast_it_is(run: FollowedRun) -> None:
    """Steps, steps left, steps a second and the age of the last record are as recorded."""
    page = Page(run)
    append(run.records, overfitting(100))
    run.now = run.records.stat().st_mtime + 42
    status = page.poll()["status"]
    assert (status["state"], status["step"], status["steps"]) == ("running", 100, 400)
    assert (status["left"], status["steps_per_s"], status["problem"]) == (300, 10.0, "")
    assert status["age"] == pytest.approx(42)


def test_a_folder_that_is_gone_is_said_and_the_page_goes_on(tmp_path: Path) -> None:
    """Before its first record, and after it was removed, polls are answered in words."""
    folder = tmp_path / "run"
    run = FollowedRun(folder)
    page = Page(run)
    assert page.poll()["status"]["problem"].endswith("is gone: what was read before is still shown")
    folder.mkdir()
    problem = page.poll()["status"]["problem"]
    assert problem == "metrics.jsonl does not exist yet: nothing is recorded"
    append(run.records, overfitting(50))
    with run.records.open("a") as file:
        file.write("rubbish\n")
    reply = page.poll()["status"]
    assert (reply["records"], reply["problem"]) == (6, "1 lines of metrics.jsonl are no records")
    run.records.unlink()
    folder.rmdir()
    reply = page.poll()["status"]
    assert (reply["records"], reply["age"]) == (6, None)
    assert "is gone" in reply["problem"]


@pytest.mark.parametrize("step", [0, 5, 20])
def test_maps_at_a_snapshot_are_those_of_a_direct_pass(run: FollowedRun, step: int) -> None:
    """Each map is that of the network with the weights of that step, and the model is unchanged."""
    page = Page(run)
    with torch.no_grad():
        maps = run.direct(step)[:2](torch.as_tensor(samples(3)[1])[None])[0].numpy()
    with unchanged(run.model):
        reply = page.ask("maps", step=step, view=LAYER, sample=1, channels=[3, 0])
    levels = np.frombuffer(reply.buffers[0], np.uint8).reshape(2, *reply.data["size"])
    low, high = np.array(reply.data["limits"]).T[:, :, None, None]
    shown = low + (high - low) * levels / 255
    assert np.all(np.abs(shown - maps[[3, 0]]) <= (high - low) / 510 + 1e-5)


def test_answers_at_a_snapshot_are_those_of_its_weights(run: FollowedRun) -> None:
    """They are right or wrong as the direct passes are, also when a snapshot is written again."""
    page = Page(run)
    for _ in range(2):
        for step in (0, 5, 20):
            with torch.no_grad():
                found = run.direct(step)(torch.as_tensor(samples(3))).argmax(1).tolist()
            names = [CLASSES[number] for number in found]
            expected = [
                [name, name == right] for name, right in zip(names, followed.RIGHT, strict=True)
            ]
            assert page.ask("answers", step=step).data["answers"] == expected
        run.states[0], run.states[5] = run.states[5], run.states[0]


def test_cells_have_one_scale_at_all_snapshots(run: FollowedRun) -> None:
    """Levels go from −1 to 1, so that what grows is seen to grow; the text of each step is sent."""
    page = Page(run)
    for step in (0, 20):
        reply = page.ask("maps", step=step, view="cells", sample=0)
        assert reply.data["limits"] == [[-1, 1]]
        assert reply.data["steps"] == list(followed.TEXT)
        shown = (
            np.frombuffer(reply.buffers[0], np.uint8).reshape(1, *reply.data["size"]) / 127.5 - 1
        )
        np.testing.assert_allclose(shown, followed.cells(step), atol=1 / 255 + 1e-6)


def test_new_snapshots_are_told_once(run: FollowedRun) -> None:
    """A page is told of all at first, then only when there is another, or one is another."""
    page = Page(run)
    assert [step for step, _ in page.poll()["snapshots"]] == [0, 5, 20]
    assert "snapshots" not in page.poll()
    run.save(60)
    assert [step for step, _ in page.poll()["snapshots"]] == [0, 5, 20, 60]
    run.save(0)
    assert "snapshots" in page.poll()


@pytest.mark.parametrize(("call", "values", "problem"), [
    ("maps", {"step": 7, "view": LAYER, "sample": 0, "channels": [0]},
     "there is no snapshot of step 7 now; accepted: 0, 5, 20"),
    ("maps", {"step": 5, "view": "none", "sample": 0, "channels": [0]}, "'none' is not accepted"),
    ("maps", {"step": 5, "view": LAYER, "sample": 3, "channels": [0]}, "from 0 to 2"),
    ("maps", {"step": 5, "view": LAYER, "sample": 0, "channels": [4]}, "from 0 to 3"),
    ("answers", {"step": "5"}, "a whole number"),
    ("poll", {"revision": -1}, "a whole number"),
    ("poll", {}, "a whole number"),
])  # fmt: skip
def test_bad_messages_are_answered_in_words(
    run: FollowedRun, call: str, values: dict[str, Any], problem: str
) -> None:
    """What is not accepted is named, with what is."""
    error = Page(run).ask(call, **values).data["error"]
    assert problem in error
    assert "bug" not in error


def test_a_snapshot_that_does_not_fit_is_said(run: FollowedRun) -> None:
    """Weights of another network, or NaN, are an error in words, and the next call is answered."""
    page = Page(run)
    asked = {"view": LAYER, "sample": 0, "channels": [0]}
    run.states[1] = {"0.weight": torch.zeros(1)}
    run.states[2] = {name: torch.full_like(w, torch.nan) for name, w in run.states[0].items()}
    assert (
        "accepted: a snapshot of the Sequential" in page.ask("maps", step=1, **asked).data["error"]
    )
    assert "has NaN or inf" in page.ask("maps", step=2, **asked).data["error"]
    assert "error" not in page.ask("maps", step=0, **asked).data
