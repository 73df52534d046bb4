"""Cut and paste: what a unit sees, put elsewhere, excites the unit there as much, to the bit."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.small_models import BrokenError, breaking, drawn, plain, residual, untouched
from visualization.core.registry import caption, draw, png, text
from visualization.feature_maps.fields.receptive import receptive_field
from visualization.perturbation.figures import edits  # noqa: F401 - registers its pictures
from visualization.perturbation.paste import FieldTransplant, crop, paste_onto, transplant_field


class Strided(nn.Module):
    """Branches, a pool and strides without padding: the units of `last` lie 4 pixels apart."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, 4, (1, 5), padding=(0, 2))
        self.tall = nn.Conv2d(channels, 4, (5, 1), padding=(2, 0))
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(4, 5, 3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, 5, h, w)."""
        return self.last(self.pool((self.wide(images) + self.tall(images)).relu_()))


def strided(channels: int = 3) -> Strided:
    """Return the net with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Strided(channels)


def ones(padding: int = 1) -> nn.Sequential:
    """Return a net that adds up the pixels of 3×3."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=padding, bias=False))
    nn.init.ones_(model[0].weight)
    return model


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    """Return two images."""
    return drawn(*shape, seed=3), drawn(*shape, seed=4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("region", [None, "hull"])
def test_a_whole_field_at_an_aligned_place_is_bit_equal(region: str | None, channels: int) -> None:
    """Of any unit within, moved by any multiple of the stride, the activation stays to the bit."""
    source, target = pair(channels, 20, 24)
    rng = np.random.default_rng(0)
    for model, layer, stride, units in (
        (residual(channels), "relu@1", 1, range(2, 18)),
        (residual(channels), "down", 2, range(1, 9)),
        (strided(channels), "last", 4, range(1, 3)),
    ):
        changed = 0
        for channel in range(3):
            own, place = (tuple(rng.choice(units, 2).tolist()) for _ in range(2))
            offset = (stride * (place[0] - own[0]), stride * (place[1] - own[1]))
            unit = (channel, *own)
            found = transplant_field(
                model, layer, unit, source, target, region=region, offset=offset
            )
            assert found.target_unit == (channel, *place)
            assert found.stride == (stride, stride)
            assert found.exact
            assert found.is_equal
            assert found.num_lost == 0
            composite = torch.as_tensor(found.composite)[None]
            assert found.source_activation == float(plain(model, source[None], layer, unit))
            assert found.target_activation == float(
                plain(model, target[None], layer, found.target_unit)
            )
            assert found.composite_activation == float(
                plain(model, composite, layer, found.target_unit)
            )
            changed += found.target_activation != found.composite_activation
        assert changed


@pytest.mark.parametrize("channels", [1, 3])
def test_what_lies_outside_the_field_does_nothing(channels: int) -> None:
    """100 added to every pixel outside a unit's field leaves its activation alone, to the bit."""
    image = drawn(channels, 20, 24)
    for model, layer, unit in (
        (residual(channels), "relu@1", (3, 0, 5)),
        (residual(channels), "down", (2, 4, 7)),
        (strided(channels), "last", (1, 1, 2)),
    ):
        mask = torch.as_tensor(receptive_field(model, layer, unit, (channels, 20, 24)).mask)
        louder = torch.where(mask, image, image + 100)
        found = transplant_field(model, layer, unit, image, louder)
        assert not torch.equal(louder, image)
        assert found.target_activation == found.source_activation == found.composite_activation
        assert found.exact


def test_the_composite_is_the_target_with_exactly_the_field_in_it() -> None:
    """Of a dilated layer nine single pixels are copied, or, as its hull, the square around them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2))
    source, target = pair(1, 12, 12)
    for region, step in ((None, 2), ("bounding_box", 1)):
        found = transplant_field(model, "0", (0, 1, 2), source, target, (5, 4), region)
        wanted = target.clone()
        wanted[:, 5:10:step, 4:9:step] = source[:, 1:6:step, 2:7:step]
        np.testing.assert_array_equal(found.composite, wanted)
        assert found.offset == (4, 2)
        assert found.target_unit == (0, 5, 4)
        assert found.copied.sum() == found.pasted.sum() == (9 if step == 2 else 25)
        assert found.is_equal
    np.testing.assert_array_equal(found.source, source)
    np.testing.assert_array_equal(found.target, target)


def test_an_odd_move_between_strides_is_not_exact() -> None:
    """Off the stride the nearest unit is asked, it sees the field askew, and the record says so."""
    source, target = pair(3, 20, 24)
    model = strided()
    found = transplant_field(model, "last", (0, 1, 1), source, target, offset=(3, 5))
    assert not found.exact
    assert not found.is_equal
    assert found.target_unit == (0, 2, 2)
    assert found.composite_activation != found.target_activation
    assert "does not see just the same" in text(found)


def test_fields_that_reach_beyond_the_border_are_told_apart() -> None:
    """Along the border all is the same; away from it padding is missed, towards it pixels are."""
    model, image = ones(), torch.ones(1, 8, 8)
    along = transplant_field(model, "0", (0, 0, 2), image, image * 2, offset=(0, 3))
    assert (along.exact, along.is_equal, along.composite_activation, along.num_lost) == (
        True,
        True,
        6,
        3,
    )
    assert along.boxes[0].rows == (-1, 1)
    away = transplant_field(model, "0", (0, 0, 2), image, image * 2, offset=(3, 0))
    assert (
        away.exact,
        away.source_activation,
        away.composite_activation,
        away.target_activation,
    ) == (False, 6, 12, 18)
    towards = transplant_field(model, "0", (0, 4, 4), image, image * 2, offset=(3, 0))
    assert (towards.exact, towards.source_activation, towards.composite_activation) == (False, 9, 6)
    assert (towards.num_lost, towards.target_unit) == (3, (0, 7, 4))
    assert "3 pixels of it lie beyond a border" in text(towards)
    corner = transplant_field(model, "0", (0, 4, 4), image, image * 2, offset=(30, -30))
    assert (corner.exact, corner.target_unit, corner.num_lost) == (False, (0, 7, 0), 9)
    assert corner.target_activation == corner.composite_activation == 8
    assert not corner.pasted.any()


def test_no_border_makes_unequal_what_is_called_exact() -> None:
    """For every unit and many moves, also over borders: exact is never claimed in vain."""
    model = residual()
    source, target = pair(1, 10, 10)
    rng = np.random.default_rng(1)
    claims = {True: 0, False: 0}
    for _ in range(50):
        unit = tuple(rng.integers(0, (4, 10, 10)).tolist())
        offset = tuple(rng.choice([-2, 0, 0, 1, 3], 2).tolist())
        found = transplant_field(model, "inner", unit, source, target, offset=offset)
        claims[found.exact] += 1
        assert found.is_equal or not found.exact
    assert min(claims.values()) > 10


def test_a_target_of_another_size_is_taken() -> None:
    """The field lands in a smaller image; what it sees is the same, and maps keep their sizes."""
    model = residual(3)
    source, target = drawn(3, 20, 24), drawn(3, 10, 9, seed=8)
    found = transplant_field(model, "down", (1, 6, 7), source, target, offset=(-8, -10))
    assert found.target_unit == (1, 2, 2)
    assert found.exact
    assert found.composite_activation == pytest.approx(found.source_activation, rel=1e-6)
    assert [each.shape for each in found.maps] == [(10, 12), (5, 4), (5, 4)]
    assert len(png(draw(found), dpi=40)) > 1000


def test_part_of_a_field_is_not_the_field() -> None:
    """A region that leaves out a pixel of the field is no exact copy; a larger one is."""
    model = residual()
    source, target = pair(1, 12, 12)
    mask = receptive_field(model, "inner", (2, 5, 5), (1, 12, 12)).mask
    assert transplant_field(model, "inner", (2, 5, 5), source, target, region=mask).is_equal
    larger = transplant_field(model, "inner", (2, 5, 5), source, target, region=((2, 9), (3, 8)))
    assert larger.exact
    assert larger.is_equal
    part = mask.copy()
    part[0, 5, 5] = False
    for region in (part, part[0], ((4, 9), (3, 8))):
        found = transplant_field(model, "inner", (2, 5, 5), source, target, region=region)
        assert not found.exact
        assert not found.is_equal
        assert found.target_unit == found.unit


def test_a_reused_layer_is_asked_at_the_call_that_is_meant() -> None:
    """`relu@1` is the second call; its field is larger than that of the first."""
    source, target = pair(1, 12, 12)
    first, second = (
        transplant_field(residual(), layer, (0, 5, 5), source, target, offset=(1, 1))
        for layer in ("relu", "relu@1")
    )
    assert first.pasted.sum() == 9
    assert second.pasted.sum() == 25
    assert first.exact
    assert second.exact


def test_cut_and_put_need_no_unit() -> None:
    """A rectangle lands where it is put, or where it lay; borders cut it, and that is counted."""
    source, target = pair(2, 6, 7)
    piece = crop(source, (1, 3), (5, 8))
    np.testing.assert_array_equal(piece.pixels, source[:, 1:4, 5:7])
    assert (piece.origin, piece.num_lost) == ((1, 5), 6)
    stayed = paste_onto(piece, target)
    wanted = target.clone()
    wanted[:, 1:4, 5:7] = source[:, 1:4, 5:7]
    np.testing.assert_array_equal(stayed.image, wanted)
    assert stayed.num_lost == 0
    moved = paste_onto(piece, target, (-1, 0))
    wanted = target.clone()
    wanted[:, 0:2, 0:2] = source[:, 2:4, 5:7]
    np.testing.assert_array_equal(moved.image, wanted)
    assert moved.num_lost == 2
    assert moved.mask.sum() == 8
    for record in (piece, moved):
        assert len(png(draw(record), dpi=40)) > 1000
        assert caption(record).endswith(".")


def test_looking_changes_nothing() -> None:
    """Weights, modes, gradients, hooks and generators are as before, also after a failure."""
    model = residual(3)
    source, target = pair(3, 8, 8)
    kept = source.clone(), target.clone()
    with untouched(model):
        transplant_field(model, "relu@1", (0, 3, 3), source, target, offset=(1, 0))
    for passes in range(4):
        with breaking(model, passes), untouched(model), pytest.raises(BrokenError):
            transplant_field(model, "relu@1", (0, 3, 3), source, target, offset=(1, 0))
    assert torch.equal(source, kept[0])
    assert torch.equal(target, kept[1])


def test_mistakes_are_named() -> None:
    """Places, regions and images that do not fit are refused with what is accepted."""
    model = residual()
    source, target = pair(1, 8, 8)
    unit = (0, 3, 3)
    with pytest.raises(ValueError, match=r"unit: \(1,\) lies at no place of a map; accepted: \(ch"):
        transplant_field(model, None, (1,), source, target)
    with pytest.raises(ValueError, match="unit: row 8 does not exist; accepted: 0 to 7"):
        transplant_field(model, "inner", (0, 8, 0), source, target)
    with pytest.raises(ValueError, match="source: 2 images are not accepted; accepted: one"):
        transplant_field(model, "inner", unit, drawn(2, 1, 8, 8), target)
    with pytest.raises(ValueError, match=r"offset: \(1, 1\) was given beside position \(2, 2\)"):
        transplant_field(model, "inner", unit, source, target, (2, 2), offset=(1, 1))
    with pytest.raises(ValueError, match="region: 'box' is not accepted; accepted: bounding_box"):
        transplant_field(model, "inner", unit, source, target, region="box")
    with pytest.raises(ValueError, match=r"region: torch.bool of shape \(3, 3\) is not accepted"):
        transplant_field(model, "inner", unit, source, target, region=np.ones((3, 3), bool))
    with pytest.raises(ValueError, match=r"rows: 3, 2 is not accepted; accepted: first and last"):
        transplant_field(model, "inner", unit, source, target, region=((3, 2), (0, 1)))
    with pytest.raises(ValueError, match=r"columns: 8, 9 is not accepted; .* that meet 0 to 7"):
        crop(source, (0, 1), (8, 9))
    with pytest.raises(ValueError, match=r"target: 3 channels do not go with the 1 of what is"):
        paste_onto(crop(source, (0, 1), (0, 1)), drawn(3, 8, 8))
    with pytest.raises(ValueError, match=r"image: shape \(8, 8\) is not accepted; accepted: \(C"):
        crop(source[0], (0, 1), (0, 1))


@pytest.mark.parametrize("layer", ["relu@1", "inner"])
def test_a_paste_has_a_picture_and_a_caption(layer: str) -> None:
    """Maps with and without negative numbers can be drawn, over borders too; text says the same."""
    source, target = pair(3, 8, 8)
    found: FieldTransplant = transplant_field(
        residual(3), layer, (1, 0, 3), source, target, offset=(6, -5)
    )
    assert len(png(draw(found), dpi=40)) > 1000
    assert caption(found).endswith(".")
    assert "moved 6 down, 5 left" in text(found)
