"""A small network for tests of the live page, and what is asked of a session."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visualization.live.image_panel import ImagePanel
from visualization.live.images import ImageEngine, ImageSubject, module_subject
from visualization.live.session import Live, Session

SIZE, CLASSES, LAYER = 12, ("zero", "one", "two"), "1"


def network(channels: int = 1, maps: int = 4) -> nn.Sequential:
    """Return a small classifier with two layers of feature maps."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(channels, maps, 3, padding=1), nn.ReLU(), nn.Conv2d(maps, 6, 3, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, len(CLASSES)),
    )  # fmt: skip


def samples(num: int = 5, channels: int = 1) -> NDArray[np.float32]:
    """Return random images (N, C, H, W) from 0 to 1."""
    rng = np.random.default_rng(0)
    return rng.random((num, channels, SIZE, SIZE)).astype(np.float32)


def subject(model: nn.Module | None = None, channels: int = 1) -> ImageSubject:
    """Return what a live page shows of the network."""
    return module_subject(model or network(channels), samples(channels=channels), CLASSES)


def live(of: ImageSubject | None = None) -> Live:
    """Return the live page of the network."""
    engine = ImageEngine(of or subject())
    return Live(title="a <small> network", panels=[lambda: ImagePanel(engine)])


def frame(image: NDArray[np.float32], **more: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Return the message by which a page asks for answer and maps of a drawing."""
    asked = {"id": 1, "panel": "image", "call": "frame", "layer": LAYER, "compared": "activation"}
    return {**asked, "channels": [0, 1, 2, 3], **more}, [image.astype("<f4").tobytes()]


def ask(session: Session, call: str, image: NDArray[np.float32] | None, **more: Any) -> Any:
    """Return the reply to a call of the image panel."""
    buffers = [] if image is None else [image.astype("<f4").tobytes()]
    return session.handle({"id": 1, "panel": "image", "call": call, **more}, buffers)


def maps_of(reply: Any) -> NDArray[np.float64]:
    """Return the maps (U, h, w) of a reply, whose levels are within half of one."""
    limits = np.array(reply.data["limits"])
    levels = np.frombuffer(reply.buffers[0], np.uint8).reshape(-1, *reply.data["size"])
    low, high = limits[:, :1, None], limits[:, 1:, None]
    return np.asarray(low + (high - low) * levels / 255)
