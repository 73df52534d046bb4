"""How long a browser takes to open a report of a layer of 128 channels with a page each.

The time is that of the navigation until the `load` event has been handled, in headless Chromium,
from a file, of the report with all views closed and with the gallery of the pages open.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.measure import Figures, median, scratch, table, tell
from visualization import conv
from visualization.report import Report

ROUNDS = 5
CHANNELS = 128
ACCEPTED = 1.0  # seconds
_LAYER = "1"
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--window-size=960,900",
)  # fmt: skip


def report() -> Report:
    """Return a report of an untrained layer: its patches, maximised images, and a page a unit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, CHANNELS, 5), nn.ReLU())
    images = np.random.default_rng(0).random((200, 1, 28, 28), np.float32)
    channels = list(range(CHANNELS))
    patches = conv.top_patches(model, _LAYER, images, channels)
    maximised = conv.maximise(model, conv.channel(_LAYER, channels), (1, 28, 28), steps=4)
    sheets = conv.unit_sheets(
        model, _LAYER, images, patches=patches, names=[f"image {n}" for n in range(len(images))],
        labels=[str(number % 10) for number in range(len(images))], maximised=maximised,
    )  # fmt: skip
    units = {"layers": conv.layer_activations(model, images[:8]), "patches": patches,
             "maximised": maximised, "units": sheets}  # fmt: skip
    return Report("A layer of 128 channels", {name: {"relu": each} for name, each in units.items()})


def measure(rounds: int = ROUNDS) -> Figures:
    """Open the page several times in a browser of its own."""
    with scratch() as folder:
        page = report().save(folder / "report.html")
        tell(f"{len(list(folder.rglob('units/*/*.html')))} pages are written")
        return {
            "rounds": rounds,
            "channels": CHANNELS,
            "megabytes": page.stat().st_size / 1e6,
            "seconds": _seconds(page, "", rounds),
            "units_open_seconds": _seconds(page, "#units", rounds),
        }


def _seconds(page: Path, part: str, rounds: int) -> float:
    """Return the median of the seconds until a page is loaded."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not service:
        raise SystemExit("opening: needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in _OPTIONS:
        options.add_argument(option)
    chromium = webdriver.Chrome(options=options, service=Service(service))
    try:
        times = []
        for _ in range(rounds):
            chromium.get("about:blank")
            chromium.get(page.as_uri() + part)
            script = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
            times.append(chromium.execute_script(script) / 1000)
    finally:
        chromium.quit()
    return median(times)


def report_table(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [f"report.html of {figures['channels']} unit pages, {figures['megabytes']:.1f} MB",
         f"{figures['seconds']:.2f}", f"≤ {ACCEPTED:.0f}"],
        ["  with the gallery of its units open", f"{figures['units_open_seconds']:.2f}",
         f"≤ {ACCEPTED:.0f}"],
    ]  # fmt: skip
    return table(["opening in Chromium", "seconds", "accepted"], rows)
