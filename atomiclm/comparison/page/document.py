"""The whole page, in one file that loads nothing."""

import base64
import hashlib
from functools import cache
from pathlib import Path

from atomiclm.atomic_io import write_atomic
from atomiclm.comparison.comparison import Comparison
from atomiclm.comparison.page.context import anchors, environment, reproduce, samples
from atomiclm.comparison.page.courses import curves
from atomiclm.comparison.page.evaluations import evaluations
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.palette import hue_css
from atomiclm.comparison.page.parts import paragraphs
from atomiclm.comparison.page.rows import read_recorded
from atomiclm.comparison.page.spending import costs, tradeoffs
from atomiclm.comparison.page.tuning import tuning
from atomiclm.comparison.page.verdicts import differences, prediction, problems, verdicts

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "scales.js", "curves.js")
NAVIGATION = (
    ("verdicts", "verdicts"), ("prediction", "prediction"), ("differences", "differences"), ("curves", "curves"),
    ("tradeoffs", "trade-offs"), ("tuning", "tuning"), ("evaluations", "evaluations"), ("costs", "costs"),
    ("anchors", "anchors and noise"), ("samples", "samples"), ("environment", "environment"),
    ("reproduce", "reproduce"),
)  # fmt: skip


def write_page(comparison: Comparison, path: str | Path) -> None:
    """Write the page of a comparison: one HTML file without any address in it, whole or not at all.

    Curves and samples are read from the runs' `metrics.jsonl`, evaluations from their `evaluations/`. Nothing from a
    run folder becomes markup or script: all of it is escaped, and the page's content security policy lets only its own
    script and style run (by their hashes) and nothing be loaded.

    Args:
        comparison: what to show.
        path: the file; replaced where there is one.

    Raises:
        OSError: it cannot be written.
    """
    write_atomic(Path(path), page_html(comparison).encode("utf-8"))


def page_html(comparison: Comparison) -> str:
    """The text of the page."""
    recorded = read_recorded(comparison)
    sections = [
        verdicts(comparison),
        prediction(comparison),
        differences(comparison),
        curves(comparison, recorded),
        tradeoffs(comparison),
        tuning(comparison),
        evaluations(comparison),
        costs(comparison),
        anchors(comparison),
        samples(comparison, recorded),
        environment(comparison),
        reproduce(comparison),
    ]
    style, script = _style(), _script()
    policy = (
        f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{comparison.name}: comparison"),
        element("style", style),
    )
    body = element(
        "body",
        _header(comparison, sections),
        element("main", problems(comparison), *sections),
        element("script", script),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(comparison: Comparison, sections: list[Markup]) -> Markup:
    title = element("h1", comparison.name)
    switch = element("button", "light / dark", type="button", id="theme", class_="needs-script")
    present = [identity for (identity, _), content in zip(NAVIGATION, sections, strict=True) if content]
    links = [
        element("li", element("a", text, href=f"#{identity}")) for identity, text in NAVIGATION if identity in present
    ]
    question = element("p", comparison.study.question, class_="question") if comparison.study.question else None
    profile = f"profile {comparison.profile}" if comparison.profile not in ("", "cpu") else ""
    return join(
        element("header", element("div", title, question), switch),
        paragraphs(element("small", profile) if profile else None),
        element("nav", element("ul", *links), aria_label="Sections"),
    )


@cache
def _style() -> Markup:
    return Markup((HERE / "page.css").read_text(encoding="utf-8") + hue_css())


@cache
def _script() -> Markup:
    return Markup("\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS))


def _sha256(text: str) -> str:
    """As a content security policy names a text that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
