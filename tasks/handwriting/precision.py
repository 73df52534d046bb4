"""Average precision of boxes as COCO defines it, computed by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError

MAX_DETECTIONS = 1000  # boxes of a page that count, the surest first; COCO's own 100 cut pages off


def average_precision(
    found: Sequence[Any], right: Sequence[Any], num_kinds: int
) -> dict[str, float]:
    """Return `AP50` and `mAP` (.5 to .95) of found boxes against the right ones of each page.

    Kinds that are on no page do not count. Where there is no right box at all, precision has no
    meaning: both are 1 if none was found, and else 0.

    Args:
        found: of each page `boxes` (n, 4) as corners, `kinds` (n,) and `scores` (n,).
        right: of each page `boxes` and `kinds`.
        num_kinds: number of kinds of boxes.
    """
    if not any(len(page.kinds) for page in right):
        score = float(not any(len(page.kinds) for page in found))
        return {"AP50": score, "mAP": score}
    if not any(len(page.kinds) for page in found):
        return {"AP50": 0.0, "mAP": 0.0}
    precision = _precision(_annotations(found), _annotations(right), len(right), num_kinds)
    by_overlap = [float(each[each >= 0].mean()) for each in precision]
    # It adds 2e-16 to what it divides by.
    return {"AP50": round(by_overlap[0], 12), "mAP": round(float(np.mean(by_overlap)), 12)}


def _annotations(pages: Sequence[Any]) -> list[dict[str, Any]]:
    """Return all boxes as COCO has them."""
    annotations: list[dict[str, Any]] = []
    for page, boxes in enumerate(pages):
        corners = np.asarray(boxes.boxes, np.float64).reshape(-1, 4)
        sizes = corners[:, 2:] - corners[:, :2]
        kinds, scores = np.asarray(boxes.kinds).tolist(), np.asarray(boxes.scores).tolist()
        rows = np.concatenate([corners[:, :2], sizes], axis=1).tolist()
        annotations += [
            {
                "id": len(annotations) + number, "image_id": page, "category_id": kind,
                "bbox": row, "area": row[2] * row[3], "iscrowd": 0, "score": score,
            }
            for number, (row, kind, score) in enumerate(zip(rows, kinds, scores, strict=True), 1)
        ]  # fmt: skip
    return annotations


def _precision(
    found: list[dict[str, Any]], right: list[dict[str, Any]], num_pages: int, num_kinds: int
) -> NDArray[np.float64]:
    """Return precision by overlap, recall and kind (10, 101, K); -1 where a kind is missing."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        problem = "needs pycocotools, which is not installed"
        accepted = "pip install 'terrarium[handwriting]'"
        raise ConfigError("the score of boxes", "", problem, accepted) from None

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        sets = []
        for annotations in (right, found):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": page} for page in range(num_pages)],
                "categories": [{"id": kind} for kind in range(num_kinds)],
                "annotations": annotations,
            }
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, "bbox")
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., 0, 0]
