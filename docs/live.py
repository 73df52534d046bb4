"""Make the pictures of the live page: `python docs/live.py [PART …]`.

A part is the name of a function here; without one, all are made. Chromium is needed. Pictures of
scans are of `runs/conv/mnist-s0`, which `MNIST=FOLDER python docs/convolutional.py train` trains;
without that run, of a classifier of the bundled scans, which is trained here.
"""

import contextlib
import io
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
SCANS = "runs/conv/mnist-s0"
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
Place = tuple[float, float]  # shares of the drawing's width and height


def trained(folder: str, *command: str) -> str:
    """Return the folder of a run, trained by a command if it is not there."""
    if not (ROOT / folder / "best.safetensors").exists():
        print(f"$ python main.py {' '.join(command)} --run-dir {folder}", flush=True)
        words = [sys.executable, "main.py", *command, "--run-dir", folder]
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder


def classifier() -> str:
    """Return the folder of a classifier of scans."""
    if (ROOT / SCANS / "best.safetensors").exists():
        return SCANS
    return trained("runs/live/digits", "--agent", "cnn_classifier", "--task", "digits")


@contextlib.contextmanager
def live_page(folder: str, width: int, height: int) -> Iterator[webdriver.Chrome]:
    """Open the live page of a run in a browser, by the command that the docs name."""
    options = webdriver.ChromeOptions()
    for option in (*OPTIONS, f"--window-size={width},{height}"):
        options.add_argument(option)
    command = [sys.executable, "main.py", "--mode", "live", "--run-dir", folder]
    driver = webdriver.Chrome(options=options)
    try:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(server.stdout.readline().split()[0])
            settle(driver)
            yield driver
            server.terminate()
    finally:
        driver.quit()


def settle(driver: webdriver.Chrome) -> None:
    """Wait until the page is open and waits for nothing."""
    ready = "const {live} = document.getElementById('live'); "
    ready += "return Boolean(live) && live.client.waiting.size === 0"
    WebDriverWait(driver, 120, 0.05).until(lambda d: d.execute_script(ready))


def stroke(driver: webdriver.Chrome, places: Sequence[Place], after: Callable[[], object]) -> None:
    """Draw through places, and call a function after each step."""
    canvas = driver.find_element("css selector", ".lv-overlay")
    width, height = canvas.size["width"], canvas.size["height"]
    for number, (x, y) in enumerate(places):
        hand = ActionChains(driver, duration=0)
        offset = round((x - 0.5) * width), round((y - 0.5) * height)
        hand.move_to_element_with_offset(canvas, *offset)
        if number == 0:
            hand.click_and_hold()
        hand.perform()
        settle(driver)
        after()
    ActionChains(driver).release().perform()


def shot(driver: webdriver.Chrome, share: float = 1.0) -> Image.Image:
    """Return the page as a picture, made smaller by a factor."""
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    size = round(picture.width * share), round(picture.height * share)
    return picture.resize(size, Image.Resampling.LANCZOS)


def save(name: str, picture: Image.Image) -> None:
    """Save a picture of few colours, which a page has."""
    path = PICTURES / f"{name}.png"
    picture.quantize(128).save(path, optimize=True)
    print(f"docs/pictures/{name}.png: {path.stat().st_size // 1000} kB")


def click(driver: webdriver.Chrome, text: str) -> None:
    """Press a button by its text."""
    buttons = driver.find_elements("css selector", "button")
    next(button for button in buttons if button.text == text).click()
    settle(driver)


def images() -> None:
    """Picture of the page for images, with a unit chosen and a map silenced."""
    with live_page(classifier(), 1200, 1000) as driver:
        layers = driver.find_element("css selector", ".lv-maps select")
        names = [option.get_attribute("value") for option in Select(layers).options]
        Select(layers).select_by_value(str(names[1]))
        settle(driver)
        driver.find_element("css selector", ".lv-tile[data-channel='6']").click()
        settle(driver)
        large = driver.find_element("css selector", ".lv-large")
        large.click()
        settle(driver)
        click(driver, "Silence map")
        driver.execute_script("scrollTo(0, 0)")
        save("live_images", shot(driver, 0.75))


def drawing() -> None:
    """Moving picture: a four becomes a nine while it is drawn."""
    frames: list[Image.Image] = []
    with live_page(classifier(), 1000, 700) as driver:
        driver.execute_script("document.querySelector('.lv-status').textContent = ''")
        number = driver.find_element("css selector", "section[aria-label='Samples'] input")
        driver.execute_script("arguments[0].value = arguments[1]", number, str(_four(driver)))
        click(driver, "Open")
        driver.execute_script("scrollTo(0, 0)")
        take = lambda: frames.append(shot(driver, 0.6).quantize(64))  # noqa: E731
        take()
        arc = [0.31 + 0.36 * turn / 11 for turn in range(12)]
        top = [(x, 0.24 - 0.03 * math.sin(math.pi * (x - 0.31) / 0.36)) for x in arc]
        stroke(driver, top, take)
    path = PICTURES / "live_drawing.gif"
    times = [900, *[140] * (len(frames) - 2), 1800]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)
    print(f"docs/pictures/live_drawing.gif: {path.stat().st_size // 1000} kB")


def _four(driver: webdriver.Chrome) -> int:
    """Return the number of the first sample whose class is 4."""
    names = driver.execute_script(
        "return document.getElementById('live').live.about.panels[0].names"
    )
    return next(number for number, name in enumerate(names) if name.endswith(": 4"))


def question() -> None:
    """Picture of the page for questions: a unit is moved to the end of its range after a step."""
    folder = "runs/demo"
    adder = trained(folder, "--agent", "seq2seq_adder", "--task", "add3x3")
    with live_page(adder, 1200, 820) as driver:
        typed = driver.find_element("css selector", ".lv-question")
        typed.send_keys(Keys.CONTROL, "a")
        typed.send_keys("123+45+6")
        settle(driver)
        choices = driver.find_elements("css selector", "select")
        orders = next(each for each in choices if "strongest first" in each.text)
        Select(orders).select_by_visible_text("strongest first")
        settle(driver)
        driver.find_element("css selector", ".lv-cells td[data-step='11']").click()
        WebDriverWait(driver, 30).until(lambda d: d.find_elements("css selector", ".lv-unit input"))
        driver.find_element("css selector", ".lv-unit input").send_keys(Keys.END)
        settle(driver)
        save("live_question", shot(driver, 0.75))


def run() -> None:
    """Picture of a run that is followed, at an early snapshot."""
    own = ["--agent", "cnn_classifier", "--task", "digits"]
    own += ["--set", "steps=400", "--set", "log_every=5", "--set", "eval_every=20"]
    with live_page(trained("runs/live/followed", *own), 1000, 1300) as driver:
        click(driver, "Run")
        snapshots = "document.getElementById('live').live.panels.at(-1).snapshots"
        wait = WebDriverWait(driver, 60, 0.05)
        wait.until(lambda d: d.execute_script(f"return {snapshots}.steps.length"))
        driver.execute_script(f"{snapshots}.go(3)")
        step = str(driver.execute_script(f"return {snapshots}.steps[3]"))
        shown = lambda d: d.find_element("css selector", ".lv-snapshots")  # noqa: E731
        wait.until(lambda d: shown(d).get_attribute("data-step") == step)
        settle(driver)
        save("live_run", shot(driver, 0.8))


PARTS: tuple[Callable[[], None], ...] = (images, drawing, question, run)

if __name__ == "__main__":
    for part in PARTS:
        if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
            part()
