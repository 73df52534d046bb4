"""What edits of images and of maps do to maps and answers, against nets worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.small_models import BrokenError, breaking, drawn, plain, residual, untouched
from visualization.core.inputs import activation
from visualization.core.registry import caption, draw, png, text
from visualization.perturbation.figures import edits  # noqa: F401 - registers its pictures
from visualization.perturbation.perturbations import perturb
from visualization.perturbation.response import ablate_channels, compare_response, forward_from

LAYERS = ["stem", "norm", "relu", "relu@1", "inner", "down", "head"]


def own_output(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Return what a layer outputs in evaluation mode, and leave the modes as they were."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        output = activation(model.eval(), images.clone(), layer)
    for module, mode in modes.items():
        module.training = mode
    return output


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's output in evaluation mode, and leave the modes as they were."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        output = model.eval()(images.clone())
    for module, mode in modes.items():
        module.training = mode
    return output


class Shortcut(nn.Module):
    """A block x + inner(x), and a read-out that adds up all there is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return sums (B, 1)."""
        held = self.inner(images)
        held += images
        return held.sum((2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layer", LAYERS)
def test_running_on_from_a_layers_own_output_changes_nothing(
    layer: str, channels: int, dtype: torch.dtype
) -> None:
    """The answers are those of the plain model to the bit, from whichever layer and call."""
    model = residual(channels, dtype=dtype)
    images = drawn(5, channels, 8, 8, dtype=dtype)
    found = forward_from(model, layer, own_output(model, layer, images), images)
    assert torch.equal(found, answers(model, images))
    assert not found.requires_grad


def test_running_on_from_zeros_leaves_what_is_left_by_hand() -> None:
    """With all channels at 0 the bias of what follows remains, with one at 0 the other's part."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 3))
    image = drawn(1, 2, 2)
    maps = own_output(model, "0", image[None])
    assert torch.equal(
        forward_from(model, "0", torch.zeros(2, 2, 2), image)[0], model[2].bias.detach()
    )
    half = maps.clone()
    half[:, 0] = 0
    wanted = maps[0, 1].flatten() @ model[2].weight.detach()[:, 4:].T + model[2].bias.detach()
    torch.testing.assert_close(forward_from(model, "0", half, image)[0], wanted)
    switched_off = ablate_channels(model, "0", image, [0]).answers
    np.testing.assert_allclose(switched_off.after, wanted, atol=1e-6)
    np.testing.assert_allclose(switched_off.before, answers(model, image[None])[0])
    doubled = ablate_channels(model, "0", image, [0, 1], scale=2, shift=1).answers.after
    torch.testing.assert_close(torch.as_tensor(doubled), answers(model[1:], 2 * maps + 1)[0])


def test_a_shortcut_keeps_its_say() -> None:
    """Round a replaced block the image itself goes on: 0 leaves its sum, 1 adds one a pixel."""
    torch.manual_seed(0)
    model, images = Shortcut(), drawn(3, 1, 4, 4)
    sums = images.sum((1, 2, 3))[:, None]
    torch.testing.assert_close(forward_from(model, "inner", torch.zeros(1, 4, 4), images), sums)
    torch.testing.assert_close(forward_from(model, "inner", torch.ones(1, 4, 4), images), sums + 16)


def test_what_is_given_is_not_changed_by_what_follows_in_place() -> None:
    """The model works on a copy, where it goes on in place: the activation stays as it was."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True))
    given, image = -torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    assert forward_from(model, "0", given, image).eq(0).all()
    assert given.eq(-1).all()
    assert image.eq(1).all()


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_one_image_goes_with_many_activations_and_the_other_way(batch_size: int) -> None:
    """Rows come out as they do one by one, in whichever batches they run."""
    model, images = residual(dtype=torch.float64), drawn(7, 1, 8, 8, dtype=torch.float64)
    maps = own_output(model, "relu@1", images.flip(0)) + 0.1
    many_maps = forward_from(model, "relu@1", maps, images[0], batch_size=batch_size)
    many_images = forward_from(model, "stem", maps[0], images, batch_size=batch_size)
    assert many_maps.shape == many_images.shape == (7, 3)
    for number in range(7):
        alone = forward_from(model, "relu@1", maps[number], images[0])
        torch.testing.assert_close(many_maps[number], alone[0])
        other = forward_from(model, "stem", maps[0], images[number])
        torch.testing.assert_close(many_images[number], other[0])


def test_only_the_chosen_call_is_replaced() -> None:
    """`relu` is the first call and `relu@1` the second, which drowns whatever was before it."""
    model, image = residual(), drawn(1, 8, 8)
    silent = torch.zeros(4, 8, 8)
    at_first, at_second = (
        forward_from(model, layer, silent, image) for layer in ("relu", "relu@1")
    )
    assert torch.equal(at_first, forward_from(model, "relu@0", silent, image))
    assert not torch.equal(at_first, at_second)
    assert torch.equal(at_second, forward_from(model, "relu@1", silent, drawn(1, 8, 8, seed=9)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layer", ["relu@1", "down", None])
def test_a_response_is_the_difference_of_two_runs(layer: str | None, channels: int) -> None:
    """Maps, differences, changes and answers are those of the image and the edited image."""
    model, image = residual(channels), drawn(channels, 8, 8)
    found = compare_response(model, layer, image, ("blur", 1.5))
    edited = perturb("blur", image, 1.5)
    np.testing.assert_array_equal(found.modified, edited)
    before, after = (plain(model, each[None], layer, (slice(None),))[0] for each in (image, edited))
    shape = (len(before), *((1, 1) if layer is None else before.shape[1:]))
    order = list(found.channels)
    np.testing.assert_array_equal(found.before, before.view(shape)[order])
    np.testing.assert_array_equal(found.after, after.view(shape)[order])
    np.testing.assert_array_equal(found.difference, found.after - found.before)
    changes = (after - before).view(shape).abs().mean((1, 2))
    np.testing.assert_allclose(found.changes, changes)
    assert sorted(order) == list(range(len(before)))
    assert (np.diff(found.changes[order]) <= 0).all()
    assert found.answers is not None
    np.testing.assert_array_equal(found.answers.before, answers(model, image[None])[0])
    np.testing.assert_array_equal(found.answers.after, answers(model, edited[None])[0])
    for each, logits in zip(found.answers.probabilities, (image, edited), strict=True):
        np.testing.assert_allclose(each, answers(model, logits[None])[0].softmax(0), rtol=1e-5)


def test_an_edit_is_a_perturbation_a_function_or_an_image() -> None:
    """The same edit in each of the three forms gives the same response; none gives none."""
    model, image = residual(), drawn(1, 8, 8)
    ways: list[Any] = [
        ("contrast", 0.5), lambda images: perturb("contrast", images, 0.5),
        perturb("contrast", image, 0.5), perturb("contrast", image, 0.5).numpy(),
    ]  # fmt: skip
    found = [compare_response(model, "inner", image, way) for way in ways]
    for other in found[1:]:
        np.testing.assert_array_equal(other.after, found[0].after)
    assert [each.edit for each in found] == ["contrast 0.5 (factor)", *["edited"] * 3]
    nothing = compare_response(model, "inner", image, image.clone())
    assert not nothing.difference.any()
    assert nothing.channels == (0, 1, 2, 3)


def test_a_function_that_draws_repeats_by_the_seed() -> None:
    """An augmentation that uses torch's generator is the same for the same seed."""
    model, image = residual(), drawn(1, 8, 8)

    def noisy(images: Tensor) -> Tensor:
        return images + torch.randn_like(images)

    first, again, other = (
        compare_response(model, "inner", image, noisy, seed=seed).modified for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_chosen_channels_come_in_their_order() -> None:
    """Channels that are asked for are the rows, in that order; changes are told of all."""
    model, image = residual(), drawn(1, 8, 8)
    found = compare_response(model, "inner", image, ("noise", 1.0), [3, 0])
    whole = compare_response(model, "inner", image, ("noise", 1.0))
    assert found.channels == (3, 0)
    assert found.changes.shape == (4,)
    np.testing.assert_array_equal(found.before[1], whole.before[whole.channels.index(0)])


class Pair(nn.Module):
    """A model that answers with two things."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps twice."""
        held = self.stem(images)
        return held, held


def test_maps_can_be_compared_where_the_model_has_no_single_answer() -> None:
    """A model that outputs a tuple, or maps, has a response and a picture all the same."""
    torch.manual_seed(0)
    several = compare_response(Pair(), "stem", drawn(1, 8, 8), ("noise", 1.0))
    assert several.answers is None
    maps = compare_response(nn.Conv2d(1, 2, 3), None, drawn(1, 8, 8), ("noise", 1.0))
    assert maps.answers is not None
    assert not maps.answers.are_classes
    for found in (several, maps):
        assert len(png(draw(found), dpi=40)) > 1000
        assert "class" not in text(found)


CALLS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "compare_response": lambda model, image: compare_response(
        model, "relu@1", image, lambda images: images + torch.randn_like(images)
    ),
    "forward_from": lambda model, image: forward_from(model, "relu", torch.zeros(4, 8, 8), image),
    "ablate_channels": lambda model, image: ablate_channels(model, "relu@1", image, [1]),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_looking_changes_nothing(name: str) -> None:
    """Weights, modes, gradients, hooks and generators are as before, also after a failure."""
    model, image = residual(3), drawn(3, 8, 8)
    kept = image.clone()
    with untouched(model):
        CALLS[name](model, image)
    for passes in (0, 1):
        with breaking(model, passes), untouched(model), pytest.raises(BrokenError):
            CALLS[name](model, image)
    assert torch.equal(image, kept)


def test_mistakes_are_named() -> None:
    """Layers, channels, shapes and edits that do not fit are refused with what is accepted."""
    model, image = residual(), drawn(1, 8, 8)
    with pytest.raises(ValueError, match=r"'inners' is not a layer .* did you mean 'inner'\?"):
        compare_response(model, "inners", image, ("blur", 1))
    with pytest.raises(ValueError, match=r"perturbation: 'blr' .* did you mean 'blur'\?"):
        compare_response(model, "inner", image, ("blr", 1))
    edit: Any
    for edit in ("blur", ("blur",)):
        with pytest.raises(ValueError, match=r"edit: .*blur.* accepted: a name with its strength"):
            compare_response(model, "inner", image, edit)
    with pytest.raises(ValueError, match=r"edit: shape \(1, 4, 4\) is not accepted; .* \(1, 8, 8"):
        compare_response(model, "inner", image, lambda images: images[:, :, ::2, ::2])
    with pytest.raises(ValueError, match=r"edit: has NaN or inf"):
        compare_response(model, "inner", image, image / 0)
    with pytest.raises(ValueError, match=r"channels: channel 4 does not exist; accepted: 0 to 3"):
        compare_response(model, "inner", image, ("blur", 1), [4])
    with pytest.raises(ValueError, match=r"channels: \[\] is not accepted; accepted: one or more"):
        ablate_channels(model, "inner", image, [])
    with pytest.raises(ValueError, match=r"activation: shape \(4, 8, 7\) is not what 'inner' out"):
        forward_from(model, "inner", torch.zeros(4, 8, 7), image)
    with pytest.raises(ValueError, match=r"activation: 2 do not go with 3 images; accepted: 1, or"):
        forward_from(model, "inner", torch.zeros(2, 4, 8, 8), drawn(3, 1, 8, 8))
    with pytest.raises(ValueError, match=r"layer: 'relu@2' was not called while the model ran"):
        forward_from(model, "relu@2", torch.zeros(4, 8, 8), image)
    with pytest.raises(ValueError, match=r"layer: 'relu@2' was not called while the model ran"):
        compare_response(model, "relu@2", image, ("blur", 1))
    with pytest.raises(ValueError, match="batch_size: 0 is not accepted; accepted: 1 or more"):
        forward_from(model, "inner", torch.zeros(4, 8, 8), image, batch_size=0)
    sequence = nn.Sequential(nn.Flatten(2), nn.Linear(64, 3))
    with pytest.raises(ValueError, match=r"layer: '1' outputs the shape \(1, 1, 3\); accepted: \("):
        compare_response(sequence, "1", image, ("blur", 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layer", ["relu@1", "inner", None])
def test_each_record_has_a_picture_and_a_caption(layer: str | None, channels: int) -> None:
    """Maps and vectors, of grey and coloured images, can be drawn; text tells the answers."""
    model, image = residual(channels), drawn(channels, 8, 8)
    found = compare_response(model, layer, image, ("erase", 4))
    changed = ablate_channels(model, layer or "down", image, [0, 2], scale=1, shift=-2)
    for record in (found, changed):
        assert len(png(draw(record), dpi=40)) > 1000
        assert caption(record).endswith(".")
        assert len(text(record).splitlines()) >= 5
    assert text(changed).startswith(f"{layer or 'down'}, channel 0, 2: × 1 − 2")
    off = ablate_channels(model, layer or "down", image, [1])
    assert text(off).splitlines()[0].endswith("channel 1: switched off")
