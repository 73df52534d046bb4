"""Records of a growing file: read from where they were left, once each, and bounded."""

import json
from pathlib import Path

import numpy as np
import pytest

from visualization.live import run_records
from visualization.live.run_records import MOST_BINS, MOST_JUDGED, RunRecords, Series


def line(step: int, loss: float | None = None, **more: float) -> str:
    """Return a line of the file."""
    return (
        json.dumps({"step": step, "train/loss": step / 8 if loss is None else loss, **more}) + "\n"
    )


def points(series: Series) -> list[tuple[float, float]]:
    """Return steps and means of the bins."""
    steps, means, _, _ = series.bins()
    return list(zip(steps.tolist(), means.tolist(), strict=True))


def test_a_half_written_line_waits_for_its_other_half(tmp_path: Path) -> None:
    """Until its end is there a record is not read, and then it is, once."""
    path, whole = tmp_path / "metrics.jsonl", line(2, 0.5)
    records = RunRecords(path)
    assert records.update() is None
    path.write_text(line(1, 0.75) + whole[:9])
    assert records.update() == path.stat().st_mtime
    assert points(records.series["train/loss"]) == [(1, 0.75)]
    for _ in range(2):
        records.update()
        assert records.num_records == 1
    with path.open("a") as file:
        file.write(whole[9:] + line(3, 0.25)[:-1])
    records.update()
    assert points(records.series["train/loss"]) == [(1, 0.75), (2, 0.5)]
    with path.open("a") as file:
        file.write("\n")
    records.update()
    assert points(records.series["train/loss"]) == [(1, 0.75), (2, 0.5), (3, 0.25)]
    assert (records.num_unreadable, records.generation) == (0, 2)
    assert records.last_step == 3


@pytest.mark.parametrize("way", ["another file", "shorter", "written over, and longer"])
def test_a_run_that_begins_again_is_read_anew(tmp_path: Path, way: str) -> None:
    """Nothing of the earlier file is left when it is replaced, cut off, or written over."""
    path, other = tmp_path / "metrics.jsonl", tmp_path / "new"
    path.write_text("".join(line(step) for step in range(1, 6)))
    records = RunRecords(path)
    records.update()
    before = records.generation
    if way == "another file":
        other.write_text("".join(line(step) for step in range(1, 6)) + line(6, 9.0))
        other.replace(path)
        expected = [*((step, step / 8) for step in range(1, 6)), (6, 9.0)]
    elif way == "shorter":
        path.write_text(line(1, 7.0))
        expected = [(1, 7.0)]
    else:
        path.write_text("".join(line(step, 2.0) for step in range(1, 30)))
        expected = [(step, 2.0) for step in range(1, 30)]
    records.update()
    assert points(records.series["train/loss"]) == expected
    assert records.generation > before
    assert len(records.judged) == len(expected)


def test_what_is_no_record_is_counted_and_left_out(tmp_path: Path) -> None:
    """Lines that are no JSON, no mapping or have no step are counted; text and NaN are left out."""
    path = tmp_path / "metrics.jsonl"
    bad = ["{", "[1]", '{"train/loss": 1}', "\x00\x01", '"x"']
    good = '{"step": 1, "train/loss": NaN, "eval/loss": 0.5, "note": "x", "eval/ok": true}'
    path.write_text("\n".join([*bad, "", good]) + "\n")
    records = RunRecords(path)
    records.update()
    assert records.num_unreadable == len(bad)
    assert records.judged == [{"step": 1, "eval/loss": 0.5}]
    assert list(records.series) == ["eval/loss"]


def test_a_folder_that_vanishes_leaves_what_was_read(tmp_path: Path) -> None:
    """When the file is gone nothing changes, and another in its place is read whole."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2))
    records = RunRecords(path)
    records.update()
    path.unlink()
    assert records.update() is None
    assert records.num_records == 2
    path.write_text(line(1, 4.0))
    records.update()
    assert points(records.series["train/loss"]) == [(1, 4.0)]


def test_a_large_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a bounded size are read at once, cut anywhere; together they are the whole file."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step) for step in range(1, 101)))
    monkeypatch.setattr(run_records, "CHUNK", 97)
    records = RunRecords(path)
    num = 1
    records.update()
    while records.is_behind:
        records.update()
        num += 1
    assert num >= path.stat().st_size / 97
    assert points(records.series["train/loss"]) == [(step, step / 8) for step in range(1, 101)]


def test_many_values_become_bins_with_their_mean_and_extremes() -> None:
    """Of 100,000 values at most 512 bins and one are sent, and no peak is lost."""
    values = np.random.default_rng(0).random(100_000)
    values[77_777] = 50.0
    series = Series()
    for step, value in enumerate(values, start=1):
        series.add(step, value)
    steps, means, lows, highs = series.bins()
    assert len(steps) <= MOST_BINS + 1
    assert series.stride == 256
    whole = values[: len(values) // 256 * 256].reshape(-1, 256)
    num = len(whole)
    np.testing.assert_allclose(means[:num], whole.mean(1))
    assert np.array_equal(lows[:num], whole.min(1))
    assert np.array_equal(highs[:num], whole.max(1))
    assert highs.max() == 50
    assert steps.tolist() == [*range(256, 256 * num + 1, 256), 100_000]
    assert means[-1] == pytest.approx(values[256 * num :].mean())
    assert np.array_equal(series.bins(num - 2), np.stack([steps, means, lows, highs])[:, num - 2 :])
    assert series.last == (100_000, values[-1])


def test_records_for_verdicts_are_thinned_by_kind(tmp_path: Path) -> None:
    """Of very many records every second of a common kind is kept, and each of a rare kind."""
    path, num = tmp_path / "metrics.jsonl", MOST_JUDGED + 100
    lines = [line(step) for step in range(1, num)]
    for step in range(500, num, 500):
        lines[step - 1] += json.dumps({"step": step, "eval/loss": 1.0}) + "\n"
    path.write_text("".join(lines))
    records = RunRecords(path)
    records.update()
    assert records.is_thinned
    assert len(records.judged) <= MOST_JUDGED
    evaluated = [record["step"] for record in records.judged if "eval/loss" in record]
    assert evaluated == list(range(500, num, 500))
    steps = [record["step"] for record in records.judged if "train/loss" in record]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (1, num - 1)
    assert set(np.diff(steps)) == {1, 2}
    assert len(records.series["train/loss"]) == num - 1
