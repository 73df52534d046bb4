"""How soon the live page shows what is drawn: from a pointer's event to the painted tiles.

In Chromium, with the page's own server in another process. A stroke goes round and round over the
canvas, sixty events a second. For each frame that is painted, the time counts from the first
pointer event that it shows to the browser's next frame after the tiles were painted.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
from websockets.typing import Origin

from benchmarks.measure import Figures, median, own, run_child, scratch, table, tell
from benchmarks.peers.common import ROOT
from visualization.live.messages import pack

ROUNDS = 3
ACCEPTED = 60  # ms, the 95th percentile for the classifier of MNIST with 64 maps
NUM_EVENTS = 300
_MAPS, _SIDES = (16, 64, 256), (28, 56, 112, 224)  # of the growth: maps of 28², and 64 maps
_SERVER = """
import sys
import numpy as np, torch
from torch import nn
from agents.configs.cnn_classifier import CnnConfig
from agents.cnn_classifier import small_network
from tasks.core.task import ImageToLabel
from visualization.live.image_panel import ImagePanel
from visualization.live.images import ImageEngine, module_subject
from visualization.live.server import serve
from visualization.live.session import Live

maps, side = int(sys.argv[1]), int(sys.argv[2])
names = tuple("0123456789")
if maps:
    model = nn.Sequential(nn.Conv2d(1, maps, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(maps, 10))
else:
    model = small_network(CnnConfig(), ImageToLabel(1, side, side, names))
images = np.random.default_rng(0).random((4, 1, side, side)).astype(np.float32)
engine = ImageEngine(module_subject(model, images, names))
serve(Live(title="classifier", panels=[lambda: ImagePanel(engine)]))
"""
_STROKE = """
const [num, layer, done] = arguments, panel = document.getElementById("live").live.panels[0];
panel.layers.select.value = layer;
panel.layer = layer;
panel.showLayer();
panel.tiles.element.scrollIntoView();
for (const { channel } of panel.tiles.tiles) panel.tiles.visible.add(channel);
panel.tiles.observer.disconnect();
const canvas = panel.canvas.overlay, times = [];
let painted = 0;
panel.element.addEventListener("lv-painted", ({ detail: { since } }) => {
  if (since !== null) requestAnimationFrame(() => times.push(performance.now() - since));
  painted += 1;
});
const point = (name, turn) => {
  const box = canvas.getBoundingClientRect(), angle = turn / 25;
  canvas.dispatchEvent(new PointerEvent(name, { pointerId: 1, bubbles: true, buttons: 1,
    clientX: box.left + box.width * (0.5 + 0.35 * Math.cos(angle)),
    clientY: box.top + box.height * (0.5 + 0.35 * Math.sin(angle)) }));
};
let turn = 0;
canvas.setPointerCapture = () => {};
point("pointerdown", 0);
const begun = performance.now();
const step = () => {
  turn += 1;
  if (turn === 30) times.length = 0;
  if (turn < num) {
    point("pointermove", turn);
    requestAnimationFrame(step);
  } else {
    point("pointerup", turn);
    setTimeout(() => done({ times, seconds: (performance.now() - begun) / 1000, painted }), 300);
  }
};
requestAnimationFrame(step);
"""


@contextlib.contextmanager
def _server(maps: int, side: int) -> Iterator[str]:
    """Serve a network in a process of its own; give the page's address."""
    command = own("-c", _SERVER, str(maps), str(side))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _stroke(maps: int, side: int, layer: str) -> tuple[float, float, float]:
    """Return median and 95th percentile of the milliseconds of a stroke, and frames a second."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options)
    driver.set_script_timeout(120)
    try:
        with _server(maps, side) as address:
            driver.get(address)
            ready = "return Boolean(document.getElementById('live').live)"
            WebDriverWait(driver, 60).until(lambda d: d.execute_script(ready))
            found = driver.execute_async_script(_STROKE, NUM_EVENTS, layer)
    finally:
        driver.quit()
    middle, high = np.percentile(found["times"], [50, 95])
    return float(middle), float(high), found["painted"] / found["seconds"]


def _seconds_to_stop() -> float:
    """Return how long `main.py --mode live` takes to end after Ctrl-C, with a page open."""
    from websockets.sync.client import connect

    with scratch() as folder:
        agent = ["--agent", "cnn_classifier", "--task", "digits", "--set", "steps=2"]
        run_child(own("main.py", *agent, "--run-dir", str(folder)))
        command = own("main.py", "--mode", "live", "--run-dir", str(folder))
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            origin = "/".join(address.split("/")[:3])
            with connect(
                f"{address.replace('http', 'ws', 1)}socket", origin=Origin(origin)
            ) as page:
                page.send(pack({"id": 1}))
                page.recv()
                begun = time.perf_counter()
                process.send_signal(signal.SIGINT)
                process.wait()
                return time.perf_counter() - begun


def measure(rounds: int = ROUNDS) -> Figures:
    """Draw on the classifier of MNIST's size and on other networks; then stop the server."""
    cases = {"classifier of MNIST, 64 maps": (0, 28, "stage3.block1.relu2")}
    cases |= {f"{maps} maps of 28 × 28": (maps, 28, "1") for maps in _MAPS}
    cases |= {f"64 maps of {side} × {side}": (64, side, "1") for side in _SIDES[1:]}
    figures: Figures = {}
    for name, case in cases.items():
        found = [_stroke(*case) for _ in range(rounds)]
        figures[name] = {
            key: median(values)
            for key, values in zip(
                ("median", "p95", "frames"), zip(*found, strict=True), strict=True
            )
        }
        tell(f"{name}: p95 {figures[name]['p95']:.0f} ms")
    seconds = median([_seconds_to_stop() for _ in range(rounds)])
    return {"drawing": figures, "seconds_to_stop": seconds}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [name, f"{each['median']:.0f}", f"{each['p95']:.0f}", f"{each['frames']:.0f}",
         f"≤ {ACCEPTED}" if number == 0 else ""]
        for number, (name, each) in enumerate(figures["drawing"].items())
    ]  # fmt: skip
    drawing = table(["drawing", "median ms", "p95 ms", "frames a second", "accepted"], rows)
    stop = figures["seconds_to_stop"]
    return f"{drawing}\n\nfrom Ctrl-C to the end of the process: {stop:.2f} s (accepted: 1)"
