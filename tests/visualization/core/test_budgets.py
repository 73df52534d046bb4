"""Time and memory are bounded by default, what takes long tells how far it is; narrow images."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import assert_close, linear, pictures
from visualization import conv
from visualization.attribution import masking, methods
from visualization.core.targets import resolve_batch_size
from visualization.model import budget
from visualization.perturbation import minimal
from visualization.render import draw


class Counts(nn.Module):
    """A mean over places, and a list of how many images ran in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []
        self.body = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 2)."""
        self.passes.append(len(x))
        return self.body(x).relu().mean((2, 3))


@pytest.mark.parametrize(
    ("shape", "graph", "wanted"),
    [((3, 224, 224), False, 27), ((3, 224, 224), True, 6), ((1, 28, 28), False, 83),
     ((1, 8, 8), False, 256), ((1, 28, 28), True, 64), ((3, 4000, 4000), False, 1)],
)  # fmt: skip
def test_as_many_images_run_at_once_as_the_budget_is_for(
    shape: tuple[int, ...], graph: bool, wanted: int
) -> None:
    """Large images run in small batches, small ones in batches of a usual size."""
    images = torch.zeros(1).expand(5, *shape)
    assert resolve_batch_size(None, images, graph=graph) == wanted
    assert resolve_batch_size(17, images, graph=graph) == 17
    with pytest.raises(ValueError, match="batch_size: 0 is not accepted; accepted: 1 or more"):
        resolve_batch_size(0, images)


def test_attributions_hand_their_batch_size_to_every_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No pass of any method has more images than were allowed, and nothing else changes."""
    monkeypatch.setattr(methods, "_NUMBERS_MASKED", 0)
    model, x = Counts(), pictures(3, 1, 6).float()

    def own(model: nn.Module, images: Tensor, target: Any) -> Tensor:
        return conv.saliency(model, images, target)

    found = conv.attributions(model, x, 1, batch_size=2)
    assert max(model.passes) == 2
    whole = conv.attributions(model, x, 1)
    assert max(model.passes) > 2
    for name, maps in whole.maps.items():
        np.testing.assert_allclose(found.maps[name], maps, rtol=1e-4, atol=1e-6, err_msg=name)
    assert set(conv.attributions(model, x, 1, methods={"own": own}, batch_size=2).maps) == {"own"}


def test_masks_of_rise_grow_fewer_as_images_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name RISE has from 100 to 1,000 masks, by how many numbers an image has."""
    numbers: list[int] = []

    def count(_: Any, images: Tensor, *args: Any, num_masks: int, **options: Any) -> Tensor:
        numbers.append(num_masks)
        return torch.zeros(len(images), *images.shape[2:])

    monkeypatch.setattr(methods, "rise", count)
    for shape in ((1, 28, 28), (3, 224, 224), (3, 1000, 1000)):
        methods.METHODS["rise"](nn.Identity(), torch.zeros(1).expand(1, *shape))
    assert numbers == [1000, 445, 100]


def test_attributions_tell_which_method_begins() -> None:
    """Progress is told in a few words, once for each method."""
    told: list[str] = []
    model, x = Counts(), pictures(1, 1, 6).float()
    conv.attributions(model, x, 1, methods=["saliency", "grad_cam"], progress=told.append)
    assert told == ["saliency, method 1 of 2", "grad_cam, method 2 of 2"]


def test_a_minimal_patch_of_a_large_field_has_larger_squares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default squares are as small as the budget lets them be, and how many are left is told."""
    model, image, told = Counts(), torch.rand(1, 9, 9), []
    with torch.no_grad():
        model.body.bias.fill_(1.0)
    assert conv.minimal_patch(model, None, (1,), image).block == 1
    monkeypatch.setattr(minimal, "_MAX_NUMBERS_TRIED", 6 * 81 * 10)  # 9 squares, not 25
    found = conv.minimal_patch(model, None, (1,), image, progress=told.append)
    assert found.block == 3
    assert told[0] == "9 of 9 squares left"
    assert conv.unit_pattern(model, None, (1,), image).patch.block == 3
    assert conv.minimal_patch(model, None, (1,), image, block=2).block == 2


def test_a_minimal_patch_takes_few_passes() -> None:
    """Squares that are not missed go many at once: far fewer than 12 images for each square."""
    model, image = Counts(), torch.zeros(1, 16, 16)
    with torch.no_grad():
        model.body.weight.fill_(1.0)
        model.body.bias.zero_()
    image[:, 3:6, 3:6] = 1
    found = conv.minimal_patch(model, None, (1,), image, 1.0)
    np.testing.assert_array_equal(found.mask, image[0] > 0)
    assert sum(model.passes) < 6 * 256


def test_a_plane_has_as_many_points_as_the_budget_is_for() -> None:
    """A loss over much has fewer points by default, one over little 21; each point is told."""
    sides = [budget.points_per_axis(numbers) for numbers in (0, 400, 400 * 28 * 28, 2**40)]
    assert sides == [21, 21, 13, 11]
    model, told = linear(1, 6)[0].float(), []
    x = pictures(2, 1, 6).float()
    loss = conv.classification_loss(x, [0, 1])
    plane = conv.landscape_plane(model, loss, num=2, progress=told.append)
    assert told == [f"point {number} of 4" for number in range(1, 5)]
    assert plane.loss.shape == (2, 2)
    with budget.count_inputs(model) as given:
        model(x)
    assert given == [72]
    assert conv.landscape_plane(model, lambda _: 1.0).loss.shape == (21, 21)


def test_images_of_one_column_have_usual_windows_and_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single number for a window or a grid is cut to the shorter side of the image."""
    monkeypatch.setattr(methods, "_NUMBERS_MASKED", 0)
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(40, 2)), torch.rand(2, 1, 40, 1)
    assert_close(conv.occlusion_map(model, x, 1), conv.occlusion_map(model, x, 1, window=(3, 1)))
    few = functools.partial(conv.rise, model, x, 1, num_masks=20)
    assert_close(few(), few(grid=(7, 1)))
    assert conv.occlude(model, None, (1,), x[0]).window == (3, 1)
    assert masking.size_pair(3, "window", (1, 40)) == (1, 3)
    assert conv.rise(linear()[0], pictures(1, 2, 4), 1, num_masks=4).shape == (1, 4, 4)
    with pytest.raises(ValueError, match="window: 41 is not accepted; accepted: 1 to 40 rows"):
        conv.occlusion_map(model, x, 1, window=41)
    found = conv.attributions(model, x, 1, methods=["saliency", "occlusion", "rise"])
    square = conv.attributions(linear()[0], pictures(1, 2, 4), 1, methods=["saliency"])
    for record, height in ((found, 4.0), (square, 1.0)):  # times as high as wide
        for image in draw(record).axes[0].images:
            left, right, bottom, top = image.get_extent()
            assert (bottom - top) / (right - left) == pytest.approx(height)
