"""The worst errors: which lines and pages they are, their pictures, and where texts differ."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tasks.core.task import Task
from tasks.handwriting.boxes import Boxes, BoxTask, PageBoxes, box_iou, sure

_HIT = 0.5  # overlap from which on a box is right
_RIGHT, _FOUND = (30, 140, 60), (200, 40, 40)  # colours of boxes


@attrs.frozen(kw_only=True)
class Error:
    """An error: a line or page by name, its picture (PNG, base64), what it says, what was read.

    `num` is the number of edits, or of boxes that are missing or too many.
    """

    name: str
    num: int
    right: str
    read: str
    picture: str = attrs.field(repr=False)


def worst_lines(
    task: Task, batches: Sequence[Any], read: Sequence[str], right: Sequence[str], num: int
) -> list[Error]:
    """Return the lines with the most edits, the worst first; none of those that are right.

    Args:
        task: names the lines.
        batches: of line images, in the order of the texts.
        read: what was read.
        right: what the lines say.
        num: of lines, at most.
    """
    edits = [num_edits(a, b) for a, b in zip(read, right, strict=True)]
    images = [
        (batch.image[row, 0, :, :width], name)
        for batch in batches
        for row, (width, name) in enumerate(
            zip(batch.width.tolist(), task.names_of(batch), strict=True)  # type: ignore[attr-defined]
        )
    ]
    worst = sorted(range(len(edits)), key=lambda line: -edits[line])[:num]
    return [
        Error(
            name=images[line][1], num=edits[line], right=right[line], read=read[line],
            picture=png(Image.fromarray(_grey(images[line][0]))),
        )
        for line in worst if edits[line]
    ]  # fmt: skip


def worst_pages(task: BoxTask, found: Sequence[Boxes], pages: PageBoxes, num: int) -> list[Error]:
    """Return the pages on which the most boxes are missing or too many, the worst first."""
    right = task.targets(pages)
    wrong = [num_wrong(sure(a), b) for a, b in zip(found, right, strict=True)]
    rows = task.rows(found, pages)
    worst = sorted(range(len(wrong)), key=lambda page: -wrong[page])[:num]
    return [
        Error(
            name=rows[page].question, num=wrong[page], right=rows[page].target,
            read=rows[page].answer,
            picture=_boxes_on(pages.image[page, 0], found[page], right[page]),
        )
        for page in worst if wrong[page]
    ]  # fmt: skip


def num_edits(read: str, right: str) -> int:
    """Return the edit distance of two texts, white space at their ends not counted.

    >>> num_edits("kitten", "sitting ")
    3
    """
    import jiwer

    edits = jiwer.process_characters(right, read)
    return int(edits.substitutions + edits.insertions + edits.deletions)


def num_wrong(found: Boxes, right: Boxes) -> int:
    """Return how many right boxes are not found, and how many found ones are not right."""
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    alike = np.asarray(found.kinds)[:, None] == np.asarray(right.kinds)
    hits = alike & (box_iou(found.boxes, right.boxes) >= _HIT)
    num_hits = int(hits[linear_sum_assignment(hits, maximize=True)].sum())
    return len(right.kinds) + len(found.kinds) - 2 * num_hits


def differences(read: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return both texts in pieces, each with whether it differs from the other text.

    >>> differences("cut", "cat")
    ([('c', False), ('u', True), ('t', False)], [('c', False), ('a', True), ('t', False)])
    """
    import jiwer

    read, right = read.strip(), right.strip()
    chunks = jiwer.process_characters(right, read).alignments[0]
    pieces: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for chunk in chunks:
        differs = chunk.type != "equal"
        spans = (
            read[chunk.hyp_start_idx : chunk.hyp_end_idx],
            right[chunk.ref_start_idx : chunk.ref_end_idx],
        )
        for own, span in zip(pieces, spans, strict=True):
            if span:
                own.append((span, differs))
    return pieces


def png(image: Image.Image) -> str:
    """Return an image as the content of a PNG file, in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _grey(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(255 * (1 - np.clip(ink, 0, 1))).astype(np.uint8)


def _boxes_on(ink: NDArray[np.float32], found: Boxes, right: Boxes) -> str:
    image = Image.fromarray(_grey(ink)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for boxes, colour in ((right, _RIGHT), (sure(found), _FOUND)):
        for box in np.asarray(boxes.boxes).tolist():
            draw.rectangle(box, outline=colour)
    return png(image.quantize(64))
