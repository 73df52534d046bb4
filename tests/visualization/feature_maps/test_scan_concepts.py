"""Masks made from scans: strokes, edges, ends, junctions, holes, ink and skeletons."""

import numpy as np
import pytest
import torch

from visualization.feature_maps.scan_concepts import CONCEPTS, scan_concepts, skeletonize


def drawn(*rows: str) -> np.ndarray:
    """Return a scan from lines of text: # is ink."""
    return np.array([[float(character == "#") for character in row] for row in rows])


def named(scan: np.ndarray) -> dict[str, np.ndarray]:
    """Return the masks of one scan by name."""
    found = scan_concepts(scan)
    return dict(zip(found.names, found.masks[0], strict=True))


def thick(rows: slice, columns: slice, size: int = 15) -> np.ndarray:
    """Return a scan with a filled box."""
    scan = np.zeros((size, size))
    scan[rows, columns] = 1
    return scan


def test_strokes_have_the_direction_they_were_drawn_in() -> None:
    """The inside of a bar upright, level, rising or falling is that stroke, and no other."""
    rising = np.zeros((15, 15))
    for at in range(2, 13):
        rising[14 - at, at - 1 : at + 2] = 1
    bars = {
        "vertical stroke": thick(slice(2, 13), slice(6, 9)),
        "horizontal stroke": thick(slice(6, 9), slice(2, 13)),
        "rising stroke": rising,
        "falling stroke": rising[:, ::-1],
    }
    for name, scan in bars.items():
        found = named(scan)
        inside = np.zeros((15, 15), bool)
        inside[5:10, 5:10] = scan[5:10, 5:10] > 0
        for other in bars:
            assert (found[other][inside] == (other == name)).all(), (name, other)
        assert not any((found[other] & (scan == 0)).any() for other in bars)


def test_edges_face_their_side() -> None:
    """The middle of each side of a square is its edge and no other, and lies at that side."""
    found = named(thick(slice(4, 11), slice(4, 11)))
    middles = {
        "left edge": (7, 4), "right edge": (7, 10), "upper edge": (4, 7), "lower edge": (10, 7),
    }  # fmt: skip
    for name in middles:
        assert {other for other, place in middles.items() if found[name][place]} == {name}
        assert not found[name][6:9, 6:9].any()
    assert not found["left edge"][:, 7:].any()
    assert not found["right edge"][:, :8].any()
    assert not found["upper edge"][7:].any()
    assert not found["lower edge"][:8].any()


def test_ends_junctions_and_holes() -> None:
    """A line has two ends, a T three and a junction, a ring none but a hole; a gap lets it out."""
    line = named(drawn(".......", ".......", ".#####.", ".......", "......."))
    assert line["stroke end"][2, [1, 5]].all()
    assert not line["stroke end"][2, 3]
    assert not line["junction"].any()
    tee = named(drawn(
        ".........", ".#######.", "....#....", "....#....", "....#....", "....#....", "....#....",
        ".........",
    ))  # fmt: skip
    assert tee["stroke end"][[1, 1, 6], [1, 7, 4]].all()
    assert tee["junction"][1, 4] or tee["junction"][2, 4]
    assert not tee["junction"][[1, 1, 6], [1, 7, 4]].any()
    ring = drawn(".......", ".#####.", ".#...#.", ".#...#.", ".#####.", ".......")
    found = named(ring)
    assert found["hole"].sum() == 6
    assert found["hole"][2:4, 2:5].all()
    assert not found["stroke end"].any()
    assert not found["junction"].any()
    ring[3, 5] = 0
    assert not named(ring)["hole"].any()
    corners = named(drawn(".....", "..#..", ".#.#.", "..#..", "....."))
    assert corners["hole"].sum() == 1


def test_halves_and_ink() -> None:
    """Ink is what is bright enough; each of its pixels is in one half."""
    scan = np.linspace(0, 1, 48).reshape(8, 6)
    found = named(scan)
    np.testing.assert_array_equal(found["ink"], scan >= 0.5)
    np.testing.assert_array_equal(found["upper half"] | found["lower half"], found["ink"])
    assert not found["upper half"][4:].any()
    assert not found["lower half"][:4].any()
    assert scan_concepts(scan, ink=0.9).masks[0, 0].sum() == (scan >= 0.9).sum()


def test_skeletons() -> None:
    """Thinning leaves lines as they are, makes bars one pixel wide, and keeps rings closed."""
    line = drawn("......", ".####.", "......").astype(bool)
    np.testing.assert_array_equal(skeletonize(line[None])[0], line)
    bar = skeletonize(thick(slice(2, 13), slice(6, 9)).astype(bool)[None])[0]
    assert bar.sum(axis=1).max() == 1
    assert bar.sum() >= 8
    assert bar[:, 7].sum() == bar.sum()
    ring = thick(slice(2, 13), slice(2, 13)).astype(bool)
    ring[5:10, 5:10] = False
    bones = skeletonize(ring[None])[0]
    from scipy.ndimage import binary_fill_holes, label

    assert label(bones, np.ones((3, 3)))[1] == 1
    assert (binary_fill_holes(bones) & ~bones).sum() >= 25


def test_scans_are_labelled_one_by_one() -> None:
    """A scan has the same masks alone and among others, as tensor, array or single image."""
    rng = np.random.default_rng(0)
    scans = rng.random((6, 1, 9, 8)).astype(np.float32)
    found = scan_concepts(scans)
    assert found.names == CONCEPTS
    assert found.masks.shape == (6, len(CONCEPTS), 9, 8)
    assert found.masks.any(axis=(0, 2, 3)).all()
    for number in range(6):
        np.testing.assert_array_equal(scan_concepts(scans[number, 0]).masks[0], found.masks[number])
    np.testing.assert_array_equal(scan_concepts(torch.tensor(scans[:, 0])).masks, found.masks)
    blank = scan_concepts(np.zeros((2, 5, 5)))
    assert not blank.masks.any()
    assert scan_concepts(np.ones((1, 5, 5))).masks[0, 0].all()
    with pytest.raises(ValueError, match=r"images: shape \(6, 3, 9, 8\) .* \(scans, 1, height"):
        scan_concepts(scans.repeat(3, axis=1))
    with pytest.raises(ValueError, match=r"images: values from -1.0 to 1.0 .* 0, paper, to 1"):
        scan_concepts(np.array([[-1.0, 1.0]]))
    with pytest.raises(ValueError, match="ink: 0 is not accepted; accepted: above 0, up to 1"):
        scan_concepts(scans, ink=0)
