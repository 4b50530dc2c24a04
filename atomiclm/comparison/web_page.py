"""What our HTML pages share: strict templates, one style, charts as pictures, and a policy by which nothing is loaded.

What a page shows comes from texts and run folders, which are not ours to trust. Templates escape every text, control
characters and reversed writing directions are spelt out (`printable`), and the content security policy lets only the
page's own scripts and style run (by their hashes) and nothing be loaded.
"""

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from atomiclm.comparison import charts
from atomiclm.comparison.charts import DARK, LIGHT
from atomiclm.tracking.console import printable


def environment_of(folder: Path) -> jinja2.Environment:
    """The templates in a folder; an unknown name in one is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )


@cache
def source(file: Path) -> Markup:
    """A script or style of ours, as it is."""
    return Markup(file.read_text(encoding="utf-8"))


@cache
def style() -> Markup:
    """The style of all pages, light and dark."""
    hues = zip(LIGHT.hues, DARK.hues, strict=True)
    colours = "".join(f"--hue{index}: light-dark({light}, {dark}); " for index, (light, dark) in enumerate(hues))
    return Markup(f":root {{ {colours}}}\n{source(Path(__file__).parent / 'page.css')}")


def policy(style: str, *scripts: str, images: bool = False) -> str:
    """The content security policy of a page with this style, these scripts and, where asked, pictures inside it."""
    return (
        f"default-src 'none'; style-src {_sha256(style)}; script-src {' '.join(map(_sha256, scripts))}; "
        f"{'img-src data:; ' if images else ''}base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    """As a content security policy names a text that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_json(value: Any) -> Markup:
    """JSON that can stand inside `<script>`: no `</script>`, `<!--`, U+2028, lone surrogate or NaN can be in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # only ever inside strings, where the escape means the same
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def picture(key: str, spec: dict[str, Any]) -> Markup:
    """A chart for a reader without script or on paper."""
    drawn = charts.svg({**spec, "width": 640} if spec.get("width") == "container" else spec)
    clips = list(dict.fromkeys(re.findall(r'id="(clip\d+)"', drawn)))

    def plain(tag: re.Match[str]) -> str:
        # The page's policy allows no style attributes, and says the font once; nobody needs hundreds of roles, or
        # thousandths of a pixel. Ids are unique in a page.
        text = re.sub(r' (style|role|aria-[a-z]+|font-family|pointer-events)="[^"]*"', "", tag[0])
        text = re.sub(r"(\d\.\d)\d+", r"\1", text)
        return re.sub(r"\bclip\d+", lambda found: f"{key}-{clips.index(found[0])}", text)

    return Markup(re.sub(r"<[^>]*>", plain, drawn))
