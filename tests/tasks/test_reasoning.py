"""Reasoning tasks: answers by brute force, kinds in equal numbers, splits, and bad input."""

import itertools
from typing import Any

import networkx
import numpy as np
import pytest

import tasks
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, SetTargets, Split
from tasks.reasoning.base import Draws, SetTask, fingerprint
from tasks.reasoning.max_difference import MaxDifference
from tasks.reasoning.monster_trainer import MonsterTrainer, least_costs_by_level
from tasks.reasoning.paths import least_costs
from tasks.reasoning.shortest_path import ShortestPath
from tasks.reasoning.subset_sum import SubsetSum

SIZES = {"num_train": 1200, "num_validation": 300, "num_test": 300}
SMALL: dict[str, dict[str, Any]] = {
    "max_difference": {"num_objects": 7},
    "furthest_pair": {"num_objects": 5, "num_coordinates": 2},
    "monster_trainer": {"max_level": 6, "min_edges": 2, "max_edges": 3},
    "subset_sum": {"num_numbers": 4, "max_number": 20},
    "shortest_path": {"max_edges": 3},
}


def small(name: str, **settings: Any) -> SetTask:
    """Return a task of small sets."""
    task = tasks.make(name, **{**SIZES, **SMALL[name], **settings})
    assert isinstance(task, SetTask)
    return task


@pytest.fixture(params=SMALL)
def task(request: pytest.FixtureRequest) -> SetTask:
    """Return each task, small."""
    return small(request.param)


def by_hand(task: SetTask, batch: SetTargets) -> list[str]:
    """Return the answers to a batch, by another way of computing them."""
    answers = []
    for text, _ in task.questions(batch):
        left, _, right = text.rpartition("->")
        if task.name == "subset_sum":
            numbers = [int(word) for word in text.split()]
            subsets = (s for n in range(1, 5) for s in itertools.combinations(numbers, n))
            answers.append("yes" if any(sum(subset) == 0 for subset in subsets) else "no")
        elif task.name == "monster_trainer":
            places = [[int(n) for n in word.split(",")] for word in left.split()]
            graph = networkx.DiGraph()
            for i, j in itertools.combinations(range(len(places)), 2):
                apart = sum(abs(a - b) for a, b in zip(places[i], places[j], strict=True))
                graph.add_edge(i, j, weight=(j - i) * apart)
            answers.append(str(networkx.dijkstra_path_length(graph, 0, int(right))))
        elif task.name == "shortest_path":
            edges, _, first = left.rpartition(",")
            graph = networkx.Graph()
            for word in edges.split():
                ends, weight = word.split(":")
                graph.add_edge(*map(int, ends.split("-")), weight=int(weight))
            answers.append(str(networkx.dijkstra_path_length(graph, int(first), int(right))))
        else:
            rows = [[int(word) for word in part.split()] for part in text.split(";")]
            answers.append(_of_objects(task.name, rows))
    return answers


def _of_objects(name: str, rows: list[list[int]]) -> str:
    if name == "max_difference":
        values = [row[-2] for row in rows]
        return str(max(values) - min(values))

    def apart(pair: tuple[list[int], list[int]]) -> int:
        return sum(abs(a - b) for a, b in zip(pair[0][:2], pair[1][:2], strict=True))

    one, other = max(itertools.combinations(rows, 2), key=apart)
    return "-".join(map(str, sorted([one[-1], other[-1]])))


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_those_of_brute_force(task: SetTask, split: Any) -> None:
    """What another way of computing finds in the text of each sample is its target."""
    batch = task.samples(split, 150)
    assert task.decode(batch.target) == by_hand(task, batch)


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("max_difference", "0 0 0 0 0 0 0 0 7 1; 1 1 1 1 1 1 1 1 3 1; 2 2 2 2 2 2 2 2 100 0", "97"),
        ("furthest_pair", "0 0 9 2; 5 5 0 1; 20 20 3 0", "0-2"),
        ("monster_trainer", "0,0 0,3 0,5 9,9 -> 2", "5"),
        ("monster_trainer", "0,0 10,10 0,1 -> 2", "2"),
        ("subset_sum", "5 -3 12 -2", "yes"),
        ("subset_sum", "5 -3 12 -1", "no"),
        ("shortest_path", "0-1:5 0-2:1 2-1:3, 0 -> 1", "4"),
    ],
)
def test_known_answers(name: str, text: str, answer: str) -> None:
    """The answers to small sets that one can compute in one's head."""
    task = small(name)
    assert task.decode(task.encode([text]).target) == [answer]


def test_distance_over_all_numbers_is_another_question() -> None:
    """With distance=all value and kind count, as in the paper's code."""
    text = "0 0 100 2; 9 9 50 1; 3 3 0 0"
    answers = {
        distance: task.decode(task.encode([text]).target)
        for distance in ("coordinates", "all")
        for task in [small("furthest_pair", distance=distance)]
    }
    assert answers == {"coordinates": ["1-2"], "all": ["0-2"]}


def test_a_smaller_training_set_is_the_beginning_of_a_larger_one(task: SetTask) -> None:
    """Sample i does not depend on how many there are, so that curves over sizes are nested."""
    larger = small(task.name, num_train=1500)
    questions = [
        sorted(text for text, _ in each.questions(each.samples("train", num)))
        for each, num in ((task, 1200), (larger, 1500))
    ]
    missing = set(questions[0]) - set(questions[1])
    assert not missing


def test_another_data_seed_gives_other_samples(task: SetTask) -> None:
    """The samples are a function of the data seed."""
    others = small(task.name, data_seed=1)
    texts = [{t for t, _ in each.questions(each.samples("train", 1200))} for each in (task, others)]
    assert len(texts[0] & texts[1]) < 60


def test_what_is_read_is_what_was_written(task: SetTask) -> None:
    """The text of a sample, typed by a person, is the sample."""
    batch = task.samples("test", 5)
    encoded = task.encode([text for text, _ in task.questions(batch)])
    for name, array in batch._asdict().items():
        if array is not None:
            np.testing.assert_array_equal(getattr(encoded, name), array, err_msg=name)


def test_sets_of_unequal_size_are_padded() -> None:
    """Two sets typed by a person are one batch with a mask."""
    batch = small("subset_sum").encode(["1 2 3", "4"])
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.objects[1, 1:].tolist() == [[0.0], [0.0]]
    graphs = small("shortest_path").encode(["0-1:1, 0 -> 1", "0-1:1 1-2:1, 0 -> 2"])
    assert graphs.edges.shape == (2, 3, 3)
    assert graphs.mask.sum(axis=1).tolist() == [2, 3]


def test_paths_of_each_length_are_equally_many() -> None:
    """A fifth each has 3, 4, 5, 6 and 7 edges: the fewest edges of a path of least cost."""
    task = MonsterTrainer(num_train=1000, num_validation=1, num_test=1)
    batch, lengths = task.samples("train", 1000), []
    for objects in batch.objects:
        (places,), ((asked,),) = task.sample_of(objects[None])
        graph = networkx.DiGraph()
        for i, j in itertools.combinations(range(11), 2):
            cost = (j - i) * int(np.abs(places[i] - places[j]).sum())
            graph.add_edge(i, j, weight=(cost, 1), total=cost * 100 + 1)
        lengths.append(networkx.dijkstra_path_length(graph, 0, asked, weight="total") % 100)
    assert np.bincount(lengths).tolist() == [0, 0, 0, 200, 200, 200, 200, 200]


def test_half_of_the_subset_sums_are_yes_and_few_are_trivial() -> None:
    """Half have a solution; few of those are a zero, or a pair, or all of the numbers."""
    task = SubsetSum(num_train=2000, num_validation=1, num_test=1)
    batch = task.samples("train", 2000)
    assert batch.target.mean() == 0.5
    numbers = np.rint(batch.objects[..., 0] * 20).astype(int)
    pairs = (numbers[:, :, None] + numbers[:, None])[:, *np.triu_indices(6, 1)]
    trivial = (numbers == 0).any(1) | (pairs == 0).any(1) | (numbers.sum(1) == 0)
    assert 0 < trivial.sum() < 0.15 * batch.target.sum()


def test_a_test_split_may_be_larger() -> None:
    """Sizes of the test split are settings of their own; inputs are scaled as in training."""
    task = MaxDifference(
        **SIZES, num_objects=5, test_num_objects=9, test_max_value=200, target="number"
    )
    train, test = task.samples("train", 300), task.samples("test", 300)
    assert (train.objects.shape[1], test.objects.shape[1], task.spec.size) == (5, 9, 9)
    assert train.objects[..., 8].max() <= 10 < test.objects[..., 8].max() <= 20
    assert 1.2 < test.target.max() <= 2
    longer = small("monster_trainer", test_min_edges=4, test_max_edges=4, test_max_level=9)
    assert longer.samples("test", 9).objects.shape[1] == 10
    graphs = ShortestPath(**SIZES)
    assert graphs.samples("train", 1200).mask.sum(axis=1).max() <= 10
    assert graphs.samples("test", 300).mask.sum(axis=1).min() >= 12


def test_a_setting_of_the_test_split_holds_there_alone() -> None:
    """It may be below that of training; None is that of training."""
    task = ShortestPath(max_weight=5, test_max_weight=3, test_max_nodes=None, test_min_nodes=None)
    assert [task.setting_in("max_weight", split) for split in SPLITS] == [5, 5, 3]
    assert [task.setting_in("max_nodes", split) for split in SPLITS] == [10, 10, 10]
    assert task.largest("max_weight") == 5
    assert ShortestPath(test_max_weight=9).largest("max_weight") == 9


def test_numbers_are_scored_after_rounding() -> None:
    """0.4 off is exact, 0.6 off is not; the percentage error is relative to the right number."""
    task = MaxDifference(num_coordinates=1, target="number")
    batch = task.encode(["0 10 0; 0 20 0", "0 10 0; 0 60 0"])  # 10 and 50
    answers = batch.target + np.array([[0.004], [0.006]], np.float32)
    assert task.score(answers, batch) == pytest.approx({"exact": 0.5, "mape": 2.6}, rel=1e-3)
    assert task.decode(answers) == ["10", "51"]


@pytest.mark.parametrize("seed", range(3))
def test_least_costs_after_rounds_are_bellman_fords(seed: int) -> None:
    """After k rounds the costs are those of paths of at most k edges; at the end, networkx's."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 9, (5, 7, 7)) * (rng.random((5, 7, 7)) < 0.3)
    source = rng.integers(0, 7, 5)
    cost, edges = least_costs(weights, source)
    for each, graph in enumerate(weights):
        digraph = networkx.from_numpy_array(graph, create_using=networkx.DiGraph)
        found = networkx.single_source_dijkstra_path_length(digraph, int(source[each]))
        assert cost[each].tolist() == [found.get(node, -1) for node in range(7)]
    for rounds in range(1, 7):
        limited = least_costs(weights, source, rounds)
        is_short = (edges >= 0) & (edges <= rounds)
        np.testing.assert_array_equal(limited[0][is_short], cost[is_short])
        assert (limited[1] <= rounds).all()


def test_costs_by_level_are_those_of_the_graph() -> None:
    """One pass over the levels finds what Bellman and Ford find on the graph of fights."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 6, (40, 7, 2))
    apart = np.abs(places[:, :, None] - places[:, None]).sum(-1)
    upwards = np.maximum(np.arange(7) - np.arange(7)[:, None], 0)
    cost, edges, least = least_costs_by_level(places)
    apart_pairs = apart[:, *np.triu_indices(7, 1)]
    np.testing.assert_array_equal(least, apart_pairs.min(1))
    is_map = least > 0  # without two levels at one place, which would be no edge in a matrix
    expected = least_costs((apart * upwards)[is_map], np.zeros(is_map.sum(), int))
    np.testing.assert_array_equal(cost[is_map], expected[0])
    np.testing.assert_array_equal(edges[is_map], expected[1])


def test_the_hash_of_a_set_does_not_depend_on_its_order() -> None:
    """A set in another order, or padded with zeros, is the same; another set is not."""
    objects = np.random.default_rng(0).integers(1, 9, (50, 6, 4))
    own = fingerprint((objects,))
    np.testing.assert_array_equal(own, fingerprint((objects[:, ::-1],)))
    np.testing.assert_array_equal(own, fingerprint((np.pad(objects, ((0, 0), (0, 2), (0, 3))),)))
    objects[:, 0, 0] += 1
    assert not (own == fingerprint((objects,))).any()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("subset_sum", "", "the set is empty; accepted: 1 to 4 numbers"),
        ("subset_sum", "1 2 3 4 5", "5 numbers; accepted: 1 to 4 numbers"),
        ("subset_sum", "1 x", "number 'x' is not an integer; accepted: -20 to 20"),
        ("max_difference", " ; ", "the set is empty; accepted: 1 to 7 objects"),
        ("furthest_pair", "0 0 9 6; 5 5 0 1", "kind 6 is out of range; accepted: 0 to 5"),
        ("furthest_pair", "0 0 9 5", "1 objects; accepted: 2 to 5 objects"),
        ("furthest_pair", "0 9 5; 1 1 1 1", "an object of 3 numbers; accepted: 2 coordinates"),
        ("monster_trainer", "0,0 0,0 -> 1", "two levels are at the same place"),
        ("monster_trainer", "0,0 0,1 -> 2", "asked level 2 is out of range; accepted: 1 to 1"),
        ("monster_trainer", "0,0 z -> 1", "is not a map; accepted: text such as"),
        ("monster_trainer", " -> 1", "the set is empty; accepted: 2 to 7 places"),
        ("shortest_path", "0-1:1 2-3:1, 0 -> 3", "there is no path from 0 to 3"),
        ("shortest_path", "0-1:1 1-0:1, 0 -> 1", "edge 1-0 is named twice"),
        ("shortest_path", "0-1:9, 0 -> 1", "weight 9 is out of range; accepted: 1 to 5"),
        ("shortest_path", "0-40:1, 0 -> 40", "node 40 is out of range; accepted: 0 to 19"),
        ("shortest_path", ", 0 -> 0", "the graph is empty"),
    ],
)
def test_bad_input_is_refused(name: str, text: str, message: str) -> None:
    """A bad set is an error that says what was wrong and what is accepted."""
    with pytest.raises(ConfigError, match=message):
        small(name).encode([text])


@pytest.mark.parametrize(
    ("name", "settings", "text", "message"),
    [
        (
            "shortest_path", {"max_edges": 4},
            "0-1:5 1-2:5 2-3:5 3-4:5 4-5:5, 0 -> 5", "the right answer is 25.* at most 20",
        ),
        (
            "monster_trainer", {"min_edges": 1, "max_edges": 1, "max_level": 1, "map_size": 9,
                                "test_max_level": 3, "test_map_size": 1},
            "0,0 9,9 5,5 -> 2", "the right answer is 20.* at most 18",
        ),
    ],
)  # fmt: skip
def test_a_person_s_question_whose_answer_has_no_label_is_refused(
    name: str, settings: dict[str, Any], text: str, message: str
) -> None:
    """A right answer above the last label is an error; as a number it is accepted."""
    with pytest.raises(ConfigError, match=message):
        tasks.make(name, target="label", **settings).encode([text])
    number = tasks.make(name, target="number", **settings)
    assert number.decode(number.encode([text]).target) == [message.split(".")[0].split()[-1]]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_edges": 2, "test_max_edges": 3, "test_max_weight": 9},
        {"max_edges": 3, "test_max_edges": 2, "test_max_weight": 2},
    ],
)
def test_every_drawn_answer_has_a_label(settings: dict[str, Any]) -> None:
    """The labels of shortest paths reach as far as the answers of each split."""
    task = tasks.make("shortest_path", **SIZES, target="label", **settings)
    for split in SPLITS:
        assert task.samples(split, 300).target.max() < len(task.spec.labels)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("monster_trainer", {"max_edges": 11}, " max_edges: paths of 11 edges among 10 .* most 10"),
        ("monster_trainer", {"max_level": 2}, " max_edges: paths of 7 edges .*: at most 2"),
        ("monster_trainer", {"min_edges": 8}, " min_edges: 8 is above 7; accepted: at most 7"),
        ("monster_trainer", {"map_size": 2}, " map_size: 2 has no room for 11 .*: at least 3"),
        ("monster_trainer", {"test_map_size": 2}, " test_map_size: 2 has no room for 11 objects"),
        ("monster_trainer", {"test_max_edges": 11}, " test_max_edges: paths of 11 edges among 10"),
        ("monster_trainer", {"test_min_edges": 8}, " test_min_edges: 8 is above 7"),
        ("shortest_path", {"min_nodes": 11}, "min_nodes: 11 is above 10; accepted: at most 10"),
        ("shortest_path", {"max_edges": 10}, "max_edges: paths of 10 edges among 10 nodes"),
    ],
)
def test_settings_that_contradict_each_other(
    name: str, settings: dict[str, Any], message: str
) -> None:
    """Settings that no sample can meet are an error at once."""
    with pytest.raises(ConfigError, match=message):
        tasks.make(name, **settings)


def test_samples_that_are_too_rare_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that random samples never are of is an error, not an endless search."""
    monkeypatch.setattr("tasks.reasoning.base._MAX_IDLE", 5)
    task = ShortestPath(
        min_nodes=8, max_nodes=8, min_density=1.0, max_density=1.0, max_weight=1, max_edges=2
    )
    with pytest.raises(ConfigError, match="a path of 2 edges was not among"):
        task.samples("train", 1)


def test_rare_samples_of_several_classes_are_found_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no error that each draw lacks some class, as long as none lacks it for long."""
    monkeypatch.setattr("tasks.reasoning.base._MAX_IDLE", 3)
    turns = itertools.cycle([0, 0, 1])

    class InTurn(MaxDifference):
        """Samples of two classes, of which a draw has one."""

        num_drawn = 50

        def class_names(self, split: Split) -> list[str]:
            """Return two names."""
            return ["a twin", "another"]

        def draw_samples(self, rng: np.random.Generator, num: int, split: Split) -> Draws:
            """Draw samples of one class."""
            draws = super().draw_samples(rng, num, split)
            return draws._replace(classes=np.full(num, next(turns)))

    assert len(InTurn(num_objects=3).samples("train", 10).target) == 10
