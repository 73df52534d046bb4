"""The house drawn: which packages there are and who imports whom, `python docs/house.py`.

Writes docs/pictures/house.svg from the imports of the code as it is; `--check` tells whether that
file is up to date. A room is a folder, or modules that follow each other in the order that
tests/contracts/test_house.py holds the imports to.
"""

import sys
import textwrap
from collections.abc import Iterable
from html import escape
from itertools import groupby
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.contracts import test_house as house  # noqa: E402 - found by the line above

PICTURE = ROOT / "docs" / "pictures" / "house.svg"
WIDTH, MARGIN, LINE, GAP, FRAME = 760, 14, 15, 30, 30  # pixels
LETTER = 6.3  # mean width of a letter of 11 pixels
WORDS = 46  # letters of a line in a box
COLORS = {"main": "#eceff1", "agents": "#e3f2fd", "tasks": "#fff3e0", "visualization": "#e8f5e9"}
SET_BACK = {"main": 0, "agents": 0, "tasks": 3 * MARGIN, "visualization": 0}  # for an arrow past it
NOTES = {
    "main": "main.py",
    "agents": "agents: models, training, runs, inspection, the command line",
    "tasks": "tasks: data and scores, no torch",
    "visualization": "visualization: what was learned, of any module",
}


@attrs.frozen
class Room:
    """Modules that are drawn as one box, by their names without the package's."""

    package: str
    parts: tuple[str, ...]

    @property
    def title(self) -> str:
        """The words in its box."""
        return ", ".join(part.removeprefix("core.") for part in self.parts)

    def has(self, module: str) -> bool:
        """Tell whether a module, by its whole name, is in it."""
        return any(f"{module}.".startswith(f"{self.package}.{part}.") for part in self.parts)


def is_folder(package: str, part: str) -> bool:
    """Tell whether a part of a package is a folder."""
    return (ROOT / package / part.replace(".", "/")).is_dir()


def rooms(package: str) -> list[Room]:
    """Return the rooms of a package, each of which imports none after it."""
    if package == "tasks":
        inner = sorted(p.parent.name for p in (ROOT / package).glob("*/__init__.py"))
        folders = [name for name in inner if name != "core"]
        return [
            Room(package, part)
            for part in (("core",), files(package), *((name,) for name in folders))
        ]
    found: list[Room] = []
    for folder, group in groupby(house.FLOORS[package], lambda part: is_folder(package, part)):
        parts = tuple(group)
        found += [Room(package, (part,)) for part in parts] if folder else [Room(package, parts)]
    return found + ([Room(package, files(package))] if package == "agents" else [])


def files(package: str) -> tuple[str, ...]:
    """Return the modules right in a package, one for each agent or task and what these share."""
    return tuple(sorted(p.stem for p in (ROOT / package).glob("*.py") if p.stem[0] != "_"))


def imports(package: str) -> dict[Room, set[Room]]:
    """Return which other rooms of the package each of its rooms imports.

    A registry, the package itself, looks a class up by name; who asks it imports no room.
    """
    all_rooms = rooms(package)
    found: dict[Room, set[Room]] = {room: set() for room in all_rooms}
    for path in house.FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for importing in (room for room in all_rooms if room.has(module)):
            for name in house.imported_names(path):
                found[importing] |= {room for room in all_rooms if room.has(name)} - {importing}
    return found


def reduced(edges: dict[Room, set[Room]]) -> dict[Room, set[Room]]:
    """Return the imports without those that follow from others, and without those of a base.

    A base is a room that imports nothing and that most of the others import.
    """
    below: dict[Room, set[Room]] = {}

    def reached(room: Room) -> set[Room]:
        if room not in below:
            below[room] = edges[room].union(*map(reached, edges[room]))
        return below[room]

    return {
        room: {to for to in tos if not any(to in reached(other) for other in tos)}
        for room, tos in edges.items()
    }


@attrs.frozen
class Box:
    """A box and its place, in pixels."""

    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float

    def svg(self) -> str:
        """Draw it."""
        middle = self.x + self.width / 2
        first = self.y + (self.height - LINE * len(self.lines)) / 2 + 11.5
        words = "".join(
            f'<text x="{middle:.1f}" y="{first + LINE * number:.1f}">{escape(line)}</text>'
            for number, line in enumerate(self.lines)
        )
        return (
            f'<rect x="{self.x:.1f}" y="{self.y:.1f}" width="{self.width:.1f}" '
            f'height="{self.height:.1f}" rx="5" fill="#fff" stroke="#607d8b"/>{words}'
        )


def width_of(lines: Iterable[str]) -> float:
    """Return the width of a box around lines of text."""
    return max(len(line) for line in lines) * LETTER + 14


def row(titles: list[tuple[str, ...]], y: float) -> list[Box]:
    """Return boxes of one height beside each other, in the middle of the picture."""
    height = LINE * max(map(len, titles)) + 10
    widths = [width_of(lines) for lines in titles]
    x, boxes = (WIDTH - sum(widths) - GAP * (len(widths) - 1)) / 2, []
    for lines, width in zip(titles, widths, strict=True):
        boxes.append(Box(lines, x, y, width, height))
        x += width + GAP
    return boxes


def ranks(edges: dict[Room, set[Room]]) -> dict[Room, int]:
    """Return the row of each room, 0 at the top: right below the lowest that imports it."""
    importing = {room: [r for r, tos in edges.items() if room in tos] for room in edges}

    def longest(room: Room) -> int:
        return max((1 + longest(above) for above in importing[room]), default=0)

    deepest = {room: longest(room) for room in edges}
    return {  # what nothing imports is right above what it imports
        room: deepest[room] or min((deepest[to] - 1 for to in edges[room]), default=0)
        for room in edges
    }


def words(room: Room) -> tuple[str, ...]:
    """Return the lines of text in a room's box."""
    return tuple(textwrap.wrap(room.title, WORDS))


def arranged(edges: dict[Room, set[Room]], y: float) -> dict[Room, Box]:
    """Return the box of each room, row by row, each below what imports it."""
    boxes: dict[Room, Box] = {}
    row_of = ranks(edges)

    def middle(room: Room) -> float:
        above = [boxes[r].x + boxes[r].width / 2 for r, tos in edges.items() if room in tos]
        return sum(above) / len(above) if above else WIDTH / 2

    for number in sorted(set(row_of.values())):
        members = [room for room in edges if row_of[room] == number]
        members.sort(key=lambda room: (middle(room) if number else 0, room.title))
        placed = row([words(room) for room in members], y)
        boxes |= dict(zip(members, placed, strict=True))
        y += placed[0].height + GAP
    return boxes


def arrow(upper: Box, lower: Box) -> str:
    """Draw an arrow from what imports to what is imported."""
    x, y = upper.x + upper.width / 2, upper.y + upper.height
    to_x, to_y = lower.x + lower.width / 2, lower.y - 5
    turn = y + 0.75 * (to_y - y)  # beside the boxes between them, where there are some
    return line(
        f"M{x:.1f} {y:.1f} C{x:.1f} {turn:.1f} {to_x:.1f} {to_y - 20:.1f} {to_x:.1f} {to_y:.1f}"
    )


def line(path: str, width: int = 1) -> str:
    """Draw an arrow along a path."""
    stroke = f'stroke="#37474f" stroke-width="{width}" marker-end="url(#tip)"'
    return f'<path d="{path}" fill="none" {stroke}/>'


def base_of(edges: dict[Room, set[Room]]) -> Room | None:
    """Return the room at the bottom: it imports none, and most import it."""
    first = next(iter(edges))
    num = sum(first in tos for tos in edges.values())
    return first if not edges[first] and 2 * num > len(edges) - 1 else None


def wrapped_rows(rooms_: list[Room], y: float) -> list[Box]:
    """Return boxes of rooms without arrows, in as many rows as they need."""
    boxes: list[Box] = []
    line: list[tuple[str, ...]] = []
    for room in [*rooms_, None]:
        more = [*line, words(room)] if room else line
        full = sum(map(width_of, more)) + GAP * len(more) > WIDTH - 2 * MARGIN
        if line and (room is None or full):
            boxes += row(line, y)
            y += boxes[-1].height + 8
            line = [words(room)] if room else []
        else:
            line = more
    return boxes


def package(name: str, y: float) -> tuple[str, float]:
    """Draw a package from a height on; return the drawing and the height of its end."""
    edges, base = imports(name), base_of(imports(name))
    inner = reduced({r: tos - {base} for r, tos in edges.items() if r != base})
    joined = {r for r, tos in inner.items() for r in ((r, *tos) if tos else ())}
    top = y + FRAME
    boxes = arranged({r: tos for r, tos in inner.items() if r in joined}, top)
    bottom = max((box.y + box.height + 14 for box in boxes.values()), default=top)
    apart = wrapped_rows([room for room in inner if room not in joined], bottom)
    bottom = max((box.y + box.height + 14 for box in apart), default=bottom)
    drawn = [arrow(boxes[room], boxes[to]) for room, tos in inner.items() for to in tos]
    drawn = sorted(drawn) + [box.svg() for box in (*boxes.values(), *apart)]
    if base is not None:
        without = [brief(room) for room, tos in edges.items() if base not in tos and room != base]
        but = f" but {', '.join(without)}" if without else ""
        text = f"{base.title}: imported by all{but}"
        drawn.append(
            Box((text,), 2 * MARGIN, bottom, WIDTH - 4 * MARGIN - SET_BACK[name], LINE + 10).svg()
        )
        bottom += LINE + 10 + MARGIN
    return frame(name, y, bottom) + "".join(drawn), bottom


def brief(room: Room) -> str:
    """Return a room's words, shortened where it has many modules."""
    first, *more = room.title.split(", ")
    return f"{first} …" if more else first


def frame(name: str, top: float, bottom: float) -> str:
    """Draw the frame of a package with its title."""
    return (
        f'<rect x="{MARGIN}" y="{top:.1f}" width="{WIDTH - 2 * MARGIN - SET_BACK[name]}" '
        f'height="{bottom - top:.1f}" rx="8" fill="{COLORS[name]}" stroke="#90a4ae"/>'
        f'<text class="title" x="{MARGIN + 10}" y="{top + 18:.1f}">{escape(NOTES[name])}</text>'
    )


def drawing() -> str:
    """Return the picture as SVG."""
    parts, y = [], float(MARGIN)
    ends: dict[str, tuple[float, float]] = {}
    for name in ("main", *house.PACKAGES):
        drawn, end = package(name, y) if name != "main" else (frame(name, y, y + FRAME), y + FRAME)
        parts.append(drawn)
        ends[name] = (y, end)
        y = end + GAP + 6
    middle, side = WIDTH / 2, WIDTH - 2.5 * MARGIN
    for above, below, x in (
        ("main", "agents", middle), ("agents", "tasks", middle), ("agents", "visualization", side),
    ):  # fmt: skip
        parts.append(line(f"M{x:.1f} {ends[above][1]:.1f} V{ends[below][0] - 10:.1f}", 2))
    height = y - GAP - 6 + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" font-family="sans-serif" font-size="11" '
        'text-anchor="middle" role="img" aria-label="Packages and who imports whom">'
        "<style>.title{font-size:13px;font-weight:bold;text-anchor:start}</style>"
        '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="3" refY="3.500" '
        'orient="auto"><path d="M0 0 7 3.500 0 7z" fill="#37474f"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>' + "".join(parts) + "</svg>\n"
    ).replace("><", ">\n<")


def main(arguments: list[str]) -> int:
    """Write the picture, or tell whether it is up to date."""
    if "--check" in arguments:
        is_current = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == drawing()
        if not is_current:
            print("docs/pictures/house.svg is not of this code: run python docs/house.py")
        return int(not is_current)
    PICTURE.write_text(drawing(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
