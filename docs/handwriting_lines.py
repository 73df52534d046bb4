"""Draw lines as they are cut out of pages: `python docs/handwriting_lines.py FOLDER`.

FOLDER has images of pages with PAGE XML or ALTO, as the task page_xml reads them.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import tasks

PICTURE = Path(__file__).parent / "pictures" / "cut_lines.png"
NUM, HEIGHT, WIDTH, GAP = 6, 48, 900, 6  # lines, and their size in pixels


def main(folder: str) -> None:
    """Write the picture."""
    task = tasks.make("page_xml", path=folder, height=HEIGHT)
    batch = task.samples("test", NUM)
    sheet = np.zeros((NUM * (HEIGHT + GAP), WIDTH))
    for row, image in enumerate(batch.image[:, 0, :, :WIDTH]):
        top = row * (HEIGHT + GAP)
        sheet[top : top + HEIGHT, : image.shape[1]] = image
    pixels = Image.fromarray(np.rint(255 * (1 - sheet)).astype(np.uint8))
    pixels.quantize(16).save(PICTURE, optimize=True)
    print(*(row.target for row in task.rows(task.targets(batch), batch)), sep="\n")
    print(f"{PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
