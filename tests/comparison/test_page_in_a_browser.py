"""The page in a real browser, where there is one: quiet, alone, no wider than a phone, and its controls work."""

import pytest
from comparison.fake_runs import four_factors, gqa_arms, many_arms, write_study
from comparison.page_browser import CHROMIUM, Browser

from atomiclm.comparison.analysis import compare_runs
from atomiclm.comparison.page import write_page
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import read_ledger

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; the page's script is not run")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of four arms, one of 24, and one of 24 of four factors."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {}
    for name, arms in (("few", gqa_arms()), ("many", many_arms(24)), ("factors", four_factors())):
        write_study(folder / name, arms, (1, 2, 3), rows=40, validations=10, ledger=name == "few")
        paths[name] = folder / f"{name}.html"
        write_page(compare_runs(read_runs([folder / name]), read_ledger(folder / name)), paths[name])
    return paths


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def drawn(browser):
    """Wait until Vega has taken the place of every picture."""
    browser.wait("Object.keys(window.views).length >= document.querySelectorAll('.chart').length")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
@pytest.mark.parametrize("name", ["few", "many", "factors"])
def test_the_page_is_quiet_loads_nothing_and_fits(browser, pages, name, width, scheme):
    browser.open(pages[name], width, scheme)
    drawn(browser)
    browser.run("[...document.querySelectorAll('#curves input')].forEach((input) => input.click())")
    assert browser.run("document.documentElement.scrollWidth") <= width
    fits = "(one) => one.clientWidth <= one.closest('.chart').clientWidth"
    assert browser.run(f"[...document.querySelectorAll('.chart svg')].every({fits})")
    assert browser.heard == [("request", pages[name].as_uri())]
    dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    ink = "getComputedStyle(document.querySelector('#curves .role-axis-label text')).fill"
    before = browser.run(ink)
    browser.run("document.querySelector('#theme').click()")
    assert dark != (browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)")
    assert browser.run(ink) != before, "the charts follow the scheme"


def test_no_label_of_24_arms_of_four_factors_is_cut_or_lies_over_another(browser, pages):
    for width in (1280, 390):
        browser.open(pages["factors"], width)
        drawn(browser)
        texts = browser.run("[...document.querySelectorAll('.chart svg text')].map((one) => one.textContent)")
        assert not [text for text in texts if "…" in text]
        assert any(set(text.split()) == {"kv4", "theta1e5", "FeedForward", "lr0.01"} for text in texts)
        overlapping = """[...document.querySelectorAll('#pictures .chart, #curves .chart')].flatMap((chart) => {
            const boxes = [...chart.querySelectorAll('svg text')].filter((one) => one.textContent.trim()
                && getComputedStyle(one).opacity !== '0').map((one) => [one.textContent, one.getBoundingClientRect()]);
            return boxes.flatMap(([text, a], at) => boxes.slice(at + 1).filter(([other, b]) =>
                a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom
            ).map(([other]) => [chart.id, text, other]));
        })"""
        assert browser.run(overlapping) == []


def test_controls_choose_the_axes_and_the_legend_singles_out_an_arm(browser, pages):
    browser.open(pages["few"], 1280)
    drawn(browser)
    texts = "[...document.querySelectorAll('#curves svg text')].map((one) => one.textContent)"
    assert {"training tokens", "validation, bits per byte", "1M"} <= set(browser.run(texts))
    for value in ("seconds", "train/loss"):
        browser.run(f"document.querySelector('#curves input[value=\"{value}\"]').click()")
    assert {"seconds of training", "training loss, nats per token", "50"} <= set(browser.run(texts))
    opacities = (
        "[...document.querySelectorAll('#curves .mark-line path')].map((one) => one.getAttribute('opacity') ?? '1')"
    )
    assert set(browser.run(opacities)) == {"1"}
    browser.run("window.views.curves.signal('arms_arm_legend', 'kv4').run(), 1")
    assert sorted(set(browser.run(opacities))) == ["0.1", "1"]
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
