"""HTML report: records as one file that needs nothing else, no network either, and their arrays."""

import base64
import contextlib
import html
import io
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import jinja2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visualization import render
from visualization.core.arrays import to_numpy
from visualization.core.registry import anchor, fragment, subpages
from visualization.renderers import LazyRenderer, Renderer

_EMBEDDED = 8_000_000  # characters of a page within a notebook
_FEW = 6  # views that are open from the start
Pictures = Sequence[tuple[str, str]]  # the name of each, and its `data:` address


@attrs.frozen(kw_only=True)
class Overview:
    """Overview of a network: one row for each layer, of words and small pictures.

    Attributes:
        columns: headings; the first is that of the names of the rows.
        rows: as many cells each.
        caption: how to read it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Pictures]]
    caption: str = ""


@attrs.frozen(repr=False)
class Report:
    """Report: named records of an inspection. `report["summary"]` is the record itself.

    A view of several parts is a mapping of their names to records: `report["ablation"]["decoder"]`.
    On the page an overview comes first, if there is one; then of many views one line each, with a
    sentence, which opens: `report.html#ablation` leads to one, `#ablation-decoder` to its part.
    """

    title: str
    records: Mapping[str, Any]
    renderer: Renderer = attrs.field(factory=LazyRenderer, eq=False)
    overview: Overview | None = None
    sentences: Mapping[str, str] = attrs.Factory(dict)  # of some views, by name

    def __repr__(self) -> str:
        """Return the title and the names of the records."""
        return f"<Report {self.title!r}: {', '.join(name for name, _ in self.flat())}>"

    def _repr_html_(self) -> str:
        """Return the page as a notebook embeds it: of a very long one what comes first."""
        page = html.escape(self._page(_EMBEDDED)[0])
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40rem; border: 0"></iframe>'

    def __getitem__(self, name: str) -> Any:
        """Return one view's record, or its records by part."""
        return self.records[name]

    def flat(self) -> Iterator[tuple[str, Any]]:
        """Yield every single record with its name, such as `ablation/decoder`."""
        for name, record in self.records.items():
            yield from flat(name, record)

    def text(self) -> str:
        """Return what can be said in plain text."""
        return "\n\n".join(filter(None, (render.text(record) for _, record in self.flat())))

    def picture(self, name: str) -> bytes:
        """Return a record's figure as the content of a PNG file; it is drawn once."""
        return self.renderer.picture(name, dict(self.flat())[name])

    def html(self) -> str:
        """Return the page.

        Raises:
            ExceptionGroup: has what was raised while drawing records.
        """
        page, errors = self._page()
        if errors:
            raise ExceptionGroup("some records cannot be drawn", errors)
        return page

    def _page(self, most: float = math.inf) -> tuple[str, list[Exception]]:
        """Return the page, which says what was raised in place of what cannot be drawn.

        After `most` characters no further records are drawn, and the page names them.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
        )
        errors: list[Exception] = []
        left_out: list[str] = []
        views = []
        for view, view_record in self.records.items():
            sections: list[dict[str, Any]] = []
            for name, record in flat(view, view_record):
                if most <= 0:
                    left_out.append(name)
                    continue
                section: dict[str, Any] = {"name": name, "address": anchor(name)}
                section["part"] = name.removeprefix(f"{view}/")
                with _collect_errors(errors, name):
                    section |= self._section(name, record)
                most -= sum(len(value) for value in section.values() if isinstance(value, str))
                is_drawn = "picture" in section
                sections.append(section if is_drawn else {**section, "error": errors[-1]})
            if sections:
                views.append(self._view(view, view_record, sections))
        template = environment.get_template("report.html.jinja")
        page = template.render(
            title=self.title, overview=self.overview, views=views, left_out=left_out,
            is_long=len(self.records) > _FEW,
        )  # fmt: skip
        return page, errors

    def _view(self, name: str, record: Any, sections: list[dict[str, Any]]) -> dict[str, Any]:
        has_errors = any("error" in section for section in sections)
        return {
            "name": name,
            "address": anchor(name),
            "sentence": self.sentences.get(name, ""),
            "sections": sections,
            "is_divided": isinstance(record, Mapping),
            "is_open": has_errors or len(self.records) <= _FEW,
        }

    def _section(self, name: str, record: Any) -> dict[str, Any]:
        picture = self.picture(name)
        width, height = struct.unpack(">II", picture[16:24])  # of a PNG's header
        return {
            "picture": base64.b64encode(picture).decode(),
            "width": width,
            "height": height,
            "text": render.text(record),
            "caption": render.caption(record),
            "interactive": fragment(record),
        }

    def save(self, path: str | Path) -> Path:
        """Write the page and return its path.

        Units have pages of their own in `units/` beside it, so that of two reports with units each
        wants a folder.

        Raises:
            ExceptionGroup: has what was raised while drawing records; all else is written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        page, errors = self._page()
        target.write_text(page, encoding="utf-8")
        for name, record in self.flat():
            pages: list[tuple[str, str]] = []
            with _collect_errors(errors, f"pages of {name}"):
                pages = list(subpages(record, target.name))
            for address, subpage in pages:
                subpage_path = target.parent / address
                subpage_path.parent.mkdir(parents=True, exist_ok=True)
                subpage_path.write_text(subpage, encoding="utf-8")
        if errors:
            raise ExceptionGroup(f"{target}: written without records that cannot be drawn", errors)
        return target

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array of every record by `view/part/field`, and every list of numbers."""
        return dict(_arrays("", dict(self.flat())))

    def save_arrays(self, path: str | Path) -> Path:
        """Write all arrays as one compressed .npz, which `numpy.load` reads without pickle."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.arrays())  # type: ignore[arg-type] # a mapping of arrays
        target.write_bytes(buffer.getvalue())
        return target


def flat(name: str, record: Any) -> Iterator[tuple[str, Any]]:
    """Yield the single records of a view with their names, such as `ablation/decoder`."""
    if isinstance(record, Mapping):
        yield from ((f"{name}/{part}", part_record) for part, part_record in record.items())
    else:
        yield name, record


@contextlib.contextmanager
def _collect_errors(errors: list[Exception], what: str) -> Iterator[None]:
    """Collect an exception of a block, and continue after it."""
    try:
        yield
    except Exception as error:  # whatever it is: the rest of the report is not lost for it
        error.add_note(f"while drawing {what}")
        errors.append(error)


def _arrays(name: str, value_of_name: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays within a record, deep in mappings and in records too, with their names."""
    parts = _parts(value_of_name)
    for key, value in parts.items():
        yield from _arrays(f"{name}/{key}" if name else key, value)
    if not parts:
        array = _as_plain_array(value_of_name)
        if array is not None:
            yield name, array


def _parts(container: Any) -> Mapping[str, Any]:
    """Return what a mapping, a record or a list of records is made of; else nothing."""
    if isinstance(container, Mapping):
        return container
    if attrs.has(type(container)):
        return {
            field.name: getattr(container, field.name) for field in attrs.fields(type(container))
        }
    if isinstance(container, (list, tuple)) and container and attrs.has(type(container[0])):
        names = [field.name for field in attrs.fields(type(container[0]))]
        columns = {name: [getattr(record, name) for record in container] for name in names}
        if all(_as_plain_array(column) is not None for column in columns.values()):
            return columns
        return {str(number): value for number, value in enumerate(container)}
    return {}


def _as_plain_array(value: Any) -> NDArray[Any] | None:
    """Return numbers or texts as an array; None if they are none."""
    if isinstance(value, Tensor):
        return to_numpy(value)
    try:
        array = np.asarray(value)
    except ValueError:
        filled = _fill_rows(value)
        return None if filled is None else _as_plain_array(filled)
    return array if array.dtype.kind in "biufU" else None


def _fill_rows(rows: Any) -> list[list[Any]] | None:
    """Return rows of different lengths filled up: texts with "", floats with NaN, integers with -1.

    None if they are not rows of single numbers or texts.
    """
    if not all(isinstance(row, (tuple, list)) for row in rows):
        return None
    values = [value for row in rows for value in row]
    if any(np.ndim(value) for value in values):
        return None
    filler: Any = {"U": "", "f": np.nan}.get(np.asarray(values).dtype.kind, -1)
    longest = max(map(len, rows))
    return [[*row, *[filler] * (longest - len(row))] for row in rows]
