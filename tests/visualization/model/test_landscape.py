"""The loss over parameters: exact on quadratics, and nothing left behind."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visualization.model.figures.landscape  # noqa: F401 - registers
from tests.helpers.images import Odd, odd, pictures, unchanged, words
from tests.helpers.landscapes import copied, linear
from visualization.model.landscape import (
    LandscapeLine,
    classification_loss,
    landscape_line,
    landscape_plane,
)
from visualization.model.parameter_space import (
    random_directions,
)
from visualization.render import caption, draw, png, text


def away(model: nn.Module) -> dict[str, Tensor]:
    """Return a state dict that differs, of which no variance is below 0."""
    state = copied(model, 0.3)
    return {name: v.abs() if "running_var" in name else v for name, v in state.items()}


def test_a_quadratic_loss_is_a_parabola_on_every_line() -> None:
    """Squared error of a linear model: all points lie on the parabola through three of them."""
    model, loss = linear()
    line = landscape_line(model, loss, copied(model), copied(model, 1.0), num=25, extend=0.25)
    assert len(line.alphas) == 25
    assert line.alphas[[0, -1]].tolist() == [-0.25, 1.25]
    three = [0, 12, 24]
    exact = np.polyval(np.polyfit(line.alphas[three], line.loss[three], 2), line.alphas)
    np.testing.assert_allclose(line.loss, exact, rtol=1e-12)
    assert np.ptp(line.loss) > 0.1
    assert line.barrier <= 1e-12  # a convex function never rises above its chord
    assert line.statistics == ""


def test_a_quadratic_loss_is_exact_on_a_plane() -> None:
    """At θ + x·d₁ + y·d₂ it is the squared error of just those parameters."""
    model, loss = linear()
    plane = landscape_plane(model, loss, span=2.0, num=5, seed=3)
    first, second = random_directions(model, 3)
    other, _ = linear()
    for row, column in np.ndindex(5, 5):
        x, y = plane.x[column], plane.y[row]
        other.load_state_dict(
            {n: v + x * first[n] + y * second[n] for n, v in model.state_dict().items()}
        )
        np.testing.assert_allclose(plane.loss[row, column], loss(other).item(), rtol=1e-12)
    assert plane.x.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]


def test_the_middle_is_the_model_itself() -> None:
    """α = 0, α = 1 and (0, 0) give the losses of the states themselves, to the last bit."""
    model = odd()
    loss = classification_loss(pictures(9), np.arange(9) % 3)
    a, b = copied(model), away(model)
    line = landscape_line(model, loss, a, b, num=4)
    assert len(line.alphas) == 6  # 0 and 1 are added
    for alpha, state in ((0.0, a), (1.0, b)):
        other = Odd().eval()
        other.load_state_dict(state)
        (at,) = np.flatnonzero(line.alphas == alpha)
        assert {name: values[at] for name, values in line.values.items()} == loss(other)
    plane = landscape_plane(model, loss, span=0.3, num=3)
    model.eval()
    assert plane.center == loss(model)
    assert {name: values[1, 1] for name, values in plane.values.items()} == plane.center


def test_a_plane_reaches_as_far_as_the_checkpoints() -> None:
    """Where the trajectory leaves the span the plane is a larger square that holds it."""
    model, loss = linear()
    far = {name: value + 5 for name, value in model.state_dict().items()}
    near = copied(model, 0.1)
    own = model.state_dict()
    directions = tuple({name: end[name] - own[name] for name in own} for end in (far, near))
    plane = landscape_plane(model, loss, 0.5, 4, directions=directions, trajectory=[far, near])
    assert plane.trajectory is not None
    np.testing.assert_allclose(plane.trajectory, [[1, 0], [0, 1]], atol=1e-9)
    assert plane.x[0] < -0.5
    assert plane.x[-1] > 1
    np.testing.assert_allclose(np.ptp(plane.x), np.ptp(plane.y))
    assert plane.minimum[0] in plane.x


def test_statistics_are_interpolated_or_taken_anew() -> None:
    """Buffers go from a's to b's and no further; or are those of the images at each point."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    images = pictures(6)
    seen: list[Tensor] = []

    def spy(held: nn.Module) -> float:
        seen.append(held[1].running_var.clone())
        return 0.0

    a, b = copied(model), away(model)
    line = landscape_line(model, spy, a, b, num=5, extend=0.5)
    assert line.statistics == "interpolated"
    ends = a["1.running_var"], b["1.running_var"]
    shares = [0.0, 0.0, 0.5, 1.0, 1.0]
    for found, share in zip(seen, shares, strict=True):
        torch.testing.assert_close(found, (1 - share) * ends[0] + share * ends[1])
    seen.clear()
    line = landscape_line(model, spy, a, b, num=2, extend=0, statistics=images)
    assert line.statistics == "recomputed"
    for found, state in zip(seen, (a, b), strict=True):
        maps = F.conv2d(images, state["0.weight"], state["0.bias"])
        torch.testing.assert_close(found, maps.var(dim=(0, 2, 3)))
    plane = landscape_plane(model, lambda held: float(held.training), num=2, statistics=images)
    assert not plane.loss.any()  # evaluated in evaluation mode
    assert landscape_plane(model, spy, num=2).statistics == "the model's own"


def test_the_barrier_is_the_rise_above_the_chord() -> None:
    """A hump of known height between two states is found, whatever lies beyond them."""
    model = nn.Linear(1, 1, bias=False)
    states = ({"weight": torch.zeros(1, 1)}, {"weight": torch.ones(1, 1)})

    def hump(held: nn.Module) -> Tensor:
        w = held.weight.squeeze()
        return w + 3 * torch.sin(torch.pi * w).clamp_min(0) + 100 * (w > 1.1)

    line = landscape_line(model, hump, *states, num=21, extend=0.5)
    assert line.barrier == pytest.approx(3, abs=1e-5)


def test_an_agents_own_loss_serves() -> None:
    """The model is changed in place, so that what holds it, such as an agent, sees each point."""
    model, loss = linear()
    holder = {"model": model}
    line = landscape_line(
        model, lambda _: loss(holder["model"]), copied(model), copied(model, 1.0), num=3, extend=0
    )
    assert line.loss[0] == loss(model).item()
    assert line.loss[2] != line.loss[0]


def test_classification_loss_is_cross_entropy_and_accuracy() -> None:
    """It is the mean over images, whatever the batch size."""
    model, labels = odd().eval(), torch.arange(10) % 3
    found = classification_loss(pictures(10), labels, batch_size=3)(model)
    logits = model(pictures(10)).detach()
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert list(found) == ["loss", "accuracy"]


def test_nothing_is_left_behind() -> None:
    """Parameters, statistics, modes, gradients, hooks and the generator, bit by bit, as before."""
    model = odd(3, torch.float64)
    loss = classification_loss(pictures(4, 3), [0, 1, 2, 0])
    images = pictures(4, 3)

    def breaks(held: nn.Module) -> float:
        if not torch.equal(held.stem.weight, own):
            raise RuntimeError
        return 0.0

    a, b, own = copied(model), away(model), model.stem.weight.detach().clone()
    momentum = model.norm.momentum
    with unchanged(model):
        landscape_line(model, loss, a, b, num=3)
        landscape_line(model, loss, a, b, num=3, statistics=images)
        landscape_plane(model, loss, num=3, trajectory=[a, b], statistics=images)
        with pytest.raises(RuntimeError):
            landscape_plane(model, breaks, num=3)
        with pytest.raises(RuntimeError):
            landscape_line(model, breaks, a, b, num=3)
        with pytest.raises(RuntimeError):
            landscape_line(model, loss, a, b, num=3, statistics=pictures(4, 2))
    assert model.norm.momentum == momentum


def test_tied_parameters_move_once() -> None:
    """Layers that share a parameter see the same point, and it is put back."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    state = {name: value + 1 for name, value in copied(model).items()}

    def moved(held: nn.Module) -> float:
        assert held[0].weight is held[1].weight
        return float(held[0].weight.sum())

    with unchanged(model):
        line = landscape_line(model, moved, copied(model), state, num=2, extend=0)
    np.testing.assert_allclose(np.diff(line.loss), 9, rtol=1e-5)


@pytest.mark.parametrize(
    ("problem", "wanted"),
    [
        ({"num": 1}, "num, extend: 1, 0.25 is not accepted"),
        ({"extend": -1}, "num, extend: 25, -1 is not accepted"),
        (
            {"state_a": {"bias": torch.zeros(3)}},
            "state_a: 'weight' is missing; accepted: a state",
        ),
        ({"state_b": {"c": 0}}, "state_b: 'weight' is missing, as is 1 more; accepted"),
        (
            {"loss": lambda _: torch.zeros(2)},
            r"loss: returns tensor\(\[0., 0.\]\); accepted: a n",
        ),
        ({"loss": lambda _: {}}, r"loss: returns \{\}; accepted: a number, or numbers by name"),
        ({"loss": lambda _: "low"}, "loss: returns 'low'; accepted"),
    ],
)
def test_mistakes_on_a_line_are_named(problem: dict[str, object], wanted: str) -> None:
    """Every wrong argument is an error that says what is accepted."""
    model, loss = linear()
    given = {"loss": loss, "state_a": copied(model), "state_b": copied(model), **problem}
    with pytest.raises(ValueError, match=wanted):
        landscape_line(model, **given)
    extra = {**copied(model), "more": torch.zeros(1)}
    with pytest.raises(ValueError, match="state_a: 'more' is not in the model; accepted"):
        landscape_line(model, loss, extra, copied(model))
    other = {**copied(model), "bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"state_b: 'bias' of shape \(4,\) is not accepted; acc"):
        landscape_line(model, loss, copied(model), other)


@pytest.mark.parametrize(
    ("problem", "wanted"),
    [
        ({"num": 1}, "num, span: 1, 1.0 is not accepted"),
        ({"span": 0}, "num, span: 21, 0 is not accepted"),
        ({"directions": ({"bias": torch.ones(3)},)}, "directions: 1 are not accepted; accepted: t"),
        ({"directions": ({"bais": torch.ones(3)},) * 2}, "'bais' is not a p.*did you mean 'bias'"),
        ({"directions": ({"bias": torch.ones(3)},) * 2}, "one is a multiple of the other"),
        ({"directions": ({"bias": torch.zeros(3)},) * 2}, "directions: one is 0 throughout"),
        ({"directions": ({"bias": torch.ones(2)},) * 2}, r"'bias' of shape \(2,\) is not accepted"),
        ({"trajectory": [{"bias": torch.ones(3)}]}, "trajectory: 'weight' is missing .1 of 2 par"),
    ],
)
def test_mistakes_on_a_plane_are_named(problem: dict[str, object], wanted: str) -> None:
    """Every wrong argument is an error that says what is accepted."""
    model, loss = linear()
    with pytest.raises(ValueError, match=wanted):
        landscape_plane(model, loss, **problem)


def test_other_mistakes_are_named() -> None:
    """Labels that do not fit are an error."""
    with pytest.raises(ValueError, match=r"labels: shape \(2,\) does not go with 3 images; accept"):
        classification_loss(pictures(3), [0, 1])


def test_lines_and_planes_have_pictures_texts_and_captions() -> None:
    """They are drawn without a warning, checkpoints named and minimum marked, and told in words."""
    model = odd()
    loss = classification_loss(pictures(9), np.arange(9) % 3)
    a, b = copied(model), away(model)
    line = landscape_line(model, loss, a, b, num=5, names=("early", "late"))
    plane = landscape_plane(model, loss, num=5, trajectory=[b, a])
    for record, wanted in ((line, "early"), (plane, "least loss")):
        figure = draw(record)
        assert png(figure, 40).startswith(b"\x89PNG")
        assert wanted in words(figure)
        assert caption(record)
        assert "accuracy" in text(record)
    assert "BatchNorm's statistics: interpolated" in text(line)
    assert draw(plane).axes[0].get_aspect() == 1
    assert "off the plane" in text(plane)


@pytest.mark.parametrize("values", ["constant", "broken"])
def test_flat_and_broken_landscapes_are_drawn(values: str) -> None:
    """A loss that never changes, or is NaN or inf at places, is drawn without a warning."""
    model, _ = linear()
    numbers = iter([1.0, 1.0, np.nan, np.inf, *[2.0] * 20] if values == "broken" else [1.0] * 30)
    plane = landscape_plane(model, lambda _: next(numbers), num=3)
    assert png(draw(plane), 40)
    numbers = iter([1.0, np.nan, 1.0, 50.0] if values == "broken" else [1.0] * 30)
    line: LandscapeLine = landscape_line(
        model, lambda _: next(numbers), copied(model), copied(model, 1), num=4, extend=0
    )
    assert png(draw(line), 40)
    assert text(line)
    assert text(plane)
