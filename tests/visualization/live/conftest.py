"""What tests of the live page share: a browser, and a small network that they draw into."""

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.helpers.browser import chromium


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """Return a Chromium that finds no host but this one."""
    with chromium("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        yield browser
