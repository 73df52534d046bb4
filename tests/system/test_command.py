"""The command line: every mistake has its exit code and a message that helps."""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import agents
from agents.core.config import read_value
from main import main
from tests.system.test_run import COMMAND

NAMED = ["--agent", "seq2seq_adder", "--task", "add3x2"]

# A row: arguments (FILE is the path of a config file with the text that follows), the text, the
# exit code, and what the message must name: place, field, value, what is accepted, nearest name.
BAD: list[tuple[list[str], str, int, list[str]]] = [
    # names
    (["--agent", "seq2seq_ader", "--task", "add3x3"], "", 2,
     ["--agent", "'seq2seq_ader'", "accepted: seq2seq_adder", "did you mean seq2seq_adder?"]),
    (["--agent", "seq2seq_adder", "--task", "ad3x3"], "", 2,
     ["--task", "'ad3x3'", "add<digits>x<terms>", "did you mean add3x3?"]),
    (["--agent", "seq2seq_adder", "--task", "add0x3"], "", 2, ["'add0x3'", "add<digits>x<terms>"]),
    (["--agent", "seq2seq_adder", "--task", "add12x3"], "", 2,
     ["task 'add12x3'", "digits: 12 is out of range", "an integer ≥ 1 and ≤ 9"]),
    (["--agent", "seq2seq_adder", "--task", "add3x1"], "", 2,
     ["terms: 1 is out of range", "an integer ≥ 2 and ≤ 9"]),
    (["--agent", "seq2seq_adder"], "", 2, ["--task", "--task: is required", "add<digits>x<terms>"]),
    (["--task", "add3x3"], "", 2, ["--agent", "--agent: is required", "seq2seq_adder"]),
    ([*NAMED, "--mode", "trian"], "", 2,
     ["--mode", "'trian'", "train, evaluate, predict", "did you mean train?"]),
    # options
    ([*NAMED, "--sead", "3"], "", 2, ["unknown option '--sead'", "did you mean --seed?"]),
    ([*NAMED, "--device", "gpu"], "", 2, ["--device", "'gpu'", "auto", "cpu", "cuda", "mps"]),
    ([*NAMED, "--seed", "x"], "", 2, ["--seed", "seed: 'x' has the wrong type", "an integer ≥ 0"]),
    ([*NAMED, "--seed", "-1"], "", 2, ["--seed", "seed: -1 is out of range", "an integer ≥ 0"]),
    ([*NAMED, "--seed", "1.5"], "", 2, ["--seed", "seed: 1.5 has the wrong type"]),
    ([*NAMED, "--resume", "nowhere.safetensors"], "", 2,
     ["--resume: nowhere.safetensors does not exist", "auto, never, or a checkpoint file"]),
    # --set
    ([*NAMED, "--set", "hiden_size=64"], "", 2,
     ["--set hiden_size", "unknown setting 'hiden_size'", "did you mean hidden_size?"]),
    ([*NAMED, "--set", "hidden_size"], "", 2, ["--set", "expected name=value, found 'hidden_size'",
                                               "name=value, such as hidden_size=64"]),
    ([*NAMED, "--set", "=64"], "", 2, ["--set", "expected name=value, found '=64'", "name=value"]),
    ([*NAMED, "--set", "hidden_size=many"], "", 2,
     ["--set hidden_size", "hidden_size: 'many' has the wrong type", "an integer ≥ 1"]),
    ([*NAMED, "--set", "hidden_size=3.7"], "", 2, ["hidden_size: 3.7 has the wrong type"]),
    ([*NAMED, "--set", "hidden_size=true"], "", 2, ["hidden_size: True has the wrong type"]),
    ([*NAMED, "--set", "hidden_size=0"], "", 2, ["hidden_size: 0 is out of range", "≥ 1"]),
    ([*NAMED, "--set", "hidden_size="], "", 2, ["hidden_size: null has the wrong type"]),
    ([*NAMED, "--set", "hidden_size=[64]"], "", 2, ["hidden_size: [64] has the wrong type"]),
    ([*NAMED, "--set", "cell=lstn"], "", 2,
     ["cell: 'lstn' is not accepted", "one of lstm, gru, rnn", "did you mean lstm?"]),
    ([*NAMED, "--set", "cell=3"], "", 2, ["cell: 3 is not accepted", "one of lstm, gru, rnn"]),
    ([*NAMED, "--set", "learning_rate=0"], "", 2,
     ["learning_rate: 0 is out of range", "a number > 0"]),
    ([*NAMED, "--set", "learning_rate=fast"], "", 2, ["learning_rate: 'fast'", "a number > 0"]),
    ([*NAMED, "--set", "learning_rate=.inf"], "", 2, ["learning_rate: inf has the wrong type"]),
    ([*NAMED, "--set", "learning_rate=.nan"], "", 2, ["learning_rate: nan has the wrong type"]),
    ([*NAMED, "--set", "warmup=1"], "", 2, ["warmup: 1 is out of range", "≥ 0.0 and < 1.0"]),
    ([*NAMED, "--set", "clip_norm=-1"], "", 2, ["clip_norm: -1", "a number > 0.0 or null"]),
    ([*NAMED, "--set", "precision=fp16"], "", 2,
     ["precision: 'fp16' is not accepted", "one of fp32, bf16, auto", "did you mean bf16?"]),
    ([*NAMED, "--set", "task.revers=none"], "", 2,
     ["--set task.revers", "unknown setting 'revers'", "did you mean reverse?"]),
    ([*NAMED, "--set", "task.reverse=no"], "", 2,
     ["reverse: 'no' is not accepted", "one of none, input, target, both"]),
    ([*NAMED, "--set", "task.digits=4"], "", 2,
     ["--set task.digits", "already determined by the task's name 'add3x2'"]),
    ([*NAMED, "--set", "task.num_samples=9999999"], "", 2,
     ["--set task.num_samples", "num_samples: 9999999", "0, or an integer from 10 to 222"]),
    ([*NAMED, "--set", "task.validation=0.9"], "", 2, ["validation: 0.9 is out of range", "≤ 0.5"]),
    ([*NAMED, "--set", "task.num_samples=4"], "", 2, ["num_samples: 4 different sums", "from 10"]),
    (["--agent", "seq2seq_adder", "--task", "add1x2", "--set", "task.test=0.001"], "", 2,
     ["--set task.test", "test: 0.001 of the 45 sums of add1x2 are too few", "at least"]),
    ([*NAMED, "--set", "mode=[1]"], "", 2, ["--set mode", "[1]", "train, evaluate, predict"]),
    ([*NAMED, "--set", "learning_rate=1" + "0" * 400], "", 2, ["has the wrong type"]),
    # files
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nhidden_size: !big 3\n", 2,
     ["c.yaml, line 3", "hidden_size: '3' has the wrong type"]),
    (["--config", "FILE"], "a: &a\n  b: *a\n", 2, ["c.yaml", "a mapping contains itself"]),
    (["--config", "missing.yaml"], "", 2,
     ["--config missing.yaml", "No such file or directory", "a YAML file"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nhidden_sise: 3\n", 2,
     ["c.yaml, line 3", "unknown setting 'hidden_sise'", "did you mean hidden_size?"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nseed: 1\nseed: 2\n", 2,
     ["c.yaml, line 4", "duplicate key 'seed' (first in line 3)", "each name once"]),
    (["--config", "FILE"], "- agent\n- task\n", 2, ["c.yaml, line 1", "a list", "a map"]),
    (["--config", "FILE"], "seq2seq_adder\n", 2, ["c.yaml, line 1", "a single value", "a map"]),
    (["--config", "FILE"], "agent: [a\n", 2, ["c.yaml, line 2", "is not YAML"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nhidden_size:\n- 64\n", 2,
     ["c.yaml, line 3", "hidden_size", "a list", "one value"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nhidden_size: {a: 1}\n", 2,
     ["c.yaml, line 3", "unknown setting 'hidden_size.a'", "did you mean hidden_size?"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask:\n  name: add3x2\n  reverse: inptu\n", 2,
     ["c.yaml, line 4", "reverse: 'inptu' is not accepted", "did you mean input?"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nclip_norm: no\n", 2,
     ["c.yaml, line 3", "clip_norm: 'no' has the wrong type"]),
    (["--config", "FILE"], "agent: seq2seq_addr\ntask: add3x2\n", 2,
     ["c.yaml, line 1", "'seq2seq_addr'", "did you mean seq2seq_adder?"]),
    (["--config", "FILE"], "agent: seq2seq_adder\ntask: add3x2\nmode: valdate\n", 2,
     ["c.yaml, line 3", "'valdate'", "did you mean evaluate?"]),
    (["--config", "FILE"], "? [a]\n: 1\n", 2,
     ["c.yaml, line 1", "expected a plain text as the key"]),
    # using what was not trained
    ([*NAMED, "--mode", "evaluate", "--run-dir", "nowhere"], "", 2,
     ["--run-dir", "nowhere/best.safetensors does not exist", "--mode train"]),
    ([*NAMED, "--mode", "predict", "--run-dir", "nowhere", "--input", "1+2"], "", 2,
     ["nowhere/best.safetensors does not exist"]),
    ([*NAMED, "--mode", "inspect", "--run-dir", "nowhere"], "", 2,
     ["nowhere/best.safetensors does not exist"]),
    # one run or two
    (["--mode", "compare"], "", 2,
     ["--mode compare cannot be combined with 0 run folders", "--mode compare RUN_A RUN_B"]),
    ([*NAMED, "--mode", "compare", "one"], "", 2,
     ["--mode compare cannot be combined with 1 run f"]),
    (["--mode", "compare", "a", "b", "--run-dir", "c"], "", 2,
     ["--run-dir: cannot be combined with --mode compare", "the first run's folder"]),
    (["--mode", "inspect"], "", 2, ["--run-dir: is required", "a trained agent's folder"]),
    (["--mode", "inspect", "--run-dir", "nowhere"], "", 2, ["nowhere is not a run folder"]),
    (["--mode", "compare", "nowhere", "here"], "", 2,
     ["nowhere is not a run folder", "the folder of a trained agent"]),
    ([*NAMED, "somewhere"], "", 2, ["--mode train cannot be combined with 1 run folders"]),
    ([*NAMED, "--views", "cells"], "", 2,
     ["--views", "cannot be combined with --mode train", "inspect"]),
    ([*NAMED, "--mode", "inspect", "--input", "1+2"], "", 2,
     ["--input: cannot be combined with --mode inspect", "--mode predict"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "text", "code", "words"), BAD, ids=lambda v: str(v)[:40])
def test_a_mistake_is_named(
    arguments: list[str], text: str, code: int, words: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Each mistake ends with its exit code and a message that helps; no run begins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    try:
        returned = main(["c.yaml" if word == "FILE" else word for word in arguments])
    except SystemExit as stop:  # argparse's own errors
        returned = stop.code
    message = capsys.readouterr().err
    assert returned == code
    assert [word for word in words if word not in message] == [], message
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small run, made by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*COMMAND, "--run-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("text", ["12+", "1+2", "1+2+x", "1+2+3000"])
def test_a_bad_sum_to_predict_is_named(
    text: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sum that add3x3 does not have ends with 2, and says which sums it has."""
    assert main([*COMMAND, "--mode", "predict", "--run-dir", str(trained), "--input", text]) == 2
    message = capsys.readouterr().err
    assert f"input {text!r}" in message
    assert "accepted: a+b+c, each an integer from 1 to 999" in message


def test_training_prints_worked_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After training a table of sums and the scores on the test split are printed."""
    assert main([*COMMAND, "--run-dir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "worked answers"
    assert out[1].split() == ["question", "answer", "target"]
    assert len(out) == 15
    assert out[-1].startswith("test: exact_match 0.")
    assert "token_accuracy" in out[-1]


def predictions(folder: Path) -> list[dict[str, str]]:
    """Return the rows of predictions.csv."""
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluate_writes_predictions(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Validate needs only the folder; its csv agrees with its score and with arithmetic."""
    assert main(["--mode", "evaluate", "--run-dir", str(trained)]) == 0
    said = capsys.readouterr().out
    rows = predictions(trained)
    assert list(rows[0]) == ["question", "answer", "target", "right"]
    for row in rows:
        assert sum(map(int, row["question"].split("+"))) == int(row["target"])
        assert row["right"] == ("right" if row["answer"] == row["target"] else "wrong")
    exact = sum(row["right"] == "right" for row in rows) / len(rows)
    assert f"exact_match {exact:.4f}" in said
    scores = json.loads((trained / "evaluation.json").read_text())
    assert scores["exact_match"] == pytest.approx(exact)
    assert scores["num_samples"] == len(rows)


def test_evaluate_draws_new_samples_for_each_seed(trained: Path) -> None:
    """Another seed evaluates on other sums."""
    questions = []
    for seed in ("5", "6"):
        assert main(["--mode", "evaluate", "--run-dir", str(trained), "--seed", seed]) == 0
        questions.append({row["question"] for row in predictions(trained)})
    assert len(questions[0] & questions[1]) < 0.2 * len(questions[0])


def test_predict_answers_each_line(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines on standard input are answered in order; a bad one is named, the rest answered."""
    typed = io.TextIOWrapper(io.BytesIO(b"1+2+3\n\n12+\xff+1\n100+20+3\n"))
    monkeypatch.setattr("sys.stdin", typed)
    assert main(["--mode", "predict", "--run-dir", str(trained)]) == 2
    captured = capsys.readouterr()
    agent = agents.load(trained / "best.safetensors", "cpu")
    assert captured.out.splitlines() == agent.predict(["1+2+3", "100+20+3"])
    assert (
        "standard input, line 3: input '12+\ufffd+1': '\ufffd' is neither a digit" in captured.err
    )


def test_a_config_file_alone_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--mode … --config …` alone works, and an option wins over the file."""
    monkeypatch.chdir(tmp_path)
    settings = "".join(f"{w[6:].replace('=', ': ')}\n" for w in COMMAND if w.startswith("--set="))
    text = f"agent: seq2seq_adder\ntask: {{name: add2x2, reverse: none}}\n{settings}"
    (tmp_path / "c.yaml").write_text(text)
    command = ["--config", "c.yaml", "--set", "hidden_size=8", "--seed", "3", "--device", "cpu"]
    assert main(["--mode", "train", *command]) == 0
    (folder,) = (tmp_path / "runs" / "add2x2" / "seq2seq_adder").iterdir()
    assert folder.name.endswith("-s3")
    agent = agents.load(folder / "best.safetensors", "cpu")
    assert (agent.config.hidden_size, agent.config.seed) == (8, 3)
    assert agent.task.reverse == "none"
    capsys.readouterr()
    assert main(["--mode", "evaluate", *command]) == 0
    assert str(folder.relative_to(tmp_path)) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("no", "no"), ("on", "on"), ("null", None), ("none", "none"), ("7", 7),
     ("true", True), ("1_000", "1_000"), ("0.5", 0.5), ("a: b: c", "a: b: c"), ("010", "010"),
     ("2020-01-01", "2020-01-01"), ("-1", -1), (".5", 0.5), ("1:30", "1:30")],
)  # fmt: skip
def test_values_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    """`1e-3` is a number; `no`, dates and base-60 numbers are texts."""
    read = read_value(text)
    assert read == value
    assert type(read) is type(value)


def test_inspect_tells_how_far_it_is(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """On a terminal each view has a line on standard error; elsewhere, and in Python, none has."""
    folder = shutil.copytree(trained, tmp_path / "run")
    run = ["--mode", "inspect", "--run-dir", str(folder), "--views", "summary,wrong_answers"]
    agents.load(trained / "best.safetensors").inspect(["summary"])
    assert main(run) == 0
    assert "of 2" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(run) == 0
    told = capsys.readouterr().err
    assert re.search(r"1 of 2: summary, [\d.]+ s\n2 of 2: wrong_answers, [\d.]+ s\n", told)
    assert "writing 2 figures" in told


def test_inspect_writes_page_arrays_and_figures(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mode writes one page without network, the arrays, and a figure of each view as an event.

    The events of the training stay as they were.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = [
        (e.step, e.value) for e in EventAccumulator(str(trained)).Reload().Scalars("eval/loss")
    ]
    views = "gates, cells,summary"
    assert main(["--mode", "inspect", "--run-dir", str(trained), "--views", views]) == 0
    assert "report.html" in capsys.readouterr().out
    page = (trained / "report.html").read_text()
    assert not re.search(r"https?:|<link|<script[^>]*src", re.sub(r"base64,[^\"]*", "", page))
    with np.load(trained / "report.npz", allow_pickle=False) as arrays:
        assert arrays["gates/decoder/left/f"].shape == (16,)
        assert arrays["cells/layers/0/quantities/c"].shape == (100, 12, 16)
        assert arrays["cells/layers/0/unit_notes/needed"].shape == (16,)
        assert (
            "".join(arrays["cells/layers/0/input_symbols"][0]).strip("\n")[::-1]
            in arrays["cells/labels"][0]
        )
    assert main(["--mode", "inspect", "--run-dir", str(trained), "--views", views]) == 0
    folder = trained / "report"
    assert len(EventAccumulator(str(folder)).Reload().Images("inspect/cells")) == 1
    images = EventAccumulator(str(folder)).Reload().Tags()["images"]
    assert set(images) == {
        f"inspect/{v}" for v in ("cells", "gates/encoder", "gates/decoder", "summary")
    }
    scalars = EventAccumulator(str(trained)).Reload().Scalars("eval/loss")
    assert [(event.step, event.value) for event in scalars] == before


def test_an_unknown_view_is_named(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt view ends with 2, the views that there are, and the nearest."""
    assert main(["--mode", "inspect", "--run-dir", str(trained), "--views", "abblation"]) == 2
    message = capsys.readouterr().err
    assert "'abblation' is not a view" in message
    assert "did you mean ablation?" in message


def test_compare_counts_every_question_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs are compared by their folders; the four corners sum to the questions."""
    other = tmp_path / "plain"
    assert main([*COMMAND, "--set", "task.reverse=none", "--run-dir", str(other)]) == 0
    capsys.readouterr()
    assert main(["--mode", "compare", str(trained), str(other)]) == 0
    said = capsys.readouterr().out
    assert "only reverse=input: " in said
    assert "only reverse=none: " in said
    with np.load(trained / "comparison.npz", allow_pickle=False) as arrays:
        assert len(arrays["answers/outcome"]) == 10_000
        assert arrays["units/encoder/correlations"].shape == (16, 16)
    assert (trained / "comparison.html").exists()


def test_compare_refuses_other_tasks(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs on different tasks are not compared, and both tasks are named."""
    other = tmp_path / "other"
    shorter = [word if word != "add3x3" else "add3x2" for word in COMMAND]
    assert main([*shorter, "--run-dir", str(other)]) == 0
    assert main(["--mode", "compare", str(trained), str(other)]) == 2
    assert "the second run is on add3x2, the first on add3x3" in capsys.readouterr().err
