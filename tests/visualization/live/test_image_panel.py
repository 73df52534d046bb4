"""The panel for images: its numbers are those of direct passes of the model."""

import io
import zlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tests.helpers import live as small
from tests.helpers.images import unchanged
from tests.helpers.live import CLASSES, LAYER, SIZE, ask, frame, maps_of
from visualization.attribution.gradients import input_x_gradient
from visualization.feature_maps.fields.patches import top_patches
from visualization.feature_maps.fields.receptive import receptive_field
from visualization.live import load_drawing
from visualization.live.images import ImageEngine, class_answer, module_subject
from visualization.live.layer_edits import with_weights
from visualization.live.session import Session
from visualization.perturbation.perturbations import perturb

IMAGE = small.samples()[1]


@pytest.fixture
def model() -> nn.Sequential:
    """Return the network."""
    return small.network()


@pytest.fixture
def session(model: nn.Sequential) -> Session:
    """Return a session on the network."""
    return Session(small.live(small.subject(model)))


def direct(model: nn.Sequential, image: NDArray[np.float32], until: int = 2) -> torch.Tensor:
    """Return what the first layers output for an image."""
    with torch.no_grad():
        return model.eval()[:until](torch.as_tensor(image)[None])


def probabilities(model: nn.Sequential, maps: torch.Tensor, begin: int = 2) -> NDArray[Any]:
    """Return the probabilities when the layers from one on are given maps."""
    with torch.no_grad():
        return model[begin:](maps)[0].double().softmax(0).numpy()


def test_a_frame_is_a_direct_pass(model: nn.Sequential, session: Session) -> None:
    """Maps are those of the layer within half a level, and the answer its softmax."""
    reply = session.handle(*frame(IMAGE))
    expected = direct(model, IMAGE)[0].numpy()
    extent = np.ptp(np.array(reply.data["limits"]), axis=1)[:, None, None]
    assert np.all(np.abs(maps_of(reply) - expected) <= extent / 255 / 2 + 1e-6)
    shown = reply.data["answer"]["probabilities"]
    np.testing.assert_allclose(shown, probabilities(model, direct(model, IMAGE)), rtol=1e-6)
    assert reply.data["answer"]["names"] == list(CLASSES)
    assert reply.data["untouched"] is None


def test_only_the_maps_asked_for_are_sent(session: Session) -> None:
    """One buffer has as many maps as channels were named; strengths are of all of them."""
    reply = session.handle(*frame(IMAGE, channels=[2]))
    assert len(reply.buffers[0]) == SIZE * SIZE
    assert len(reply.data["strengths"]) == 4


def test_the_change_is_against_the_original(model: nn.Sequential, session: Session) -> None:
    """Where a pixel was drawn, the maps differ as two direct passes do."""
    original = small.samples()[0]
    ask(session, "original", original)
    drawn = original.copy()
    drawn[0, 5, 5] += 2
    reply = session.handle(*frame(drawn, compared="change"))
    expected = (direct(model, drawn) - direct(model, original))[0].numpy()
    largest = np.abs(expected).max((1, 2), keepdims=True)
    assert np.all(np.abs(maps_of(reply) - expected) <= largest / 255 + 1e-6)


@pytest.mark.parametrize("knob", ["noise", "blur", "rotate", "shift", "contrast"])
def test_sliders_are_the_perturbations(knob: str, model: nn.Sequential, session: Session) -> None:
    """The image that comes back is that of `perturb`, and the maps are its maps."""
    reply = session.handle(*frame(IMAGE, **{knob: 1.5}))
    expected = perturb(knob, IMAGE, 1.5).numpy()
    shown = np.frombuffer(reply.buffers[1], "<f4").reshape(IMAGE.shape)
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert np.abs(maps_of(reply) - direct(model, expected)[0].numpy()).max() < 0.02


EDITS = {
    "silence": ({"kind": "scale", "channel": 1, "value": 0}, lambda m: m[:, 1].zero_()),
    "scale": ({"kind": "scale", "channel": 2, "value": 3}, lambda m: m[:, 2].mul_(3)),
    "scale all": ({"kind": "scale", "value": 0.5}, lambda m: m.mul_(0.5)),
    "hold": ({"kind": "hold", "channel": 0, "value": 2}, lambda m: m[:, 0].fill_(2)),
    "hold a unit": (
        {"kind": "hold", "channel": 3, "row": 4, "column": 5, "value": 9},
        lambda m: m[:, 3, 4, 5].fill_(9),
    ),
    "paint": (
        {"kind": "paint", "channel": 1, "cells": [[0, 0, 5], [1, 2, -1.5]]},
        lambda m: (m[:, 1, 0, 0].fill_(5), m[:, 1, 1, 2].fill_(-1.5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_that_of_the_maps(name: str, model: nn.Sequential, session: Session) -> None:
    """The answer is that of the later layers given the changed maps; beside it the untouched."""
    edit, change = EDITS[name]
    reply = session.handle(*frame(IMAGE, edits=[{"layer": LAYER, **edit}]))
    maps = direct(model, IMAGE)
    before = probabilities(model, maps)
    change(maps)
    after = probabilities(model, maps)
    np.testing.assert_allclose(reply.data["answer"]["probabilities"], after, rtol=1e-5)
    np.testing.assert_allclose(reply.data["untouched"]["probabilities"], before, rtol=1e-5)


def test_the_effect_of_an_edit_is_shown_in_later_layers(
    model: nn.Sequential, session: Session
) -> None:
    """With `effect`, maps of a later layer are the edited less the untouched ones."""
    edit = {"layer": LAYER, "kind": "scale", "channel": 1, "value": 0}
    reply = session.handle(*frame(IMAGE, edits=[edit], layer="3", compared="effect"))
    maps = direct(model, IMAGE)
    changed = maps.clone()
    changed[:, 1] = 0
    with torch.no_grad():
        expected = (model[2:4](changed) - model[2:4](maps))[0].numpy()
    largest = np.abs(expected).max()
    assert largest > 0
    assert np.abs(maps_of(reply) - expected[:4]).max() <= largest / 255 + 1e-6


def test_the_model_is_as_before(model: nn.Sequential, session: Session) -> None:
    """Frames with edits, units and attributions leave weights, modes and hooks alone."""
    model.train()
    with unchanged(model):
        edits = [{"layer": LAYER, "kind": "randomise"}, {"layer": "3", "kind": "scale"}]
        session.handle(*frame(IMAGE, edits=edits))
        ask(session, "unit", IMAGE, layer=LAYER, channel=0, row=1, column=1)
        ask(session, "explain", IMAGE, method="grad_cam", target="one", layer=LAYER)
        bad = ask(session, "explain", IMAGE, method="grad_cam", target="five", layer=LAYER)
    assert "did you mean 'zero'" in bad.data["error"] or "accepted: zero" in bad.data["error"]


def test_weights_of_a_snapshot_are_used_for_one_pass(model: nn.Sequential) -> None:
    """With a step, the maps are those of its weights; afterwards the model's own are back."""
    torch.manual_seed(2)
    other = small.network()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    states = {5: other.state_dict()}
    engine = ImageEngine(attrs.evolve(small.subject(model), states=lambda: states))
    with unchanged(model):
        passed = engine.forward(IMAGE, LAYER, (), 5)
    np.testing.assert_allclose(passed.maps, direct(other, IMAGE)[0].numpy(), atol=1e-6)
    with (
        pytest.raises(ValueError, match=r"weights: '0\.weight' is missing"),
        with_weights(model, {}),
    ):
        pass


def test_a_unit_is_told(model: nn.Sequential, session: Session) -> None:
    """Activation, receptive field and best examples are those of the functions for them."""
    reply = ask(session, "unit", IMAGE, layer="3", channel=2, row=1, column=3)
    field = receptive_field(model, "3", (2, 1, 3), IMAGE.shape)
    assert reply.data["value"] == pytest.approx(
        float(direct(model, IMAGE, 4)[0, 2, 1, 3]), rel=1e-5
    )
    assert reply.data["num_pixels"] == field.pixels.sum()
    mask = np.frombuffer(reply.buffers[0], np.uint8).reshape(SIZE, SIZE)
    assert np.array_equal(mask.astype(bool), field.pixels)
    best = top_patches(model, "3", small.samples(), [2], k=8)
    found = best.image[0] >= 0
    assert [each["image"] for each in reply.data["examples"]] == best.image[0][found].tolist()
    assert len(reply.buffers) == 1 + found.sum()


def test_an_attribution_is_that_of_the_method(model: nn.Sequential, session: Session) -> None:
    """The map of a class is what the method says of it, summed over channels."""
    asked = {"method": "input_x_gradient", "target": "two"}
    reply = ask(session, "explain", IMAGE, **asked)
    shown = np.frombuffer(reply.buffers[0], "<f4").reshape(SIZE, SIZE)
    expected = input_x_gradient(model, IMAGE[None], 2)[0].sum(0).numpy()
    np.testing.assert_allclose(shown, expected, atol=1e-6)


def picture(**settings: Any) -> bytes:
    """Return a picture file of a white half."""
    pixels = np.zeros((30, 40), np.uint8)
    pixels[:, 20:] = 255
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", **settings)
    return content.getvalue()


def upload(session: Session, content: bytes) -> Any:
    """Return the reply to an upload."""
    return session.handle({"id": 1, "panel": "image", "call": "upload"}, [content])


def test_an_uploaded_picture_is_fitted(session: Session) -> None:
    """A picture becomes an image of the network's size from 0, black, to 1, white."""
    image = np.frombuffer(upload(session, picture()).buffers[0], "<f4").reshape(SIZE, SIZE)
    assert np.all(image[:, :5] == 0)
    assert np.all(image[:, 7:] == 1)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no picture", "file: cannot be read"),
        (picture()[:60], "file: cannot be read"),
        (b"\0" * (16 * 2**20 + 1), "file: it has 16.0 MiB; accepted: at most 16 MiB"),
    ],
    ids=["rubbish", "cut", "too large"],
)
def test_a_broken_upload_is_refused(session: Session, content: bytes, problem: str) -> None:
    """The page learns why a file is not taken, and goes on."""
    assert problem in upload(session, content).data["error"]
    assert "error" not in session.handle(*frame(IMAGE)).data


def test_a_drawing_is_taken_up_in_python(model: nn.Sequential, tmp_path: Path) -> None:
    """A saved drawing is loaded with the same numbers; the next has the next name."""
    subject = attrs.evolve(small.subject(model), folder=tmp_path / "drawings")
    session = Session(small.live(subject))
    first, second = (ask(session, "save", image).data["path"] for image in small.samples()[:2])
    assert [Path(path).name for path in (first, second)] == [
        "drawing-0001.safetensors", "drawing-0002.safetensors",
    ]  # fmt: skip
    assert np.array_equal(load_drawing(second), small.samples()[1])
    with Image.open(Path(first).with_suffix(".png")) as shown:
        assert shown.size == (SIZE, SIZE)
    with pytest.raises(ValueError, match=r"path: .*accepted: a file drawing-"):
        load_drawing(tmp_path / "none.safetensors")


def test_large_maps_are_reduced_to_means() -> None:
    """A map of 300 pixels a side is sent with at most 128, each the mean of its area."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    nn.init.ones_(model[0].weight)
    images = np.random.default_rng(0).random((1, 1, 300, 300)).astype(np.float32)
    session = Session(small.live(module_subject(model, images)))
    reply = session.handle(*frame(images[0], channels=[0]))
    expected = images[0, 0].reshape(100, 3, 100, 3).mean((1, 3))
    assert reply.data["size"] == (100, 100)
    assert np.abs(maps_of(reply)[0] - expected).max() < 0.003
    assert reply.data["answer"] == {"kind": "none"}


def test_probabilities_of_a_softmax_stay() -> None:
    """An output that is a softmax already is not put through another one."""
    shares = torch.tensor([[0.1, 0.2, 0.7]])
    answer = class_answer(shares, CLASSES)
    assert answer["probabilities"] == pytest.approx([0.1, 0.2, 0.7])


def test_names_must_be_as_many_as_classes() -> None:
    """Two names for three classes are an error."""
    with pytest.raises(ValueError, match="classes: 2 names; accepted: one for each class"):
        module_subject(small.network(), small.samples(), ("a", "b"))


def test_a_unit_and_an_attribution_are_those_of_the_changed_network(
    model: nn.Sequential, session: Session
) -> None:
    """With the first layer silenced a unit's activation is 0, and no pixel counts."""
    edits = [{"layer": LAYER, "kind": "scale", "value": 0}]
    maps = direct(model, IMAGE)[0]
    place = np.unravel_index(int(maps.argmax()), tuple(maps.shape))
    where = dict(zip(("channel", "row", "column"), map(int, place), strict=True))
    where = {"layer": LAYER, **where}
    assert ask(session, "unit", IMAGE, **where).data["value"] == pytest.approx(float(maps.max()))
    assert ask(session, "unit", IMAGE, **where, edits=edits).data["value"] == 0
    asked = {"method": "saliency", "target": "one"}
    before, after = (
        np.frombuffer(ask(session, "explain", IMAGE, **asked, edits=each).buffers[0], "<f4")
        for each in ([], edits)
    )
    assert before.any()
    assert not after.any()


def test_numbers_that_are_not_finite_are_said(model: nn.Sequential) -> None:
    """A network whose weights have diverged is an error in words, which names the layer."""
    with torch.no_grad():
        model[6].bias.fill_(torch.nan)
    error = Session(small.live(small.subject(model))).handle(*frame(IMAGE)).data["error"]
    assert error.startswith("layer: the weights and changes give NaN or inf")


def test_a_file_that_is_larger_than_the_samples_is_refused(model: nn.Sequential) -> None:
    """What a task reads wider than its samples is not cut without a word."""
    wide = np.zeros((1, SIZE, 2 * SIZE), np.float32)
    subject = attrs.evolve(small.subject(model), read_file=lambda content: wide)
    error = upload(Session(small.live(subject)), b"").data["error"]
    assert (
        error == "file: as the task reads it, it has 24 by 12 pixels; accepted: at most 12 by "
        "12, as samples have"
    )


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(session: Session) -> None:
    """A small file whose header promises 10⁹ pixels is refused before it is unpacked."""
    content = bytearray(picture())
    content[16:24] = (40_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    error = upload(session, bytes(content)).data["error"]
    assert error.startswith("file: ")
    assert "1200000000 pixels" in error
    assert "accepted: at most 67,108,864 pixels" in error
