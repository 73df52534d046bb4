"""Drawings of the live page as files: exact numbers, with a picture of them beside."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from visualization.core.errors import argument_error
from visualization.core.pixels import image_colors, png_bytes

FOLDER = "drawings"  # within a run folder
_SUFFIX = ".safetensors"


def save_drawing(
    folder: Path, image: NDArray[np.float32], low: float, high: float, is_ink: bool
) -> Path:
    """Save an image (C, H, W) under the next free number in a folder; return the file's path.

    Beside `drawing-0001.safetensors`, which has its numbers, is `drawing-0001.png` to look at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / f"drawing-{number:04d}{_SUFFIX}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            number += 1
    save_file({"image": np.ascontiguousarray(image, np.float32)}, path)
    shown = low + high - image if is_ink else image
    path.with_suffix(".png").write_bytes(png_bytes(image_colors(shown, (low, high))))
    return path


def load_drawing(path: str | Path) -> NDArray[np.float32]:
    """Load a drawing that the live page saved: an image (C, H, W), as `agent.predict` takes it.

    Raises:
        ValueError: the file is not such a drawing.
    """
    accepted = f"a file drawing-….{_SUFFIX[1:]} that the live page saved"
    try:
        image: NDArray[np.float32] = load_file(path)["image"]
    except Exception as error:  # a missing file, another format, another name
        raise argument_error("path", f"{path}: {error}", accepted) from None
    return image
