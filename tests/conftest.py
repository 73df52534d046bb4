"""One thread and fixed seeds for every test: nothing here may depend on luck or on a clock."""

import atexit
import functools
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import agents
import tasks
from agents.conformance import Candidate
from agents.core.agent import Agent
from agents.core.analysis.states import exact, same, weights
from tasks.core.settings import fields, to_values
from tasks.core.task import Task
from tasks.handwriting.page_format import Page, TextLine
from tasks.handwriting.page_writing import write_page

__all__ = ["exact", "same", "weights"]  # to the bit: what most tests compare
SMALL = {
    "hidden_size": 16, "steps": 12, "batch_size": 16, "eval_every": 4, "eval_samples": 32,
    "save_every": 3, "log_every": 2, "histograms_every": 1, "precision": "fp32",
}  # a run of a second  # fmt: skip

FEW_SETS = {"num_train": 600, "num_validation": 200, "num_test": 200}
SMALL_TASKS: dict[str, dict[str, Any]] = {
    "parity": {"length": 200},
    "mod3": {"length": 200},
    "digit_strings": {"height": 16, "most_digits": 3},
    "digit_pages": {"size": 64, "max_digits": 6},
    **dict.fromkeys(
        ["max_difference", "furthest_pair", "monster_trainer", "shortest_path"], FEW_SETS
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, and leave the global generator as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


def idx_bytes(numbers: np.ndarray) -> bytes:
    """Return an array of bytes as an idx file holds it."""
    sizes = struct.pack(f">{numbers.ndim}I", *numbers.shape)
    return bytes([0, 0, 0x08, numbers.ndim]) + sizes + numbers.astype(np.uint8).tobytes()


def temporary_folder() -> Path:
    """Return a new folder that is removed when the tests end."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


@functools.cache
def scan_files() -> dict[str, str]:
    """Return settings that name files of 400 small scans, as tasks that need files take them."""
    folder = temporary_folder()
    scans = np.random.default_rng(0).integers(0, 256, (400, 8, 8))
    arrays = {"images": scans, "labels": np.arange(400) % 10}
    paths = {name: folder / f"digits-{name}" for name in arrays}
    for name, path in paths.items():
        path.write_bytes(idx_bytes(arrays[name]))
    return {name: str(path) for name, path in paths.items()}


@functools.cache
def picture_files() -> dict[str, str]:
    """Return settings that name a folder of 180 small pictures, as image_folder takes them."""
    folder = temporary_folder()
    pixels = np.random.default_rng(0).integers(0, 256, (180, 8, 6, 3)).astype(np.uint8)
    for number, picture in enumerate(pixels):
        label = folder / ("cat", "dog", "owl")[number % 3]
        label.mkdir(exist_ok=True)
        Image.fromarray(picture).save(label / f"{number:03}.png")
    return {"path": str(folder)}


@functools.cache
def line_files() -> dict[str, str]:
    """Return settings that name a folder of 120 small lines, as line_images takes them."""
    folder = temporary_folder()
    rng = np.random.default_rng(0)
    for number in range(120):
        text = "".join("ab"[letter] for letter in rng.integers(0, 2, number % 7 + 1))
        ink = [(rng.random((16, 6)) < (0.3 if letter == "a" else 0.6)) for letter in text]
        pixels = np.pad(255 - 255 * np.hstack(ink).astype(np.uint8), 4, constant_values=255)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.gt.txt").write_text(text)
    return {"path": str(folder)}


@functools.cache
def page_files() -> dict[str, str]:
    """Return settings that name a folder of 12 pages of 6 lines, as page_xml takes them."""
    folder = temporary_folder()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels, lines = np.full((200, 160), 235, np.uint8), []
        for top in range(10, 190, 30):
            text = "".join("ab"[letter] for letter in rng.integers(0, 2, 7))
            for at, letter in enumerate(text):
                ink = rng.random((16, 10)) < (0.3 if letter == "a" else 0.6)
                pixels[top : top + 16, 20 + 14 * at : 30 + 14 * at][ink] = 30
            box = np.array([[15, top - 5], [130, top - 5], [130, top + 22], [15, top + 22]])
            lines.append(
                TextLine(f"l{top}", box, np.array([[15, top + 16], [130, top + 16]]), text)
            )
        Image.fromarray(pixels).save(folder / f"{number}.png")
        write_page(folder / f"{number}.xml", Page(f"{number}.png", 200, 160, lines))
    return {"path": str(folder)}


@functools.cache
def iam_files() -> dict[str, str]:
    """Return settings that name files of 90 lines by 30 writers, as those of the IAM database."""
    root, rng = temporary_folder(), np.random.default_rng(0)
    rows = []
    for form in range(30):
        images = root / f"lines/a{form:02}/a{form:02}-000"
        images.mkdir(parents=True)
        for line in range(3):
            text = "".join("ab"[letter] for letter in rng.integers(0, 2, 5))
            name = f"a{form:02}-000-{line:02}"
            rows.append(f"{name} ok 154 5 10 20 50 16 {text}|ba")
            pixels = np.pad(rng.integers(0, 256, (12, 44)), 3, constant_values=255)
            Image.fromarray(pixels.astype(np.uint8)).save(images / f"{name}.png")
    (root / "lines.txt").write_text("\n".join(rows))
    (root / "forms.txt").write_text("\n".join(f"a{n:02}-000 {n:03} 2 prt" for n in range(30)))
    return {"path": str(root)}


@functools.cache
def boxed_files() -> dict[str, str]:
    """Return settings that name a folder of 60 small pages with boxes, as pages takes them."""
    folder = temporary_folder()
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels, rows = np.full((48, 40), 240, np.uint8), []
        for half in range(number % 3):
            left, wide = int(rng.integers(2, 20)), int(rng.integers(8, 16))
            pixels[4 + 22 * half : 16 + 22 * half, left : left + wide] = rng.integers(0, 90)
            middle = (left + wide / 2) / 40, (10 + 22 * half) / 48
            rows.append(f"{half} {middle[0]} {middle[1]} {wide / 40} {12 / 48}")
        pixels[0, :8] = [250 if number >> bit & 1 else 230 for bit in range(8)]
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text("\n".join(rows))
    return {"path": str(folder)}


def make_task(name: str, **settings: Any) -> Task:
    """Return a registered task by an example of its name, with files if it needs any."""
    of_scans = name in ("mnist", "fashion_mnist", "emnist")
    files = {
        "image_folder": picture_files,
        "line_images": line_files,
        "page_xml": page_files,
        "iam": iam_files,
        "pages": boxed_files,
    }
    if name in files:
        return tasks.make(name, **files[name]())
    return tasks.make(name, **(scan_files() if of_scans else settings))


def small_agent(name: str = "seq2seq_adder", **settings: object) -> Agent:
    """Return a small agent on the first registered task that supplies what it learns from."""
    cls = tasks.find("agent", name, agents.AGENTS, "test").load()
    known = {field: value for field, value in SMALL.items() if field in fields(cls.Config)}
    known |= {
        "curriculum_loss_threshold": None
    }  # on a task's last stage, where every weight counts
    known |= {"num_weight_snapshots": None}
    if "task" in settings:
        return agents.make(name, device="cpu", **(known | settings))
    for pattern, entry in tasks.TASKS.items():
        task = make_task(entry.example or pattern, **SMALL_TASKS.get(pattern, {}))
        if isinstance(task.spec, cls.spec_type):
            return agents.make(name, task=task, device="cpu", **(known | settings))
    raise AssertionError(f"no task supplies a {cls.spec_type.__name__}")


@functools.cache
def candidate(name: str) -> Candidate:
    """Return a registered agent, small, as the conformance suite checks it."""
    agent = small_agent(name)
    return Candidate(type(agent), agent.task, to_values(agent.config))


def trained_agent(name: str, **settings: object) -> Agent:
    """Return an agent that has learned, with one thread: for fixtures of a whole module."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    agent = agents.make(name, device="cpu", precision="fp32", **settings).learn()
    torch.set_num_threads(before)
    return agent


def wild(agent: Agent) -> Agent:
    """Give an adder large weights, so that what it writes depends on what it read."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.uniform_(-1, 1)
        agent.model.readout.weight.mul_(4)
    return agent


def in_double(agent: Agent) -> Agent:
    """Let a model of characters compute in double precision.

    Two ways of computing the same then agree to 1e-9 on any CPU, also with large weights, which
    single precision does not promise.
    """
    agent.model.double()
    agent.model.characters.register_forward_hook(lambda module, args, vectors: vectors.double())
    return agent
