"""Files of boxes: YOLO txt, COCO json, and the lines of PAGE XML or ALTO.

All give the same: images of pages, and of each the boxes in its pixels with their kinds. What a
file has that cannot be is an error that names the file and the line; boxes that reach beyond their
image are cut at its edge, and those of which nothing is left are named among what is left out.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from tasks.core.images import read_size
from tasks.core.memory import read_text
from tasks.core.paths import describe_os_error
from tasks.core.settings import ConfigError
from tasks.handwriting.line_index import LeftOut
from tasks.handwriting.page_format import is_page_file, read_page
from tasks.handwriting.stored import files_in
from tasks.image_files import SUFFIXES

Format = Literal["yolo", "coco", "page_xml"]
A_PAGE = f"a whole file of an image of a page ({' '.join(SUFFIXES)})"
_ROW = "class, middle across, middle down, width and height, as shares of the image"
_NAMES = ("classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml")


class BoxedImage(NamedTuple):
    """An image of a page, and its boxes."""

    name: str  # path in the folder
    path: Path
    size: tuple[int, int]  # height and width in pixels
    boxes: NDArray[np.float64]  # (n, 4): left, top, right, bottom in pixels
    kinds: NDArray[np.int64]  # (n,)


class BoxFolder(NamedTuple):
    """What is in a folder of pages with boxes."""

    kinds: tuple[str, ...]
    images: Sequence[BoxedImage]
    left_out: Sequence[LeftOut]


def format_of(root: Path, place: str) -> Format:
    """Return in which format the boxes of a folder are, by its files.

    Raises:
        ConfigError: there is no image, or boxes of two formats.
    """
    suffixes = {PurePosixPath(name).suffix.lower() for name in files_in(root, place)}
    known: Mapping[Format, str] = {"coco": ".json", "page_xml": ".xml", "yolo": ".txt"}
    found = [name for name, suffix in known.items() if suffix in suffixes]
    if len(found) != 1:
        problem = f"{root} has files of {' and '.join(found) if found else 'none of them'}"
        raise ConfigError(place, "format", problem, f"one of {', '.join(known)}")
    return found[0]


def read_folder(root: Path, form: Format, place: str) -> BoxFolder:
    """Return all pages of a folder with their boxes; see the module.

    Raises:
        ConfigError: names the file that cannot be read, and the line in it.
    """
    readers = {"yolo": _read_yolo, "coco": _read_coco, "page_xml": _read_page_xml}
    kinds, images = readers[form](root, files_in(root, place))
    if not images:
        raise ConfigError(place, "path", f"{root} has no images of pages", A_PAGE)
    left_out: list[LeftOut] = []
    whole = [_within(image, left_out) for image in images]
    return BoxFolder(kinds, whole, left_out)


def _within(image: BoxedImage, left_out: list[LeftOut]) -> BoxedImage:
    """Return an image with its boxes cut at its edges; note those of which nothing is left."""
    height, width = image.size
    boxes = np.clip(image.boxes.reshape(-1, 4), 0, [width, height, width, height])
    some = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)
    left_out += [
        LeftOut(f"{image.name} box {number}", "has no area within its image")
        for number in np.flatnonzero(~some)
    ]
    return image._replace(boxes=boxes[some], kinds=image.kinds[some])


def _images_in(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(SUFFIXES)]


def _size(path: Path) -> tuple[int, int]:
    return read_size(path, str(path), A_PAGE, is_one_page=True)


def _text(path: Path, accepted: str) -> str:
    try:
        return read_text(path, "utf-8-sig")
    except OSError as error:
        raise ConfigError(str(path), "", describe_os_error(path, error), accepted) from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "", "is not UTF-8 text", accepted) from None


def _read_yolo(root: Path, names: Sequence[str]) -> tuple[tuple[str, ...], list[BoxedImage]]:
    """Return kinds and pages of YOLO: `x.txt` beside `x.png`, or in `labels` for `images`.

    An empty or missing file says that there is no box. Kinds are named in classes.txt, obj.names or
    data.yaml; without one of them they are numbers.
    """
    kinds = _yolo_kinds(root, names)
    images, num_kinds = [], 1
    for name in _images_in(names):
        height, width = _size(root / name)
        codes, rows = [], []
        for place, code, (x, y, wide, high) in _yolo_rows(_yolo_labels(root / name, root)):
            if kinds and code >= len(kinds):
                accepted = f"0 to {len(kinds) - 1}, for {', '.join(kinds)}"
                raise ConfigError(place, "", f"there is no class {code}", accepted)
            left, top = (x - wide / 2) * width, (y - high / 2) * height
            rows.append([left, top, left + wide * width, top + high * height])
            codes.append(code)
        num_kinds = max([num_kinds, *(code + 1 for code in codes)])
        images.append(_boxed(name, root, (height, width), rows, codes))
    return kinds or tuple(map(str, range(num_kinds))), images


def _boxed(
    name: str, root: Path, size: tuple[int, int], rows: Sequence[Any], codes: Sequence[int]
) -> BoxedImage:
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    return BoxedImage(name, root / name, size, boxes, np.array(codes, np.int64))


def _yolo_labels(image: Path, root: Path) -> Path:
    """Return the file of an image's boxes: beside it, or in `labels` where it is in `images`."""
    parts = [*image.relative_to(root).with_suffix(".txt").parts]
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        other = root.joinpath(*parts[:at], "labels", *parts[at + 1 :])
        if other.is_file():
            return other
    return image.with_suffix(".txt")


def _yolo_rows(path: Path) -> Iterator[tuple[str, int, list[float]]]:
    """Yield place, class and box of each line of a file, if it is there."""
    lines = _text(path, _ROW).splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        words, place = line.split(), f"{path}, line {number}"
        if not words:
            continue
        try:
            code, *share = (int(words[0]), *map(float, words[1:]))
        except ValueError:
            raise ConfigError(
                place, "", f"{line[:60]!r} has a word that is no number", _ROW
            ) from None
        if len(share) != 4:
            raise ConfigError(place, "", f"has {len(words)} numbers", _ROW)
        if code < 0 or not all(map(math.isfinite, share)) or min(share[2:]) < 0:
            problem = f"{line[:60]!r} has a number that is out of range"
            raise ConfigError(place, "", problem, _ROW)
        yield place, code, share


def _yolo_kinds(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes, of the first file that has them; none: there is no such file."""
    for name in sorted(names, key=lambda each: each.count("/")):
        path = root / name
        if path.name not in _NAMES:
            continue
        text = _text(path, "names of classes")
        if path.suffix not in (".yaml", ".yml"):
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        try:
            known = yaml.safe_load(text)["names"]
            return tuple(str(known[at]) for at in range(len(known)))
        except (yaml.YAMLError, KeyError, TypeError, IndexError):
            accepted = "a mapping with `names`: a list, or a mapping of 0, 1, … to names"
            raise ConfigError(str(path), "", "names no classes", accepted) from None
    return ()


def _read_coco(root: Path, names: Sequence[str]) -> tuple[tuple[str, ...], list[BoxedImage]]:
    """Return kinds and pages of COCO files: `images`, `annotations` with `bbox`, `categories`.

    Each .json is one file of a set, such as that of a split; images are beside it, in `images`
    beside it, or anywhere in the folder by their path. Crowds are no boxes.
    """
    loaded = {name: _json(root / name) for name in names if name.lower().endswith(".json")}
    files = {name: data for name, data in loaded.items() if isinstance(data, dict)
             and {"images", "annotations", "categories"} <= data.keys()}  # fmt: skip
    if not files:
        accepted = "a file with images, annotations and categories"
        raise ConfigError(str(root), "", "has no COCO file", accepted)
    kinds: list[str] = []
    images: list[BoxedImage] = []
    for name, data in files.items():
        try:
            images += _coco_images(root, name, data, kinds, set(names))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            problem = f"is not as COCO writes it: {type(error).__name__} {error}"
            accepted = (
                "images with id and file_name, annotations with image_id, category_id and bbox"
            )
            raise ConfigError(str(root / name), "", problem, accepted) from None
    return tuple(kinds), images


def _json(path: Path) -> Any:
    accepted = "a COCO file"
    try:
        return json.loads(_text(path, accepted))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(str(path), "", f"is not JSON: {error}", accepted) from None


def _coco_images(
    root: Path, name: str, data: Mapping[str, Any], kinds: list[str], names: set[str]
) -> Iterator[BoxedImage]:
    """Yield the images of a COCO file; add the names of its categories to `kinds`."""
    place, folder = str(root / name), PurePosixPath(name).parent
    codes = {}
    for category in sorted(data["categories"], key=lambda each: each["id"]):
        if str(category["name"]) not in kinds:
            kinds.append(str(category["name"]))
        codes[category["id"]] = kinds.index(str(category["name"]))
    rows: dict[Any, list[tuple[int, list[float]]]] = {each["id"]: [] for each in data["images"]}
    for number, annotation in enumerate(data["annotations"]):
        owner, kind = annotation["image_id"], annotation["category_id"]
        if owner not in rows or kind not in codes:
            what = f"image {owner!r}" if owner not in rows else f"category {kind!r}"
            problem = f"annotation {number} is of {what}, which the file does not have"
            raise ConfigError(place, "", problem, "ids that the file has")
        left, top, wide, high = map(float, annotation["bbox"])
        if not all(map(math.isfinite, (left, top, wide, high))):
            raise ConfigError(place, "", f"annotation {number} has {annotation['bbox']}", "numbers")
        if not annotation.get("iscrowd"):
            rows[owner].append((codes[kind], [left, top, left + wide, top + high]))
    for image in data["images"]:
        file = str(image["file_name"])
        tried = [str(folder / file), str(folder / "images" / file), file]
        found = next((path for path in tried if path in names), None)
        if found is None:
            raise ConfigError(place, "", f"its image {file!r} is not in {root}", A_PAGE)
        own = rows[image["id"]]
        yield _boxed(found, root, _size(root / found), [row for _, row in own], [k for k, _ in own])


def _read_page_xml(root: Path, names: Sequence[str]) -> tuple[tuple[str, ...], list[BoxedImage]]:
    """Return the lines of pages with PAGE XML or ALTO: the rectangle around each polygon.

    Of a line without a polygon it is that around its baseline. The image is the one that the file
    names, in its folder, or that has its name.
    """
    images = []
    for name in names:
        path = root / name
        if path.suffix.lower() != ".xml" or not is_page_file(path):
            continue
        page = read_page(path)
        image = _image_of(name, page.image, set(names))
        if image is None:
            raise ConfigError(str(path), "", f"its image {page.image!r} is not beside it", A_PAGE)
        height, width = _size(root / image)
        scale = [width / page.width, height / page.height] if page.width and page.height else [1, 1]
        rows = []
        for line in page.lines:
            points = line.polygon if len(line.polygon) else line.baseline
            scaled = points.reshape(-1, 2) * scale if len(points) else np.zeros((1, 2))
            rows.append([*scaled.min(axis=0), *scaled.max(axis=0)])
        images.append(_boxed(image, root, (height, width), rows, [0] * len(rows)))
    return ("line",), images


def _image_of(name: str, image: str, names: set[str]) -> str | None:
    """Return the path of the image of a page in a folder."""
    place = PurePosixPath(name)
    named = image.replace("\\", "/").rpartition("/")[2]
    tried = [str(place.with_name(named))] if named else []
    tried += [str(place.with_suffix(suffix)) for suffix in SUFFIXES]
    tried += [str(place.with_suffix(suffix.upper())) for suffix in SUFFIXES]
    return next((path for path in tried if path in names), None)
