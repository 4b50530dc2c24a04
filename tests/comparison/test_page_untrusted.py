"""Nothing from a run folder or a declaration can act: whatever it says, it is text."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from comparison.fake_runs import FakeArm, gqa_arms, write_study
from comparison.page_reading import Page, walk
from comparison.page_study import compared, eventful_study

from atomiclm.comparison.charts import specification, svg
from atomiclm.comparison.forest_charts import means
from atomiclm.comparison.page import page_html
from atomiclm.sweep.ledger import TunedValue

HOSTILE = [
    '</script><script>alert("a")</script>',
    '<img src=x onerror="alert(1)">',
    '" onmouseover="alert(2)" x=\'',
    "<!--<script>",
    "]]>&amp;&lt;b&gt;",
    "a\u2028b\u2029c",
    "\x00\x1b[31mred\x07",
    "\u202egnp.exe",
    "\ud800 lone",
    "javascript:alert(3)",
    "</title></style></textarea>",
    '"],alert(4),["',
    '\\", alert(5), \\',
]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return eventful_study(tmp_path_factory.mktemp("outputs") / "gqa")


@pytest.fixture(scope="module")
def page(comparison):
    return Page(page_html(comparison))


def hostile(comparison, text):
    """The comparison with `text` wherever a run folder or a declaration is quoted."""
    arms = [
        replace(arm, name=text if index else arm.name, values={"k" + text: text})
        for index, arm in enumerate(comparison.arms[:2])
    ]
    arms[1] = replace(arms[1], contrast=replace(arms[1].contrast, note=text), expected="worse", outcome="unresolved")
    unfinished = [
        replace(run, arm=text, run=text, error=text, command=text, progress=text) for run in comparison.unfinished
    ]
    return replace(
        comparison,
        name=text,
        study=replace(comparison.study, question=text, tuning=None),
        command=text,
        profile=text,
        folders=[text],
        arms=arms,
        unfinished=unfinished,
        unplanned=[text],
        notes=[text],
        tuned={text: TunedValue(0.002, {"0.001": 2.0, "0.002": 1.9}, True)},
        anchors={text: 2.0},
        prediction=replace(comparison.prediction, text=text, source=text, time=text, sha256=text),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_acts(comparison, page, text):
    bad = hostile(comparison, text)
    written = page_html(bad)
    found = Page(written)
    written.encode("utf-8")
    known = {element.name for element in walk(page.root)}
    assert {element.name for element in walk(found.root)} <= known
    assert found.comments == []
    assert len(found.root.all("script")) == len(page.root.all("script"))
    for element in walk(found.root):
        assert not [key for key in element.attributes if key.startswith("on")]
        assert element.attributes.get("href", "#").startswith("#")
    vega = max((script.text for script in found.root.all("script")), key=len)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", written.replace(vega, ""))
    assert not re.search("[\u2028\u2029<>]", found.root.one("script", id="chart-data").text)
    assert found.rows("curves", "seed0")[0]["index"] == 1
    if text.isprintable():
        assert found.root.one("h1").text == text
        assert found.table("Verdicts: one row an arm")[2][0] == re.sub(r"\s+", " ", text).strip()
    ET.fromstring(svg(specification(means(bad))))


def test_hostile_levels_of_factors_are_text(tmp_path, page):
    texts = [text for text in HOSTILE if "\ud800" not in text and "\x00" not in text]
    arms = [
        FakeArm(f"arm{at}{word[0]}", 0.0, {"optim.kind": text, "model.word": word})
        for at, text in enumerate(["plain", *texts])
        for word in ("x", "y\\")
    ]
    write_study(tmp_path / "bad", arms, (1, 2), ledger=False)
    written = page_html(compared(tmp_path / "bad"))
    found = Page(written)
    assert len(found.table("Arms: one row an arm, a column a factor")) == 1 + len(arms)
    known = {element.name for element in walk(page.root)} | {"tspan"}  # of a title in two lines
    assert {element.name for element in walk(found.root)} <= known
    assert len(found.root.all("script")) == 3
    assert not [element for element in walk(found.root) if any(key.startswith("on") for key in element.attributes)]
    vega = max((script.text for script in found.root.all("script")), key=len)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", written.replace(vega, ""))


def test_hostile_samples_and_errors_in_run_folders_are_text(tmp_path):
    folder = tmp_path / "outputs" / "bad"
    write_study(folder, gqa_arms()[:2], (1, 2), noise=0.01)
    for run, text in zip(sorted(path for path in folder.iterdir() if path.is_dir()), HOSTILE, strict=False):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            if row["event"] == "sample":
                row["samples"] = [{"prompt": text, "text": text * 3}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (run / "environment.json").write_text(json.dumps({"processes": [{"cpu": text, "versions": {"torch": text}}]}))
    written = page_html(compared(folder))
    page = Page(written)
    assert "alert(" in page.root.one("section", id="samples").text
    assert not page.root.all("img")
    assert len(page.root.all("script")) == 3


@pytest.mark.parametrize("damage", ["", "[]", '{"processes": 3}', '{"processes": ["x"]}', "\xff{"])
def test_a_damaged_environment_is_no_reason_to_have_no_page(tmp_path, damage):
    folder = tmp_path / "outputs" / "torn"
    write_study(folder, gqa_arms()[:2], (1, 2))
    comparison = compared(folder)
    for run in folder.glob("kv*"):
        (run / "environment.json").write_bytes(damage.encode("latin-1"))
        (run / "metrics.jsonl").write_bytes(b"\xff\n{}\n")
    page = Page(page_html(comparison))
    assert page.root.one("section", id="environment")
    assert "line 1 of 2 is damaged" in page.root.one("section", id="curves").text
