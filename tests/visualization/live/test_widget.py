"""The live page as a widget: the messages of anywidget, and a real JupyterLab."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import small_agent
from tests.helpers import live as small
from visualization import live
from visualization.live.widgets import LiveWidget

ROOT = Path(__file__).parents[3]
_SECONDS = 180  # that JupyterLab and its kernel may take to start
_CELL = """
import sys; sys.path.insert(0, ROOT)
from tests.helpers import live as small
from visualization import live
shown = live.widget(small.network(), small.samples(), small.CLASSES)
shown
"""


def sent(widget: LiveWidget, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Collect what a widget sends."""
    messages: list[tuple[Any, Any]] = []
    monkeypatch.setattr(widget, "send", lambda *message: messages.append(message))
    return messages


def test_a_widget_answers_as_a_page_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message over the widget has the reply of a session, and the drawing is taken up."""
    widget = live.widget(small.network(), small.samples(), small.CLASSES)
    messages = sent(widget, monkeypatch)
    image = small.samples()[2]
    header, buffers = small.frame(image)
    widget._receive(widget, header, [memoryview(each) for each in buffers])
    expected = small.Session(small.live()).handle(header, buffers)
    assert messages == [(dict(expected.data), list(expected.buffers))]
    assert np.array_equal(widget.image, image)


def test_rubbish_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is no object asks what there is."""
    widget = live.widget(small.live())
    messages = sent(widget, monkeypatch)
    widget._receive(widget, "rubbish", [])
    assert messages[0][0]["title"] == "a <small> network"


@pytest.mark.parametrize(
    ("subject", "problem"),
    [(small.network(), "images: are missing"), (3, "subject: a int is not accepted")],
)
def test_other_subjects_are_refused(subject: object, problem: str) -> None:
    """A module needs images, and what has no live page is named."""
    with pytest.raises(ValueError, match=problem):
        live.widget(subject)


def test_a_widget_of_questions_has_no_image() -> None:
    """Where a question is asked there is no drawing to take up, which is said."""
    widget = live.widget(small_agent("seq2seq_adder", task="add2x2"))
    problem = "image: there is none to draw on, as where a question is asked; accepted: a widget"
    with pytest.raises(ValueError, match=problem):
        _ = widget.image


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """Run a JupyterLab on a folder; give its address."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
        "--expose-app-in-browser", f"--port={port}",
        "--IdentityProvider.token=token", f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "RUNTIME", "DATA")}
    own["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
    with subprocess.Popen(
        command, env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield f"http://127.0.0.1:{port}/lab/tree/live.ipynb?token=token"
        finally:
            server.terminate()


def test_the_widget_is_drawn_into_in_jupyterlab(driver: webdriver.Chrome, tmp_path: Path) -> None:
    """In a real JupyterLab a cell shows the page, whose tiles are of a direct pass."""
    code = _CELL.replace("ROOT", repr(str(ROOT)))
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"cells": [{**cell, "source": code}], "metadata": kernel}
    text = json.dumps({**book, "nbformat": 4, "nbformat_minor": 5})
    (tmp_path / "live.ipynb").write_text(text, encoding="utf-8")
    driver.set_window_size(1400, 2400)  # only maps in sight are asked for
    wait = WebDriverWait(driver, _SECONDS, 0.2, [WebDriverException])  # until it answers
    with jupyter_lab(tmp_path) as address:

        def opened(_: object) -> bool:
            driver.get(address)
            return "lab" in driver.title.lower() or "live" in driver.title.lower()

        wait.until(opened)
        context = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext"
        wait.until(lambda d: d.execute_script(f"return Boolean({context}?.session?.kernel)"))
        driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        wait.until(lambda d: d.find_elements("css selector", ".lv-tile canvas"))
        painted = """
            const root = [...document.querySelectorAll(".lv-page")].find((each) => each.live);
            const panel = root?.live.panels[0], tiles = panel?.tiles.tiles ?? [];
            const isOpen = panel?.original && !panel.stream.busy;
            return isOpen && tiles.length > 0 && tiles.every(({levels}) => levels)
              ? tiles.map(({levels, limits}) => [limits, Array.from(levels)]) : null;
        """
        wait.until(lambda d: d.execute_script(painted))
        tiles = driver.execute_script(painted)
        driver.get("about:blank")
    reply = small.Session(small.live()).handle(*small.frame(small.samples()[0], layer=small.LAYER))
    shown = [low + (high - low) * np.array(levels) / 255 for (low, high), levels in tiles]
    np.testing.assert_allclose(np.stack(shown), small.maps_of(reply).reshape(4, -1), atol=1e-5)
