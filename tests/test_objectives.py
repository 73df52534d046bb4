"""Objectives, how images are held and moved, against sums done by hand."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr
from torch import Tensor, nn
from torch.testing import assert_close

from visualization.conv.maximisation.demands import (
    answers,
    at_least,
    at_most,
    equals,
    l2,
    matches,
    total_variation,
)
from visualization.conv.maximisation.objective import (
    Objective,
    Seen,
    each,
    interpolation,
    measured,
    watching,
)
from visualization.conv.maximisation.objectives import (
    amplified,
    channel,
    cosine,
    direction,
    diversity,
    logit,
    unit,
)
from visualization.conv.maximisation.parametrization import (
    Canvas,
    color_covariance,
    frequencies,
    imagenet_covariance,
    parametrization,
)
from visualization.conv.maximisation.redirection import Redirection
from visualization.conv.maximisation.transforms import Jitter, Pad, Rotate, Scale, robust, usual

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers from 0 to 1, exactly as often as they are asked for."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen_of(maps: Tensor, layer: str | None = "a", images: Tensor | None = None) -> Seen:
    """Return what is seen where a layer puts out maps (B, …), the first image in the first row."""
    given = draw(len(maps), 1, 4, 4) if images is None else images
    return Seen(given, {layer: maps}, torch.arange(len(maps)))


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
    seen = Seen(draw(3, 1, 4, 4), {"a": MAPS, "b": FLAT}, torch.arange(3))
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
    seen = Seen(draw(4, 1, 4, 4), {"a": draw(4, 4, 5, 6), "b": draw(4, 7)}, torch.arange(4))
    objectives = [
        unit("b", 6),
        channel("a", [3, 1]),
        measured(lambda s: s["b"][:, 0], ["b"]) + l2(),
    ]
    found = each(objectives)
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
    assert_close(amplified("a").read(seen_of(MAPS)), MAPS.pow(2).mean(dim=(1, 2, 3)) / 2)


def test_demands_are_zero_where_they_are_met() -> None:
    """Each demand is 0 where it is met and below elsewhere, by the distance that it names."""
    assert_close(read(matches("a", MAPS), MAPS), torch.zeros(3).double())
    assert_close(read(matches("a", MAPS[:1]), MAPS * 0), -torch.ones(3).double())
    assert_close(read(matches("a", MAPS), 3 * MAPS), -4 * torch.ones(3).double())
    shares = FLAT.softmax(dim=1)
    assert_close(read(answers(shares, "a"), FLAT), torch.zeros(3).double())
    wanted = torch.tensor([0.5, 0, 0, 0.5, 0, 0, 0])
    divergence = torch.tensor(
        [rel_entr(wanted.numpy(), row.numpy()).sum() for row in shares]
    ).double()
    assert_close(read(answers(wanted, "a"), FLAT), -divergence, atol=1e-6, rtol=0)
    assert answers(wanted).names == ("50% 0, 50% 3",)
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
    with watching(model, ("early", "early@0")) as look:
        seen = look(images, rows)
    assert_close(seen["early"], model.early(images))
    assert_close(seen["early@0"], model.early(images))
    with watching(model, ()) as look:
        assert look(images, rows).outputs == {}
    with pytest.raises(AssertionError, match="the pass went on"), watching(model, (None,)) as look:
        look(images, rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: read(channel("a", 4), MAPS), "channel 4 does not exist; accepted: 0 to 3"),
        (lambda: read(channel("a", -1), MAPS), "objective: channel -1 does not exist"),
        (lambda: read(unit("a", 0, 5), MAPS), "objective: row 5 does not exist; accepted: 0 to 4"),
        (lambda: read(unit("a", 0, 0, 6), MAPS), "objective: column 6 does not exist"),
        (lambda: read(unit("a", 0, 1), FLAT), r"objective: \(0, 1, 0\) is no unit of an output"),
        (lambda: channel("a", []), "channels: there are none"),
        (lambda: read(direction("a", torch.ones(3)), MAPS), r"shape \(3,\).*accepted: \(4,\)"),
        (lambda: direction("a", torch.tensor(1.0)), r"vector: shape \(\) is not accepted"),
        (lambda: channel("a", [1, 2]) + channel("a", [1, 2, 3]), "for 2 and for 3 images"),
        (lambda: interpolation(logit(0), logit(1), 1), "num: 1 is not accepted; accepted: 2"),
        (lambda: interpolation(logit([0, 1]), logit(1)), "objective for 2 images.*accepted: for 1"),
        (lambda: read(diversity("a"), MAPS[:1]), "diversity: one image has no others"),
        (lambda: read(measured(lambda s: s["a"], ["a"]), MAPS), "objective 'result': gives shape"),
        (lambda: read(measured(lambda _: 3, ["a"]), MAPS), "objective 'result': gives 3; accepted"),
        (lambda: each([]), "objectives: there are none"),
        (lambda: matches("a", MAPS * 0), "matches: activation 0 is zero all over"),
        (lambda: read(matches("a", MAPS), FLAT), r"matches: an activation of shape \(4, 5, 6\)"),
        (lambda: answers([0.5, 0.6]), "distribution: .* each summing to 1"),
        (lambda: answers([1.5, -0.5]), "distribution: .* each summing to 1"),
        (lambda: read(answers([1.0, 0.0], "a"), FLAT), "distribution: 2 shares do not go with"),
        (lambda: Canvas("waves"), "basis: 'waves' is not accepted; accepted: fourier, pixel"),
        (lambda: Canvas(bound="cube"), "bound: 'cube' is not accepted; accepted: sigmoid, box"),
        (lambda: Canvas(limits=(1, 0)), r"limits: \(1, 0\) are not accepted"),
        (lambda: Canvas(radius=0), "radius: 0 is not accepted; accepted: above 0"),
        (lambda: held_in(Canvas(colors=torch.eye(2)), (3, 4, 4)), r"colors: shape \(2, 2\)"),
        (lambda: held_in(Canvas(colors=torch.ones(3, 3)), (3, 4, 4)), "colors: variances .*none"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Any], message: str) -> None:
    """What does not fit is a ValueError that says what would."""
    with pytest.raises(ValueError, match=message):
        make()


def held_in(canvas: Canvas, shape: tuple[int, int, int]) -> Any:
    """Return a parametrization in double precision."""
    return parametrization(canvas, shape, CPU, torch.float64)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (3, 6, 9), (4, 1, 3)])
@pytest.mark.parametrize("basis", ["fourier", "pixel"])
@pytest.mark.parametrize("bound", ["sigmoid", "box", "none"])
def test_an_image_held_and_shown_is_the_same(shape: Any, basis: Any, bound: Any) -> None:
    """The image of what is held for an image is that image, up to the ends of a sigmoid."""
    easel = held_in(Canvas(basis, bound, limits=(-1.0, 3.0)), shape)
    images = -0.9 + 3.8 * draw(2, *shape)
    assert_close(easel.images(easel.held(images)), images, atol=1e-12, rtol=0)
    ends = torch.full((1, *shape), 3.0).double()
    kept = 4e-3 + 1e-9 if bound == "sigmoid" else 1e-12  # a thousandth of the range
    assert_close(easel.images(easel.held(ends)), ends, atol=kept, rtol=0)


def test_a_wave_of_twice_the_frequency_is_held_at_half_the_scale() -> None:
    """The Fourier basis scales by 1/f, and noise of variance 1 becomes an image of variance 1."""
    easel = held_in(Canvas(bound="none"), (1, 16, 16))
    assert float(frequencies(16, 16)[0, 8]) == 0.5
    assert_close(easel.scale[0, 2:5:2], easel.scale[0, 1:3] / 2)
    assert_close(easel.scale[0, 0], easel.scale[0, 1])
    for shape in ((1, 16, 16), (3, 9, 7)):
        easel = held_in(Canvas(bound="none"), shape)
        images = easel.images(easel.noise(2000, 1.0, torch.Generator().manual_seed(0)))
        assert images.var().item() == pytest.approx(1, abs=0.05)


def test_independent_colours_are_mixed_to_the_covariance_that_is_wanted() -> None:
    """Noise held in independent colours has, as an image, the covariance of colours given."""
    wanted = color_covariance(draw(5, 3, 6, 6) ** torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1))
    for colors, expected in ((wanted, wanted), ("auto", imagenet_covariance())):
        easel = held_in(Canvas("pixel", "none", colors=colors), (3, 8, 8))
        scaled = expected / expected.trace() * 3
        assert_close(easel.mixing @ easel.mixing.T, scaled, atol=1e-6, rtol=0)
        noise = easel.noise(400, 1.0, torch.Generator().manual_seed(0))
        assert_close(color_covariance(easel.images(noise)), scaled, atol=0.05, rtol=0)
    grey = torch.ones(3).double() / math.sqrt(3)
    covariance = imagenet_covariance()
    assert float(grey @ covariance @ grey) > 0.9 * float(covariance.trace())
    for canvas, num in ((Canvas(), 1), (Canvas(), 4), (Canvas(colors="none"), 3)):
        assert_close(held_in(canvas, (num, 4, 4)).mixing, torch.eye(num).double())


def test_images_are_the_nearest_within_bounds() -> None:
    """A box cuts values off, a ball shrinks what is outside, in either basis and with colours."""
    images = 3 * draw(2, 3, 4, 5) - 1
    images[1] *= 0.01
    for basis in ("fourier", "pixel"):
        box = held_in(Canvas(basis, "box"), (3, 4, 5))
        assert_close(box.images(box.held(images)), images.clamp(0, 1))
        ball = held_in(Canvas(basis, "ball", radius=2.0), (3, 4, 5))
        found = ball.images(ball.held(images))
        assert_close(found[0], 2 * images[0] / images[0].norm())
        assert_close(found[1], images[1])


def test_gradients_that_lead_out_of_a_bound_are_taken_away() -> None:
    """At the edge of a box or a ball only what leads outwards is taken from a gradient."""
    images = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]).double().reshape(1, 1, 1, 5)
    gradient = torch.tensor([-1.0, 2.0, 3.0, -4.0, 5.0]).double().reshape(1, 1, 1, 5)
    kept = torch.tensor([0.0, 2.0, 3.0, -4.0, 0.0]).double().reshape(1, 1, 1, 5)
    assert torch.equal(held_in(Canvas(bound="box"), (1, 1, 5)).allowed(images, gradient), kept)
    ball = held_in(Canvas(bound="ball"), (1, 1, 5))
    edge = images / images.norm()
    along = ball.allowed(edge, gradient)
    assert_close((along * edge).sum(), torch.tensor(0.0).double(), atol=1e-12, rtol=0)
    assert_close(along, gradient - (gradient * edge).sum() * edge)
    assert torch.equal(ball.allowed(edge, -gradient), -gradient)  # leads inwards
    assert torch.equal(ball.allowed(edge / 2, gradient), gradient)


def test_a_blur_keeps_flat_images_and_spreads_a_point_as_a_gaussian() -> None:
    """Blurring is the same in both bases; the spread of a point has the variance asked for."""
    point = torch.zeros(1, 1, 21, 21).double()
    point[..., 10, 10] = 1
    found = []
    for basis in ("fourier", "pixel"):
        easel = held_in(Canvas(basis, "none"), (1, 21, 21))
        flat = easel.held(torch.full((1, 1, 21, 21), 0.3).double())
        assert_close(easel.images(easel.blurred(flat, 2.0)), easel.images(flat))
        found.append(easel.images(easel.blurred(easel.held(point), 1.5)))
    assert_close(found[0], found[1])
    rows = found[0][0, 0].sum(dim=1)
    assert rows.sum().item() == pytest.approx(1)
    places = torch.arange(21) - 10
    assert (rows * places**2).sum().item() == pytest.approx(1.5**2, rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 28, 28), (1, 2, 5, 9)])
def test_transforms_keep_the_shape_and_follow_their_generator(shape: Any) -> None:
    """Whatever the size, the usual transforms keep it, and a generator makes them repeat."""
    images = draw(*shape)
    for transforms in (usual(28), usual(8), (Pad(12, 0.5), Jitter(8)), (Scale(0.8, 1.2),), ()):
        found = [robust(images, transforms, torch.Generator().manual_seed(3)) for _ in range(2)]
        assert found[0].shape == images.shape
        assert torch.equal(found[0], found[1])
    assert usual(3) == ()
    assert [usual(side)[1] for side in (8, 28, 224)] == [Jitter(1), Jitter(2), Jitter(8)]


def test_transforms_move_as_they_say() -> None:
    """Padding alone changes nothing, jitter rolls, turning by a right angle and enlarging fit."""
    images, generator = draw(1, 1, 7, 7), torch.Generator().manual_seed(0)
    assert torch.equal(robust(images, [Pad(3), Jitter(0)], generator), images)
    rolls = [images.roll((d, r), (2, 3)) for d in (-1, 0, 1) for r in (-1, 0, 1)]
    found = [Jitter(1)(images, generator) for _ in range(40)]
    assert {min(i for i, r in enumerate(rolls) if torch.equal(r, f)) for f in found} == set(
        range(9)
    )
    for transform in (Rotate(0), Scale(1, 1)):
        assert_close(transform(images, generator), images)
    with pytest.MonkeyPatch.context() as patch:
        between = "visualization.conv.maximisation.transforms._between"
        patch.setattr(between, lambda _low, high, _: high)
        assert_close(Rotate(90)(images, generator), images.rot90(1, (2, 3)))
        wide = draw(1, 1, 5, 9)
        assert_close(Rotate(180)(wide, generator), wide.rot90(2, (2, 3)))
        larger = Scale(1, 3)(torch.eye(3).double()[None, None], generator)
        assert_close(larger[0, 0, 1, 1], torch.tensor(1.0).double())
        assert float(larger.mean()) > 0.5


def test_transforms_can_be_differentiated() -> None:
    """A gradient comes through all usual transforms at once."""
    images = draw(2, 3, 28, 28).requires_grad_()
    robust(images, usual(28), torch.Generator().manual_seed(0)).pow(2).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().min(dim=0).values[:, 8:-8, 8:-8].min()) > 0


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
    redirection = Redirection(4, CPU)
    redirection.wanted[:] = torch.tensor([True, True, False, True])
    with redirection.over_a_pass():
        y = RELUS[spelling](x * 1)
    y.backward(above)
    plain = above * (x > 0)
    plain[1] = torch.tensor([4.0, 0, 6])
    assert x.grad is not None
    assert torch.equal(x.grad, plain)
    assert redirection.used.tolist() == [False, True, False, False]
    assert redirection.learn(torch.zeros(4, 2) + torch.tensor([[1.0], [1], [0], [1]])).tolist() == [
        False, True, True, False,
    ]  # fmt: skip
