"""Make figures and pictures of the page on made images: `MNIST=FOLDER python docs/synthesis.py`.

They are of the first classifier of docs/convolutional.py, which trains it (its part `train`). A
part is named to make it alone. FOLDER is the same as there.
"""

import functools
import os
import sys
from collections.abc import Callable

import numpy as np
from convolutional import MNIST, ROOT, agent, layer, save

from visualization import conv, render


def fooling() -> None:
    """Draw fooling images from noise and scans for each class; print those from empty pages."""
    held = agent()
    batch = held.task.samples("test", 200)
    fool = functools.partial(conv.fooling_images, held.model, classes=held.task.spec.labels)
    digits = range(10)
    shape = tuple(batch.image.shape[1:])
    first = [int(np.flatnonzero(batch.label[:, 0] == digit)[0]) for digit in digits]
    save("fooling_noise", fool(digits, start="noise", input_shape=shape))
    for start in ("blank", np.zeros((1, *shape), np.float32)):
        print(render.text(fool(digits, start=start, input_shape=shape)))
    save("fooling_images", fool([(digit + 1) % 10 for digit in digits], start=batch.image[first]))


def penalties() -> None:
    """Draw class images without and with penalties, five times as strong from row to row."""
    held = agent()
    record = conv.compare_penalties(
        held.model, range(10), reference=held.task.samples("test", 1000).image,
        strengths=(0.2, 1.0), class_names=held.task.spec.labels,
    )  # fmt: skip
    save("penalties", record, 66)


def atlas() -> None:
    """Draw atlases of two layers, and one with neither whitening nor the cosine."""
    held = agent()
    batch = held.task.samples("test", 500)
    draw = functools.partial(
        conv.activation_atlas, held.model, images=batch.image, labels=batch.label[:, 0],
        classes=held.task.spec.labels, steps=64,
    )  # fmt: skip
    save("atlas", draw(layer=layer(3), grid=7, least=4))
    save("atlas_middle", draw(layer=layer(2), grid=7, least=4))
    plain = draw(layer=layer(3), grid=4, least=5, whiten=False, power=0.0)
    save("atlas_unwhitened", plain, 66)


PARTS: dict[str, Callable[[], None]] = {
    "fooling": fooling, "penalties": penalties, "atlas": atlas,
}  # fmt: skip


def main(parts: list[str]) -> None:
    """Make the parts that are named, or all."""
    if MNIST is None:
        print("MNIST=FOLDER names no scans: the pictures are left as they are")
        return
    os.chdir(ROOT)
    for name in parts or PARTS:
        print(f"## {name}", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
