"""The live page of agents: what it answers to an image is what the agent predicts."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import agents
from agents.core.agent import Agent
from agents.core.inspection.live import live_of
from tests.conftest import small_agent, trained_agent
from tests.helpers.images import unchanged
from tests.helpers.live import ask
from visualization import NothingToShow
from visualization.live import widget
from visualization.live.image_panel import ImagePanel
from visualization.live.session import Session

OF_IMAGES = ("cnn_classifier", "ctc_reader", "attention_reader", "yolo_detector")


def sessions() -> dict[str, tuple[Agent, Session]]:
    """Return the sessions of all registered agents that have images, as they are made."""
    found = {}
    for name in agents.AGENTS:
        agent = small_agent(name)
        if agent.observe(agent.task.for_display().samples("test", 1)).image is not None:
            found[name] = agent, Session(agent.live())
    return found


@pytest.fixture(scope="module")
def of_images() -> dict[str, tuple[Agent, Session]]:
    """Return those sessions."""
    return sessions()


def frame(session: Session, image: NDArray[np.float32]) -> Any:
    """Return the reply to a drawing, with the first map of the first layer."""
    about = session.handle({"id": 1}).data["panels"][0]
    first = about["layers"][0]["name"]
    asked = {"layer": first, "compared": "activation", "channels": [0]}
    return ask(session, "frame", image, **asked)


def said(agent: Agent, answer: Any) -> str:
    """Return an answer of the page as `agent.predict` says it."""
    if answer["kind"] == "classes":
        return str(answer["names"][int(np.argmax(answer["probabilities"]))])
    if answer["kind"] == "text":
        return str(answer["text"])
    return ", ".join(sorted(answer["names"]))


def test_every_agent_with_images_has_a_page(of_images: Any) -> None:
    """The readers, the detector and the classifier are among them."""
    assert set(OF_IMAGES) <= set(of_images)
    for name, (_, session) in of_images.items():
        about = session.handle({"id": 1}).data["panels"][0]
        assert about["name"] == ImagePanel.name
        assert len(about["names"]) > 1, name


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_answer_is_the_agents(of_images: Any, name: str) -> None:
    """A sample is answered as `predict_arrays` answers its batch, and the agent left alone."""
    agent, session = of_images[name]
    image = np.frombuffer(ask(session, "sample", None, number=1).buffers[0], "<f4")
    image = image.reshape(session.handle({"id": 1}).data["panels"][0]["shape"])
    with unchanged(agent.model):
        reply = frame(session, image)
    part = agent.observe(agent.task.for_display().samples("test", 2)).image
    assert part is not None
    if part.batch_of is None:
        expected = agent.predict(image)
    else:
        batch = part.batch_of(torch.tensor(image)[None])
        expected = agent.task.decode(agent.predict_arrays(batch))[0]
    answer = reply.data["answer"]
    if answer["kind"] == "boxes":
        lines = [] if expected == "nothing" else expected.splitlines()
        assert sorted(answer["names"]) == sorted(line.split()[0] for line in lines)
    else:
        assert said(agent, answer) == expected


@pytest.mark.parametrize("name", OF_IMAGES)
def test_targets_can_be_explained(of_images: Any, name: str) -> None:
    """What a page offers as targets has an attribution, with a finite number for each pixel."""
    _, session = of_images[name]
    about = session.handle({"id": 1}).data["panels"][0]
    image = np.frombuffer(ask(session, "sample", None, number=0).buffers[0], "<f4")
    image = image.reshape(about["shape"])
    targets = ask(session, "targets", image).data["targets"]
    assert targets
    reply = ask(session, "explain", image, method="saliency", target=targets[0])
    assert "error" not in reply.data
    values = np.frombuffer(reply.buffers[0], "<f4")
    assert values.size == image.shape[-2] * image.shape[-1]
    assert np.isfinite(values).all()


def test_an_upload_is_read_as_the_task_reads_files(of_images: Any, tmp_path: Any) -> None:
    """The content of a file becomes the image that `encode` makes of it, and errors hide paths."""
    agent, session = of_images["cnn_classifier"]
    spec = agent.task.spec
    pixels = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width)).astype(np.uint8)
    path = tmp_path / "scan.png"
    Image.fromarray(pixels).save(path)
    asked = {"id": 1, "panel": "image", "call": "upload"}
    reply = session.handle(asked, [path.read_bytes()])
    image = np.frombuffer(reply.buffers[0], "<f4").reshape(1, spec.height, spec.width)
    np.testing.assert_array_equal(image, agent.task.encode([str(path)]).image[0])
    error = session.handle(asked, [b"rubbish"]).data["error"]
    assert "input 'upload'" in error
    assert "cannot be read" in error


def test_snapshots_are_steps_of_the_slider() -> None:
    """With the weights of step 0 the answer is that of the untrained agent."""
    settings = {"task": "digits", "channels": 4, "steps": 6, "batch_size": 16, "eval_every": 3}
    agent = trained_agent("cnn_classifier", **settings, num_weight_snapshots=3)
    session = Session(agent.live())
    about = session.handle({"id": 1}).data["panels"][0]
    assert about["steps"] == agent.snapshots.steps()
    image = np.frombuffer(ask(session, "sample", None, number=0).buffers[0], "<f4")
    image = image.reshape(about["shape"])
    asked = {"layer": about["layers"][0]["name"], "compared": "activation", "channels": [0]}
    reply = ask(session, "frame", image, **asked, step="0")
    untrained = agents.make("cnn_classifier", device="cpu", **settings)
    expected = Session(untrained.live()).handle(
        {"id": 1, "panel": "image", "call": "frame", **asked}, [image.tobytes()]
    )
    first, second = (np.array(r.data["answer"]["probabilities"]) for r in (reply, expected))
    np.testing.assert_allclose(first, second, rtol=1e-4)
    missing = next(step for step in range(9) if step not in about["steps"])
    error = ask(session, "frame", image, **asked, step=str(missing)).data["error"]
    assert "accepted: 0, " in error


def test_an_agent_in_a_notebook_is_a_widget() -> None:
    """An agent is passed as it is."""
    shown = widget(small_agent("cnn_classifier"))
    assert shown.image.shape == (1, 8, 8)


def test_an_agent_without_images_or_questions_has_none() -> None:
    """The reason is said."""
    agent = small_agent("adding_lstm")
    with pytest.raises(NothingToShow, match="adding_lstm has neither images nor questions"):
        live_of(agent)
