"""Pieces of HTML that several sections use: tables, commands to copy, coloured words, figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from atomiclm.comparison.page.markup import Child, Markup, element, join
from atomiclm.comparison.page.words import SIGNS


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, the number (or text) it is sorted by, and CSS classes."""

    shown: Child
    sort: float | str | None = None
    kind: str | None = None


def number_cell(shown: str, value: float | None = None) -> Cell:
    """A number, to the right; one that is not there sorts last."""
    return Cell(shown, "" if value is None or value != value else repr(value), "number")


def table(
    caption: str,
    headings: Sequence[Child],
    rows: Sequence[Sequence[Cell]],
    *,
    row_kinds: Sequence[str | None] | None = None,
    sortable: bool = False,
    numbers_from: int | None = None,
) -> Markup:
    """A table with a heading for each column and, in its first column, each row; wide ones are scrolled in their box.

    Args:
        caption: what it is, read out with the box.
        row_kinds: CSS class of each row.
        numbers_from: the first column whose heading stands to the right.
    """
    head = element(
        "tr",
        *(
            element("th", heading, scope="col", class_="number" if _is_number(index, rows, numbers_from) else None)
            for index, heading in enumerate(headings)
        ),
    )
    kinds = row_kinds or [None] * len(rows)
    body = [
        element(
            "tr",
            element("th", row[0].shown, scope="row", data_sort=row[0].sort),
            *(element("td", cell.shown, class_=cell.kind, data_sort=cell.sort) for cell in row[1:]),
            class_=kind,
        )
        for row, kind in zip(rows, kinds, strict=True)
    ]
    classes = "sticky sortable" if sortable else "sticky"
    drawn = element("table", element("thead", head), element("tbody", *body), class_=classes, aria_label=caption)
    return element("div", drawn, class_="scrolls", tabindex=0, role="group", aria_label=caption)


def command(text: str) -> Markup:
    """A command with a button that copies it."""
    button = element("button", "copy", type="button", class_="copy needs-script")
    return element("div", element("code", text), button, class_="command")


def word(verdict: str, text: str | None = None) -> Markup:
    """A verdict: a sign and a word, in its colour."""
    sign = SIGNS.get(verdict)
    return element("span", element("b", sign) if sign else None, f" {text or verdict}", class_=f"word {verdict}")


def figure(drawn: Child, caption: Child = None) -> Markup:
    """A drawing with what there is to know about it below."""
    return element("figure", drawn, element("figcaption", caption) if caption else None)


def section(identity: str, heading: str, *children: Child) -> Markup:
    """A section of the page with its heading; nothing where it has no content."""
    content = join(*children)
    if not content:
        return content
    return element(
        "section",
        element("h2", heading, id=f"{identity}-heading"),
        content,
        id=identity,
        aria_labelledby=f"{identity}-heading",
    )


def paragraphs(*texts: Child) -> Markup:
    """One paragraph a text; none for an empty one."""
    return join(*(element("p", text) for text in texts if text))


def facts(pairs: Sequence[tuple[str, Child]]) -> Markup:
    """Names and values, one pair a row."""
    rows = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in pairs]
    return element("div", element("table", element("tbody", *rows)), class_="scrolls")


def _is_number(index: int, rows: Sequence[Sequence[Cell]], numbers_from: int | None) -> bool:
    if numbers_from is not None and index >= numbers_from:
        return True
    return bool(rows) and rows[0][index].kind == "number"
