"""Figures and pictures of docs/algorithms.md: `python docs/algorithms.py`.

Trains two adders and a graph network, and looks whether their states are those of an algorithm;
then two sweeps, whose runs are tested on larger values and graphs than in training. 15 minutes
of one thread; runs that are done are taken as they are.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from make_pictures import ROOT, save

import agents
from agents.cli.modes import MODES
from agents.cli.options import parse
from agents.cli.run_spec import parse_run_spec
from agents.cli.sweep import plan_of
from agents.core.agent import Agent
from agents.gnn import GNN
from tasks.core.task import Task
from tasks.reasoning.paths import PathTask, least_costs
from visualization import render
from visualization.records import Table
from visualization.representation.probes import ProbeTable

RUNS = "runs/algorithms"
GNN_RUN = (
    "--agent gnn --task shortest_path --set aggregation=min --set read_out=min "
    "--set hidden_size=32 --set num_layers=2"
)
ADDERS = "--agent seq2seq_adder --task add3x2 --set hidden_size=64 --set steps=4000"
ORDERS = {"reversed": "input", "plain": "none"}
VALUES = (
    "--agent deep_sets --task max_difference --grid read_out=max,min,mean,sum "
    "--set task.target=number --set task.num_objects=10 --set task.num_coordinates=1 "
    "--set hidden_size=32 --set steps=3000"
)
SIZES = (
    "--agent gnn --task shortest_path --grid aggregation=min,max,sum --set read_out=min "
    "--set num_rounds=4 --set hidden_size=32 --set num_layers=2 --set steps=1500"
)
COMMON = "--set eval_every=500 --set threads=1"
LARGEST_VALUES = (100, 150, 200, 400)
NUM_OBJECTS = (10, 20, 40)
NUM_NODES = (10, 20, 40)
NUM_TESTED = 1000  # samples
DPI = 80


def train(name: str, arguments: str) -> Agent:
    """Run one command in a folder, if it is not done; return the agent at its best."""
    best = ROOT / RUNS / name / "best.safetensors"
    if not best.exists():
        command = f"main.py {arguments} {COMMON} --run-dir {RUNS}/{name}"
        subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True)
    return agents.load(best, "cpu")


def sweep(name: str, arguments: str) -> Iterator[tuple[Mapping[str, Any], Agent]]:
    """Run a sweep, and yield the swept values and the agent of each of its runs."""
    command = f"--mode sweep {arguments} {COMMON} --run-dir {RUNS}/{name}".split()
    subprocess.run([sys.executable, "main.py", *command], cwd=ROOT, check=True)
    for values, spec in plan_of(parse_run_spec(parse(command), MODES), MODES).runs:
        yield values, agents.load(ROOT / spec.run_dir / "best.safetensors", "cpu")


def rounds() -> None:
    """Show what the states of a graph network hold, and what they do."""
    agent = train("gnn", f"{GNN_RUN} --set num_rounds=4 --set steps=6000")
    assert isinstance(agent, GNN)
    print("test, larger graphs:", agent.evaluate())
    probes, swaps = agent.round_probes(), agent.interchange_interventions()
    for name, record in {**probes, "swaps": swaps}.items():
        print(f"{name}\n{render.text(record)}")
    save("algorithms_rounds", probes["from the first"], DPI)
    save("algorithms_swaps", swaps, DPI)


def two_rounds() -> None:
    """Print how often two rounds are right, by the number of edges of the path."""
    agent = train("gnn-two-rounds", f"{GNN_RUN} --set num_rounds=2 --set steps=3000")
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
        agent = train(f"adder-{value}", f"{ADDERS} --set task.reverse={value}")
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
        batch = task.samples("test", NUM_TESTED)
        found = task.score(agent.predict_arrays(batch), batch)
        cells.append(f"{found['mape']:.1f} % ({found['exact']:.0%})")
    return cells


def extrapolation() -> None:
    """Print tables of the error on values, sets and graphs larger than those learned from."""
    rows = []
    for values, agent in sweep("values", VALUES):
        task: Any = agent.task
        larger = [attrs.evolve(task, test_max_value=each) for each in LARGEST_VALUES]
        wider = [attrs.evolve(task, test_num_objects=each) for each in NUM_OBJECTS[1:]]
        rows.append([str(values["read_out"]), *scores(agent, [*larger, *wider])])
    columns = [f"values to {each}" for each in LARGEST_VALUES]
    columns += [f"{each} objects" for each in NUM_OBJECTS[1:]]
    print(render.text(Table("max_difference", ["read_out", *columns], rows)))
    rows = []
    for values, agent in sweep("sizes", SIZES):
        task = agent.task
        tested = [attrs.evolve(task, test_min_nodes=n, test_max_nodes=n) for n in NUM_NODES]
        heavier = attrs.evolve(task, test_min_nodes=10, test_max_nodes=10, test_max_weight=10)
        rows.append([str(values["aggregation"]), *scores(agent, [*tested, heavier])])
    columns = [*(f"{each} nodes" for each in NUM_NODES), "weights to 10"]
    print(render.text(Table("shortest_path", ["aggregation", *columns], rows)))


def main() -> None:
    """Make all figures and pictures of the page."""
    rounds()
    two_rounds()
    adders()
    extrapolation()


if __name__ == "__main__":
    main()
