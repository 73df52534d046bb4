"""Objectives and redirected gradients, against sums done by hand."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr
from torch import Tensor, nn
from torch.testing import assert_close

from tests.helpers.synthesis import CPU, draw
from visualization.synthesis.constraints import (
    at_least,
    at_most,
    class_distribution,
    equals,
    l2,
    match_activation,
    total_variation,
)
from visualization.synthesis.objective import (
    ForwardCache,
    Objective,
    caching_forward,
    custom,
    interpolation,
    per_image,
)
from visualization.synthesis.objectives import (
    channel,
    cosine,
    direction,
    diversity,
    layer_energy,
    logit,
    unit,
)
from visualization.synthesis.parametrization import ImageParam
from visualization.synthesis.redirected_relu import RedirectedReLU


def seen_of(maps: Tensor, layer: str | None = "a", images: Tensor | None = None) -> ForwardCache:
    """Return what is seen where a layer outputs maps (B, …), the first image in the first row."""
    given = draw(len(maps), 1, 4, 4) if images is None else images
    return ForwardCache(given, {layer: maps}, torch.arange(len(maps)))


def read(objective: Objective, maps: Tensor, **settings: Any) -> Tensor:
    """Return what an objective reads of maps."""
    return objective.read(seen_of(maps, **settings))


MAPS = draw(3, 4, 5, 6) - 0.3
FLAT = draw(3, 7) - 0.3


def test_a_unit_is_a_place_of_a_map_by_default_its_middle() -> None:
    """A unit reads one number of a map: where it is told to, or at half of each side."""
    assert_close(read(unit("a", 2), MAPS), MAPS[:, 2, 2, 3])
    assert_close(read(unit("a", 2, 0), MAPS), MAPS[:, 2, 0, 3])
    assert_close(read(unit("a", 2, column=5), MAPS), MAPS[:, 2, 2, 5])
    assert_close(read(unit("a", 2), FLAT), FLAT[:, 2])
    assert_close(read(unit("a", 2), MAPS[..., 0]), MAPS[:, 2, 2, 0])


def test_a_channel_is_the_mean_of_its_map_for_each_image_its_own() -> None:
    """Channels given one by one are read each in its own image, and so are units and classes."""
    assert_close(read(channel("a", 1), MAPS), MAPS[:, 1].mean(dim=(1, 2)))
    means = MAPS.mean(dim=(2, 3))
    several = read(channel("a", [3, 0, 2]), MAPS)
    assert_close(several, torch.stack([means[0, 3], means[1, 0], means[2, 2]]))
    assert_close(read(logit(range(3)), FLAT, layer=None), FLAT.diagonal()[:3])
    assert logit(range(3)).names == ("class 0", "class 1", "class 2")
    assert channel("a", [3, 0]).names == ("a:3", "a:0")
    assert unit("a", 3, 1, 2).names == ("a:3 (1, 2)",)


def test_a_direction_along_one_channel_is_that_channel() -> None:
    """Along a unit vector a direction reads its channel, and a whole layer gives a · v."""
    one_hot = torch.eye(4)[1]
    assert_close(read(direction("a", one_hot), MAPS), read(channel("a", 1), MAPS))
    whole = draw(4, 5, 6, seed=1)
    assert_close(read(direction("a", whole), MAPS), (MAPS * whole).sum(dim=(1, 2, 3)))
    rows = draw(3, 4, seed=2)
    expected = torch.einsum("bchw,bc->b", MAPS, rows) / 30
    assert_close(read(direction("a", rows), MAPS), expected)
    assert direction("a", rows).names == ("direction 0", "direction 1", "direction 2")


def test_a_cosine_forgets_the_size_unless_it_has_a_power() -> None:
    """The cosine alone is that of each place; with a power it weighs a · v, from 0.1 on."""
    vector = draw(4, seed=3) - 0.5
    cosines = F.cosine_similarity(MAPS, vector[None, :, None, None], dim=1)
    dots = torch.einsum("bchw,c->bhw", MAPS, vector)
    assert_close(read(cosine("a", vector), MAPS), cosines.mean(dim=(1, 2)))
    assert_close(read(cosine("a", vector), 9 * MAPS), read(cosine("a", vector), MAPS))
    powered = (dots * cosines.clamp(min=0.1) ** 2).mean(dim=(1, 2))
    assert_close(read(cosine("a", vector, power=2), MAPS), powered)
    assert_close(read(cosine("a", vector, 0), MAPS), read(direction("a", vector), MAPS))
    assert_close(read(cosine("a", MAPS), MAPS), torch.ones(3).double())


def test_sums_and_weights_are_those_of_the_numbers() -> None:
    """Objectives add up, with weights, and their names say so; so do their priors."""
    one, other = channel("a", 1), unit("b", 2)
    seen = ForwardCache(draw(3, 1, 4, 4), {"a": MAPS, "b": FLAT}, torch.arange(3))
    both = one + 0.5 * other - 2 * one
    assert_close(both(seen), -one(seen) + other(seen) / 2)
    assert both.layers == ("a", "b")
    assert both.names == ("a:1 + 0.5 b:2 − 2 a:1",)
    assert (-(one + other)).names == ("−(a:1 + b:2)",)
    tamed = 3 * (one + l2())
    assert_close(tamed(seen), 3 * one(seen) + 3 * l2()(seen))
    assert_close(tamed.read(seen), 3 * one(seen))
    assert tamed.names == ("3 (a:1 + l2)",)


def test_each_image_can_be_asked_for_something_else() -> None:
    """A list is routed: an image reads its own objective, as if that were alone, and its prior."""
    seen = ForwardCache(draw(4, 1, 4, 4), {"a": draw(4, 4, 5, 6), "b": draw(4, 7)}, torch.arange(4))
    objectives = [
        unit("b", 6),
        channel("a", [3, 1]),
        custom(lambda s: s["b"][:, 0], ["b"]) + l2(),
    ]
    found = per_image(objectives)
    means = seen["a"].mean(dim=(2, 3))
    wanted = torch.stack([seen["b"][0, 6], means[1, 3], means[2, 1], seen["b"][3, 0]])
    assert_close(found.read(seen), wanted)
    assert_close(found.prior(seen), torch.tensor([0, 0, 0, 1.0]) * l2().prior(seen))
    assert found.names == ("b:6", "a:3", "a:1", "result + l2")
    assert found.layers == ("b", "a")


def test_an_interpolation_goes_from_one_objective_to_the_other() -> None:
    """The first image reads the first objective, the last the second, and between them a blend."""
    maps = MAPS[:1].expand(3, -1, -1, -1)
    found = read(interpolation(channel("a", 0), channel("a", 1), 3), maps)
    first, second = maps[0, :2].mean(dim=(1, 2))
    assert_close(found, torch.stack([first, (first + second) / 2, second]))
    names = interpolation(channel("a", 0), channel("a", 1), 3).names
    assert names == ("a:0", "0.5 a:0 + 0.5 a:1", "a:1")


def test_diversity_is_least_where_all_images_are_alike() -> None:
    """It is −1 for equal Gram matrices, 0 for orthogonal ones, and else a mean over pairs."""
    assert_close(read(diversity("a"), MAPS[:1].repeat(3, 1, 1, 1)), -torch.ones(3).double())
    apart = torch.zeros(2, 2, 1, 2, dtype=torch.float64)
    apart[0, 0] = apart[1, 1] = 1
    assert_close(read(diversity("a"), apart), torch.zeros(2).double())
    grams = [(m.flatten(1) @ m.flatten(1).T).flatten() for m in MAPS]
    pair = [F.cosine_similarity(grams[i], grams[j], dim=0) for i, j in ((0, 1), (0, 2), (1, 2))]
    expected = -torch.stack([pair[0] + pair[1], pair[0] + pair[2], pair[1] + pair[2]]) / 2
    assert_close(read(diversity("a"), MAPS), expected)


def test_penalties_are_zero_for_what_has_nothing_of_what_they_punish() -> None:
    """L2 is half a squared distance; total variation counts a step's height times its length."""
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[..., 2:] = 0.5
    seen = seen_of(MAPS[:1], images=image)
    assert_close(l2()(seen), -0.5 * torch.tensor([15 * 0.25]).double())
    assert_close(l2(around=image)(seen), torch.zeros(1).double())
    assert_close(l2(around=0.5)(seen), -0.5 * torch.tensor([10 * 0.25]).double())
    assert_close(total_variation(1)(seen), -torch.tensor([5 * 0.5]).double(), atol=1e-2, rtol=0)
    assert_close(total_variation(2)(seen), -torch.tensor([5 * 0.25]).double(), atol=1e-4, rtol=0)
    flat = seen_of(MAPS[:1], images=torch.full((1, 3, 5, 5), 0.7))
    assert float(total_variation()(flat)) == 0
    assert_close(layer_energy("a").read(seen_of(MAPS)), MAPS.pow(2).mean(dim=(1, 2, 3)) / 2)


def test_demands_are_zero_where_they_are_met() -> None:
    """Each demand is 0 where it is met and below elsewhere, by the distance that it names."""
    assert_close(read(match_activation("a", MAPS), MAPS), torch.zeros(3).double())
    assert_close(read(match_activation("a", MAPS[:1]), MAPS * 0), -torch.ones(3).double())
    assert_close(read(match_activation("a", MAPS), 3 * MAPS), -4 * torch.ones(3).double())
    shares = FLAT.softmax(dim=1)
    assert_close(read(class_distribution(shares, "a"), FLAT), torch.zeros(3).double())
    wanted = torch.tensor([0.5, 0, 0, 0.5, 0, 0, 0])
    divergence = torch.tensor(
        [rel_entr(wanted.numpy(), row.numpy()).sum() for row in shares]
    ).double()
    assert_close(read(class_distribution(wanted, "a"), FLAT), -divergence, atol=1e-6, rtol=0)
    assert class_distribution(wanted).names == ("50% 0, 50% 3",)
    value = read(channel("a", 0), FLAT)
    assert_close(read(at_least(channel("a", 0), 0.2), FLAT), (value - 0.2).clamp(max=0))
    assert_close(read(at_most(channel("a", 0), 0.2), FLAT), (0.2 - value).clamp(max=0))
    assert_close(read(equals(channel("a", 0), 0.2), FLAT), -((value - 0.2) ** 2) / 2)
    assert at_least(logit(3), 5).names == ("class 3 ≥ 5",)


def test_what_can_be_at_most_is_known_of_sums() -> None:
    """A sum of demands and penalties is at most 0; with anything else it has no bound."""
    demand = at_least(logit(0), 1)
    assert (demand + 2 * equals(logit(1), 0) + l2()).most == 0
    assert (demand + logit(1)).most == (-demand).most == math.inf


class Late(nn.Module):
    """Two layers, of which the second must not be reached, and an in-place step between them."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(1, 2, 3)
        self.late = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Raise after the first layer."""
        x.mul_(1)
        F.relu(self.early(x), inplace=True)
        raise AssertionError("the pass went on")


def test_a_pass_ends_at_the_last_layer_that_is_needed() -> None:
    """What comes after the layers of an objective is not run; without layers nothing is."""
    model, images = Late(), draw(2, 1, 5, 5).float()
    rows = torch.arange(2)
    with caching_forward(model, ("early", "early@0")) as look:
        seen = look(images, rows)
    assert_close(seen["early"], model.early(images))
    assert_close(seen["early@0"], model.early(images))
    with caching_forward(model, ()) as look:
        assert look(images, rows).outputs == {}
    with (
        pytest.raises(AssertionError, match="the pass went on"),
        caching_forward(model, (None,)) as look,
    ):
        look(images, rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: read(channel("a", 4), MAPS), "channel 4 does not exist; accepted: 0 to 3"),
        (lambda: read(channel("a", -1), MAPS), "objective: channel -1 does not exist"),
        (lambda: read(unit("a", 0, 5), MAPS), "objective: row 5 does not exist; accepted: 0 to 4"),
        (lambda: read(unit("a", 0, 0, 6), MAPS), "objective: column 6 does not exist"),
        (lambda: read(unit("a", 0, 1), FLAT), r"objective: \(0, 1, 0\) is not a unit of an output"),
        (lambda: channel("a", []), "channels: there are none"),
        (lambda: read(direction("a", torch.ones(3)), MAPS), r"shape \(3,\).*accepted: \(4,\)"),
        (lambda: direction("a", torch.tensor(1.0)), r"vector: shape \(\) is not accepted"),
        (lambda: channel("a", [1, 2]) + channel("a", [1, 2, 3]), "for 2 and for 3 images"),
        (lambda: interpolation(logit(0), logit(1), 1), "num: 1 is not accepted; accepted: 2"),
        (lambda: interpolation(logit([0, 1]), logit(1)), "objective for 2 images.*accepted: for 1"),
        (lambda: read(diversity("a"), MAPS[:1]), "diversity: one image has no others"),
        (lambda: read(custom(lambda s: s["a"], ["a"]), MAPS), "objective 'result': gives shape"),
        (lambda: read(custom(lambda _: 3, ["a"]), MAPS), "objective 'result': gives 3; accepted"),
        (lambda: per_image([]), "objectives: there are none"),
        (lambda: match_activation("a", MAPS * 0),
         "match_activation: activation 0 is zero all over"),
        (lambda: read(match_activation("a", MAPS), FLAT),
         r"match_activation: an activation of shape \(4, 5, 6\)"),
        (lambda: class_distribution([0.5, 0.6]), "distribution: .* each summing to 1"),
        (lambda: class_distribution([1.5, -0.5]), "distribution: .* each summing to 1"),
        (lambda: read(class_distribution([1.0, 0.0], "a"), FLAT),
         "distribution: 2 shares do not go with"),
        (lambda: ImageParam("waves"), "basis: 'waves' is not accepted; accepted: fourier, pixel"),
        (lambda: ImageParam(bound="cube"), "bound: 'cube' is not accepted; accepted: sigmoid, box"),
        (lambda: ImageParam(limits=(1, 0)), r"limits: \(1, 0\) are not accepted"),
        (lambda: ImageParam(colors="grey"), "colors: 'grey' is not accepted; accepted: auto, none"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Any], message: str) -> None:
    """What does not fit is a ValueError that says what would."""
    with pytest.raises(ValueError, match=message):
        make()


RELUS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(), "in place": nn.ReLU(inplace=True), "function": F.relu,
    "function in place": lambda x: F.relu(x, inplace=True), "torch": torch.relu,
    "method": lambda x: x.relu(), "method in place": lambda x: x.relu_(),
}  # fmt: skip


@pytest.mark.parametrize("spelling", RELUS)
def test_gradients_are_redirected_only_where_nothing_gets_through(spelling: str) -> None:
    """A silent image gets the gradient that would open the ReLU, others the plain one."""
    x = torch.tensor([[1.0, -1, -2], [-1, -2, -3], [-1, -2, -3], [2, -1, 3]], requires_grad=True)
    above = torch.tensor([[1.0, 2, -3], [4, -5, 6], [4, -5, 6], [-1, -1, -1]])
    redirection = RedirectedReLU(4, CPU)
    redirection.redirected[:] = torch.tensor([True, True, False, True])
    with redirection.forward_pass():
        y = RELUS[spelling](x * 1)
    y.backward(above)
    plain = above * (x > 0)
    plain[1] = torch.tensor([4.0, 0, 6])
    assert x.grad is not None
    assert torch.equal(x.grad, plain)
    assert redirection.used.tolist() == [False, True, False, False]
    gradient = torch.zeros(4, 2) + torch.tensor([[1.0], [1], [0], [1]])
    assert redirection.update(gradient).tolist() == [
        False, True, True, False,
    ]  # fmt: skip
