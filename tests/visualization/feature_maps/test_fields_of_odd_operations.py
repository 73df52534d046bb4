"""Fields behind operations that no rule knows, that write in place, or that a value steers."""

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from tests.helpers.small_models import Does, chain, conv, unchanged
from visualization.feature_maps.fields.geometry import field_boxes
from visualization.feature_maps.fields.patches import top_patches
from visualization.feature_maps.fields.receptive import receptive_field, receptive_fields
from visualization.model.cost import cost
from visualization.perturbation.paste import transplant_field
from visualization.perturbation.pattern import occlude


def partial(x: Tensor, inner: nn.Module, *after: nn.Module) -> Tensor:
    """Return maps of which the first two are convolved, in place."""
    maps = x.clone()
    maps[:, :2] = inner(maps[:, :2])
    return nn.Sequential(*after)(maps)


def folded(x: Tensor) -> Tensor:
    """Return twice the image, taken apart and put together again."""
    return 2 * F.fold(F.unfold(x, 2, stride=2), list(x.shape[2:]), 2, stride=2)


def gated(x: Tensor, inner: nn.Module) -> Tensor:
    """Return a ReLU of which autograd does not see the comparison."""
    y = inner(x)
    return torch.where(y.detach() > 0, y, torch.zeros(()))


ODD: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], tuple[int, int]]] = {
    "circular": (lambda: conv(3, 2, 3, padding=1, padding_mode="circular"), (3, 3), (1, 1)),
    "circular, strided": (
        lambda: conv(3, 2, 4, stride=2, padding=1, padding_mode="circular"), (4, 4), (2, 2)
    ),
    "shuffled": (lambda: chain(conv(3, 4, 3, padding=1), nn.ChannelShuffle(2)), (3, 3), (1, 1)),
    "folded": (lambda: Does(folded), (1, 1), (1, 1)),
    "slices in place": (
        lambda: Does(partial, conv(2, 2, 3, padding=1), conv(3, 3, 3, stride=3)), (5, 5), (3, 3)
    ),
    "compared, circular": (
        lambda: Does(gated, conv(3, 2, 5, padding=2, padding_mode="circular")), (5, 5), (1, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_patches_are_as_large_as_what_units_see(name: str) -> None:
    """Hulls and patches have the size of the exact set, however the operation is written."""
    make, size, stride = ODD[name]
    torch.manual_seed(0)
    model, images = chain(make()), torch.rand(2, 3, 12, 12)
    found = field_boxes(model, "0", (3, 12, 12))
    assert (found.size, found.stride) == (size, stride)
    top = top_patches(
        model, "0", images, k=4, per_image=None, min_distance="field", threshold=-math.inf
    )
    assert top.patches.shape[-2:] == size
    assert (top.image >= 0).all()  # room for two of an image
    channel, row, column = int(top.channels[0]), int(top.row[0, 0]), int(top.column[0, 0])
    pixels = receptive_field(model, "0", (channel, row, column), (3, 12, 12)).pixels
    seen = images[int(top.image[0, 0])].numpy()[:, pixels]
    shown = top.patches[0, 0][:, top.inside[0, 0]]
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.sort(shown, axis=1))


def test_a_ring_has_no_ends() -> None:
    """Round a border a hull is counted on, and a patch shows what is at the other side."""
    layer = conv(1, 1, 3, padding=1, padding_mode="circular")
    nn.init.ones_(layer.weight)
    model = chain(layer)
    found = field_boxes(model, "0", (1, 6, 8))
    assert found.row_first.tolist() == [-1, 0, 1, 2, 3, 4]
    assert found.column_last.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    image = torch.zeros(1, 1, 6, 8)
    image[..., 0, 7] = image[..., 5, 0] = 1
    top = top_patches(model, "0", image, k=1, threshold=-math.inf)
    assert top.patches[0, 0].sum() == 2
    assert top.inside.all()


def test_a_unit_is_moved_with_its_field_round_a_ring() -> None:
    """In a network with circular padding the unit that is asked moves as the field does."""
    torch.manual_seed(0)
    model = chain(conv(1, 2, 3, padding=1, padding_mode="circular"), nn.ReLU())
    source, target = torch.rand(2, 1, 20, 20)
    found = transplant_field(model, "1", (0, 9, 9), source, target, offset=(5, 5))
    assert found.target_unit == (0, 14, 14)
    assert found.exact
    assert found.composite_activation == pytest.approx(found.source_activation)


def test_networks_that_can_only_run_forward() -> None:
    """Where a slice is assigned in place, field, occlusion and paste are as without."""
    torch.manual_seed(0)
    inner = conv(2, 2, 3, padding=1)
    in_place = chain(Does(partial, inner))
    plain = chain(Does(lambda x, c: torch.cat([c(x[:, :2]), x[:, 2:]], 1), inner))
    images = torch.rand(2, 3, 9, 9)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        in_place(images.requires_grad_()).sum().backward()
    images = images.detach()
    with unchanged(in_place):
        for unit in ((0, 4, 5), (1, 0, 8), (2, 3, 3)):
            found, wanted = (receptive_field(m, "0", unit, (3, 9, 9)) for m in (in_place, plain))
            np.testing.assert_array_equal(found.mask, wanted.mask)
            drops = [occlude(m, "0", unit, images[0]).drop for m in (in_place, plain)]
            np.testing.assert_allclose(*drops, atol=1e-6)
            pasted = [transplant_field(m, "0", unit, *images) for m in (in_place, plain)]
            assert pasted[0].composite_activation == pytest.approx(pasted[1].composite_activation)
        fields = receptive_fields(in_place, "0", 1, images[0], -math.inf)
    assert fields.mask[:2].all()
    assert not fields.mask[2].any()


def picked(x: Tensor) -> Tensor:
    """Return for each image the places of row 0 in order, with axes to index by."""
    return x[:, 0, 0].argsort(1)


def each(call: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what is made of each image (1, 3, W) and of the places that its row 0 says."""
    return lambda x: torch.stack([call(y, y[0, 0].argsort()) for y in x])[:, None, None]


POINTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "gather": lambda x: x[:, :, 1].gather(2, x[:, :, 0].argmax(2, keepdim=True))[:, :, None],
    "take along": lambda x: x[:, :, 1:2].take_along_dim(x[:, :, :1].argmin(3, keepdim=True), 3),
    "rounded": lambda x: x[:, :, 1].gather(
        2, (5 * torch.sigmoid(x[:, :, 0].mean(2, keepdim=True))).round().long()
    )[:, :, None],
    "index": lambda x: x[:, 0, 1][torch.arange(len(x))[:, None], picked(x)][:, None, None],
    "index select": each(lambda y, at: y[0, 1].index_select(0, at)),
    "take": each(lambda y, at: y[0, 1].take(at)),
    "embedding": each(lambda y, at: F.embedding(at, y[0, 1:2].T)[:, 0]),
    "scatter": lambda x: torch.zeros(len(x), 1, 6).scatter(
        2, x[:, :, 0].argsort(2), x[:, :, 1]
    )[:, :, None],
    "index put": each(lambda y, at: torch.zeros(6).index_put((at,), y[0, 1])),
    "grid sample": lambda x: F.grid_sample(
        x[:, :, 1:2], F.pad(x[:, :, :1].mean(3).tanh()[..., None], (0, 1)), align_corners=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POINTERS)
def test_where_a_value_says_which_place_is_read(name: str) -> None:
    """The row of numbers that choose and the row that is chosen from are in the field, whole."""
    found = receptive_field(Does(POINTERS[name]), None, (0, 0, 0), (1, 3, 6))
    assert found.mask[0].astype(int).tolist() == [[1] * 6, [1] * 6, [0] * 6]


def test_an_index_that_no_value_chooses_is_exact() -> None:
    """Places that are the same for every image are read, and no others."""
    found = receptive_field(Does(lambda x: x[:, :, [2, 0]]), None, (0, 1, 3), (1, 3, 6))
    assert np.argwhere(found.mask).tolist() == [[0, 0, 3]]


class Deformed(nn.Module):
    """A convolution whose pixels lie where another says."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(1, 18, 3, padding=1)
        self.inner = DeformConv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same size."""
        return self.inner(x, self.offsets(x))


def test_a_deformable_convolution_may_read_everywhere() -> None:
    """The field of a unit is the image, since offsets have no bound."""
    assert receptive_field(Deformed(), None, (0, 3, 3), (1, 7, 7)).mask.all()


@pytest.mark.parametrize("leave", [
    lambda x: torch.from_numpy(x.detach().numpy()), lambda x: torch.tensor(x.tolist()),
    lambda x: x.data,
])  # fmt: skip
def test_numbers_that_leave_the_graph_are_followed(leave: Callable[[Tensor], Tensor]) -> None:
    """What comes back from NumPy, from a list or without a graph depends on the image still."""
    model = Does(lambda x: x[:, :, :1] + leave(x)[:, :, 2:])
    found = receptive_field(model, None, (0, 0, 1), (1, 3, 4))
    assert np.argwhere(found.mask).tolist() == [[0, 0, 1], [0, 2, 1]]


def test_looking_does_not_import_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields, patches and costs leave torch's compiler alone, whose import takes seconds."""
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    model = chain(conv(1, 1, 3))
    assert receptive_field(model, "0", (0, 1, 1), (1, 6, 6)).num_numbers == 9
    assert top_patches(model, "0", torch.rand(2, 1, 6, 6)).num_images == 2
    assert cost(model, torch.rand(1, 1, 6, 6)).multiply_adds == 9 * 16
    assert "torch._dynamo" not in sys.modules


@pytest.mark.parametrize("size", [96, 192, 384])
def test_a_field_costs_no_more_in_a_larger_image(size: int) -> None:
    """The model runs on the part that the unit sees, not on the image; the field is the same."""
    torch.manual_seed(0)
    sizes = []

    def watched(x: Tensor, *layers: nn.Module) -> Tensor:
        if not x.is_meta:
            sizes.append(tuple(x.shape[2:]))
        return nn.Sequential(*layers)(x)

    layers = (
        conv(1, 2, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), conv(2, 2, 3, padding=1),
    )  # fmt: skip
    found = receptive_field(Does(watched, *layers), None, (1, 9, 11), (1, size, size))
    assert found.num_numbers == 15 * 15
    assert (found.bounding_box.rows, found.bounding_box.columns) == ((29, 43), (37, 51))
    assert sizes
    assert max(max(each) for each in sizes) < 24


def test_part_of_an_image_shows_what_the_whole_shows() -> None:
    """At borders and inside, with strides, holes and joined ways, a field is the gradient's."""
    torch.manual_seed(0)
    ways = (
        chain(conv(2, 2, 3, stride=2, dilation=2, padding=1), conv(2, 2, 3, stride=3)),
        chain(nn.AvgPool2d(3, 3), conv(2, 2, 2, stride=2, padding=1)),
    )
    model = Does(lambda x, a, b: a(x)[..., :9, :9] + b(x)[..., :9, :9], *ways).double()
    for unit in ((0, 0, 0), (1, 2, 3), (0, 8, 8), (1, 0, 8)):
        image = torch.randn(1, 2, 60, 60, dtype=torch.float64).requires_grad_()
        (gradient,) = torch.autograd.grad(model(image)[(0, *unit)], image)
        found = receptive_field(model, None, unit, (2, 60, 60))
        np.testing.assert_array_equal(found.mask, gradient[0] != 0)
