"""Figures and pictures of docs/algorithms.md: `python docs/algorithms.py`.

Runs the page's commands: two adders and a graph network are trained, and their states compared with
those of an algorithm; then two sweeps, whose runs are tested on larger values and graphs than in
training. 15 minutes of one thread; what is done is not run again, and what was stopped goes on.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import agents  # noqa: E402 - found by the line above
from agents.core.agent import Agent  # noqa: E402
from agents.gnn import GNN  # noqa: E402
from docs.make_pictures import save  # noqa: E402
from docs.notes import plan  # noqa: E402
from tasks.core.task import Task  # noqa: E402
from tasks.reasoning.paths import PathTask, least_costs  # noqa: E402
from visualization import render  # noqa: E402
from visualization.records import Table  # noqa: E402
from visualization.representation.probes import ProbeTable  # noqa: E402

PAGE = ROOT / "docs" / "algorithms.md"
RUNS = Path("runs") / "algorithms"
ORDERS = {"reversed": "input", "plain": "none"}
LARGEST_VALUES = (100, 150, 200, 400)
NUM_OBJECTS = (10, 20, 40)
NUM_NODES = (10, 20, 40)
NUM_TESTED = 1000  # samples
DPI = 80


def command(name: str) -> str:
    """Return the arguments of the page's command that fills a folder of runs/algorithms."""
    pattern = rf"^python main\.py (.*--agent .* --run-dir {RUNS / name})$"
    (arguments,) = re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(arguments)


def run(name: str) -> str:
    """Run a command of the page, as far as it is not done, and return its arguments."""
    arguments = command(name)
    subprocess.run([sys.executable, "main.py", *shlex.split(arguments)], check=True)
    return arguments


def train(name: str) -> Agent:
    """Run a command of the page; return the agent at its best."""
    run(name)
    return agents.load(RUNS / name / "best.safetensors", "cpu")


def sweep(name: str) -> Iterator[tuple[Mapping[str, Any], Agent]]:
    """Run a sweep of the page; yield the swept values and the agent of each of its runs."""
    for values, spec in plan(run(name)).runs:
        yield values, agents.load(spec.run_dir / "best.safetensors", "cpu")


def rounds() -> None:
    """Show what the states of a graph network hold, and what they do."""
    agent = train("gnn")
    assert isinstance(agent, GNN)
    print("test, larger graphs:", agent.evaluate())
    probes, swaps = agent.round_probes(), agent.interchange_interventions()
    for view in (probes, swaps):
        for name, record in view.items():
            print(f"{name}\n{render.text(record)}")
    save("algorithms_rounds", probes["from the first"], DPI)
    save("algorithms_swaps", swaps["to the last"], DPI)


def two_rounds() -> None:
    """Print how often two rounds are right, by the number of edges of the path."""
    agent = train("gnn-two-rounds")
    task = agent.task
    assert isinstance(task, PathTask)
    batch = task.samples("test", NUM_TESTED)
    is_exact = np.array([row.correct for row in task.rows(agent.predict_arrays(batch), batch)])
    problems = task.problems(batch)
    edges = least_costs(problems.weights, problems.source)[1]
    of_path = edges[np.arange(len(edges)), problems.last]
    for num in np.unique(of_path):
        print(f"two rounds, paths of {num} edges: {is_exact[of_path == num].mean():.1%} exact")


def adders() -> None:
    """Show what the encoders of a reversed and of a plain adder hold of the columns."""
    tables = {}
    for order, value in ORDERS.items():
        agent = train(f"adder-{value}")
        print(order, agent.evaluate())
        tables[order] = agent.inspect(["probes"])["probes"]["encoder"]
        print(render.text(tables[order]))
    save("algorithms_adders", side_by_side(tables))


def side_by_side(tables: Mapping[str, ProbeTable]) -> ProbeTable:
    """Return the rows about columns of several tables as one, those of a quantity together."""
    first, *_ = tables.values()
    rows = [row for row, name in enumerate(first.quantities) if "column" in name]
    names = [name.replace("carry into column", "carry into") for name in first.quantities]

    def merged(field: str) -> Any:
        return np.stack([getattr(each, field)[row] for row in rows for each in tables.values()])

    return attrs.evolve(
        first,
        quantities=tuple(f"{names[row]}, {name}" for row in rows for name in tables),
        **{name: merged(name) for name in ("categorical", "scores", "controls", "correlations")},
    )


def scores(agent: Agent, test_tasks: Sequence[Task]) -> list[str]:
    """Return the mean absolute percentage error on test samples of each task, and exact answers."""
    cells = []
    for task in test_tasks:
        found = agent.evaluate(task, num=NUM_TESTED)
        cells.append(f"{found['mape']:.1f} % ({found['exact']:.0%})")
    return cells


def extrapolation() -> None:
    """Print tables of the error on values, sets and graphs larger than those learned from."""
    rows = []
    for values, agent in sweep("values"):
        task: Any = agent.task
        larger = [attrs.evolve(task, test_max_value=each) for each in LARGEST_VALUES]
        wider = [attrs.evolve(task, test_num_objects=each) for each in NUM_OBJECTS[1:]]
        rows.append([str(values["read_out"]), *scores(agent, [*larger, *wider])])
    columns = [f"values to {each}" for each in LARGEST_VALUES]
    columns += [f"{each} objects" for each in NUM_OBJECTS[1:]]
    print(render.text(Table("max_difference", ["read_out", *columns], rows)))
    rows = []
    for values, agent in sweep("sizes"):
        task: Any = agent.task
        tested = [attrs.evolve(task, test_min_nodes=n, test_max_nodes=n) for n in NUM_NODES]
        heavier = attrs.evolve(task, test_min_nodes=10, test_max_nodes=10, test_max_weight=10)
        sparse = attrs.evolve(tested[1], test_min_density=0.065, test_max_density=0.2)
        longer = attrs.evolve(sparse, test_min_edges=5, test_max_edges=6)
        rows.append(
            [str(values["aggregation"]), *scores(agent, [*tested, heavier, sparse, longer])]
        )
    columns = [*(f"{each} nodes" for each in NUM_NODES), "weights to 10"]
    columns += ["20 nodes, sparse", "20 nodes, sparse, longer paths"]
    print(render.text(Table("shortest_path", ["aggregation", *columns], rows)))


def main() -> None:
    """Make all figures and pictures of the page."""
    os.chdir(ROOT)  # where runs/ is
    rounds()
    two_rounds()
    adders()
    extrapolation()


if __name__ == "__main__":
    main()
