"""Elements of HTML and SVG from Python. Text becomes markup in one place only, so nothing from a run can be an element.

Names of arms, errors and samples come from run folders, which are not ours to trust. Every child and attribute that is
not already `Markup` is escaped, control characters and reversed writing directions are spelt out (`printable`).
"""

import html
import json
from typing import Any

from atomiclm.tracking.wording import printable

VOID = frozenset({"meta", "br", "input", "wbr"})
"""Elements of HTML that have no end tag."""


class Markup(str):
    """Text that is markup already; made by `element` and `join`, and by hand only from constants."""

    __slots__ = ()


Child = str | None
Attribute = str | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element: `element("td", "a < b", class_="number")` is `<td class="number">a &lt; b</td>`.

    Args:
        name: of the element.
        children: text, escaped unless it is Markup; None is nothing.
        attributes: a trailing underscore is dropped and others become hyphens (`class_`, `aria_label`); False and None
            leave the attribute out, True gives it an empty value, which XML allows where a bare name is not.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        assert not children
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after the other, each escaped unless it is Markup."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child))


def escape(text: str) -> str:
    """`text` for a place between tags or between double quotes."""
    return html.escape(printable(text), quote=True)


def script_json(value: Any) -> Markup:
    """JSON that can stand inside `<script>`: no `</script>`, `<!--`, U+2028, lone surrogate or NaN can be in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # only ever inside strings, where the escape means the same
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _plain(value: Attribute) -> str:
    if value is True:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")  # a hundredth of a pixel is finer than any screen
    return str(value)
