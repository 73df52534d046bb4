"""Export to ONNX: what onnxruntime computes of the file is what the agent computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import agents
import tasks
from agents.core import export
from agents.core.export import Graph, export_onnx
from main import main
from tests.agents.test_readers import make, padded

LOW = tasks.make("digit_strings", height=16)


@pytest.fixture(scope="module")
def reader() -> Any:
    """Return a reader after a few steps, with two layers of LSTM."""
    return make("ctc_reader", LOW, size="large", batch_size=4, steps=2).learn()


def run(path: Path, **inputs: Any) -> Any:
    """Return the output of an ONNX file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def test_lines_of_any_width_and_number_read_as_by_the_agent(reader: Any, tmp_path: Path) -> None:
    """Also beside longer lines, and padded further; by numbers that were not traced."""
    found = export_onnx(reader, tmp_path / "model.onnx")
    assert found.num_checked == 5
    assert found.difference <= 1e-4
    for num in (1, 7):
        batch = padded(reader.task.samples("test", num, 11), 50)
        with torch.no_grad():
            image, width = torch.as_tensor(batch.image), torch.as_tensor(batch.width)
            expected = reader.model.eval()(image, width).numpy()
        output = run(found.path, image=batch.image, width=batch.width)
        np.testing.assert_allclose(output, expected, atol=1e-4)


def test_the_file_says_what_a_program_must_know(reader: Any, tmp_path: Path) -> None:
    """Characters, height, blank, width of a column and preprocessing are in its metadata."""
    path = export_onnx(reader, tmp_path / "model.onnx").path
    metadata = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert metadata["characters"] == "0123456789"
    assert (metadata["blank"], metadata["height"], metadata["column_width"]) == ("0", "16", "4")
    assert "1 is ink" in metadata["preprocessing"]
    assert json.loads(metadata["config"])["size"] == "large"


def test_a_wrong_file_is_not_left(
    reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file computes something else, that is an error, and no file is written."""
    traced = export._traced

    def wrong(agent: Any, graph: Graph) -> bytes:
        model = onnx.load_from_string(traced(agent, graph))
        for tensor in model.graph.initializer:
            if tensor.name == "head.bias":
                values = onnx.numpy_helper.to_array(tensor) + 1e-3
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(export, "_traced", wrong)
    with pytest.raises(ValueError, match=r"differs from the agent's by 0\.001"):
        export_onnx(reader, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Spectrum(nn.Module):
    """Has an operation that ONNX does not."""

    def forward(self, image: Tensor) -> Tensor:
        """Return singular values."""
        return torch.linalg.svdvals(image)


def test_what_cannot_be_exported_says_so(reader: Any, tmp_path: Path) -> None:
    """An agent without images, and a model with an operation that ONNX does not have."""
    adder = agents.make("seq2seq_adder", task="add2x2", hidden_size=4, device="cpu")
    with pytest.raises(ValueError, match="does not say what of it could be exported"):
        export_onnx(adder, tmp_path / "model.onnx")
    graph = Graph(
        module=Spectrum(), inputs=lambda batch: {"image": torch.as_tensor(batch.image)},
        output="output", axes={}, metadata={},
    )  # fmt: skip
    with pytest.raises(ValueError, match="has an operation that ONNX does not"):
        export._traced(reader, graph)


@pytest.mark.parametrize(
    ("name", "task", "settings"),
    [
        ("cnn_classifier", "digits", {"channels": 4}),
        ("yolo_detector", "digit_pages", {"channels": 4}),
    ],
)
def test_other_agents_with_images_are_exported_too(
    name: str, task: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Their raw output, for any number of images."""
    agent = agents.make(name, task=task, device="cpu", **settings)
    found = export_onnx(agent, tmp_path / "model.onnx")
    assert found.num_checked == 4
    image = agent.task.samples("test", 3).image
    assert len(run(found.path, image=image)) == 3


def test_the_mode_writes_into_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--mode export --run-dir RUN` writes model.onnx there and prints the largest difference."""
    make("ctc_reader", LOW, batch_size=4, steps=2, eval_every=2).learn(run_dir=tmp_path)
    assert main(["--mode", "export", "--run-dir", str(tmp_path), "--device", "cpu"]) == 0
    assert (tmp_path / "model.onnx").exists()
    assert "outputs differ from the agent's by at most" in capsys.readouterr().out
