"""What is fuzzed: readers of files and options, of which only the project's errors may come out."""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import numpy as np
from PIL import Image

import tasks
from tasks.core.idx import read_idx, read_idx_header
from tasks.core.images import read_grey_pixels, read_pixels, read_size
from tasks.core.settings import TerrariumError
from tasks.handwriting import iam
from tasks.handwriting.box_files import read_folder
from tasks.handwriting.page_files import look

_DIGEST = b'sha256\\":\\"'
_SHARE = "0 0.5 0.5 0.25 0.5\n"
_COCO = (
    '{"images":[{"id":1,"file_name":"0.png"}],"categories":[{"id":1,"name":"a"}],'
    '"annotations":[{"image_id":1,"category_id":1,"bbox":[1,1,3,3],"iscrowd":0}]}'
)
_PAGE = (
    '<PcGts xmlns="x"><Page imageFilename="0.png" imageHeight="9" imageWidth="9"><TextRegion>'
    '<TextLine id="a"><Coords points="1,1 8,1 8,8"/><Baseline points="1,6 8,6"/><TextEquiv '
    'index="0" conf="0.5"><Unicode>ab</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>'
)
_ALTO = (
    "<alto><Description><MeasurementUnit>pixel</MeasurementUnit></Description><Layout>"
    '<Page HEIGHT="9" WIDTH="9"><TextLine ID="a" HPOS="1" VPOS="1" WIDTH="7" HEIGHT="7" '
    'BASELINE="6"><Shape><Polygon POINTS="1 1 8 1 8 8"/></Shape><String CONTENT="ab"/><SP/>'
    '<HYP CONTENT="-"/></TextLine></Page></Layout></alto>'
)
_IAM = "".join(f"a0{n}-000-00 ok 154 1 0 0 96 40 a|b\n" for n in range(9)).encode()
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF", "ICO", "TGA", "JPEG2000")


@attrs.frozen
class Target:
    """A reader that is fuzzed: what is given to it, and whole examples to begin with."""

    read: Callable[[Path, bytes], object]  # is given a folder of its own, and the content
    examples: Callable[[], list[bytes]]


def _settings(folder: Path, data: bytes) -> None:
    from agents.cli.modes import MODES
    from agents.cli.options import parse
    from agents.cli.run_spec import parse_run_spec

    path = folder / "settings.yaml"
    path.write_bytes(data)
    with _quiet():
        parse_run_spec(parse(["--config", str(path), "--run-dir", str(folder / "run")]), MODES)


def _options(folder: Path, data: bytes) -> None:
    from agents.cli.modes import MODES, _accept_earlier, _check_options, _check_runs
    from agents.cli.options import parse
    from agents.cli.run_spec import parse_run_spec
    from agents.cli.sweep_space import for_first_run, parse_options

    words = data.decode(errors="surrogateescape").split("\n")
    with _quiet(), contextlib.suppress(SystemExit):  # of argparse, with its message
        options = parse(words)
        swept = [*options.grid, *options.over, *options.search]
        for kind, name in (("agent", "seq2seq_adder"), ("task", "add2x2")):
            if getattr(options, kind) is None and not any(s.startswith(kind) for s in swept):
                setattr(options, kind, name)
        _accept_earlier(options)
        _check_runs(options)
        spec = parse_run_spec(for_first_run(options), MODES)
        _check_options(spec)
        if spec.mode == "sweep":
            parse_options(spec.options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def _checkpoint(folder: Path, data: bytes) -> None:
    """Read bytes as they are; load them with the digest that they should have, if they have one."""
    import agents
    from agents.core.runs.checkpoint import read_agent

    path = folder / "a.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(TerrariumError):
        read_agent(path)
    begin = data.find(_DIGEST) + len(_DIGEST)
    zeros = data[:begin] + b"0" * 64 + data[begin + 64 :]
    digest = hashlib.sha256(zeros).hexdigest().encode()
    path.write_bytes(data[:begin] + digest + data[begin + 64 :])
    agents.load(path, "cpu")


def _checkpoint_bytes() -> list[bytes]:
    import agents

    settings = {"hidden_size": 2, "batch_size": 2, "precision": "fp32"}
    agent = agents.make("seq2seq_adder", task="add2x2", device="cpu", **settings)
    return [agent.checkpoint().to_bytes()]


def _idx(folder: Path, data: bytes) -> None:
    path = folder / "a"
    path.write_bytes(data)
    with contextlib.suppress(TerrariumError):
        read_idx_header(path)
    read_idx(path)


def _idx_bytes() -> list[bytes]:
    import gzip

    whole = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))
    return [whole, gzip.compress(whole), bytes([0, 0, 0x0D, 1, 0, 0, 0, 1]) + bytes(4)]


def _page(folder: Path, data: bytes) -> None:
    image = folder / "0.png"
    if not image.exists():
        Image.new("L", (9, 9)).save(image)
    (folder / "0.xml").write_bytes(data)
    with contextlib.suppress(TerrariumError):
        look(folder, "0.xml", "NFC")
    read_folder(folder, "page_xml", "task pages")


def _lines(folder: Path, data: bytes) -> None:
    (folder / "forms.txt").write_text("".join(f"a0{n}-000 {n:03}\n" for n in range(9)))
    for number in range(9):
        image = folder / f"lines/a0{number}/a0{number}-000/a0{number}-000-00.png"
        if not image.exists():
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9)).save(image)
    (folder / "lines.txt").write_bytes(data)
    iam._index.cache_clear()
    tasks.make("iam", path=str(folder))


def _boxes(name: str, form: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        image = folder / "0.png"
        if not image.exists():
            Image.new("L", (9, 9)).save(image)
        (folder / name).write_bytes(data)
        return read_folder(folder, form, "task pages")  # type: ignore[arg-type]

    return read


def _image(folder: Path, data: bytes) -> None:
    path = folder / "a.png"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about what it repairs
        for read in (
            lambda: read_size(path, "a", "an image", is_one_page=True),
            lambda: read_pixels(path, (3, 8, 8), "a", "an image"),
        ):
            with contextlib.suppress(TerrariumError):
                read()
        read_grey_pixels(path, "a", "an image")


def _image_bytes() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    found = []
    for form in _FORMATS:
        with contextlib.suppress(OSError, KeyError):  # Pillow was built without it
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, form)
            found.append(data.getvalue())
    return found


TARGETS: Mapping[str, Target] = {
    "settings": Target(_settings, lambda: [b"agent: seq2seq_adder\ntask: add2x2\nseed: 8\n"]),
    "options": Target(_options, lambda: [
        b"--set\nhidden_size=8\n--seed\n3", b"--mode\nsweep\n--grid=seed=1,2",
        b"--mode\nsweep\n--search=learning_rate=1e-4..0.1:log\n--search=cell=a,b\n--seeds=0,1",
        b"--mode\nsweep\n--grid=agent=seq2seq_adder,adding_lstm\n--set=hidden_size=8",
    ]),
    "checkpoint": Target(_checkpoint, _checkpoint_bytes),
    "idx": Target(_idx, _idx_bytes),
    "page_xml": Target(_page, lambda: [_PAGE.encode()]),
    "alto": Target(_page, lambda: [_ALTO.encode()]),
    "iam": Target(_lines, lambda: [_IAM]),
    "coco": Target(_boxes("0.json", "coco"), lambda: [_COCO.encode()]),
    "yolo": Target(_boxes("0.txt", "yolo"), lambda: [_SHARE.encode(), b"", b"classes"]),
    "image": Target(_image, _image_bytes),
}  # fmt: skip
