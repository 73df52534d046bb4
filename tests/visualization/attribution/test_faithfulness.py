"""Whether attributions are faithful, and whether they depend on what was learned."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from scipy.stats import spearmanr
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, Odd, linear, odd, pictures
from visualization.attribution.cams import grad_cam
from visualization.attribution.faithfulness import RANDOM, Faithfulness, faithfulness
from visualization.attribution.gradients import input_x_gradient, saliency
from visualization.attribution.sanity import CHECKED, SanityCheck, edges, randomisation_check
from visualization.core.registry import caption, draw, text

assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9)
SCORED = {"deletion_fill": 0.0, "insertion_fill": 0.0, "probability": False}


def test_curves_of_a_linear_model_are_running_sums() -> None:
    """Deleting and inserting pixel by pixel takes away and adds w · x in the map's order."""
    (model, weights), x = linear(), pictures(3, 2, 4)
    share = (weights[1] * x).sum(dim=1)
    bias = float(model[1].bias[1].detach())
    maps = {"right": input_x_gradient(model, x, 1), "against": -share}
    found = faithfulness(model, x, maps, 1, num_steps=16, batch_size=7, **SCORED)
    assert_close(found.shares, np.arange(17) / 16)
    for name, values in (("right", share), ("against", -share)):
        order = (-values).flatten(1).argsort(dim=1)
        taken = share.flatten(1).gather(1, order).cumsum(dim=1).numpy()
        inserted = bias + np.pad(taken, ((0, 0), (1, 0)))
        assert_close(found.insertion[name], inserted)
        assert_close(found.deletion[name], inserted[:, -1:] - inserted + bias)
    # In steps of four pixels the curves have every fourth number of those.
    coarse = faithfulness(model, x, maps, 1, num_steps=4, **SCORED)
    assert_close(coarse.insertion["right"], found.insertion["right"][:, ::4])
    assert (found.deletion_area()["right"] < found.deletion_area()[RANDOM]).all()
    assert (found.insertion_area()["right"] > found.insertion_area()[RANDOM]).all()
    assert (found.deletion_area()["against"] > found.deletion_area()[RANDOM]).all()
    assert found.quantity == "score"


def test_an_answer_that_rests_on_one_pixel() -> None:
    """The area is half a step if that pixel comes first, and about a half in random order."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False)).to(DOUBLE)
    with torch.no_grad():
        model[1].weight.zero_()[0, 19] = 1
    x = torch.ones(2, 1, 8, 8, dtype=DOUBLE)
    maps = {"right": saliency(model, x, 0), "blank": torch.zeros(2, 8, 8)}
    settings = {"num_steps": 64, "num_random": 300} | SCORED
    found = faithfulness(model, x, maps, 0, **settings)
    assert_close(found.deletion_area()["right"], 0.5 / 64)
    assert_close(found.insertion_area()["right"], 1 - 0.5 / 64)
    assert_close(found.deletion_area()[RANDOM], 0.5, atol=0.06)
    # Where a map makes no difference the order is random: not that of the rows.
    areas = [
        faithfulness(model, x, maps, 0, seed=seed, **settings | {"num_random": 1})
        for seed in range(40)
    ]
    blank = [record.deletion_area()["blank"][0] for record in areas]
    assert np.std(blank) > 0.2
    again = faithfulness(model, x, maps, 0, seed=39, **settings | {"num_random": 1})
    assert_close(again.deletion["blank"], areas[39].deletion["blank"])


def test_the_class_is_that_of_the_whole_image() -> None:
    """Without a target, curves go from the image's own class, as a share of all classes."""
    model, x = odd(3), 3 * pictures(4, 3)
    maps = {"gradient": saliency(model, x)}
    found = faithfulness(model, x, maps, num_steps=5, deletion_fill="mean", insertion_fill=1.0)
    model.eval()
    shares = model(x.clone()).softmax(dim=1).detach()
    numbers = shares.argmax(dim=1)
    blank = model(torch.ones_like(x)).softmax(dim=1).detach()[torch.arange(4), numbers]
    means = x.mean((2, 3), keepdim=True).expand_as(x).clone()
    mean = model(means).softmax(dim=1).detach()[torch.arange(4), numbers]
    for name in ("gradient", RANDOM):
        assert_close(found.deletion[name][:, 0], shares.amax(dim=1))
        assert_close(found.deletion[name][:, -1], mean)
        assert_close(found.insertion[name][:, 0], blank)
        assert_close(found.insertion[name][:, -1], shares.amax(dim=1))
    assert (blank < shares.amax(dim=1)).any()
    assert (found.quantity, found.fills) == ("probability", ("the image's mean", "1"))


def test_a_unit_of_a_layer_is_scored_as_it_is() -> None:
    """Of a layer the unit's own number is followed, and hiding all of the image has its effect."""
    model, x = odd(), pictures(2)
    unit = {"target": (5, 3, 4), "target_layer": "relu@1"}
    found = faithfulness(model, x, {"gradient": saliency(model, x, **unit)}, **unit)
    model.eval()
    values = model.a(model.norm(model.stem(x - 0.1)).relu()).relu().detach()[:, 5, 3, 4]
    assert_close(found.insertion["gradient"][:, -1], values)
    assert found.quantity == "score"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"maps": {"a": torch.ones(2, 8, 7)}}, r"maps: 'a' has shape \(2, 8, 7\); acc"),
        ({"maps": {"a": torch.full((2, 8, 8), np.nan)}}, "maps: 'a' has NaN or inf"),
        ({"num_steps": 0}, "num_steps: 0 is not accepted"),
        ({"num_random": 0}, "num_random: 0 is not accepted"),
        ({"insertion_fill": "grey"}, "insertion_fill: 'grey' is not accepted"),
        ({"target_layer": "stem", "target": 1, "probability": True},
         r"shape \(2, 6, 8, 8\) has no clas"),
        ({"target": 9}, "target: channel 9 does not exist"),
    ],
)  # fmt: skip
def test_mistakes_are_named(settings: dict[str, Any], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    maps = settings.pop("maps", {"a": torch.ones(2, 8, 8)})
    with pytest.raises(ValueError, match=words):
        faithfulness(odd(), pictures(2), maps, batch_size=8, **settings)


@pytest.fixture(scope="module")
def checked() -> SanityCheck:
    """Return the check of an odd net of double precision, by all gradients and edges."""
    methods = {"saliency": saliency, "edges": edges}
    return randomisation_check(odd(3), pictures(4, 3), methods=methods)


def test_maps_change_when_weights_are_lost(checked: SanityCheck) -> None:
    """A gradient loses its likeness to the original; an edge detector keeps it exactly."""
    assert checked.layers == ("head", "a", "norm", "stem")
    assert_close(checked.signed["saliency"][0], 1)
    assert (checked.signed["saliency"][1:] < 0.9).all()
    assert np.abs(checked.signed["saliency"][-1]).mean() < 0.4
    assert (checked.maps["saliency"][1:] != checked.maps["saliency"][0]).any(axis=(1, 2)).all()
    for found in (checked.signed, checked.absolute):
        assert found["edges"].shape == (5, 4)
        assert_close(found["edges"], 1)
    assert_close(checked.maps["edges"], checked.maps["edges"][:1].repeat(5, axis=0))


def test_layers_lose_their_weights_one_after_the_other_or_alone() -> None:
    """The copy's weights are lost from the last layer down; alone, all others stay."""
    model, x = odd(), pictures(2)
    names = ("head", "a", "norm", "stem")
    original = model.state_dict()
    lost: list[set[str]] = []

    def watch(double: nn.Module, images: Tensor, target: Any) -> Tensor:
        changed = {n for n, v in double.state_dict().items() if not torch.equal(v, original[n])}
        lost.append({name.rpartition(".")[0] for name in changed})
        return saliency(double, images, target)

    randomisation_check(model, x, methods={"watch": watch})
    assert lost == [set(), {"head"}, {"head", "a"}, {"head", "a", "norm"}, set(names)]
    lost.clear()
    found = randomisation_check(model, x, methods={"watch": watch}, cascading=False)
    assert lost == [set(), {"head"}, {"a"}, {"norm"}, {"stem"}]
    assert not found.cascading
    lost.clear()
    some = randomisation_check(model, x, methods={"watch": watch}, layers=["stem", "a"])
    assert (some.layers, lost) == (("a", "stem"), [set(), {"a"}, {"a", "stem"}])


class Blocks(nn.Module):
    """Holds a weight of its own, a list that is never called, and a block that comes before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.randn(3, 1, 1))
        self.late = nn.ModuleDict({"list": nn.ParameterList([torch.randn(3, 1, 1)])})
        self.block = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        return (self.block(x) * self.scale + self.late["list"][0]).mean((2, 3))


def test_weights_anywhere_are_found_and_blocks_lost_as_one() -> None:
    """The model's own weights go first, with those of layers never called; a block goes as one."""
    model, x = Blocks(), pictures(2).float()
    found = randomisation_check(model, x, 0, methods=["saliency"])
    assert sorted(found.layers[:2]) == ["", "late.list"]
    assert found.layers[2:] == ("block.2", "block.0")
    assert "model" in text(found)
    one = randomisation_check(model, x, 0, methods=["saliency"], layers=["block"])
    assert one.layers == ("block",)


def test_lost_weights_keep_their_scale() -> None:
    """New weights have the mean and deviation of the old, and nothing of their order."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 400, 3), nn.Flatten(), nn.Linear(400, 2))
    with torch.no_grad():
        model[0].weight.mul_(3).add_(1)
    seen = []

    def watch(double: nn.Module, images: Tensor, target: Any) -> Tensor:
        seen.append(double[0].weight.detach().clone().flatten())
        return edges(double, images)

    for seed in (0, 0, 1):
        randomisation_check(
            model, pictures(1, 1, 3).float(), 0, methods={"w": watch}, layers=["0"], seed=seed
        )
    (old, new), again, other = seen[:2], seen[3], seen[5]
    assert abs(new.mean() - old.mean()) < 0.05
    assert abs(new.std() / old.std() - 1) < 0.05
    assert abs(np.corrcoef(old, new)[0, 1]) < 0.06
    assert torch.equal(new, again)
    assert not torch.equal(new, other)


def test_the_same_class_is_explained_throughout() -> None:
    """The copy is asked about the classes that the model as learned gives the images."""
    model, x = odd(), 3 * pictures(4)
    asked: list[list[int]] = []

    def watch(double: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        asked.append(target.tolist())
        return saliency(double, images, target)

    randomisation_check(model, x, methods={"watch": watch})
    model.eval()
    assert asked == [model(x.clone()).argmax(dim=1).tolist()] * 5
    assert len(set(asked[0])) > 1


def test_a_map_without_differences_is_like_none() -> None:
    """Its correlation is 0, and not defined where there was no map to begin with."""
    model, x = odd(), pictures(2)
    calls: list[int] = []

    def fading(double: nn.Module, images: Tensor, target: Any) -> Tensor:
        calls.append(1)
        maps = images.sum(dim=1) * (len(calls) == 1)
        maps[1] = 5
        return maps

    found = randomisation_check(model, x, methods={"fading": fading})
    assert_close(found.signed["fading"][0, 0], 1)
    assert_close(found.signed["fading"][1:, 0], 0)
    assert np.isnan(found.signed["fading"][:, 1]).all()
    draw(found)
    assert "+1.00" in text(found)
    nothing = {"nothing": lambda _, images, __: 0 * images}
    empty = randomisation_check(model, x, methods=nothing)
    assert "all 0" in _words(draw(empty))


def _axes(figure: Any) -> list[Any]:
    return [axes for part in figure.subfigs for axes in part.axes]


def _words(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def test_likeness_is_spearmans_with_and_without_signs() -> None:
    """Correlations are those of the ranks, ties shared, of the maps and of their sizes."""
    model, x = odd(), pictures(2)
    maps = [x, -x, x.round().flip(3)]

    def turning(_: nn.Module, images: Tensor, target: Any) -> Tensor:
        return maps.pop(0)

    wanted = spearmanr(x[1].flatten(), x[1].round().flip(2).flatten()).statistic
    sizes = spearmanr(x[1].abs().flatten(), x[1].round().flip(2).abs().flatten()).statistic
    found = randomisation_check(model, x, methods={"turning": turning}, layers=["head", "a"])
    assert_close(found.signed["turning"][:, 1], [1, -1, wanted])
    assert_close(found.absolute["turning"][:, 1], [1, 1, sizes])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": ["sten"]}, "layers: 'sten' is not a layer of the Odd; .* did you mean 'stem'"),
        ({"layers": ["relu"]}, "layers: 'relu' has no weights; accepted: layers with weights"),
        ({"methods": ["salience"]}, "methods: 'salience' is not accepted; .* mean 'saliency'"),
        ({"target": 7}, "target: channel 7 does not exist"),
    ],
)
def test_mistakes_in_a_check_are_named(settings: dict[str, Any], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    with pytest.raises(ValueError, match=words):
        randomisation_check(odd(), pictures(2), **settings)
    with pytest.raises(ValueError, match="model: the Sequential has no layer with weights"):
        randomisation_check(nn.Sequential(nn.Flatten()), pictures(2))


@pytest.mark.parametrize("fails", [False, True])
def test_checking_changes_nothing(fails: bool) -> None:
    """Weights, modes, gradients, hooks, random state and images stay, also on an exception."""
    model, x = odd(), pictures(2)
    model.a.eval()
    held = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    before, images = torch.get_rng_state(), x.clone()
    for check in (
        lambda target: randomisation_check(model, x, target),
        lambda target: faithfulness(model, x, {"a": x}, target),
    ):
        if fails:
            with pytest.raises(ValueError, match="channel 4 does not exist"):
                check(4)
        else:
            check(None)
    assert all(torch.equal(held[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all((p.grad == 1).all() and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, images)


def test_curves_are_drawn_with_their_areas() -> None:
    """Each method has a curve in both panels; the table has the areas, the best first."""
    shares = np.array([0, 0.5, 1])
    down = {"saliency": np.array([[1, 0, 0.0]]), "own": np.array([[1, 1, 0.0]])}
    up = {"saliency": np.array([[0, 1, 1.0]]), "own": np.array([[0, 0, 1.0]])}
    chance = {RANDOM: np.array([[1, 0.5, 0.0]])}
    record = Faithfulness(shares, down | chance, up | chance, "probability", ("0", "another image"))
    assert record.deletion_area()["saliency"] == 0.25
    left, right = draw(record).axes
    for axes in (left, right):
        named = [words.get_text() for words in axes.get_legend().get_texts()]
        assert [name.split("  ")[1] for name in named] == ["gradient", RANDOM, "own"]
    assert left.get_title(loc="left") == "pixels become 0: low is faithful"
    lines = text(record).splitlines()
    assert lines[2].split() == ["gradient", "0.250", "0.750"]
    assert "random orders" in caption(record)


def test_a_check_is_drawn_as_lines_above_maps(checked: SanityCheck) -> None:
    """Two panels of lines, and a row of maps for each method, stand in one figure."""
    left, _, maps = _axes(draw(checked))
    assert [line.get_label() for line in left.lines[:2]] == ["gradient", "edges"]
    assert len(maps.images) == 2 * 5
    assert {"as learned", *checked.layers, "gradient", "edges"} <= set(_words(maps))
    assert "layer after layer" in caption(checked)
    assert text(checked).splitlines()[2].split()[2:] == ["+1.00"] * 4


def test_the_usual_methods_are_checked_on_any_model() -> None:
    """Without names, gradients and Grad-CAM are compared, of one channel and of three."""
    for channels in (1, 3):
        model = odd(channels)
        assert isinstance(model, Odd)
        found = randomisation_check(model, pictures(2, channels), [1, 2], layers=["head"])
        assert tuple(found.signed) == CHECKED
        cam = grad_cam(model, pictures(2, channels), [1, 2])
        assert_close(found.maps["grad_cam"][0], cam[0])
