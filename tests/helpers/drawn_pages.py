"""Drawn pages of handwriting-like lines, of which it is known where they are."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

X_HEIGHT = 12  # pixels of small letters; the others are twice as high, or hang down as much


class DrawnPage(NamedTuple):
    """A page (H, W), the boxes of its lines (n, 4), and their baselines."""

    grey: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    baselines: list[NDArray[np.float64]]


def drawn_page(
    height: int = 420, width: int = 640, num: int = 8, left: int = 40, right: int = 600,
    slope: float = 0.0, bend: float = 0.0, distance: int = 40, seed: int = 0,
) -> DrawnPage:  # fmt: skip
    """Draw lines of strokes: `slope` down for each pixel to the right, `bend` pixels in the middle.

    Letters are small, high or hanging, each of two strokes; words are three to seven letters.
    """
    rng = np.random.default_rng(seed)
    grey = np.full((height, width), 225, np.uint8)
    boxes, baselines = [], []
    x = np.arange(left, right)
    for number in range(num):
        first = 60 + number * distance - slope * (right - left) / 2
        y = first + slope * (x - left) + bend * np.sin(np.pi * (x - left) / (right - left))
        at, top, bottom = left, height, 0
        while at < right - 9:
            for _ in range(rng.integers(3, 8)):
                if at >= right - 9:
                    break
                up, down = ((1, 0), (2, 0), (1, 1))[rng.choice(3, p=[0.6, 0.25, 0.15])]
                base = round(y[at - left])
                begin, end = base - up * X_HEIGHT, base + down * X_HEIGHT // 2
                for stroke in (0, 5):
                    tall = base - X_HEIGHT if stroke else begin
                    grey[
                        max(tall, 0) : end if stroke == 0 else base, at + stroke : at + stroke + 2
                    ] = 50
                grey[base - 2 : base, at : at + 7] = 50
                top, bottom, at = min(top, begin), max(bottom, end), at + 9
            at += 9
        boxes.append([left, top, right, bottom])
        baselines.append(np.column_stack([x, y - 0.5]))
    return DrawnPage(grey, np.array(boxes, float), baselines)


def shaded(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a page that is lit from the left, and has a dark corner."""
    rows, columns = np.mgrid[0 : 1 : grey.shape[0] * 1j, 0 : 1 : grey.shape[1] * 1j]
    light = 1 - 0.5 * columns - 0.25 * rows * columns
    return np.rint(grey * light).astype(np.uint8)


def turned(grey: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    """Return a page whose lines sink to the right by an angle in degrees."""
    image = Image.fromarray(grey).rotate(-angle, Image.Resampling.BILINEAR, True, fillcolor=225)
    return np.asarray(image)


def saved(path: Path, grey: NDArray[np.uint8], **settings: Any) -> Path:
    """Write a page as an image."""
    Image.fromarray(grey).save(path, **settings)
    return path
