"""Agents over sets and graphs: order and padding do not count, and rounds can be run by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import agents
import tasks
from agents.conformance import agent_checks
from agents.core.agent import Agent
from agents.core.export import export_onnx
from agents.core.sets import aggregate, in_order, reorder
from agents.core.training.loop import to_device
from agents.gnn import GNN
from tasks.core.settings import ConfigError
from tasks.core.task import SetTargets

SETS = ["deep_sets", "gnn", "exhaustive_search", "set_transformer"]
GRAPHS = ["gnn", "set_transformer", "mlp"]
SIZES = {"num_train": 200, "num_validation": 50, "num_test": 50}
QUICK = {"hidden_size": 16, "threads": 1, "precision": "fp32"}
WIDE = {"hidden_size": 64}


def of_objects(**settings: Any) -> Any:
    """Return a task over small sets of objects."""
    return tasks.make("furthest_pair", num_objects=6, num_coordinates=2, **SIZES, **settings)


def of_graphs(**settings: Any) -> Any:
    """Return a task over small graphs."""
    sizes = {"max_edges": 2, "max_nodes": 7, "test_min_nodes": None, "test_max_nodes": None}
    return tasks.make("shortest_path", **SIZES, **sizes, **settings)


def make(name: str, task: Any, **settings: Any) -> Agent:
    """Return a small agent in double precision, whose answers depend on what it reads."""
    agent = agents.make(name, task=task, device="cpu", **{**QUICK, **settings})
    agent.model.double()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.uniform_(-0.5, 0.5)
    return agent


def as_doubles(batch: SetTargets) -> SetTargets:
    """Return a batch as tensors, its numbers in double precision."""
    objects, target, mask, edges = batch
    return SetTargets(
        torch.as_tensor(objects).double(), torch.as_tensor(target), torch.as_tensor(mask),
        None if edges is None else torch.as_tensor(edges).double(),
    )  # fmt: skip


def outputs(agent: Agent, batch: SetTargets) -> Tensor:
    """Return what the model says of a batch of doubles."""
    with torch.no_grad():
        said: Tensor = agent.model.eval()(batch.objects, batch.mask, batch.edges)
    return said


def reordered(batch: SetTargets) -> SetTargets:
    """Return the objects of a batch of doubles in another order."""
    order = torch.randperm(batch.mask.shape[1], generator=torch.Generator().manual_seed(3))
    assert (order != torch.arange(len(order))).any()
    edges = None if batch.edges is None else batch.edges[:, order][:, :, order]
    return SetTargets(batch.objects[:, order], batch.target, batch.mask[:, order], edges)


def padded(batch: SetTargets) -> SetTargets:
    """Return a batch of doubles with two more places, with something in them that is not there."""
    num, _, features = batch.objects.shape
    objects = torch.cat([batch.objects, torch.full((num, 2, features), 7.0).double()], dim=1)
    mask = torch.cat([batch.mask, torch.zeros(num, 2, dtype=torch.bool)], dim=1)
    edges = batch.edges
    if edges is not None:
        edges = nn.functional.pad(edges, (0, 2, 0, 2))
    return SetTargets(objects, batch.target, mask, edges)


def check_equal(agent: Agent, batch: SetTargets, other: SetTargets) -> None:
    """Check that what an agent says of two batches is the same, and not of all samples."""
    said = outputs(agent, batch)
    assert said.std(dim=0).max() > 1e-3
    torch.testing.assert_close(outputs(agent, other), said, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("how", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("name", SETS)
def test_the_order_of_objects_does_not_count(name: str, how: str) -> None:
    """A set in another order has the same answer."""
    batch = as_doubles(of_objects().samples("test", 20))
    check_equal(make(name, of_objects(), read_out=how), batch, reordered(batch))


@pytest.mark.parametrize("name", ["gnn", "set_transformer"])
def test_the_order_of_nodes_does_not_count(name: str) -> None:
    """A graph with other numbers for its nodes has the same answer."""
    batch = as_doubles(of_graphs().samples("test", 20))
    check_equal(make(name, of_graphs()), batch, reordered(batch))


def test_a_perceptron_sees_an_order_unless_it_sorts() -> None:
    """An mlp answers another order otherwise, unless it sorts the objects."""
    batch = as_doubles(of_objects().samples("test", 20))
    plain = make("mlp", of_objects())
    assert (outputs(plain, batch) - outputs(plain, reordered(batch))).abs().max() > 1e-3
    check_equal(make("mlp", of_objects(), sort_objects=True), batch, reordered(batch))


@pytest.mark.parametrize("name", [*SETS])
def test_padding_does_not_count(name: str) -> None:
    """Whatever is at places without an object does not change the answer."""
    batch = as_doubles(of_objects().samples("test", 20))
    check_equal(make(name, of_objects()), batch, padded(batch))


@pytest.mark.parametrize("aggregation", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("name", ["gnn", "set_transformer"])
def test_padding_of_graphs_does_not_count(name: str, aggregation: str) -> None:
    """Nodes that are not there send nothing, and are not read."""
    own = {"aggregation": aggregation, "num_rounds": 2} if name == "gnn" else {}
    batch = as_doubles(of_graphs().samples("test", 20))
    check_equal(make(name, of_graphs(), read_out=aggregation, **own), batch, padded(batch))


def test_a_perceptron_fills_up_and_refuses_larger_sets() -> None:
    """Smaller sets are filled with zeros up to the largest; what is larger is an error."""
    agent = make("mlp", of_objects())
    batch = as_doubles(of_objects().encode(["1 2 3 0; 4 5 6 1"]))
    zeros = nn.functional.pad(batch.objects, (0, 0, 0, 4))
    whole = SetTargets(zeros, batch.target, nn.functional.pad(batch.mask, (0, 4)), None)
    torch.testing.assert_close(outputs(agent, batch), outputs(agent, whole))
    with pytest.raises(ConfigError, match="a set of 8 objects; accepted: the 6 it was made for"):
        outputs(agent, padded(as_doubles(of_objects().samples("test", 2))))


@pytest.mark.parametrize("name", ["mlp", *SETS])
def test_with_he_all_labels_are_equally_likely_at_first(name: str) -> None:
    """The last layer is 0, so that the cross entropy of any samples is ln K."""
    task = tasks.make("subset_sum", num_numbers=4, max_number=50, **SIZES)
    agent = agents.make(name, task=task, initialization="he", **QUICK)
    batch = to_device(task.samples("train", 20), agent.device)
    assert agent.loss(batch).item() == pytest.approx(np.log(2))


def test_he_keeps_the_states_of_many_rounds_apart() -> None:
    """After six rounds of random weights graphs are still told apart; as torch draws them, not.

    By He et al. 2015 each layer keeps the variance, and torch's own leave a sixth of it: a
    hundred-thousandth of the deviation after twelve layers, of which maxima make up some.
    """
    task, deviations = tasks.make("monster_trainer", max_level=7, **SIZES), {}
    for how in ("he", "uniform"):
        agent: Any = agents.make(
            "gnn", task=task, num_rounds=6, num_layers=2, initialization=how, **QUICK | WIDE
        )
        states = agent.states(task.samples("train", 50)).amax(2)  # rounds + 1, samples, units
        deviations[how] = (states.std(1).mean(-1) / states[0].std(0).mean()).tolist()
    assert min(deviations["he"]) > 0.1
    assert deviations["uniform"][-1] < 0.01


@pytest.mark.parametrize("share_rounds", [False, True])
def test_messages_are_those_of_a_loop_over_pairs(share_rounds: bool) -> None:
    """Each round aggregates MLP(h_i, h_j, e_ij) over the neighbours and the node itself."""
    task = of_graphs()
    agent = make("gnn", task, num_rounds=2, aggregation="min", share_rounds=share_rounds)
    batch, model = as_doubles(task.samples("test", 4)), agent.model
    with torch.no_grad():
        state = model.embed(batch.objects)
        for number in range(2):
            part = model.messages[0 if share_rounds else number]
            first = torch.cat([part.receiver.weight, part.sender.weight, part.edge.weight], dim=1)
            after = torch.zeros_like(state)
            for sample, i in torch.cartesian_prod(torch.arange(4), torch.arange(state.shape[1])):
                sent = [
                    part.further((first @ torch.cat([
                        state[sample, i], state[sample, j], batch.edges[sample, i, j][None],
                    ]) + part.receiver.bias).relu())
                    for j in range(state.shape[1]) if i == j or batch.edges[sample, i, j] > 0
                ]  # fmt: skip
                after[sample, i] = torch.stack(sent).amin(0)
            state = after
        said = model.read_out(aggregate(state, batch.mask, agent.config.read_out))
    torch.testing.assert_close(outputs(agent, batch), said)


def test_states_of_each_round_can_be_changed() -> None:
    """Running on from any round's states gives the answer; another state of a node, another."""
    task = of_objects()
    agent = agents.make("gnn", task=task, device="cpu", num_rounds=3, **QUICK)
    assert isinstance(agent, GNN)
    batch = task.samples("test", 5)
    states = agent.states(batch)
    assert states.shape == (4, 5, 6, 16)
    with torch.no_grad():
        said = agent.model(torch.as_tensor(batch.objects), torch.as_tensor(batch.mask))
    for after in range(4):
        torch.testing.assert_close(agent.outputs_from(batch, states[after], after), said)
    changed = states[1].clone()
    changed[:, 2] += 5
    assert (agent.outputs_from(batch, changed, 1) - said).abs().max() > 1e-3


def test_a_round_reaches_one_edge_further() -> None:
    """After k rounds the source changes the states of nodes up to k edges away, and no others."""
    task = of_graphs()
    agent = make("gnn", task, num_rounds=3, aggregation="sum")
    batch = as_doubles(task.encode(["0-1:1 1-2:1 2-3:1 3-4:1, 0 -> 1"]))
    with torch.no_grad():
        first = agent.model.embed(batch.objects)
        other = first.clone()
        other[:, 0] += 1
        runs = [
            [state, *agent.model.rounds(state, 0, batch.mask, batch.edges)]
            for state in (first, other)
        ]
    for number, (one, two) in enumerate(zip(*runs, strict=True)):
        reached = (one != two).any(-1)[0].tolist()
        assert reached == [node <= number for node in range(5)]


def test_exhaustive_search_reads_every_subset() -> None:
    """The LSTM reads each of the 2ⁿ - 1 subsets of n objects once."""
    task = tasks.make("subset_sum", num_numbers=4, **SIZES)
    agent = make("exhaustive_search", task)
    read = []
    agent.model.lstm.register_forward_hook(
        lambda module, inputs, output: read.extend(map(tuple, inputs[0][..., 0].tolist()))
    )
    outputs(agent, as_doubles(task.encode(["7 -3 2 -9"])))
    sums = sorted(round(sum(subset) * 20) for subset in read)
    numbers = (7, -3, 2, -9)
    wanted = [sum(n for k, n in enumerate(numbers) if code >> k & 1) for code in range(1, 16)]
    assert sums == sorted(wanted)


def test_exhaustive_search_refuses_larger_sets_in_use() -> None:
    """The limit of 12 objects holds for a task it is scored on, and not only for its own."""
    agent = make("exhaustive_search", tasks.make("subset_sum", num_numbers=4, **SIZES))
    larger = tasks.make("subset_sum", num_numbers=13, **SIZES)
    with pytest.raises(
        ConfigError,
        match="has sets of 13 objects, with 8,191 subsets; accepted: at most 12 objects",
    ):
        agent.predict_arrays(larger.encode([" ".join(map(str, range(1, 14)))]))


def test_objects_are_sorted_by_a_feature_and_then_by_the_others() -> None:
    """The order is that of numpy's lexsort; places without an object come last."""
    objects = torch.randint(0, 3, (20, 8, 3), generator=torch.Generator().manual_seed(0)).double()
    mask = torch.arange(8) < torch.arange(20)[:, None] % 8 + 1
    found = reorder(objects, in_order(objects, mask, 1))
    for rows, is_there, ordered in zip(objects, mask, found, strict=True):
        left = rows[is_there].numpy()
        expected = left[np.lexsort((left[:, 0], left[:, 2], left[:, 1]))]
        np.testing.assert_array_equal(ordered[: len(left)].numpy(), expected)


@pytest.mark.parametrize(
    ("name", "task", "setting", "test_setting"),
    [
        ("deep_sets", "max_difference", "max_value", "test_max_value"),
        ("deep_sets", "max_difference", "max_coordinate", "test_max_coordinate"),
        ("deep_sets", "furthest_pair", "max_value", "test_max_value"),
        ("deep_sets", "monster_trainer", "map_size", "test_map_size"),
        ("deep_sets", "monster_trainer", "max_level", "test_max_level"),
        ("deep_sets", "subset_sum", "max_number", "test_max_number"),
        ("gnn", "shortest_path", "max_weight", "test_max_weight"),
    ],
)
def test_a_task_of_another_scale_is_refused(
    name: str, task: str, setting: str, test_setting: str
) -> None:
    """Inputs divided by another number are another task; larger ones in the test split are not."""
    own = SIZES | ({} if task in ("furthest_pair", "subset_sum") else {"target": "number"})
    if task == "monster_trainer":
        own |= {"max_edges": 3}
    made = tasks.make(task, **own)
    agent, larger = agents.make(name, task=made, device="cpu", **QUICK), getattr(made, setting) * 2
    with pytest.raises(ConfigError, match=r"has other sizes than .*scales="):
        agent.evaluate(tasks.make(task, **own, **{setting: larger}))
    assert agent.evaluate(tasks.make(task, **own, **{test_setting: larger}), num=5)


@pytest.mark.parametrize(
    ("name", "task", "settings", "message"),
    [
        ("deep_sets", "shortest_path", {}, "deep_sets: task: has edges, which it does not read"),
        ("exhaustive_search", "shortest_path", {}, "has edges, which it does not read"),
        ("exhaustive_search", "max_difference", {}, "sets of 25 objects.* at most 12 objects"),
        ("set_transformer", "subset_sum", {"hidden_size": 18}, "accepted: a multiple of 4"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, task: str, settings: dict[str, Any], message: str
) -> None:
    """A task that an agent cannot read, or sizes that do not go together, are an error."""
    with pytest.raises(ConfigError, match=message):
        agents.make(name, task=task, device="cpu", **settings)


@pytest.mark.parametrize(("name", "task"), [("deep_sets", of_objects()), ("gnn", of_graphs()),
                                            ("set_transformer", of_graphs())])  # fmt: skip
def test_an_exported_network_says_the_same(name: str, task: Any, tmp_path: Path) -> None:
    """An exported network computes from objects, mask and edges what the agent does."""
    agent = agents.make(name, task=task, device="cpu", **QUICK)
    assert export_onnx(agent, tmp_path / "model.onnx").difference < 1e-4


@pytest.mark.parametrize("name", [*SETS, "mlp"])
def test_an_empty_set_and_numbers_that_are_none_are_refused(name: str) -> None:
    """A batch of one's own with such a set has no answer, but an error."""
    agent = agents.make(name, task=of_objects(), device="cpu", **QUICK)
    batch = agent.task.samples("test", 3)
    empty, broken = batch.mask.copy(), batch.objects.copy()
    empty[1], broken[1, 0, 0] = False, np.nan
    with pytest.raises(ConfigError, match="batch: mask: a set is empty"):
        agent.predict_arrays(batch._replace(mask=empty))
    with pytest.raises(ConfigError, match="batch: objects: a set has NaN or inf"):
        agent.predict_arrays(batch._replace(objects=broken))
    if name in GRAPHS:
        agent = agents.make(name, task=of_graphs(), device="cpu", **QUICK)
        batch = agent.task.samples("test", 3)
        with pytest.raises(ConfigError, match="batch: edges: a set has NaN or inf"):
            agent.predict_arrays(batch._replace(edges=np.where(batch.edges > 0, np.nan, 0)))


def test_attention_under_bf16_is_computed_in_single_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The backward pass of torch's kernel would take many times as long."""
    agent = agents.make("set_transformer", task=of_objects(), device="cpu", **QUICK)
    attend, kinds = torch.nn.functional.scaled_dot_product_attention, set()
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention",
        lambda *args, **more: kinds.update(each.dtype for each in args) or attend(*args, **more),
    )  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        loss = agent.loss(to_device(agent.task.samples("train", 4), agent.device))
    assert isinstance(loss, Tensor)
    loss.backward()
    assert kinds == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in agent.model.parameters())


def test_an_agent_that_sorts_is_not_exported(tmp_path: Path) -> None:
    """ONNX has no stable sort: an error says so, and no file is written."""
    agent = agents.make("mlp", task=of_objects(), device="cpu", sort_objects=True, **QUICK)
    with pytest.raises(ConfigError, match="mlp has an operation that ONNX does not"):
        export_onnx(agent, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


CHECKS = {
    "gnn": ["resuming_is_exact", "loading_gives_the_same_agent", "views_run_and_change_nothing"],
    "set_transformer": ["independent_samples_are_independent", "learning_moves_every_parameter"],
    "mlp": ["loss_is_differentiable"],
}
EACH = ["loss_is_a_mean", "predictions_are_of_samples"]


@pytest.mark.parametrize(
    ("name", "check"), [(n, check) for n in GRAPHS for check in [*EACH, *CHECKS[n]]]
)
def test_graphs_and_numbers_conform(name: str, check: str) -> None:
    """Agents keep the contract also on graphs, and with numbers for answers."""
    agent = type(agents.make(name, task=of_graphs(), device="cpu", **QUICK))
    checks = agent_checks(agent, of_graphs(), hidden_size=8, threads=1)
    next(each for each in checks if each.name == check)()


RECIPE = {"steps": 250, "eval_every": 250, "batch_size": 64, "hidden_size": 32, "threads": 1}


@pytest.mark.parametrize(
    ("name", "task", "better_than"),
    [
        ("deep_sets", {"name": "max_difference", "num_objects": 5, "max_value": 9}, 0.4),
        ("gnn", {"name": "furthest_pair", "num_objects": 4, "num_kinds": 2}, 0.6),
    ],
)
def test_it_learns(name: str, task: dict[str, Any], better_than: float) -> None:
    """In seconds it answers new sets far more often than the most frequent answer is right."""
    settings = {key: value for key, value in task.items() if key != "name"}
    sizes = {"num_train": 4000, "num_validation": 300, "num_test": 500, "num_coordinates": 2}
    made = tasks.make(task["name"], **settings, **sizes)
    agent = agents.make(name, task=made, device="cpu", precision="fp32", **RECIPE).learn()
    shares = np.unique(made.samples("test", 500).target, return_counts=True)[1] / 500
    assert shares.max() < better_than - 0.1
    assert agent.evaluate()["accuracy"] > better_than
