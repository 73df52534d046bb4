"""The benchmark of readers: what is trained once, what is named, what the table says."""

import csv
import io
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

import agents
from agents.core.pages import PageReader
from benchmarks.environments import Prepared
from benchmarks.reading import command, errors, peers, recipes, scores, tables
from benchmarks.reading.errors import Error
from benchmarks.reading.options import add_options
from benchmarks.reading.page import page
from benchmarks.reading.recipes import Data, PageRecipe, PeerRecipe, Recipe
from benchmarks.reading.runs import Place
from benchmarks.reading.scores import Score
from tasks.core.registry import look_up
from tasks.core.settings import ConfigError
from tasks.handwriting.page_format import Page, TextLine, read_page
from tasks.handwriting.page_writing import write_page

TINY = {"steps": 2, "batch_size": 4, "eval_samples": 4, "log_every": 1}
TEXTS = {"train": "abba", "validation": "ab", "test": "bab"}


def score(**changes: Any) -> Score:
    """Return a score of four lines."""
    return Score(
        **{
            "recipe": "1878-ctc", "agent": "ctc_reader", "data": "lines of 1878",
            "learned_from": "lines of 1878", "split": "test: unseen blocks of pages",
            "decoder": "beam + LM", "num": 4, "parameters": 5678, "ms": 12.345,
            "values": {"cer": 0.0789, "wer": 0.25, "exact": 0.5},
            "train_wall_seconds": 60.0, "train_cpu_seconds": 1234.5, "threads": 1, **changes,
        }
    )  # fmt: skip


def add_pages(folder: Path) -> None:
    """Make one page of two lines in each split."""
    rng = np.random.default_rng(0)
    for split, text in TEXTS.items():
        (folder / split).mkdir(parents=True)
        pixels = rng.integers(0, 255, (90, 160), np.uint8)
        lines = []
        for number, top in enumerate((5, 45)):
            corners = np.array([[5, top], [155, top], [155, top + 36], [5, top + 36]])
            baseline = np.array([[5, top + 28], [155, top + 28]])
            lines.append(TextLine(f"l{number}", corners, baseline, f"{text} {text}"))
        Image.fromarray(pixels).save(folder / split / f"{split}.png")
        write_page(folder / split / f"{split}.xml", Page(f"{split}.png", 90, 160, lines))


def run(folder: Path, *options: str) -> dict[str, Any]:
    """Run the command with few samples, and return its figures."""
    parse = ArgumentParser()
    add_options(parse)
    parse.add_argument("--set", action="append", default=[])
    parse.add_argument("--limit", type=int, default=3)
    return command.measure(parse.parse_args(["--runs", str(folder / "runs"), *options]))


@pytest.fixture
def only_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the table have two recipes: pages as they are in a folder, and pages that are missing."""
    settings = {"height": 32}
    data = {
        "pages": Data("page_xml", "pages", settings, "few"),
        "other pages": Data("page_xml", "pages", settings, "missing"),
        "boxes": Data("pages", "pages", {"size": 64}, "few"),
    }
    decoders = ("greedy", "beam + LM", "beam + lexicon")
    table = {
        "here": Recipe("ctc_reader", "pages", TINY, decoders, ("other pages",)),
        "tuned": Recipe("ctc_reader", "pages", TINY, init_from="here", decoders=("greedy",)),
        "elsewhere": Recipe("ctc_reader", "other pages", TINY, ("greedy",)),
        "boxes": Recipe("yolo_detector", "boxes", {"steps": 1, "batch_size": 1}),
        "whole": PageRecipe("pages", "boxes", "here"),
    }
    for module in (recipes, command):
        monkeypatch.setattr(module, "RECIPES", table)
    monkeypatch.setattr(recipes, "DATA", data)
    for name in ("runs", "scores", "peers", "whole_pages"):
        monkeypatch.setattr(f"benchmarks.reading.{name}.DATA", data)


@pytest.mark.usefixtures("only_pages")
def test_a_finished_run_is_loaded_and_its_scores_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call takes no step, reads no line, and prints the same table."""
    add_pages(tmp_path / "few")
    options = ("--data", str(tmp_path), "--only", "here")
    figures = run(tmp_path, *options)
    assert [row["decoder"] for row in figures["scores"]] == [
        "greedy",
        "beam + LM",
        "beam + lexicon",
    ]
    assert figures["scores"][0]["train_cpu_seconds"] > 0

    def refuse(*_: Any) -> None:
        raise AssertionError("was called again")

    for name in ("loss", "predict_batch"):
        monkeypatch.setattr(f"agents.ctc_reader.CtcReader.{name}", refuse)
    assert run(tmp_path, *options) == figures


@pytest.mark.usefixtures("only_pages")
def test_data_that_are_missing_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    """A recipe without its data, and other data to read, are left out with the reason."""
    add_pages(tmp_path / "few")
    figures = run(tmp_path, "--data", str(tmp_path))
    assert {row["recipe"] for row in figures["scores"]} == {"here", "tuned", "boxes", "whole"}
    assert figures["left_out"].keys() == {"here on other pages", "elsewhere"}
    assert all("missing is not a folder" in reason for reason in figures["left_out"].values())
    assert str(tmp_path) not in json.dumps(figures)  # which results.json keeps
    written = (tmp_path / "runs" / "table.md").read_text(encoding="utf-8")
    assert "- elsewhere is left out: " in written
    assert "elsewhere is left out: " in (tmp_path / "runs" / "errors.html").read_text("utf-8")


@pytest.mark.usefixtures("only_pages")
def test_no_decoder_has_what_belongs_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy after beam + LM, on other data too, has no language model, and so on."""
    add_pages(tmp_path / "few")
    add_pages(tmp_path / "missing")
    used: list[tuple[str, bool, bool]] = []
    measured = scores._measured

    def noting(agent: Any, *arguments: Any) -> dict[str, Any]:
        config = agent.config
        used.append((config.decoder, bool(config.language_model), bool(config.lexicon)))
        return measured(agent, *arguments)

    monkeypatch.setattr(scores, "_measured", noting)
    run(tmp_path, "--data", str(tmp_path), "--only", "here")
    assert used == 2 * [("greedy", False, False), ("beam", True, False), ("beam", False, True)]


@pytest.mark.usefixtures("only_pages")
def test_a_language_model_and_a_lexicon_are_of_training_texts(tmp_path: Path) -> None:
    """Their files have what the training lines say, and nothing of validation and test."""
    add_pages(tmp_path / "few")
    run(tmp_path, "--data", str(tmp_path), "--only", "here")
    assert (tmp_path / "runs" / "here" / "words.txt").read_text() == "abba"
    grams = (tmp_path / "runs" / "here" / "characters.arpa").read_text()
    assert "\ta b b a" in grams
    assert "b a b" not in grams


@pytest.mark.usefixtures("only_pages")
def test_an_interrupted_run_goes_on_and_its_time_is_that_of_all_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption only the steps that are left are taken, and the seconds add up."""
    add_pages(tmp_path / "few")
    options = ("--data", str(tmp_path), "--only", "here")
    calls: list[int] = []
    from agents.ctc_reader import CtcReader

    loss = CtcReader.loss

    def interrupted(self: Any, batch: Any) -> Any:
        calls.append(self.state.cursor.step)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(CtcReader, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *options, "--set", "save_every=1")
    sessions = json.loads((tmp_path / "runs" / "here" / "sessions.json").read_text())
    assert [step for *_, step in sessions] == [1]
    figures = run(tmp_path, *options, "--set", "save_every=1")
    sessions = json.loads((tmp_path / "runs" / "here" / "sessions.json").read_text())
    assert [step for *_, step in sessions] == [1, 2]
    row = figures["scores"][0]
    assert row["train_wall_seconds"] == pytest.approx(sum(wall for wall, *_ in sessions))
    assert row["complete"]


@pytest.mark.usefixtures("only_pages")
def test_a_peer_is_scored_by_the_same_function_and_lines_it_did_not_read_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its texts are normalised as ours; of two lines of 7 letters one is missing: CER 50 %."""
    add_pages(tmp_path / "few")

    def run_peer(job: Any, mode: str, *arguments: str) -> dict[str, Any]:
        if mode == "read":
            Path(arguments[-1]).write_text(json.dumps({"test l0": " bab  bab"}))
        return {"ms": 5.0, "ms_with_lines": 9.0, "parameters": 7, "pass": 3,
                "wall_seconds": 2.0, "cpu_seconds": 1.0}  # fmt: skip

    monkeypatch.setattr(peers, "_run", run_peer)
    monkeypatch.setattr(peers, "prepare", lambda _: Prepared(Path("python")))
    place = Place(tmp_path / "runs", tmp_path)
    (found,) = peers.scores_of("peer", PeerRecipe("pages", ()), place)
    assert found.values == {"cer": 0.5, "wer": 0.5, "exact": 0.5}
    assert (found.worst[0].name, found.worst[0].num) == ("test/test l1", 7)
    assert "1 lines were not read, such as test/test l1" in capsys.readouterr().err


@pytest.mark.usefixtures("only_pages")
def test_a_line_that_is_not_found_on_a_whole_page_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two lines of 7 letters the detector finds one, which is read rightly: page CER 50 %."""
    add_pages(tmp_path / "few")

    def read(self: PageReader, path: Path) -> Page:
        return attrs.evolve(page := read_page(path.with_suffix(".xml")), lines=page.lines[:1])

    monkeypatch.setattr(PageReader, "read", read)
    figures = run(tmp_path, "--data", str(tmp_path), "--only", "whole")
    (row,) = figures["scores"]
    assert row["values"] == {"cer": 0.5, "wer": 0.5}
    assert (row["settings"]["missed"], row["settings"]["extra"]) == (0.5, 0.0)
    assert (row["num"], row["agent"]) == (1, "yolo_detector, ctc_reader")


def test_the_table_has_the_split_with_every_score() -> None:
    """Rates are in percent, empty columns are left out, a killed process makes a lower bound."""
    pages = score(
        agent="yolo_detector", decoder="", values={"AP50": 1.0, "mAP": 0.5}, complete=False
    )
    lines = tables.markdown([score()]).splitlines()
    assert "AP50" not in lines[0]
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells[1:3] == ["lines of 1878", "test: unseen blocks of pages"]
    assert {"7.89", "25.00", "50.00", "12.3", "5,678", "1,234", "60"} <= set(cells)
    assert "≥ 60" in tables.markdown([score(), pages])
    assert len({line.count("|") for line in tables.markdown([score(), pages]).splitlines()}) == 1


def test_comma_separated_values_have_all_digits() -> None:
    """A row reads back with its scores and the settings of its decoder."""
    settings = {"lm_weight": 0.5, "length_bonus": 1.0}
    row = next(csv.DictReader(io.StringIO(tables.comma_separated([score(settings=settings)]))))
    assert float(row["cer"]) == 0.0789
    assert (row["split"], row["AP50"]) == ("test: unseen blocks of pages", "")
    assert row["settings"] == "lm_weight=0.5;length_bonus=1.0"


def test_the_page_marks_what_differs_and_writes_no_text_as_html() -> None:
    """Letters that differ are marked in both texts, and a text with < stays a text."""
    error = Error(name="page l", num=1, right="a<b", read="a<c", picture="")
    written = page([score(worst=[error])], {})
    assert "a&lt;<ins>b</ins>" in written
    assert "a&lt;<del>c</del>" in written


def test_differences_cover_both_texts() -> None:
    """The pieces of each text, put together, are the text; those that are equal are not marked."""
    read, right = errors.differences("kitten", "sitting")
    assert ("".join(t for t, _ in read), "".join(t for t, _ in right)) == ("kitten", "sitting")
    assert [t for t, differs in right if differs] == ["s", "i", "g"]
    assert errors.differences("", "ab") == ([], [("ab", True)])


def test_a_recipe_that_is_unknown_is_named_with_the_nearest() -> None:
    """`--only` accepts patterns, and refuses one that names none."""
    assert command.chosen(["digits-*"]) == ["digits-ctc", "digits-attention"]
    with pytest.raises(ConfigError, match="did you mean digits-ctc"):
        command.chosen(["digitz-ctc"])


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_names_what_exists(name: str) -> None:
    """Its data, and the recipe it begins with, are in the tables; settings are the agent's."""
    recipe = recipes.RECIPES[name]
    assert recipe.data in recipes.DATA
    if isinstance(recipe, PageRecipe):
        for part in (recipe.detector, recipe.reader):
            assert isinstance(recipes.RECIPES[part], Recipe)
    if isinstance(recipe, Recipe):
        assert set(recipe.also_on) <= recipes.DATA.keys()
        assert recipe.init_from is None or recipe.init_from in recipes.RECIPES
        entry = look_up(recipe.agent, agents.AGENTS)
        assert entry is not None
        config = entry.load_config()
        assert recipe.settings.keys() <= {field.name for field in attrs.fields(config)}
