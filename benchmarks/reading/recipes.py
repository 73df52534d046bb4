"""Recipes: what the benchmark of readers trains, and where it reads; these tables are to be edited.

A recipe is a run folder with its name. Whatever is changed here but `steps` makes another run: the
folder of the earlier one then has to go, or `--runs` to name another place.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from agents.core.config import read_file
from benchmarks.peers.common import ROOT

Settings = Mapping[str, Any]


def _file(name: str) -> tuple[Settings, Settings]:
    """Return the settings of the task, and of the agent, of a file of `configs`, without names."""
    settings = {key: one.value for key, one in read_file(ROOT / "configs" / name).items()}
    task = {key[5:]: value for key, value in settings.items() if key.startswith("task.")}
    agent = {key: value for key, value in settings.items() if not key.startswith("task.")}
    del task["name"], agent["agent"]
    return task, agent


_LINES, _PAGES = _file("reader_of_pages.yaml")
_BOXES, _DETECTOR = _file("lines_of_pages.yaml")
HEIGHT = int(_LINES["height"])  # pixels of a line of the registers


@attrs.frozen
class Data:
    """Data: a task with its settings, and what its test split withholds.

    Attributes:
        task: its registered name.
        withheld: what of the test is not in the training; it is with every score.
        settings: of the task.
        folder: within the folder of `--data`, where the task reads files.
        num_passes: passes over the training split whose texts language model and lexicon are made
            of; one, unless each pass has other texts.
    """

    task: str
    withheld: str
    settings: Settings = attrs.Factory(dict)
    folder: str | None = None
    num_passes: int = 1


@attrs.frozen
class Recipe:
    """Recipe: an agent that learns from data, and where and how it reads.

    Attributes:
        agent: its registered name.
        data: name of the data that it learns from, and whose test it reads.
        settings: of the agent.
        decoders: names such as `beam + LM`, see `benchmarks.reading.decoders`; empty: the answers
            of an agent that has none.
        also_on: names of other data, of which it reads the test too.
        init_from: name of the recipe whose best weights it begins with.
    """

    agent: str
    data: str
    settings: Settings = attrs.Factory(dict)
    decoders: tuple[str, ...] = ("",)
    also_on: tuple[str, ...] = ()
    init_from: str | None = None


@attrs.frozen
class PageRecipe:
    """Recipe of whole pages: one agent finds the lines, another one reads them.

    Attributes:
        data: name of pages with lines, whose test is read.
        detector: name of the recipe whose agent finds the boxes of lines.
        reader: name of the recipe whose agent reads them.
        decoders: as in `Recipe`.
    """

    data: str
    detector: str
    reader: str
    decoders: tuple[str, ...] = ("greedy",)


@attrs.frozen
class PeerRecipe:
    """Recipe of kraken: a reader that it trains, or the segmenter that comes with it.

    Attributes:
        data: name of the data: lines or pages of files.
        training: arguments of `benchmarks.peers.kraken_reader train`; None: nothing is trained.
    """

    data: str
    training: tuple[str, ...] | None = None


DATA = {
    "digit strings": Data("digit_strings", "scans"),
    "words, unseen words": Data(
        "handwriting", "words", {"unseen": "words"}, num_passes=8
    ),
    "words, unseen writers": Data("handwriting", "writers", {"unseen": "writers"}, num_passes=8),
    "words, both unseen": Data(
        "handwriting", "words and writers", {"unseen": "both"}, num_passes=8
    ),
    "lines of 1878": Data("page_xml", "blocks of pages", _LINES, "1878"),
    "lines of 1858": Data("page_xml", "blocks of pages", _LINES, "1858"),
    "digit pages": Data("digit_pages", "scans"),
    "pages of 1878": Data("pages", "blocks of pages", {"format": "page_xml", **_BOXES}, "1878"),
    "whole pages of 1878": Data("page_xml", "blocks of pages", _LINES, "1878"),
}  # fmt: skip

_CTC = ("greedy", "beam")
_ATTENTION = ("greedy", "attention", "joint")
_LM = ("beam + LM",)
_JOINT_LM = ("joint + LM",)
_OTHER_WORDS = ("words, unseen writers", "words, both unseen")

# The encoder of our readers, size small, in kraken's language: the last pool is the maximum over
# the height; group normalisation, as it has no other.
KRAKEN_SMALL = (
    f"[16,{HEIGHT},0,1 Cr3,3,16 Gn8 Mp2,2 Cr3,3,32 Gn8 Mp2,2 Cr3,3,48 Gn8 Mp2,1 Cr3,3,64 Gn8 Mp2,1 "
    f"Mp{HEIGHT // 16},1 Do0.2,2 Lbx64 Do0.2,2]"
)

RECIPES: dict[str, Recipe | PageRecipe | PeerRecipe] = {
    "digits-ctc": Recipe("ctc_reader", "digit strings", {"steps": 500}, _CTC),
    "digits-attention": Recipe("attention_reader", "digit strings", {"steps": 1_000}, _ATTENTION),
    "words-ctc": Recipe(
        "ctc_reader", "words, unseen words", {"size": "medium", "steps": 2_500}, (*_CTC, *_LM),
        _OTHER_WORDS,
    ),
    "words-attention": Recipe(
        "attention_reader", "words, unseen words", {"size": "medium", "steps": 2_500},
        (*_ATTENTION, *_JOINT_LM), _OTHER_WORDS,
    ),
    "1878-ctc": Recipe(
        "ctc_reader", "lines of 1878", _PAGES,
        (*_CTC, *_LM, "beam + lexicon"), ("lines of 1858",),
    ),
    "1878-ctc-small": Recipe(  # as many passes as kraken-small
        "ctc_reader", "lines of 1878", {**_PAGES, "size": "small", "steps": 292}, ("greedy",)
    ),
    "1878-ctc-longer": Recipe(
        "ctc_reader", "lines of 1878", {**_PAGES, "steps": 4_000}, (*_CTC, *_LM),
        init_from="1878-ctc",
    ),
    "1878-attention": Recipe(
        "attention_reader", "lines of 1878", {**_PAGES, "steps": 2_000}, (*_ATTENTION, *_JOINT_LM),
        ("lines of 1858",), init_from="1878-ctc",
    ),
    "1858-ctc": Recipe(
        "ctc_reader", "lines of 1858", {**_PAGES, "steps": 700}, (*_CTC, *_LM), init_from="1878-ctc"
    ),
    "1858-attention": Recipe(
        "attention_reader", "lines of 1858", {**_PAGES, "steps": 700}, (*_ATTENTION, *_JOINT_LM),
        init_from="1878-attention",
    ),
    "digit-pages": Recipe("yolo_detector", "digit pages"),
    "1878-pages": Recipe("yolo_detector", "pages of 1878", _DETECTOR),
    "1878-whole-pages": PageRecipe(
        "whole pages of 1878", "1878-pages", "1878-ctc-longer", ("greedy", *_LM)
    ),
    "kraken-small": PeerRecipe(
        "lines of 1878",
        ("--spec", KRAKEN_SMALL, "--passes", "2", "--batch", "16", "--lrate", "0.002",
         "--schedule", "1cycle", "--minutes", "180"),
    ),
    "kraken-default": PeerRecipe("lines of 1878", ("--batch", "16", "--minutes", "30")),
    "kraken-segmenter": PeerRecipe("pages of 1878"),
}  # fmt: skip

# A language model is of texts of the training split only; its weights are tuned on validation.
LM_ORDER = 6
TUNING: Settings = {
    "weights": (0.0, 0.25, 0.5, 0.75, 1.0), "bonuses": (0.0, 1.0, 2.0), "beam_size": 10,
}  # fmt: skip
NUM_TUNING_LINES = 100
BATCH_SIZE = 32  # lines or pages that are read at once
NUM_WORST = 12  # lines on the page of errors, of each row
