"""The page against the comparison it is of: nothing loaded, and the same numbers."""

import base64
import hashlib
import itertools
import re
import statistics
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from comparison.fake_runs import METRIC
from comparison.page_reading import Page, walk
from comparison.page_study import eventful_study

from atomiclm.comparison.charts import specification, svg
from atomiclm.comparison.forest_charts import means
from atomiclm.comparison.page import page_html, write_page
from atomiclm.comparison.wording import MINUS


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return eventful_study(tmp_path_factory.mktemp("outputs") / "gqa")


@pytest.fixture(scope="module")
def page(comparison):
    return Page(page_html(comparison))


def own(text):
    """The page without Vega."""
    vega, _ = re.findall(r"<script>.*?</script>", text, flags=re.S)
    return text.replace(vega, "")


def test_the_page_is_one_file_that_names_nothing_outside(comparison, page):
    text = own(page_html(comparison))
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
    assert addresses == {"http://www.w3.org", "https://vega.github.io"}, "the namespace of SVG, the schema of Vega-Lite"
    assert not re.search(r"@import|url\((?!#)|\ssrc=|<link|<iframe|<object|<base", text)
    assert all(link.attributes["href"].startswith("#") for link in page.root.all("a"))
    assert "fetch(" not in text
    assert "XMLHttpRequest" not in text
    assert "innerHTML" not in text


def test_the_policy_lets_only_the_pages_own_script_and_style_run(page):
    policy = next(meta for meta in page.root.all("meta") if "Content-Security-Policy" in meta.attributes.values())
    rules = dict(rule.strip().split(" ", 1) for rule in policy.attributes["content"].split(";"))
    assert {key: rules.pop(key) for key in ("default-src", "base-uri", "form-action")} == dict.fromkeys(
        ("default-src", "base-uri", "form-action"), "'none'"
    )
    assert set(rules) == {"script-src", "style-src"}
    runs = [script for script in page.root.all("script") if script.attributes.get("type") != "application/json"]
    for rule, elements in (("script-src", runs), ("style-src", page.root.all("style"))):
        hashes = [base64.b64encode(hashlib.sha256(one.text.encode()).digest()).decode() for one in elements]
        assert rules[rule] == " ".join(f"'sha256-{found}'" for found in hashes)
    # Neither has a way around its hash: no style or event handler in an attribute.
    everything = [page.root, *(inner for name in {e.name for e in walk(page.root)} for inner in page.root.all(name))]
    assert not [e for e in everything if any(key == "style" or key.startswith("on") for key in e.attributes)]


def test_ids_are_unique_and_what_refers_to_them_finds_them(page):
    ids = [element.attributes["id"] for element in walk(page.root) if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in walk(page.root):
        for key in ("aria-labelledby", "aria-describedby"):
            assert element.attributes.get(key, ids[0]) in ids
    assert {link.attributes["href"][1:] for link in page.root.all("a")} <= set(ids)


def test_headings_descend_one_at_a_time_and_tables_name_rows_and_columns(page):
    levels = [int(element.name[1]) for element in walk(page.root) if re.fullmatch(r"h\d", element.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(header.attributes.get("scope") in ("row", "col") for header in page.root.all("th"))
    drawings = page.root.all("svg")
    charts = [inner for chart in page.root.all("div", kind="chart") for inner in chart.all("svg")]
    assert all(drawing in charts or "aria-hidden" in drawing.attributes for drawing in drawings)
    assert all(chart.attributes["aria-label"] for chart in page.root.all("div", kind="chart"))


def test_every_drawing_in_the_page_is_well_formed_with_finite_coordinates(comparison):
    drawings = re.findall(r"<svg.*?</svg>", own(page_html(comparison)), flags=re.S)
    assert len(drawings) > 15
    for drawing in [*drawings, svg(specification(means(comparison)))]:
        for element in ET.fromstring(drawing).iter():
            for key, value in element.attrib.items():
                assert not re.search(r"\bnan\b|undefined", value.lower()), (element.tag, key, value)
                if key in ("width", "height", "r"):
                    assert float(value) >= 0
                if key == "d":
                    assert not re.search(r"nan|inf", value), value


def numbers(text):
    return [float(found.replace(",", "")) for found in re.findall(r"[+-]?\d[\d,]*\.?\d*", text.replace(MINUS, "-"))]


def test_the_table_of_verdicts_has_the_comparisons_numbers(comparison, page):
    rows = page.table("Verdicts: one row an arm")[1:]
    assert [row[0].removesuffix("baseline").strip() for row in rows] == [arm.name for arm in comparison.arms]
    for arm, (_, verdict, heads, seeds, mean, difference, p, note) in zip(comparison.arms, rows, strict=True):
        assert heads == str(arm.values["model.attention.num_kv_heads"])
        assert seeds == ("5" if len(arm.runs) == 5 else f"{len(arm.runs)} of 5")
        spread = arm.figures[METRIC]
        assert numbers(mean) == pytest.approx([spread.mean, spread.half_width], abs=5.1e-4)  # as many digits as it has
        if arm.contrast is None:
            assert (difference, p, note) == ("", "", "")
            continue
        contrast = arm.contrast
        assert numbers(difference) == pytest.approx([contrast.mean, contrast.low, contrast.high], abs=5.1e-4)
        assert arm.verdict in verdict
        assert contrast.note in note
        if contrast.p_holm is not None and contrast.p_holm >= 1e-4:
            assert float(p) == pytest.approx(contrast.p_holm, rel=0.06)


def test_cells_sort_by_their_unrounded_numbers(comparison, page):
    table = next(one for one in page.root.all("table") if one.attributes["aria-label"].startswith("Verdicts"))
    rows = table.one("tbody").all("tr")
    shown = [float(row.children[4].attributes["data-sort"]) for row in rows]
    assert shown == [arm.figures[METRIC].mean for arm in comparison.arms]
    differences = [row.children[5].attributes["data-sort"] for row in rows]
    assert differences[0] == "", "the baseline has none, which is not zero"
    assert [float(value) for value in differences[1:]] == [arm.contrast.mean for arm in comparison.arms[1:]]


def test_prediction_stands_beside_observation_and_says_when_it_was_made(comparison, page):
    rows = page.table("Predictions by arm")[1:]
    expected = [arm for arm in comparison.arms if arm.expected]
    for arm, (name, predicted, observed, outcome) in zip(expected, rows, strict=True):
        assert (name, predicted) == (arm.name, arm.expected)
        assert arm.verdict in observed
        assert arm.outcome in outcome
    assert "before the first result" in page.root.one("section", id="prediction").text
    late = replace(comparison, prediction=replace(comparison.prediction, finished_cells=7, earlier_versions=2))
    said = Page(page_html(late)).root.one("section", id="prediction").text
    assert "7 runs had already ended" in said
    assert "otherwise 2 times" in said


def test_what_is_missing_stands_first_with_the_command_that_mends_it(comparison, page):
    main = page.root.one("main")
    assert main.children[0].attributes["id"] == "problems"
    problems = main.children[0]
    commands = [code.text for code in problems.all("code")]
    assert commands[0] == comparison.command
    assert {run.command for run in comparison.unfinished if run.command} <= set(commands)
    assert {run.error for run in comparison.unfinished if run.error} <= set(commands)
    assert "diverged 1 of 5 (seed 3)" in problems.text
    assert "1 missing" in problems.text


def test_the_curves_end_at_the_tables_means(comparison, page):
    rows = [row for row in page.rows("curves", "seed0") if row["figure"] == METRIC]
    for arm in comparison.arms:
        last = [row for row in rows if row["arm"] == arm.name][-1]
        assert last["ended"] == len(arm.runs)
        seeds = [last[f"seed{index}"] for index in range(last["ended"])]
        assert statistics.fmean(seeds) == pytest.approx(arm.figures[METRIC].mean, rel=1e-5)
        assert (last["mean"], last["low"], last["high"]) == pytest.approx(
            (statistics.fmean(seeds), min(seeds), max(seeds)), rel=1e-5
        )
        assert [last[axis] for axis in ("tokens", "step")] == [1_000_000, 488]
        assert {"flops", "seconds"} <= set(last)
    assert {row["anchor"]: row["bits"] for row in page.rows("curves", "anchor")} == comparison.anchors
    still = page.root.one("div", id="curves-picture")
    texts = [text.text for text in still.all("text")]
    assert "1M" in texts, "without the script the curves run over tokens"
    assert {arm.name for arm in comparison.arms} <= set(texts), "and have a legend"


def test_costs_show_what_differs_and_was_not_matched(comparison, page):
    headings, base, *rows = page.table("Costs of the arms")
    column = headings.index("cache bytes per token (bfloat16)")
    assert base[column] == "3,072"
    assert [row[column] for row in rows] == [f"1,536 {MINUS}50.0 %", f"768 {MINUS}75.0 %", f"384 {MINUS}87.5 %"]
    assert "cache bytes per token" in page.root.one("section", id="costs").text.split(".")[0]
    assert page.table("Anchors")[1:] == [["5-gram", "2.408"], ["xz", "2.518"]]


def test_tuning_shows_what_was_taken_and_an_optimum_at_the_end(page):
    rows = page.table("What tuning took")[1:]
    assert rows[0][1:4] == ["0.002", "1.9500", "inside"]
    assert rows[3][1:] == ["0.004", "1.9800", "at an end: the optimum may lie beyond", "3, 1 diverged"]
    trials = page.rows("tuning-chart", "ring")
    for name in ("kv8", "kv4", "kv2", "kv1"):
        own = [row for row in trials if row["arm"] == name]
        (ringed,) = [row for row in own if row["ring"]]
        assert ringed["value"] == min(row["value"] for row in own)


def test_samples_are_side_by_side(comparison, page):
    articles = page.root.one("section", id="samples").all("article")
    assert len(articles) == len(comparison.arms)
    assert articles[1].one("h3").text.split() == ["kv4", "seed", "1"]
    assert articles[1].one("pre").text == "def def kv4(self):\n    return 1  # <b>&amp;</b>"


def test_the_whole_is_written_or_nothing(comparison, tmp_path):
    write_page(comparison, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page_html(comparison)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(OSError, match="nowhere"):
        write_page(comparison, tmp_path / "nowhere" / "page.html")
