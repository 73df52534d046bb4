"""The live page as a widget of Jupyter notebooks (anywidget): the same script, other transport."""

from collections.abc import Sequence
from typing import Any, Protocol, cast, final, runtime_checkable

import anywidget
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error
from visualization.live import page
from visualization.live.image_panel import ImagePanel
from visualization.live.images import ImageEngine, module_subject
from visualization.live.session import Live, Session


@runtime_checkable
class HasLive(Protocol):
    """What has a live page, such as an agent."""

    def live(self) -> Live:
        """Return what the page shows."""


@final
class LiveWidget(anywidget.AnyWidget):
    """Widget of a live page: a notebook shows it where a cell ends with it.

    Attributes:
        image: the drawing as it is now (C, H, W), as `agent.predict` takes it; a widget of
            questions has none.
    """

    _esm = page.script()
    _css = page.style()

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._session = Session(live)
        self.on_msg(self._receive)

    @property
    def image(self) -> NDArray[np.float32]:
        """The drawing as it is now (C, H, W).

        Raises:
            ValueError: there is none, as where a question is asked.
        """
        try:
            panel = self._session.panel(ImagePanel.name)
        except KeyError:
            problem = "there is none to draw on, as where a question is asked"
            raise argument_error("image", problem, "a widget of a network of images") from None
        return cast("ImagePanel", panel).image.copy()

    def _receive(self, _: object, content: Any, buffers: Sequence[Any]) -> None:
        header = content if isinstance(content, dict) else {}
        reply = self._session.handle(header, [bytes(buffer) for buffer in buffers])
        self.send(dict(reply.data), list(reply.buffers))


def widget(
    subject: object, images: NDArray[Any] | Tensor | None = None,
    classes: Sequence[str] = (),
) -> LiveWidget:  # fmt: skip
    """Live page in a notebook: draw into an image, and watch a network's feature maps.

    Args:
        subject: an agent, or any module from images to an output, which then needs `images`.
        images: (N, C, H, W) or (C, H, W), of a module: what a drawing can start from.
        classes: names of a module's classes; empty: numbers.

    Raises:
        ValueError: a module without images, or another kind of subject.
    """
    if isinstance(subject, Live):
        return LiveWidget(subject)
    if isinstance(subject, nn.Module):
        if images is None:
            raise argument_error("images", "are missing", "images that the module takes")
        engine = ImageEngine(module_subject(subject, images, classes))
        title = type(subject).__name__
        return LiveWidget(Live(title=title, panels=[lambda: ImagePanel(engine)]))
    if isinstance(subject, HasLive):
        return LiveWidget(subject.live())
    problem = f"a {type(subject).__name__} is not accepted"
    raise argument_error("subject", problem, "an agent, or an nn.Module with images")
