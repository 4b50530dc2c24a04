"""The page in a real browser, where there is one: quiet, alone, no wider than a phone, and its controls work."""

import pytest
from comparison.fake_runs import gqa_arms, many_arms, write_study
from comparison.page_browser import CHROMIUM, Browser

from atomiclm.comparison.comparing import compare_runs
from atomiclm.comparison.page import write_page
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import read_ledger

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; the page's script is not run")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of four arms, and one of 24 with names that hold markup."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {}
    for name, arms in (("few", gqa_arms()), ("many", many_arms(24))):
        write_study(folder / name, arms, (1, 2, 3), rows=40, validations=10, ledger=name == "few")
        paths[name] = folder / f"{name}.html"
        write_page(compare_runs(read_runs([folder / name]), read_ledger(folder / name)), paths[name])
    return paths


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
@pytest.mark.parametrize("name", ["few", "many"])
def test_the_page_is_quiet_loads_nothing_and_fits(browser, pages, name, width, scheme):
    browser.open(pages[name], width, scheme)
    for control in ("[value=seconds]", "[value='train/loss']", "[name=log]", "[name=seeds]", "[name=zoom]"):
        browser.run(f'document.querySelector("#curve-controls {control}").click()')
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelectorAll('#curve-chart .curve').length") == {"few": 4, "many": 24}[name]
    assert browser.heard == [("request", pages[name].as_uri())]
    dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    browser.run("document.querySelector('#theme').click()")
    assert dark != (browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)")


def test_keys_and_pointer_read_values_off_and_the_legend_hides_an_arm(browser, pages):
    browser.open(pages["few"], 1280)
    outputs = "[...document.querySelectorAll('#curve-legend output')].map((one) => one.textContent)"
    at_the_end = browser.run(outputs)
    assert all(1.8 < float(value) < 2.0 for value in at_the_end)
    press = "document.querySelector('#curve-chart').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }))"
    for _ in range(10):
        browser.run(press)
    earlier = browser.run(outputs)
    assert all(float(before) > float(after) for before, after in zip(earlier, at_the_end, strict=True))
    assert "800k training tokens" in browser.run("document.querySelector('#curve-where').textContent")
    browser.run("document.querySelectorAll('#curve-legend button')[1].click()")
    assert browser.run(outputs)[1] == ""
    assert browser.run("document.querySelectorAll('#curve-chart .curve').length") == 3
    assert browser.run("document.querySelectorAll('#curve-legend button')[1].getAttribute('aria-pressed')") == "false"
    assert browser.heard == [("request", pages["few"].as_uri())]


def test_a_click_on_a_heading_sorts_by_number_and_a_second_one_turns_it_round(browser, pages):
    browser.open(pages["few"], 1280)
    names = "[...document.querySelectorAll('#verdicts tbody th')].map((one) => one.dataset.sort)"
    click = "document.querySelectorAll('#verdicts thead button')[5].click()"
    assert browser.run(names) == ["kv8", "kv4", "kv2", "kv1"]
    browser.run(click)
    ascending = browser.run(names)
    differences = "[...document.querySelectorAll('#verdicts tbody tr')].map((row) => row.cells[5].dataset.sort)"
    shown = browser.run(differences)
    assert shown[-1] == "", "the baseline has no difference"
    assert [float(value) for value in shown[:-1]] == sorted(float(value) for value in shown[:-1])
    browser.run(click)
    assert browser.run(names) == [*reversed(ascending[:-1]), ascending[-1]]
    assert browser.run("document.querySelectorAll('#verdicts th[aria-sort]').length") == 1
