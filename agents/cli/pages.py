"""Reading pages from the command line: `--mode predict --detector DIR --input page.jpg`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agents.cli.run_spec import RunSpec, run_spec_from_folder, warn
from tasks.core.paths import expand_user, folder_path
from tasks.core.settings import ConfigError, TerrariumError
from tasks.image_files import SUFFIXES

if TYPE_CHECKING:
    from agents.core.pages import PageReader

_OF_THE_READER = ("agent", "task", "config", "seed", "init_from", "input", "output", "detector")


def read_pages(spec: RunSpec, inputs: Iterable[str]) -> int:
    """Read pages: print their texts, write PAGE XML and pictures; return the exit code.

    A page that cannot be read is named, and the others are read.
    """
    reader, output = _page_reader(spec), spec.options.output
    folder = None if output is None else folder_path(output, "--output")
    paths = list(_files_in(inputs))
    code = 0
    for path in paths:
        try:
            if len(paths) > 1:
                print(f"{path}:")
            print(_read(reader, path, folder), flush=True)
        except TerrariumError as error:
            warn(f"terrarium: {error}")
            code = error.exit_code
    return code


def _page_reader(spec: RunSpec) -> "PageReader":
    from agents.core.pages import PageReader

    folder = folder_path(spec.options.detector, "--detector")
    options = type(spec.options)(**{
        **vars(spec.options), **dict.fromkeys(_OF_THE_READER), "set": [], "run_dir": folder,
    })  # fmt: skip
    detector = run_spec_from_folder(options, folder, (spec.mode,)).load_trained()
    return PageReader(detector=detector, reader=spec.load_trained())  # type: ignore[arg-type]


def _files_in(inputs: Iterable[str]) -> Iterator[str]:
    """Yield inputs; of a folder, the images that are in it, by name."""
    for text in inputs:
        folder = expand_user(text)
        if not folder.is_dir():
            yield text
            continue
        for path in sorted(folder.iterdir()):
            if path.name.lower().endswith(SUFFIXES) and not path.name.endswith(_PICTURE):
                yield str(path)


_PICTURE = ".lines.png"  # what is drawn of a page that was read


def _read(reader: "PageReader", path: str, folder: Path | None) -> str:
    """Return the text of a page; write its files, but not over others."""
    from agents.core.pages import files_of

    written, _ = files_of(expand_user(path), folder)
    if written.exists():
        accepted = f"{written} moved elsewhere, or another folder as --output"
        raise ConfigError(f"page {path!r}", "", f"{written} exists already", accepted)
    page = reader.read(path)
    files = page.save(folder)
    print(*files, sep="\n", file=sys.stderr)
    return page.text
