"""Files made to do harm: they are refused by name, with the memory that it took measured."""

import gzip
import hashlib
import io
import json
import math
import os
import pickle
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from tests.helpers.ranks import ROOT, finished
from torture.commands import CORRUPT, LIMIT, MISTAKE, Tally, Write, learn, main_py, wrong_end
from torture.registry import Effort, Outcome, case

_ZEROS = "0" * 64  # in place of the digest, when it is computed
_LAUGHS = 9  # levels of ten each
_PAGE = (
    '<PcGts xmlns="x"><Page imageFilename="0.png" imageHeight="9" imageWidth="9">{}</Page></PcGts>'
)
_MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    with open("/proc/self/status") as status, open(OUT, "w") as file:
        file.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""
_SMALL = "a small file"
_MEMORY = 256  # MiB that a command may take beyond what it takes for a small file
HARM = "torture-harm"  # the file that is made where one of these files is run or unpacked


class Measured(NamedTuple):
    """How a command ended, and the most memory that it had, in MiB (VmHWM); NaN: it was killed."""

    done: "subprocess.CompletedProcess[str]"
    memory: float


def measured(words: list[str], out: Path) -> Measured:
    """Run a command of main.py and measure its memory."""
    code = _MEASURED.replace("OUT", repr(str(out)))
    out.unlink(missing_ok=True)  # of an earlier command
    done = finished([words[0], "-c", code, *words[1:]], LIMIT)
    return Measured(done, int(out.read_text()) / 1024 if out.exists() else math.nan)


def harm_places(folder: Path, root: Path = ROOT) -> list[Path]:
    """Return where HARM would be if a file in a folder had been run, or unpacked, by main.py.

    A name with `../../` may be taken from where main.py runs (root), from the folder, or from one
    of its run.
    """
    bases = root, folder, folder / "run", folder / "run" / "checkpoints"
    above = [Path(os.path.normpath(base / "../..")) for base in bases]
    return [base / HARM for base in dict.fromkeys([*bases, *above, Path("/tmp")])]


def remove_harm(folder: Path, root: Path = ROOT) -> list[str]:
    """Remove the files that show harm; return which there were."""
    found = [path for path in harm_places(folder, root) if path.exists()]
    for path in found:
        path.unlink()
    return [f"made {path}" for path in found]


def too_much(memory: float, least: float) -> list[str]:
    """Return whether a command took too much memory, in MiB, or it is not known how much."""
    right = memory - least <= _MEMORY
    return [] if right else [f"{memory:.0f} MiB of memory, and {least:.0f} for a small file"]


def refused(
    effort: Effort, code: int, *kinds: tuple[Write, Mapping[str, Write]]
) -> tuple[Tally, str]:
    """Give files to the command line.

    Args:
        effort: of the case.
        code: exit code.
        kinds: of files; each with a small file that is refused too, for comparison, and others by
            name. A function writes its file into a folder and returns what the message must name,
            and main.py's words.

    Returns:
        what held, and the most memory that one took beyond the small one of its kind.
    """
    tally, more = Tally(), dict[str, float]()
    for plain, files in kinds:
        least = 0.0
        for name, write in {_SMALL: plain, **files}.items():
            folder = effort.folder / f"{tally.tried}"
            folder.mkdir()
            names, *words = write(folder)
            remove_harm(folder)
            done, memory = measured(main_py(*words), effort.folder / "memory")
            least = memory if name == _SMALL else least
            wrong = wrong_end(done, code, names) + too_much(memory, least)
            tally.add(name, wrong + remove_harm(folder))
            more[name] = memory - least
    most = max(more, key=more.__getitem__)
    return tally, f"at most {more[most]:.0f} MiB more than for a small file ({most})"


class Harmful:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {HARM}",)


def _archive(names: list[str], size: int) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, bytes(size))
    return data.getvalue()


def _safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _tensor(begin: int, end: int, shape: list[int]) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def _sealed(header: dict[str, object], data: bytes, values: dict[str, object]) -> bytes:
    """Return a checkpoint file of any header, with the digest of its content."""
    text = json.dumps({"sha256": _ZEROS, "format": 2, **values}, separators=(",", ":"))
    head = json.dumps({**header, "__metadata__": {"terrarium": text}}, separators=(",", ":"))
    whole = _safetensors(head.encode(), data)
    return whole.replace(_ZEROS.encode(), hashlib.sha256(whole).hexdigest().encode(), 1)


def checkpoints() -> dict[str, bytes]:
    """Return the content of files that are no checkpoints, by what they try."""
    pickled = io.BytesIO()
    torch.save({"weights": Harmful()}, pickled)
    nothing = {"history/kind": _tensor(0, 0, [0]), "history/numbers": _tensor(0, 0, [0])}
    away = {"history": {"kinds": [], "before": "../../../../etc/passwd"}}
    old: dict[str, object] = {"history": []}
    return {
        "pickle": pickle.dumps(Harmful()),
        "pickle of torch.save": pickled.getvalue(),
        "zip bomb": _archive(["data.pkl"], 2**30),
        "path traversal in an archive": _archive([f"../../{HARM}", f"/tmp/{HARM}"], 10),
        "path traversal in the history": _sealed(nothing, b"", away),
        "header of 2^63 bytes": _safetensors(b"{}", length=2**63),
        "header of 1 GiB of spaces": _safetensors(b"{" + b" " * 2**20, length=2**30),
        "nested 10^6 deep": _safetensors(b"[" * 10**6),
        "nested 10^6 deep in the values": _safetensors(
            json.dumps({"__metadata__": {"terrarium": "[" * 10**6}}).encode()
        ),
        "tensor beyond the file": _sealed({"model/a": _tensor(0, 2**40, [2**38])}, bytes(16), old),
        "overlapping tensors": _sealed(
            {"model/a": _tensor(0, 16, [4]), "model/b": _tensor(8, 24, [4])}, bytes(24), old
        ),
        "negative offsets": _sealed({"model/a": _tensor(-16, 0, [4])}, bytes(16), old),
        "offsets of another shape": _sealed(
            {"model/a": _tensor(0, 16, [2**62, 4])}, bytes(16), old
        ),
        "unknown type": _sealed({"model/a": {**_tensor(0, 16, [4]), "dtype": "O"}}, bytes(16), old),
    }


@case
def malicious_checkpoints(effort: Effort) -> Outcome:
    """Files made to do harm as `--resume`: refused by name, exit code 65, none run or unpacked."""

    def writer(data: bytes) -> Write:
        def write(folder: Path) -> list[str]:
            path = folder / "step-000000001.safetensors"
            path.write_bytes(data)
            return [str(path), *learn("seq2seq_adder", "add2x2", folder), "--resume", str(path)]

        return write

    contents = checkpoints()
    files = {name: writer(data) for name, data in contents.items()}
    tally, most = refused(effort, CORRUPT, (writer(b"x"), files))
    return tally.outcome(f"{', '.join(contents)}; {most}")


def laughs(level: Callable[[int, str], str], first: str) -> str:
    """Return lines of which each has the one before ten times."""
    return "\n".join([first, *(level(number, f"a{number - 1}") for number in range(1, _LAUGHS))])


def configs() -> dict[str, str]:
    """Return texts of settings files, by what they try."""
    lists = laughs(lambda n, x: f"a{n}: &a{n} [{', '.join([f'*{x}'] * 10)}]", "a0: &a0 [x, x]")
    maps = laughs(
        lambda n, x: f"a{n}: &a{n} {{{', '.join(f'k{at}: *{x}' for at in range(10))}}}",
        "a0: &a0 {k: v}",
    )
    empty = maps.replace("{k: v}", "{}")
    head = "agent: seq2seq_adder\ntask: add2x2\n"
    call = f'!!python/object/apply:os.system ["touch {HARM}"]'
    return {
        "billion laughs of lists": head + lists,
        "billion laughs of mappings": head + maps,
        "billion laughs of empty mappings": head + empty,
        "mapping in itself": f"{head}a: &a\n  b: *a\n",
        "nested 10^5 deep": head + "a: " + "[" * 10**5,
        "mappings nested 10^5 deep": head + "a: " + "{b: " * 10**5,
        "object of Python": f"{head}hidden_size: {call}\n",
        "tag without a value": f'{head}hidden_size: !!int ""\n',
        "number of 10^6 digits": f"{head}hidden_size: {'9' * 10**6}\n",
        "100 MB": head + "# " + "x" * 10**8,
        "10^5 settings": head + "".join(f"a{n}: 1\n" for n in range(10**5)),
    }


@case
def malicious_configs(effort: Effort) -> Outcome:
    """Files made to do harm as `--config`: refused by name, exit code 2, nothing run."""

    def writer(text: str) -> Write:
        def write(folder: Path) -> list[str]:
            path = folder / "settings.yaml"
            path.write_text(text)
            return [str(path), "--config", str(path), "--run-dir", str(folder / "run")]

        return write

    texts = configs()
    files = {name: writer(text) for name, text in texts.items()}
    tally, most = refused(effort, MISTAKE, (writer("[]"), files))
    return tally.outcome(f"{', '.join(texts)}; {most}")


def png_bomb(side: int) -> bytes:
    """Return a PNG of side × side white pixels, some hundred times smaller than its rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * side
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def _text_bomb() -> bytes:
    """Return a small PNG with a comment of 256 MiB, compressed."""
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    packed = zlib.compress(bytes(2**28), 9)
    text = b"zTXt" + b"a\0\0" + packed
    piece = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    whole = data.getvalue()
    return whole[:33] + piece + whole[33:]


def pages() -> dict[str, str]:
    """Return texts of XML of pages, by what they try."""
    entities = "".join(
        f'<!ENTITY a{n} "{"&a" + str(n - 1) + ";" if n else "ha"}{"&a0;" * 9 if n else ""}">'
        for n in range(_LAUGHS)
    )
    return {
        "billion laughs in PAGE XML": f"<!DOCTYPE PcGts [{entities}]>" + _PAGE.format("&a8;"),
        "billion laughs in ALTO": f"<!DOCTYPE alto [{entities}]><alto><Layout>&a8;</Layout></alto>",
        "file of the machine as an entity": '<!DOCTYPE PcGts [<!ENTITY e SYSTEM "/etc/passwd">]>'
        + _PAGE.format("&e;"),
        "elements nested 10^6 deep": _PAGE.format("<a>" * 10**6),
        "10^7 elements": _PAGE.format("<a/>" * 10**7),
        "10^6 attributes": _PAGE.format(
            "<a " + " ".join(map("b{}=''".format, range(10**6))) + "/>"
        ),
        "100 MB": _PAGE.format(" " * 10**8),
    }


@case
def malicious_data(effort: Effort) -> Outcome:
    """Files made to do harm as data: refused by name, exit code 2, with little memory."""

    def of_page(text: str) -> Write:
        def write(folder: Path) -> list[str]:
            Image.new("L", (9, 9)).save(folder / "0.png")
            (folder / "0.xml").write_text(text)
            return [
                str(folder / "0.xml"),
                *learn("ctc_reader", "page_xml", folder, f"task.path={folder}"),
            ]

        return write

    def of_picture(data: bytes) -> Write:
        def write(folder: Path) -> list[str]:
            for number in range(6):
                for label in ("a", "b"):
                    (folder / label).mkdir(exist_ok=True)
                    pixels = Image.new("L", (8, 8), 20 * number + (label == "b"))
                    pixels.save(folder / label / f"{number}.png")
            (folder / "a" / "0.png").write_bytes(data)
            return [
                str(folder / "a/0.png"),
                *learn("cnn_classifier", "image_folder", folder, f"task.path={folder}"),
            ]

        return write

    def of_scans(data: bytes) -> Write:
        def write(folder: Path) -> list[str]:
            (folder / "scans").write_bytes(data)
            names = [f"task.{name}={folder / 'scans'}" for name in ("images", "labels")]
            return [str(folder / "scans"), *learn("cnn_classifier", "mnist", folder, *names)]

        return write

    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) (r) file\nshowpage\n"
    head = bytes([0, 0, 8, 3])
    idx, cut = head + struct.pack(">3I", 2**20, 2**10, 2**10), head + struct.pack(">3I", 9, 8, 8)
    in_xml = {name: of_page(text) for name, text in pages().items()}
    in_pictures = {
        "PNG of 10^9 pixels": of_picture(png_bomb(31_623)),
        "PNG with a comment of 256 MiB": of_picture(_text_bomb()),
        "PostScript with the name of a PNG": of_picture(eps),
        "pickle with the name of a PNG": of_picture(pickle.dumps(Harmful())),
    }
    in_idx = {
        "idx of 1 TiB": of_scans(idx),
        "idx of 1 TiB, compressed": of_scans(gzip.compress(idx + bytes(2**24))),
    }
    kinds = (of_page("<PcGts>"), in_xml), (of_picture(b"x"), in_pictures), (of_scans(cut), in_idx)
    tally, most = refused(effort, MISTAKE, *kinds)
    return tally.outcome(f"{', '.join([*in_xml, *in_pictures, *in_idx])}; {most}")
