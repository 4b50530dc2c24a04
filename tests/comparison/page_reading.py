"""A page or a drawing taken apart by the standard library's parsers."""

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "wbr", "img"}


@dataclass
class Element:
    """One element: its attributes, and the text in it and its children."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, name: str, **attributes: str) -> list["Element"]:
        """Elements of that name inside this one whose attributes hold the given words."""
        found = [child for child in self.children if child.name == name and child.has(**attributes)]
        return found + [inner for child in self.children for inner in child.all(name, **attributes)]

    def one(self, name: str, **attributes: str) -> "Element":
        """The only such element."""
        (found,) = self.all(name, **attributes)
        return found

    def has(self, **attributes: str) -> bool:
        """Whether each attribute has the given word among its words; `kind` is the class."""
        own = {"kind" if key == "class" else key: value.split() for key, value in self.attributes.items()}
        return all(value in own.get(key, []) for key, value in attributes.items())


class Page(HTMLParser):
    """Parses strictly: every element must be closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]
        self.comments: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [self.root], f"never closed: {[element.name for element in self.open[1:]]}"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice: {tag} {attributes}"
        element = Element(tag, {name: value or "" for name, value in attributes})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)
        elif tag == "br":
            self.handle_data("\n")

    def handle_endtag(self, tag):
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def handle_comment(self, data):
        self.comments.append(data)

    @property
    def charts(self):
        """What Vega draws, by name."""
        return json.loads(self.root.one("script", id="chart-data").text)

    def rows(self, chart, field):
        """The rows of a chart's data that has `field`, as the page's script restores them."""
        for table in self.charts[chart]["datasets"].values():
            if field in table["columns"]:
                columns = {}
                for key, column in table["columns"].items():
                    runs = column["runs"] if isinstance(column, dict) else [[value, 1] for value in column]
                    columns[key] = [value for value, times in runs for _ in range(times)]
                return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        raise AssertionError(f"{chart} has no data with {field}")

    def table(self, label):
        """Texts of the cells of a table, row by row, the headings first; spaces made single."""
        table = next(table for table in self.root.all("table") if table.attributes.get("aria-label") == label)
        rows = []
        for row in table.all("tr"):
            rows.append([re.sub(r"\s+", " ", cell.text).strip() for cell in row.children])
        return rows


def walk(element):
    """An element and all inside it, in the order of the page."""
    yield element
    for child in element.children:
        yield from walk(child)
