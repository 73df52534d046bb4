"""Views of a graph network beside Bellman and Ford, which one wired by hand computes."""

from typing import Any

import attrs
import numpy as np
import pytest
import torch

import agents
import tasks
from agents.gnn import GNN
from visualization import render

FAR = 100.0  # more than any distance, in units of the largest weight
ROUNDS = 4
GRAPHS = {"num_train": 20, "num_validation": 150, "num_test": 20}


def network(task: Any, **settings: Any) -> GNN:
    """Return a small agent."""
    sizes = {"hidden_size": 3, "num_rounds": ROUNDS, "num_layers": 1, "num_read_out_layers": 1,
             "aggregation": "min", "read_out": "min", "threads": 1}  # fmt: skip
    agent = agents.make("gnn", task=task, device="cpu", **{**sizes, **settings})
    assert isinstance(agent, GNN)
    return agent


@pytest.fixture(scope="module")
def bellman_ford() -> GNN:
    """Return a network whose states are (distance, FAR unless it is the last, their sum).

    The distance is FAR at first, but for the source; each round it is the least of a neighbour's
    and the weight to it; the answer is the least sum.
    """
    agent = network(tasks.make("shortest_path", **GRAPHS))
    model = agent.model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embed.bias += torch.tensor([FAR, FAR, 2 * FAR])
        model.embed.weight += torch.tensor([[-FAR, 0.0], [0.0, -FAR], [-FAR, -FAR]])
        for messages in model.messages:
            messages.sender.weight[0, 0] = messages.sender.weight[2, 0] = 1
            messages.receiver.weight[1, 1] = messages.receiver.weight[2, 1] = 1
            messages.edge.weight += torch.tensor([[1.0], [0.0], [1.0]])
        model.read_out[-1].weight[0, 2] = 1
    return agent


def test_it_answers_exactly(bellman_ford: GNN) -> None:
    """The network wired by hand is right on all samples, larger ones than in training too."""
    assert bellman_ford.evaluate()["exact"] == 1.0


def test_probes_find_the_distances_of_its_rounds(bellman_ford: GNN) -> None:
    """R² is 1 where round and step are equal; before, a state does not have the distance."""
    records = bellman_ford.round_probes()
    record = records["from the first"]
    assert record.scores.shape == (ROUNDS + 1, ROUNDS)
    rounds, steps = np.indices(record.scores.shape)
    assert record.scores[rounds == steps + 1].min() > 0.98
    assert record.scores[rounds <= steps].max() < 0.6  # index s is step s + 1
    assert record.controls.max() < 0.6
    assert record.untrained is not None
    assert np.nanmax(records["to the last"].scores) < 0.6  # it does not search from there


def test_swaps_move_its_answer_as_the_algorithms(bellman_ford: GNN) -> None:
    """With one node's state replaced, the answer changes exactly as Bellman and Ford's does."""
    records = bellman_ford.interchange_interventions()
    record = records["from the first"]
    assert record.rounds == (1, 2, 3)
    is_made = ~np.isnan(record.network)
    assert is_made.mean() > 0.8
    assert (np.abs(record.algorithm[is_made]) > 0).mean() > 0.1
    np.testing.assert_allclose(record.network, record.algorithm, atol=1e-2)
    np.testing.assert_allclose(record.r2, 1, atol=1e-3)
    np.testing.assert_allclose(record.slopes, 1, atol=1e-2)
    assert records["to the last"].r2.max() < 0.5  # it searches from the first alone
    shuffled = records["from the first, shuffled"]
    np.testing.assert_array_equal(shuffled.network, record.network)
    np.testing.assert_array_equal(np.sort(shuffled.algorithm), np.sort(record.algorithm))
    assert shuffled.r2.max() < 0.5


def test_states_do_not_depend_on_how_many_graphs_run_at_once(
    bellman_ford: GNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little memory for evaluation means more passes, with the same states and answers."""
    batch = bellman_ford.task.samples("validation", 40)
    states, sizes = bellman_ford.states(batch), []
    outputs = bellman_ford.outputs_from(batch, states[1], 1)
    aggregate = agents.gnn.aggregate
    few = attrs.evolve(bellman_ford.config, eval_memory=0.01)
    monkeypatch.setattr(bellman_ford, "config", few)
    monkeypatch.setattr(
        "agents.gnn.aggregate", lambda x, *args: sizes.append(len(x)) or aggregate(x, *args)
    )
    torch.testing.assert_close(bellman_ford.states(batch), states)
    torch.testing.assert_close(bellman_ford.outputs_from(batch, states[1], 1), outputs)
    assert max(sizes) < 40


def test_residual_connections_add_the_messages_to_a_state() -> None:
    """Without messages a round leaves the states, normalised once; others have their own size."""
    agent = network(tasks.make("shortest_path", **GRAPHS), residual=True, hidden_size=8)
    batch = agent.task.samples("validation", 10)
    plain = network(tasks.make("shortest_path", **GRAPHS), hidden_size=8)
    assert not any("norm" in name for name in plain.model.state_dict())
    with torch.no_grad():
        for messages in agent.model.messages:
            for parameter in messages.parameters():
                parameter.zero_()
    first, *later = agent.states(batch)
    normalised = torch.nn.functional.layer_norm(first, (8,))
    for state in later:
        torch.testing.assert_close(state, normalised, atol=1e-3, rtol=1e-3)


def test_a_network_that_ignores_states_moves_nothing(bellman_ford: GNN) -> None:
    """Without the read-out, no swap changes an answer, and the slope is 0."""
    weight = bellman_ford.model.read_out[-1].weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()
    try:
        record = bellman_ford.interchange_interventions()["from the first"]
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert np.nanmax(np.abs(record.network)) == 0
    np.testing.assert_allclose(record.slopes, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "views"),
    [
        ("shortest_path", {}, {"round_probes", "interchange_interventions"}),
        ("shortest_path", {"num_rounds": 1}, {"round_probes"}),
        ("monster_trainer", {}, {"round_probes"}),
        ("furthest_pair", {}, set()),
    ],
)
def test_views_are_offered_where_a_task_has_paths(
    name: str, settings: dict[str, Any], views: set[str]
) -> None:
    """Probes need distances; swaps need nodes without features of their own, and a round after."""
    assert set(network(tasks.make(name), **settings).own_views()) == views


@pytest.mark.parametrize("target", ["label", "number"])
def test_looking_changes_nothing_and_can_be_drawn(target: str) -> None:
    """Views of an untrained network, of labels and of numbers, leave it as it was."""
    task = tasks.make("shortest_path", target=target, **GRAPHS)
    agent = network(task, num_rounds=2, hidden_size=4)
    before = {name: tensor.clone() for name, tensor in agent.model.state_dict().items()}
    report = agent.inspect(["round_probes", "interchange_interventions"])
    for name, record in report.flat():
        assert render.text(record), name
        assert len(render.png(render.draw(record))) > 1000
    for name, tensor in agent.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_probes_of_monster_trainer() -> None:
    """A network over a set is probed for the costs after each fight, with levels as kinds."""
    task = tasks.make("monster_trainer", max_level=4, min_edges=1, max_edges=3, **GRAPHS)
    records = network(task, num_rounds=2, hidden_size=8).round_probes()
    assert [*records] == ["from the first", "to the last"]
    for record in records.values():
        assert record.scores.shape == (3, 2)
    assert records["from the first"].num_objects.tolist() == [150 * 4] * 2  # all but the source
