"""kraken on pages with PAGE XML: train a reader, read lines that are given, find lines.

It runs in kraken's own environment, with one thread and on the CPU:

    python -m benchmarks.peers.kraken_reader compile DATA CACHE
    python -m benchmarks.peers.kraken_reader train CACHE RUN --minutes 30 [--spec …] [--passes 25]
    python -m benchmarks.peers.kraken_reader read RUN DATA/test ANSWERS.json
    python -m benchmarks.peers.kraken_reader segment DATA/test BOXES.json

`train` is `ketos train` with the same modules and settings, which stops after some minutes, and
continues an earlier run of its folder. The learning curve is `curve.jsonl`. Lines are extracted
from their pages once, by `compile`, as `ketos compile` does: with `ketos train -f page` each pass
opens the whole page again for each of its lines.
"""

import argparse
import json
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from kraken.configs import (
    RecognitionInferenceConfig,
    SegmentationInferenceConfig,
    VGSLRecognitionTrainingConfig,
    VGSLRecognitionTrainingDataConfig,
)
from kraken.lib.arrow_dataset import build_binary_dataset
from kraken.lib.xml import XMLPage
from kraken.models.convert import convert_models
from kraken.tasks import RecognitionTaskModel, SegmentationTaskModel
from kraken.train import KrakenTrainer
from kraken.train.vgsl import VGSLRecognitionDataModule, VGSLRecognitionModel
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image

from benchmarks.peers.common import report

SPLITS = ("train", "validation")
_LAST, _CURVE = "last.ckpt", "curve.jsonl"
_SAVE_EVERY = 120  # seconds
_NUM_READ = 16  # lines that are read at once


def compile_lines(data: Path, cache: Path) -> None:
    """Extract the lines of training and validation pages into a file each."""
    cache.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        target, part = cache / f"{split}.arrow", cache / f"{split}.part"
        if not target.exists():
            files = sorted(map(str, (data / split).glob("*.xml")))
            build_binary_dataset(files, str(part), format_type="page")
            part.rename(target)


class Clock(Callback):
    """Writes the learning curve, saves now and then, and ends the training in time.

    `spent` are seconds of all sessions; CPU seconds decide, which with one thread are those of a
    quiet machine.
    """

    def __init__(self, run: Path, minutes: float) -> None:
        self.run, self.minutes = run, minutes
        curve = _curve(run)
        self.before = curve[-1] if curve else {"wall_seconds": 0.0, "cpu_seconds": 0.0}
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.saved = self.wall

    @property
    def spent(self) -> dict[str, float]:
        """Seconds of all sessions."""
        return {
            "wall_seconds": self.before["wall_seconds"] + time.perf_counter() - self.wall,
            "cpu_seconds": self.before["cpu_seconds"] + time.process_time() - self.cpu,
        }

    @property
    def is_over(self) -> bool:
        """Whether the minutes are over."""
        return self.spent["cpu_seconds"] > 60 * self.minutes

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Save if it is time to, and stop if all of it is over."""
        trainer.should_stop = trainer.should_stop or self.is_over
        if time.perf_counter() - self.saved > _SAVE_EVERY:
            self._save(trainer)

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        """Write the accuracy of characters."""
        self._write(trainer)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """Save."""
        self._save(trainer)

    def _save(self, trainer: Any) -> None:
        trainer.save_checkpoint(self.run / _LAST)
        self.saved = time.perf_counter()
        self._write(trainer)

    def _write(self, trainer: Any) -> None:
        """Append a line to the curve."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        entry = {"step": trainer.global_step, "pass": trainer.current_epoch, **self.spent}
        with (self.run / _CURVE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**entry, **metrics}) + "\n")


def _curve(run: Path) -> list[dict[str, float]]:
    path = run / _CURVE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(cache: Path, run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train until the passes or the minutes are over, those of earlier sessions included."""
    seed_everything(0, verbose=False)
    run.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "training_data": [str(cache / "train.arrow")],
        "evaluation_data": [str(cache / "validation.arrow")], "partition": 1,
        "format_type": "binary", "normalization": "NFC", "num_workers": 0,
        "batch_size": options.batch, "checkpoint_path": str(run), "quit": "fixed",
        "epochs": options.passes, "schedule": options.schedule,
    }  # fmt: skip
    settings |= {"spec": options.spec} if options.spec else {}
    settings |= {"lrate": options.lrate} if options.lrate else {}
    config = VGSLRecognitionTrainingConfig(**settings)
    clock = Clock(run, options.minutes)
    best = ModelCheckpoint(
        dirpath=run, filename="best", monitor="val_metric", mode="max", save_top_k=1,
        enable_version_counter=False,
    )  # fmt: skip
    trainer = KrakenTrainer(
        accelerator="cpu", devices=1, max_epochs=options.passes, min_epochs=0,
        enable_progress_bar=False, enable_summary=False, callbacks=[clock, best],
        gradient_clip_val=config.gradient_clip_val, num_sanity_val_steps=0,
    )  # fmt: skip
    data = VGSLRecognitionDataModule(VGSLRecognitionTrainingDataConfig(**settings))
    last = run / _LAST
    model = VGSLRecognitionModel(config)
    if not clock.is_over:
        trainer.fit(model, data, ckpt_path=str(last) if last.exists() else None)
    return {**_curve(run)[-1], **clock.spent}


def _weights(run: Path) -> Path:
    """Return the best weights of a run, or its last ones if none was validated, as kraken saves."""
    saved = run / "best.ckpt" if (run / "best.ckpt").exists() else run / _LAST
    target = run / "reader.safetensors"
    return Path(convert_models([str(saved)], target, weights_format="safetensors"))


def read(run: Path, pages: Path, target: Path) -> dict[str, Any]:
    """Read the lines of pages, as their XML has them; write texts by page and line."""
    model = RecognitionTaskModel.load_model(_weights(run))
    config = RecognitionInferenceConfig(
        accelerator="cpu", device=1, batch_size=_NUM_READ, num_line_workers=0, num_threads=1
    )
    texts, network = dict[str, str](), _timed(model.net, "_rec_predict")
    cpu, num = 0.0, 0
    for path in sorted(pages.glob("*.xml")):
        page = XMLPage(path, filetype="page").to_container()
        image = Image.open(page.imagename)
        image.load()
        begun = time.process_time()
        records = list(model.predict(image, page, config))
        cpu += time.process_time() - begun
        num += len(records)
        for line, record in zip(page.lines, records, strict=True):
            texts[f"{path.stem} {line.id}"] = record.prediction
    target.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    parameters = sum(p.numel() for p in model.net.parameters())
    return {
        "num": num, "ms": 1000 * network[0] / num, "ms_with_lines": 1000 * cpu / num,
        "parameters": parameters,
    }  # fmt: skip


def _timed(model: Any, method: str) -> list[float]:
    """Return a list whose one number becomes the CPU seconds that a method takes."""
    spent, call = [0.0], getattr(model, method)

    def timed(*arguments: Any, **named: Any) -> Any:
        begun = time.process_time()
        try:
            return call(*arguments, **named)
        finally:
            spent[0] += time.process_time() - begun

    setattr(model, method, timed)
    return spent


def segment(pages: Path, target: Path) -> dict[str, Any]:
    """Find the lines of pages by the segmenter that comes with kraken; write their boxes."""
    model = SegmentationTaskModel.load_model()
    config = SegmentationInferenceConfig(accelerator="cpu", device=1, num_threads=1)
    boxes, cpu = dict[str, list[list[float]]](), 0.0
    for path in _images(pages):
        image = Image.open(path)
        image.load()
        begun = time.process_time()
        found = model.predict(image, config)
        cpu += time.process_time() - begun
        boxes[path.stem] = [_box(line.boundary) for line in found.lines if line.boundary]
    target.write_text(json.dumps(boxes), encoding="utf-8")
    return {"num": len(boxes), "ms": 1000 * cpu / len(boxes)}


def _images(pages: Path) -> Iterator[Path]:
    for path in sorted(pages.glob("*.xml")):
        yield next(p for p in sorted(pages.glob(f"{path.stem}.*")) if p.suffix != ".xml")


def _box(boundary: list[tuple[float, float]]) -> list[float]:
    x, y = zip(*boundary, strict=True)
    return [float(min(x)), float(min(y)), float(max(x)), float(max(y))]


def main() -> None:
    """Do one of the four, and print what it took."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parse.add_subparsers(dest="mode", required=True).add_parser
    for mode, names in (
        ("compile", ("data", "cache")), ("train", ("cache", "run")),
        ("read", ("run", "pages", "target")), ("segment", ("pages", "target")),
    ):  # fmt: skip
        sub = add(mode)
        for name in names:
            sub.add_argument(name, type=Path)
        if mode == "train":
            sub.add_argument("--minutes", type=float, default=30.0, help="of CPU time")
            sub.add_argument("--spec", default="", help="VGSL; empty: kraken's default network")
            sub.add_argument("--passes", type=int, default=50)
            sub.add_argument("--batch", type=int, default=1, help="lines in a step")
            sub.add_argument("--lrate", type=float, default=0.0, help="0: kraken's default")
            sub.add_argument("--schedule", default="constant")
    options = parse.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    match options.mode:
        case "compile":
            compile_lines(options.data, options.cache)
        case "train":
            found = train(options.cache, options.run, options)
        case "read":
            found = read(options.run, options.pages, options.target)
        case "segment":
            found = segment(options.pages, options.target)
    versions = {"kraken": metadata.version("kraken"), "torch": torch.__version__}
    report(**found, versions=versions)


if __name__ == "__main__":
    main()
