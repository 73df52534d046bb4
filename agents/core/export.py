"""Export to ONNX: a model as a file that other programs run, checked against the agent.

The file has the weights and the operations, and in its `metadata_props` what a program must know
to use it: the agent's and the task's settings, and what the agent says of its inputs and outputs.
"""

import importlib
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.config import ConfigError
from agents.core.runs.checkpoint import atomic_write
from agents.core.version import VERSION
from tasks.core.paths import expand_user
from tasks.handwriting.lines import ImageToText
from visualization.core.preserve import evaluation_mode, preserve_state

if TYPE_CHECKING:
    from agents.core.agent import Agent

TOLERANCE = 1e-4  # largest difference of the file's outputs and the agent's
_OPSET = 18
_TRACED = 2  # samples of the batch that is traced
_CHECKED = ((1, 1), (2, 2), (5, 3), (9, 4))  # samples and seeds of the batches that are checked
_TIMES = 3  # the length of an axis that may vary, in further checks
_PREPROCESSING = (
    "grey, 1 is ink and 0 is paper, float32; scaled to the height, the aspect ratio kept; padded "
    "with 0 at the right; width is that without padding, in pixels, at least that of a column"
)
_COLUMNS = (
    "logits (batch, columns, codes) for CTC; the first max(1, width // column_width) columns of a "
    "line are its own; code c > 0 is characters[c - 1]"
)
_ACCEPTED = "pip install 'terrarium[export]'"


@attrs.frozen(eq=False, kw_only=True)
class Graph:
    """What of an agent is exported: a function of tensors.

    Attributes:
        module: is called with the inputs in their order, and returns one tensor.
        inputs: returns the inputs of a batch of the task by name, as tensors.
        output: the name of the output.
        axes: names of the axes that may vary, of inputs and output.
        metadata: what a program must know, as texts or as values that JSON has.
    """

    module: nn.Module
    inputs: Callable[[Any], Mapping[str, Tensor]]
    output: str
    axes: Mapping[str, Mapping[int, str]]
    metadata: Mapping[str, Any]


class Export(NamedTuple):
    """What was written.

    Attributes:
        path: of the file.
        num_checked: batches on which the file was run.
        difference: the largest absolute difference of an output and the agent's.
    """

    path: Path
    num_checked: int
    difference: float


def export_onnx(agent: "Agent", path: str | Path, *, tolerance: float = TOLERANCE) -> Export:
    """Export an agent's model to ONNX; the file is written only if it computes what the agent does.

    It is run by onnxruntime on batches of test samples of several sizes, also with each axis that
    may vary made longer than that of any sample.

    Raises:
        ConfigError: (a ValueError) the agent says that it cannot be exported; onnx or onnxruntime
            is not installed; torch cannot export the model; or an output differs by more than
            `tolerance`.
    """
    target = expand_user(str(path))
    with preserve_state(agent.model), evaluation_mode(agent.model), torch.no_grad():
        graph = agent.export_graph()
        data = _with_metadata(agent, graph, _traced(agent, graph))
        differences = _differences(agent, graph, data)
    worst = max(differences)
    if not worst <= tolerance:
        problem = f"the exported model's output differs from the agent's by {worst:.2g}"
        raise ConfigError("export_onnx()", str(target), problem, f"at most {tolerance:g}")
    atomic_write(target, data)
    return Export(target, len(differences), worst)


def image_graph(agent: "Agent") -> Graph:
    """Return the graph of an agent that observes images: from them to the raw output.

    Raises:
        ConfigError: (a ValueError) the agent has no images.
    """
    seen = agent.observe(agent.task.samples("test", 1))
    if seen.image is None:
        problem = f"{agent.name} does not say what of it could be exported"
        accepted = "an agent that reads images, or one with `export_graph`"
        raise ConfigError("export_onnx()", "", problem, accepted)

    def images(batch: Any) -> dict[str, Tensor]:
        part = agent.observe(batch).image
        assert part is not None
        return {"image": part.images}

    metadata: dict[str, Any] = {"output": "raw output of the model, as in training"}
    if seen.classes is not None:
        metadata |= {"labels": list(seen.classes[0]), "output": "logits of the labels"}
    if seen.boxes is not None:
        metadata["kinds"] = list(seen.boxes.kinds)
    axes = {"image": {0: "batch"}, "output": {0: "batch"}}
    return Graph(
        module=seen.image.model, inputs=images, output="output", axes=axes, metadata=metadata
    )


def columns_graph(model: nn.Module, spec: ImageToText, column_width: int) -> Graph:
    """Return the graph of a reader of lines: logits of the columns, of any number and width.

    Args:
        model: from images (B, 1, H, W) and widths (B,) to logits (B, T, V).
        spec: of its task.
        column_width: pixels that a column covers.
    """

    def lines(batch: Any) -> dict[str, Tensor]:
        return {"image": torch.as_tensor(batch.image), "width": torch.as_tensor(batch.width)}

    image = {0: "batch", 3: "width"}
    axes = {"image": image, "width": {0: "batch"}, "logits": {0: "batch", 1: "column"}}
    metadata = {
        "characters": spec.characters, "blank": 0, "height": spec.height,
        "column_width": column_width, "preprocessing": _PREPROCESSING, "output": _COLUMNS,
    }  # fmt: skip
    return Graph(module=model, inputs=lines, output="logits", axes=axes, metadata=metadata)


def _inputs(agent: "Agent", graph: Graph, num: int, seed: int) -> dict[str, Tensor]:
    """Return the inputs of a batch of test samples."""
    inputs = graph.inputs(agent.task.samples("test", num, seed))
    return {name: tensor.to(agent.device) for name, tensor in inputs.items()}


def _traced(agent: "Agent", graph: Graph) -> bytes:
    """Return the ONNX file of a graph, without metadata.

    The exporter that traces is used: it writes a packed LSTM as one operator of ONNX, where the
    other one writes each step.
    """
    _require("onnx")
    inputs = _inputs(agent, graph, _TRACED, 0)
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # of shapes that are constant in the trace
            path = Path(folder, "model.onnx")
            torch.onnx.export(
                graph.module, tuple(inputs.values()), path, dynamo=False,
                input_names=list(inputs), output_names=[graph.output], opset_version=_OPSET,
                dynamic_axes={name: dict(axes) for name, axes in graph.axes.items()},
            )  # fmt: skip
            return path.read_bytes()
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        problem = f"{agent.name} has an operation that ONNX does not: {error}"
        raise ConfigError("export_onnx()", "", problem, "another agent") from error


def _with_metadata(agent: "Agent", graph: Graph, data: bytes) -> bytes:
    """Return the file with what a program must know in `metadata_props`; texts, or JSON."""
    import onnx

    model = onnx.load_from_string(data)
    identity = agent.identity()
    values = {
        "format": f"terrarium {VERSION}",
        "agent": identity["agent"],
        "task": identity["task"],
        "config": identity["config"],
        "task_settings": identity["task_settings"],
        "step": agent.state.cursor.step,
        **graph.metadata,
    }
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _differences(agent: "Agent", graph: Graph, data: bytes) -> list[float]:
    """Return, batch by batch, the largest difference of the file's outputs and the agent's."""
    ort = _require("onnxruntime")
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    batches = [_inputs(agent, graph, *sizes) for sizes in _CHECKED]
    batches += [
        {**batches[1], name: torch.cat([batches[1][name]] * _TIMES, dim=axis)}
        for name, axes in graph.axes.items() if name in batches[1]
        for axis in axes if axis
    ]  # fmt: skip
    found = []
    for inputs in batches:
        arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items()}
        expected: Tensor = graph.module(*inputs.values())
        found.append(_difference(session.run(None, arrays)[0], expected.cpu().numpy()))
    return found


def _difference(output: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference; infinite where shapes differ, or a value is no number."""
    if output.shape != expected.shape:
        return float("inf")
    gap = np.abs(output.astype(np.float64) - expected).max(initial=0.0)
    return float(gap) if np.isfinite(gap) else float("inf")


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError("export_onnx()", "", f"needs {name}", _ACCEPTED) from None
