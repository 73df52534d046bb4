"""The table of docs/reliability.md is that of the results, and its cases are able to fail."""

import random
from pathlib import Path

from torture import checkpoints, kills
from torture.registry import CASES, PAGE, Effort, read_results, with_table


def test_the_page_shows_the_results() -> None:
    """The page's table is made of the file of results, all of whose cases exist and held."""
    results, page = read_results(), PAGE.read_text(encoding="utf-8")
    assert results
    assert page == with_table(page, results)
    assert results.keys() <= CASES.keys()
    assert all(found["held"] == found["tried"] for found in results.values())


def test_damage_is_found_in_every_part(tmp_path: Path) -> None:
    """Flipped bits in each part are refused; the whole file in their place counts as a failure."""
    effort = Effort(folder=tmp_path, kills=0, chance=random.Random(0))
    outcome = checkpoints.flipped_bits(effort)
    assert outcome.held == outcome.tried > 250
    path = max((tmp_path / "run" / "checkpoints").glob("step-*.safetensors"))
    whole = path.read_bytes()
    assert checkpoints.problem_of(path, whole, whole) == "was read"


def test_other_weights_are_a_difference(tmp_path: Path) -> None:
    """A run equals itself, and differs from one with a checkpoint of another step in its place."""
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        last, first = checkpoints.trained(folder)[:2]
    assert kills.differences(a, b) == []
    last.write_bytes(first.read_bytes())
    assert f"{last.name}: tensors" in kills.differences(a, b)
