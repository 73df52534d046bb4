"""The panel for questions in a Chromium: what it shows is what the agent says without a page."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from agents.core.agent import Agent
from agents.core.inspection.live import live_of
from tests.conftest import small_agent
from tests.helpers.browser import LivePage, served
from visualization.recurrent import Edit

UNIT, STEP = 3, 2


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Return an adder with cells and attention, whose weights tell places apart."""
    made = small_agent("attention_adder", task="add2x2", num_layers=2)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in made.model.parameters():
            parameter.normal_(0, 0.5)
    return made


@pytest.fixture(scope="module")
def address(agent: Agent) -> Iterator[str]:
    """Return the address of its page."""
    with served(live_of(agent)) as found:
        yield found


@pytest.fixture
def page(driver: webdriver.Chrome, address: str) -> LivePage:
    """Return its page, newly opened."""
    opened = LivePage(driver, address)
    opened.await_(lambda: opened.driver.find_elements(By.CSS_SELECTOR, ".lv-written td"))
    opened.settle()
    return opened


def answer(page: LivePage) -> str:
    """Return the answer that is shown, and the untouched one after it."""
    return page.one(".lv-read").text


def probabilities(page: LivePage, row: int = 0) -> NDArray[np.float64]:
    """Return the probability, in percent, of each character of the answer as it is shown."""
    rows = page.driver.find_elements(By.CSS_SELECTOR, ".lv-written tr")
    shares = rows[row].find_elements(By.CSS_SELECTOR, ".lv-share")
    return np.array([float(share.text.removesuffix(" %")) for share in shares])


def cell(page: LivePage, unit: int, step: int) -> str:
    """Return the selector of a cell."""
    return f'.lv-cells td[data-unit="{unit}"][data-step="{step}"]'


def values(page: LivePage) -> NDArray[np.float64]:
    """Return the values of all cells that are drawn (rows, T)."""
    cells = "[...document.querySelectorAll('.lv-cells td')]"
    num_steps = len(page.driver.find_elements(By.CSS_SELECTOR, ".lv-cells thead th")) - 1
    return np.array(page.script(f"return {cells}.map((td) => td.value)")).reshape(-1, num_steps)


def type_question(page: LivePage, text: str) -> None:
    """Type a question in the place of the one that is there."""
    field = page.one(".lv-question")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)
    page.settle()


def choose(page: LivePage, label: str, option: str) -> None:
    """Choose an option of a list by their texts."""
    page.script(
        "const labels = [...document.querySelectorAll('label')];"
        "const label = labels.find((e) => e.textContent === arguments[0]);"
        "const list = document.getElementById(label.htmlFor);"
        "list.value = [...list.options].find((e) => e.textContent === arguments[1]).value;"
        "list.dispatchEvent(new Event('change'))", label, option,
    )  # fmt: skip
    page.settle()


def test_a_typed_question_is_answered(page: LivePage, agent: Agent) -> None:
    """Answer, probabilities and cells are those of the agent; a bad question is explained."""
    type_question(page, "48+7")
    assert answer(page) == agent.predict("48+7")
    expected = agent.intervene("48+7").probabilities[0].max(1)
    np.testing.assert_allclose(probabilities(page), 100 * expected, atol=0.051)
    trace = agent.observe(agent.task.encode(["48+7"])).traces["encoder"]
    np.testing.assert_allclose(values(page), trace.h[0, 0].numpy().T, atol=1e-5)
    type_question(page, "48+")
    with pytest.raises(ValueError, match="the term ''") as error:
        agent.predict("48+")
    assert page.one(".lv-asked .lv-wrong").text == str(error.value)
    assert answer(page) == agent.predict("48+7")


def test_a_slider_changes_the_answer(page: LivePage, agent: Agent) -> None:
    """A key on the slider of a cell gives the answer of `intervene` with the slider's value."""
    type_question(page, "48+7")
    choose(page, "Layer", "layer 1")
    page.one(cell(page, UNIT, STEP)).click()
    page.await_(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".lv-unit input"))
    slider = page.one(".lv-unit input")
    before = agent.intervene("48+7").before
    for key in (Keys.END, Keys.ARROW_LEFT, Keys.HOME):
        slider.send_keys(key)
        page.settle()
        value = float(slider.get_property("value"))
        edit = Edit(units=[UNIT], time=STEP, c=value, layer=1)
        intervention = agent.intervene("48+7", {"encoder": edit})
        assert answer(page).split()[0] == intervention.after
        assert answer(page).split()[-1] == before
        for row, own in enumerate(intervention.probabilities[::-1]):
            np.testing.assert_allclose(probabilities(page, row), 100 * own.max(1), atol=0.051)
    assert f"c = {value:.3g}"[:6] in page.one(".lv-edits").text
    page.one(".lv-edits .lv-small").click()
    page.settle()
    assert answer(page) == before


def test_the_code_shown_does_the_same(page: LivePage, agent: Agent) -> None:
    """A unit that is silenced is 0 at all steps, and Python's line gives the answer shown."""
    page.one(cell(page, UNIT, STEP)).click()
    page.await_(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".lv-unit button"))
    page.one(".lv-unit button").click()
    page.settle()
    assert np.all(values(page)[UNIT] == 0)
    code = page.one(".lv-code").get_attribute("textContent")
    assert code is not None
    intervention = eval(code, {"agent": agent, "Edit": Edit})  # the page's own line
    assert answer(page).split()[0] == intervention.after
    shown = probabilities(page)
    np.testing.assert_allclose(shown, 100 * intervention.probabilities[1].max(1), atol=0.051)


def test_a_place_is_hidden_by_a_press(page: LivePage, agent: Agent) -> None:
    """The weights of its column are 0, the button is pressed, and the answer follows."""
    attention = agent.observe(agent.task.samples("test", 1)).attention[0].weights
    assert attention is not None
    question = page.one(".lv-question").get_property("value")
    button = page.driver.find_elements(By.CSS_SELECTOR, ".lv-place")[-1]
    place = len(page.driver.find_elements(By.CSS_SELECTOR, ".lv-place")) - 1
    assert button.get_attribute("aria-pressed") == "false"
    button.send_keys(Keys.ENTER)
    page.settle()
    assert button.get_attribute("aria-pressed") == "true"
    column = page.driver.find_elements(By.CSS_SELECTOR, ".lv-map tbody tr td:last-child")
    assert {cell.get_attribute("data-value") for cell in column} == {"0"}
    with attention.hide([place]):
        assert answer(page).split()[0] == agent.predict(question)
        expected = agent.intervene(str(question)).probabilities[0].max(1)
    np.testing.assert_allclose(probabilities(page), 100 * expected, atol=0.051)


def test_cells_are_read_and_chosen_by_keys(page: LivePage) -> None:
    """Arrows move over the cells, whose value is said; Enter chooses one, and sliders appear."""
    grid = page.one(".lv-cells")
    grid.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    active = page.one(f"#{grid.get_attribute('aria-activedescendant')}")
    assert active.get_attribute("data-unit") == "2"
    assert active.get_attribute("data-step") == "1"
    assert page.one(".lv-readout").text.startswith("unit 2 after step 1")
    grid.send_keys(Keys.ENTER)
    page.await_(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".lv-unit input"))
    assert page.one(".lv-unit h3").text == "Unit 2 after step 1"


def test_a_problem_that_was_mended_is_said_no_more(page: LivePage) -> None:
    """A question that is typed as it was before has no problem, even if it is the last answered."""
    for text, has_problem in (("12+34", False), ("12+34x", True), ("12+34", False)):
        type_question(page, text)
        assert bool(page.one(".lv-asked [role=alert]").text) == has_problem


@pytest.fixture
def reader(driver: webdriver.Chrome) -> Iterator[LivePage]:
    """Return the page of an agent that has as many steps as the question has characters."""
    with served(live_of(small_agent("parity_lstm"))) as found:
        opened = LivePage(driver, found)
        opened.await_(lambda: opened.driver.find_elements(By.CSS_SELECTOR, ".lv-cells td"))
        opened.settle()
        yield opened


def chosen(page: LivePage) -> list[str]:
    """Return the titles of the chosen cell's sliders: one, or none."""
    return [each.text for each in page.driver.find_elements(By.CSS_SELECTOR, ".lv-unit h3")]


def test_a_shorter_question_leaves_what_it_has_not(reader: LivePage) -> None:
    """Sliders and readout of a step that is no more go, and the keyboard is on the last step."""
    type_question(reader, "0110100")
    grid = reader.one(".lv-cells")
    grid.send_keys(Keys.ARROW_RIGHT * 5, Keys.ARROW_DOWN, Keys.ENTER)
    reader.settle()
    assert chosen(reader) == ["Unit 1 after step 5"]
    reader.one(".lv-question").send_keys(Keys.END, Keys.BACKSPACE * 4)
    reader.settle()
    assert chosen(reader) == []
    assert reader.driver.find_elements(By.CSS_SELECTOR, ".lv-unit input") == []
    assert reader.one(".lv-readout").text == ""
    grid.send_keys(Keys.ENTER)
    reader.settle()
    assert chosen(reader) == ["Unit 1 after step 2"]
    assert reader.status() == ""


def test_a_cell_that_is_chosen_too_late_is_dropped(reader: LivePage) -> None:
    """A step of the former question, chosen while the shorter one is asked for, stops nothing."""
    type_question(reader, "0110100")
    reader.script("""
        const panel = live.panels[0], {call} = panel;
        panel.call = (name, values) => {
          const reply = call.call(panel, name, values);
          if (name === "frame" && values.question === "011") {
            panel.call = call;
            panel.grid.pick(1, 5);
          }
          return reply;
        };
    """)
    type_question(reader, "011")
    assert reader.script("return live.panels[0].question.text") == "011"
    assert chosen(reader) == []
    assert values(reader).shape[1] == 3
    assert reader.status() == ""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_nobody_is_shut_out(page: LivePage, width: int, scheme: str) -> None:
    """With a change and a hidden place, wide and light or narrow and dark, axe finds no fault."""
    with page.seen(scheme, width):
        page.one(cell(page, UNIT, STEP)).click()
        page.await_(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".lv-unit button"))
        page.one(".lv-unit button").click()
        page.driver.find_elements(By.CSS_SELECTOR, ".lv-place")[-1].click()
        page.settle()
        assert page.faults() == []
