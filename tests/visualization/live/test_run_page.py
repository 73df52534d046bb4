"""The page that follows a run, in a real Chromium: it shows what the folder has, as it grows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.helpers import followed
from tests.helpers.browser import LivePage, served
from tests.helpers.followed import FollowedRun, append, overfitting
from tests.helpers.live import CLASSES, LAYER, samples

# Points of a curve as they are drawn, as steps and values: the inverse of the scales of its axes.
_DRAWN = """
const plot = live.panels[0].plots.get(arguments[0]), {range} = plot;
const path = plot.svg.querySelector(`g[data-label="${arguments[1]}"] .lv-line`).getAttribute("d");
const between = (at, begin, end, from, to) => from + (to - from) * (at - begin) / (end - begin);
const [left, right] = [plot.x(range.first), plot.x(range.last)];
const [bottom, top] = [plot.y(range.low), plot.y(range.high)];
return path.slice(1).split("L").map((pair) => pair.split(" ").map(Number)).map(([x, y]) => [
  between(x, left, right, range.first, range.last), plot.log
    ? Math.exp(between(y, bottom, top, Math.log(range.low), Math.log(range.high)))
    : between(y, bottom, top, range.low, range.high)]);
"""
_TILES = """
return live.panels[0].snapshots[arguments[0]].tiles.tiles.map(({canvas, limits: [low, high]}) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({length: data.length / 4}, (_, at) => low + (high - low) * data[4 * at] / 255);
});
"""


class RunPage(LivePage):
    """The page of a run."""

    def fact(self, name: str) -> str:
        """Return one fact of the status."""
        return str(self.script(
            "return live.panels[0].facts.querySelector(`[data-fact='${arguments[0]}']`)"
            "?.textContent ?? ''", name,
        ))  # fmt: skip

    def drawn(self, plot: str, label: str) -> NDArray[np.float64]:
        """Return steps and values (n, 2) of a curve as it is drawn."""
        return np.array(self.script(_DRAWN, plot, label))

    def tiles(self, pane: str) -> NDArray[np.float64]:
        """Return the maps (U, h, w) of the chosen snapshot, `now`, or of the latest, `last`."""
        tiles = np.array(self.script(_TILES, pane))
        side = round(tiles.shape[1] ** 0.5)
        return tiles.reshape(len(tiles), side, side)

    def slide(self, *keys: str) -> None:
        """Press keys at the slider, and wait until what they led to is shown."""
        self.one(".lv-snapshots input[type='range']").send_keys(*keys)
        self.settle_at(int(self.script("return live.panels[0].snapshots.step")))

    def settle_at(self, step: int) -> None:
        """Wait until a snapshot is shown, and nothing is waited for."""
        self.await_(lambda: self.one(".lv-snapshots").get_attribute("data-step") == str(step)
                    and not self.script("return live.panels[0].snapshots.stream.busy"))  # fmt: skip

    def answers(self) -> list[list[str]]:
        """Return the rows of the table of answers."""
        return list(self.script(
            "return [...live.panels[0].snapshots.body.rows].map((row) => "
            "[...row.cells].map((cell) => cell.textContent))"
        ))  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> FollowedRun:
    """Return a run that has just begun, in a folder with a hundred steps."""
    found = FollowedRun(tmp_path)
    append(found.records, overfitting(100))
    return found


@pytest.fixture
def page(driver: webdriver.Chrome, run: FollowedRun) -> Iterator[RunPage]:
    """Return its page, open; afterwards no script has failed."""
    with served(run.live()) as address:
        found = RunPage(driver, address)
        found.await_(lambda: found.script("return Boolean(live?.panels)"))
        found.await_(lambda: found.fact("step") == "100 of 400")
        found.settle_at(max(run.states))
        yield found
        driver.get("about:blank")
        severe = [entry for entry in found.logs("browser") if entry["level"] == "SEVERE"]
        assert severe == []


def maps(run: FollowedRun, step: int, sample: int = 0) -> NDArray[np.float64]:
    """Return the maps of a direct pass with the weights of a snapshot."""
    with torch.no_grad():
        image = torch.as_tensor(samples(3)[sample])[None]
        return np.asarray(run.direct(step)[:2](image)[0].numpy(), np.float64)


def assert_close(shown: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Assert that tiles are maps, within a level of grey."""
    extent = np.ptp(expected, axis=(1, 2), keepdims=True)
    assert np.all(np.abs(shown - expected) <= extent / 255 + 1e-5)


def test_curves_follow_the_file(page: RunPage, run: FollowedRun) -> None:
    """What is appended while the page is open is drawn, and the last value is the last record's."""
    page.await_(lambda: len(page.drawn("loss", "training")) == 10)
    append(run.records, [r for r in overfitting(400) if r["step"] > 100])
    page.await_(lambda: page.fact("step") == "400 of 400")
    page.await_(lambda: len(page.drawn("loss", "training")) == 40)
    records = [record for record in overfitting(400) if "train/loss" in record]
    drawn = page.drawn("loss", "training")
    np.testing.assert_allclose(drawn[:, 0], [record["step"] for record in records], atol=2)
    np.testing.assert_allclose(drawn[:, 1], [r["train/loss"] for r in records], rtol=0.03)
    keys = page.one("[data-plot='loss'] .lv-key").text.split()
    assert float(keys[-1]) == pytest.approx(records[-1]["train/loss"], rel=5e-3)
    page.await_(lambda: "overfit" in page.one("section[aria-label='Verdicts'] .lv-note").text)
    assert page.one("tr[data-name='overfit'] .lv-verdict").text == "✗ problem"


def test_a_run_that_begins_again_takes_the_place_of_the_first(
    page: RunPage, run: FollowedRun
) -> None:
    """The curves of a new file replace those of the one before it."""
    new = run.folder / "new"
    append(new, overfitting(50))
    new.replace(run.records)
    page.await_(lambda: page.fact("step") == "50 of 400")
    page.await_(lambda: len(page.drawn("loss", "training")) == 5)
    steps = [record["step"] for record in overfitting(50) if "train/loss" in record]
    np.testing.assert_allclose(page.drawn("loss", "training")[:, 0], steps, atol=2)
    assert page.fact("step") == "50 of 400"


def test_the_slider_shows_each_snapshot(page: RunPage, run: FollowedRun) -> None:
    """By keys, maps and answers are those of a direct pass with the weights of that step."""
    Select(page.one(".lv-snapshots select")).select_by_value(LAYER)
    page.settle_at(20)
    for keys, step in ((Keys.HOME, 0), (Keys.ARROW_RIGHT, 5), (Keys.END, 20)):
        page.slide(keys)
        assert_close(page.tiles("now"), maps(run, step))
        assert_close(page.tiles("last"), maps(run, 20))
        with torch.no_grad():
            found = run.direct(step)(torch.as_tensor(samples(3))).argmax(1).tolist()
        for row, number, right in zip(page.answers(), found, followed.RIGHT, strict=True):
            name = CLASSES[number]
            assert row[1:3] == [right, f"{'✓' if name == right else '✗'} {name}"]
    page.driver.find_elements("css selector", ".lv-answers button")[2].click()
    page.slide(Keys.HOME)
    assert_close(page.tiles("now"), maps(run, 0, sample=2))
    assert_close(page.tiles("last"), maps(run, 20, sample=2))


def test_new_snapshots_are_followed_and_play_steps_through_all(
    page: RunPage, run: FollowedRun
) -> None:
    """A new snapshot is shown when the latest was; played, each is shown until the last."""
    run.save(60)
    page.settle_at(60)
    page.script(
        "window.seen = []; live.panels[0].snapshots.element.addEventListener('lv-snapshot',"
        "({detail}) => window.seen.push(detail.step))"
    )
    page.button("Play").click()
    page.await_(lambda: page.one(".lv-snapshots button").text == "Play")
    assert list(dict.fromkeys(page.script("return window.seen"))) == [0, 5, 20, 60]


def test_cells_are_a_heat_map_with_the_text_of_each_step(page: RunPage) -> None:
    """Of a recurrent layer there is a picture of units by steps, and a character below each."""
    Select(page.one(".lv-snapshots select")).select_by_value("cells")
    page.await_(lambda: page.driver.find_elements("css selector", ".lv-steps span"))
    page.settle()
    pane = "return live.panels[0].snapshots.now.cells"
    assert page.script(f"{pane}.querySelector('.lv-steps').textContent") == "".join(followed.TEXT)
    colours: Any = page.script(
        f"""{pane}.querySelector('canvas').getContext('2d')
        .getImageData(0, 0, 4, 3).data.reduce((all, value) => [...all, value], [])""".strip()
    )
    assert page.script(f"{pane}.querySelector('canvas').width") == len(followed.TEXT)
    red, blue = np.array(colours).reshape(3, 4, 4)[..., [0, 2]].transpose(2, 0, 1).astype(int)
    states = followed.cells(20)[0]
    assert np.all((red > blue)[states > 0.01])  # orange
    assert np.all((red < blue)[states < -0.01])  # blue


def test_values_are_read_by_keys(page: RunPage) -> None:
    """With the arrow keys a plot says step and values; the table has the last of them."""
    page.await_(lambda: len(page.drawn("loss", "training")) == 10)
    page.one("[data-plot='loss'] .lv-plot").send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    reading = page.one("[data-plot='loss'] .lv-reading")
    page.await_(lambda: reading.text.startswith("step 20: training "))
    loss = next(record["train/loss"] for record in overfitting() if record["step"] == 20)
    assert float(reading.text.split()[3].rstrip(",")) == pytest.approx(loss, rel=5e-3)
    page.one("[data-plot='loss'] summary").click()
    page.await_(lambda: page.one("[data-plot='loss'] tbody tr:last-child th").text == "100")


def test_what_is_wrong_is_said_and_the_page_goes_on(page: RunPage, run: FollowedRun) -> None:
    """A snapshot that does not fit, and a folder that is gone, are said; what is whole is shown."""
    run.states[60] = {"0.weight": torch.zeros(1)}
    page.await_(lambda: "accepted: a snapshot" in page.one(".lv-snapshots .lv-wrong").text)
    page.slide(Keys.HOME)
    page.await_(lambda: "accepted: a snapshot" in page.one(".lv-snapshots .lv-wrong").text)
    del run.states[60]
    page.settle_at(0)
    page.await_(lambda: page.one(".lv-snapshots .lv-wrong").text == "")
    run.records.unlink()
    run.folder.rmdir()
    page.await_(lambda: "is gone" in page.one("section[aria-label='Status'] .lv-wrong").text)
    assert len(page.drawn("loss", "training")) == 10


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_nobody_is_shut_out(page: RunPage, width: int, scheme: str) -> None:
    """axe-core finds no fault in the page, wide and light or narrow and dark; nothing runs over."""
    with page.seen(scheme, width):
        page.one("[data-plot='loss'] summary").click()
        page.settle()
        assert page.faults() == []
