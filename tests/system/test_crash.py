"""A run that is killed again and again ends with the bits of one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import agents
from tests.conftest import exact, same, weights
from tests.helpers.crash_host import SAVING

ROOT = Path(__file__).parents[2]


def run(folder: Path, seed: int, kills: int) -> list[dict[str, object]]:
    """Run the crash host; return what became of each child."""
    command = [sys.executable, "-m", "tests.helpers.crash_host", str(folder), str(seed), str(kills)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("seed", "kills"), [(0, 30), pytest.param(1, 40, marks=pytest.mark.slow)])
def test_killed_runs_end_with_the_same_bits(seed: int, kills: int, tmp_path: Path) -> None:
    """SIGKILL at many moments, some inside saving, over several epochs: equal in every bit."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert run(straight, seed, 0)[-1]["code"] == 0
    children = run(killed, seed, kills)
    assert children[-1]["code"] == 0
    deaths = [child["point"] for child in children if child.get("killed")]
    assert len(deaths) >= kills / 2
    assert sum(point in SAVING for point in deaths) >= kills / 4
    lost = [child["lost"] for child in children if child.get("killed")]
    assert 0 < max(lost) <= 3  # save_every
    left_over = [name for child in children for name in child.get("left", [])]
    assert any(name.startswith(".step-") for name in left_over)  # died inside a checkpoint

    for name in ("checkpoints/step-000000200.safetensors", "best.safetensors"):
        a, b = (agents.load(folder / name, "cpu") for folder in (straight, killed))
        assert same(weights(a), weights(b))
        assert exact(a.history) == exact(b.history)
        for part in ("cursor", "best"):
            assert getattr(a.state, part) == getattr(b.state, part)
    lines = [
        exact(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))
        for folder in (straight, killed)
    ]
    assert lines[0] == lines[1]
    assert list(killed.rglob("*.tmp")) == []
    assert len(list((straight / "history").iterdir())) == 7  # of 10 records each: 50 and 25
