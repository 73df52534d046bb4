"""Path problems: distances by step, of both tasks about paths, and replaced distances."""

from typing import Any

import numpy as np
import pytest

import tasks
from tasks.core.task import SetTargets
from tasks.reasoning.paths import PathProblems, PathTask, draw_interchanges, least_costs

FEW = {"num_train": 30, "num_validation": 30, "num_test": 30}
SETTINGS: dict[str, dict[str, Any]] = {
    "shortest_path": {"max_edges": 3},
    "monster_trainer": {"max_level": 5, "max_edges": 4, "min_edges": 1},
}


@pytest.fixture(params=sorted(SETTINGS))
def of_paths(request: pytest.FixtureRequest) -> tuple[PathTask, SetTargets]:
    """Return a task about paths, and some of its samples."""
    task = tasks.make(request.param, target="number", **FEW, **SETTINGS[request.param])
    assert isinstance(task, PathTask)
    return task, task.samples("test", 30)


def test_the_last_distance_is_the_answer(of_paths: tuple[PathTask, SetTargets]) -> None:
    """After as many steps as the longest path has edges, the last object's is the right answer."""
    task, batch = of_paths
    problems = task.problems(batch)
    last = problems.distances(4)[-1][np.arange(30), problems.last]
    np.testing.assert_allclose(last, np.asarray(batch.target)[:, 0] * task.scale, rtol=1e-6)


def test_distances_are_least_costs_of_so_many_edges(of_paths: tuple[PathTask, SetTargets]) -> None:
    """Step by step they are those of `least_costs`, NaN where no path leads, as in padding."""
    task, batch = of_paths
    problems = task.problems(batch)
    for step, known in enumerate(problems.distances(3)):
        costs = least_costs(problems.weights, problems.source, step)[0]
        np.testing.assert_array_equal(np.nan_to_num(known, nan=-1), costs)
        assert np.isnan(known[~np.asarray(batch.mask)]).all()


def test_backwards_the_first_objects_distance_is_the_same(
    of_paths: tuple[PathTask, SetTargets],
) -> None:
    """The least cost of a path is the same from either end."""
    task, batch = of_paths
    problems = task.problems(batch)
    there, back = problems.distances(4)[-1], problems.backwards.distances(4)[-1]
    graphs = np.arange(30)
    np.testing.assert_array_equal(back[graphs, problems.source], there[graphs, problems.last])


def test_going_on_from_a_step_is_as_if_never_stopped(
    of_paths: tuple[PathTask, SetTargets],
) -> None:
    """From the distances of any step, the other steps lead to those of the last one."""
    task, batch = of_paths
    problems = task.problems(batch)
    every = problems.distances(3)
    for step, known in enumerate(every):
        np.testing.assert_array_equal(problems.distances_from(known, 3 - step), every[-1])


def test_a_replaced_distance_by_hand() -> None:
    """On a path 0 - 1 - 2 with weights 3 and 1, node 1 at distance 0 leaves 1 to the last."""
    weights = np.array([[[0, 3, 0], [3, 0, 1], [0, 1, 0]]])
    kinds = np.zeros((1, 3), np.int64)
    problems = PathProblems(weights=weights, source=np.array([0]), last=np.array([2]), kinds=kinds)
    changes = set()
    for seed in range(20):
        drawn = draw_interchanges(problems, 1, 2, np.random.default_rng(seed))
        assert drawn.is_made.all()
        changes.add((int(drawn.node[0]), int(drawn.donor[0]), float(drawn.change[0])))
    assert changes == {(1, 0, -3.0)}  # that of node 0 would change no answer


def test_interchanges_are_those_of_a_loop(of_paths: tuple[PathTask, SetTargets]) -> None:
    """Each change is that of the distances with one replaced; never is it the last object's."""
    task, batch = of_paths
    problems = task.problems(batch)
    every = problems.distances(3)
    drawn = draw_interchanges(problems, 1, 3, np.random.default_rng(0))
    assert drawn.is_made.sum() > 10
    assert (drawn.change[drawn.is_made] != 0).any()
    for graph in np.flatnonzero(drawn.is_made):
        node, donor, last = drawn.node[graph], drawn.donor[graph], problems.last[graph]
        assert last not in (node, donor)
        known = every[1].copy()
        assert known[graph, node] != known[graph, donor]
        known[graph, node] = known[graph, donor]
        change = problems.distances_from(known, 2)[graph, last] - every[3][graph, last]
        assert drawn.change[graph] == change


def test_a_graph_with_one_known_distance_has_no_interchange() -> None:
    """Before the first step only the source's distance is known, which nothing can replace."""
    task = tasks.make("shortest_path", **FEW)
    assert isinstance(task, PathTask)
    problems = task.problems(task.samples("test", 30))
    assert not draw_interchanges(problems, 0, 2, np.random.default_rng(0)).is_made.any()
