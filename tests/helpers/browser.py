"""Chromium for tests of pages, and the live page served for it."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from visualization.live.server import application, listen
from visualization.live.session import Live

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--window-size=1000,900",
)  # fmt: skip
TOKEN = "token"


@contextlib.contextmanager
def chromium(*more: str) -> Iterator[webdriver.Chrome]:
    """Give a Chromium that looks nothing up; without one the test is skipped, and CI fails."""
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not service:
        reason = "needs chromium and chromedriver"
        (pytest.fail if os.environ.get("TERRARIUM_NEEDS_BROWSER") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for option in (*OPTIONS, *more):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(service))
    try:
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def served(live: Live, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve a live page in a thread; give its address."""
    listening = listen(host, 0)
    config = uvicorn.Config(
        application(live, TOKEN, host), log_level="error", lifespan="off",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


class LivePage:
    """A live page in a browser, as a person's hand and eye have it."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver, self.address = driver, address
        driver.get_log("performance")  # type: ignore[no-untyped-call]
        driver.get(address)

    def hand(self) -> ActionChains:
        """Return a mouse and a keyboard; its moves take no time."""
        return ActionChains(self.driver, duration=0)

    def one(self, selector: str) -> WebElement:
        """Return the first element that a selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def button(self, text: str, within: str = "#live") -> WebElement:
        """Return a button by its text."""
        buttons = self.driver.find_elements(By.CSS_SELECTOR, f"{within} button")
        return next(button for button in buttons if button.text == text)

    def script(self, text: str, *values: object) -> Any:
        """Return what a script returns; `live` is the mounted page."""
        prefix = "const live = document.getElementById('live').live; "
        return self.driver.execute_script(prefix + text, *values)

    def await_(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        WebDriverWait(self.driver, 30, poll_frequency=0.02).until(lambda _: condition())

    def idle(self) -> bool:
        """Tell whether the page has opened, and waits for nothing."""
        return bool(self.script("return Boolean(live?.panels) && live.client.waiting.size === 0"))

    def settle(self) -> None:
        """Wait until the page waits for nothing."""
        self.await_(self.idle)

    def status(self) -> str:
        """Return what the page says."""
        return self.one(".lv-status").text

    @contextlib.contextmanager
    def seen(self, scheme: str, width: int) -> Iterator[None]:
        """Show the page in a colour scheme, `light` or `dark`, and so wide, for a block."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def faults(self) -> list[tuple[str, list[str]]]:
        """Return what axe-core finds wrong, and the elements; and what runs over the side."""
        found = Axe().run(self.driver)["violations"]
        faults = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
        sizes = "return [document.documentElement.scrollWidth, innerWidth]"
        wide, window = self.driver.execute_script(sizes)
        return faults if wide <= window else [*faults, ("too wide", [f"{wide} of {window} pixels"])]

    def logs(self, kind: str) -> list[Any]:
        """Return what the browser has logged since the last call."""
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]
