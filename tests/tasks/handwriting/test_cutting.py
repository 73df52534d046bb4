"""Cutting lines out of pages."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.handwriting.cutting import clipped, cut_lines, frame_of, is_empty, straightened
from tasks.handwriting.page_format import TextLine

HEIGHT, WIDTH = 300, 600


def curve(kind: str) -> NDArray[np.float64]:
    """Return a baseline."""
    x = np.linspace(60, 540, 25)
    y = {
        "straight": 150 + 0 * x,
        "slanted": 150 + (x - 300) * 0.25,
        "bent": 130 + ((x - 300) / 240) ** 2 * 60,
        "wave": 150 + 25 * np.sin(x / 90),
    }[kind]
    return np.column_stack([x, y])


def page_of(
    baseline: NDArray[np.float64], offset: float = 12
) -> tuple[NDArray[np.uint8], TextLine]:
    """Return a page with a stroke of 5 pixels above a baseline, and the line around it."""
    pixels = np.full((HEIGHT, WIDTH), 230, np.uint8)
    dense = np.linspace(baseline[0, 0], baseline[-1, 0], 2000)
    slope = np.gradient(np.interp(dense, *baseline.T), dense)
    length = np.hypot(1, slope)
    x = dense + offset * slope / length
    y = np.interp(dense, *baseline.T) - offset / length
    for step in range(-2, 3):
        pixels[np.rint(y).astype(int) + step, np.rint(x).astype(int)] = 40
    above, below = baseline - np.array([0, 30]), baseline + np.array([0, 12])
    return pixels, TextLine("a", np.concatenate([above, below[::-1]]), baseline, "stroke")


@pytest.mark.parametrize("kind", ["straight", "slanted", "bent", "wave"])
def test_a_bent_line_becomes_straight(kind: str) -> None:
    """A stroke that follows the baseline lies in one row of the cut line, from end to end."""
    pixels, line = page_of(curve(kind))
    (image,) = cut_lines(pixels, [line], 48)
    ink = image[:, 10:-10].astype(float)
    assert (ink.max(axis=0) > 150).all()
    centre = (ink * np.arange(48)[:, None]).sum(axis=0) / ink.sum(axis=0)
    assert centre.std() < 1.0
    assert np.ptp(centre) < 5


@pytest.mark.parametrize("kind", ["straight", "slanted", "bent", "wave"])
def test_places_in_a_cut_line_are_brought_back_to_the_page(kind: str) -> None:
    """Of dots along a bent line, each that is seen in the cut line is where it is on the page."""
    baseline = curve(kind)
    pixels, line = page_of(baseline)
    pixels[:] = 230
    places = np.linspace(90, 510, 8)
    dots = np.column_stack([places, np.interp(places, *baseline.T) - 12])
    for x, y in np.rint(dots).astype(int):
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 20
    (image,), (own,) = cut_lines(pixels, [line], 48), straightened([line], 48)
    assert image.shape == (48, own.width)
    columns = np.flatnonzero((image > 100).any(axis=0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 3) + 1)
    assert len(groups) == 8
    for dot, group in zip(dots, groups, strict=True):
        rows = np.flatnonzero((image[:, group] > 100).any(axis=1))
        middle = [(group[0] + group[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2]
        np.testing.assert_allclose(own.to_page(np.array([middle]))[0], dot, atol=1.0)
        polygon = own.box_to_page([group[0] - 2, rows[0] - 2, group[-1] + 3, rows[-1] + 3])
        assert (polygon.min(axis=0) < dot).all()
        assert (polygon.max(axis=0) > dot).all()


def test_a_box_as_long_as_a_line_follows_its_curve() -> None:
    """The polygon of the whole cut line has its sides parallel to the baseline, bent as it is."""
    line = page_of(curve("bent"))[1]
    (own,) = straightened([line], 48)
    polygon = own.box_to_page([0, 0, own.width, 48])
    upper = polygon[: len(polygon) // 2]
    lower = polygon[len(polygon) // 2 :][::-1]
    np.testing.assert_allclose(np.hypot(*(upper - lower).T), own.num_rows, rtol=1e-6)
    baseline = np.interp(upper[2:-2, 0], *line.baseline.T)
    assert ((baseline - upper[2:-2, 1]) > 0.8 * own.above).all()
    assert np.ptp(upper[:, 1]) > 40


def test_a_line_is_as_long_as_its_baseline() -> None:
    """The cut line has its own aspect ratio, and ends where its polygon does."""
    pixels, line = page_of(curve("straight"))
    (image,) = cut_lines(pixels, [line], 46)
    assert image.shape[1] == pytest.approx(481 * 46 / (1.1 * 42 + 4), abs=12)
    (again,) = cut_lines(pixels, [line], 23)
    assert again.shape[1] == pytest.approx(image.shape[1] / 2, abs=1)


def test_neighbours_are_paper() -> None:
    """Ink outside of the polygon is not in the line."""
    pixels, line = page_of(curve("straight"))
    alone = cut_lines(pixels, [line], 48)[0]
    pixels[150 + 12 + 6 : 150 + 30] = 0
    pixels[90:110] = 0
    np.testing.assert_allclose(cut_lines(pixels, [line], 48)[0], alone, atol=40)


def test_uneven_light_makes_no_difference() -> None:
    """A shadow across the page leaves paper white and ink black."""
    pixels, line = page_of(curve("straight"))
    light = np.linspace(1, 0.4, WIDTH)
    image = cut_lines((pixels * light).astype(np.uint8), [line], 48)[0]
    assert image[:, 20:-20].max(axis=0).min() > 200
    assert image[40:, 20:-20].max() < 30


def test_a_line_without_baseline_is_cut_by_its_polygon() -> None:
    """A polygon alone gives a straight line along its middle, at any slant."""
    for kind in ("straight", "slanted"):
        pixels, line = page_of(curve(kind))
        (image,) = cut_lines(pixels, [TextLine("a", line.polygon, np.zeros((0, 2)), "")], 48)
        rows = image[:, 15:-15].argmax(axis=0)
        assert np.ptp(rows) <= 4


def test_a_baseline_drawn_from_right_to_left_is_turned() -> None:
    """The line reads from left to right, whichever end of its baseline was drawn first."""
    pixels, line = page_of(curve("bent"))
    pixels[:, :200] = 230
    turned = TextLine("a", line.polygon, line.baseline[::-1].copy(), "")
    np.testing.assert_array_equal(*(cut_lines(pixels, [one], 32)[0] for one in (line, turned)))


def test_lines_of_a_page_have_one_scale() -> None:
    """A line with a polygon twice as high as the others does not become smaller."""
    pixels, line = page_of(curve("straight"))
    high = TextLine("b", line.polygon - np.repeat([[0, 30], [0, 0]], 25, axis=0), line.baseline, "")
    assert [x.shape for x in cut_lines(pixels, [line, line, high], 32)] == [
        cut_lines(pixels, [line], 32)[0].shape
    ] * 3


@pytest.mark.parametrize(
    "points", [[], [[5, 5]], [[5, 5], [9, 9]], [[5, 5], [5, 5], [5, 5]], [[0, 0], [50, 0], [90, 1]]]
)
def test_polygons_without_inside_are_empty(points: list[list[float]]) -> None:
    """Fewer than three corners, or no area, is no polygon; a small box is one."""
    assert is_empty(np.array(points, float).reshape(-1, 2))
    assert not is_empty(np.array([[5, 5], [15, 5], [15, 15], [5, 15]]))


def test_odd_baselines_are_cut() -> None:
    """Points that coincide, go back, or stand upright give a line, and no error."""
    pixels, line = page_of(curve("straight"))
    for points in (
        [[60, 150], [60, 150]], [[60, 150], [60, 150], [540, 150]],
        [[60, 150], [300, 150], [250, 150], [540, 150]], [[300, 250], [300, 50]],
    ):  # fmt: skip
        odd = TextLine("a", line.polygon, np.array(points, float), "")
        (image,) = cut_lines(pixels, [odd], 32)
        assert image.shape[0] == 32
        assert np.isfinite(frame_of(odd).points).all()


def test_points_outside_are_clipped_and_said() -> None:
    """Points are moved into the image; a pixel beyond its border is not worth a word."""
    inside, is_outside = clipped(np.array([[-50.0, 5], [700, 400]]), HEIGHT, WIDTH)
    assert inside.tolist() == [[0, 5], [WIDTH - 1, HEIGHT - 1]]
    assert is_outside
    assert not clipped(np.array([[0.0, 0], [WIDTH, HEIGHT]]), HEIGHT, WIDTH)[1]
