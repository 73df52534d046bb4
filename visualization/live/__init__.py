"""Live page: draw into an image, and watch what a network makes of it."""

from typing import TYPE_CHECKING, Any

from visualization.live.drawings import load_drawing

if TYPE_CHECKING:
    from visualization.live.widgets import LiveWidget

__all__ = ["load_drawing", "widget"]


def widget(subject: Any, images: Any = None, classes: Any = ()) -> "LiveWidget":
    """Live page in a notebook; see `visualization.live.widgets.widget`.

    Raises:
        ModuleNotFoundError: anywidget is not installed: `pip install 'terrarium[live]'`.
    """
    from visualization.live import widgets  # anywidget is needed nowhere else

    return widgets.widget(subject, images, classes)
