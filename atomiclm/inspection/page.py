"""A reading as one HTML page that loads nothing: text coloured by loss, what each layer predicts, attention maps.

Maps are pictures inside the page, of which the script reads the weights, so that they are seen without it too: PNGs of
one colour whose opacity is the square root of a weight, on light and dark alike.
"""

import base64
import math
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from torch import Tensor

from atomiclm.comparison.charts import PAGE, chart, finished, specification
from atomiclm.comparison.web_page import environment_of, picture, policy, script_json, source, style
from atomiclm.inspection.reading import Prediction, Reading
from atomiclm.model import Decoder
from atomiclm.tokenizer import Tokenizer
from atomiclm.tracking.console import printable

MOST_BYTES = 1_500_000
"""Of the page, which bounds how many tokens it shows."""
MAP_BYTES_PER_WEIGHT = 0.75
"""Of the half of a map that causality leaves, at most: hardly compressed, and in base64."""
CELL_BYTES = 330
"""Of a cell of the table of layers, about."""
LABEL_LENGTH = 30
"""Characters of a token in a table."""
MAP_COLOUR = (31, 127, 214)
SHADES = 12
"""Steps of a colour scale."""
MOST_BITS = 12
"""Loss of a token from which it has the full colour."""


def most_tokens(model: Decoder, wanted: int) -> int:
    """How many predicted tokens a page can show: as wanted, but for the model's context and the page's size."""
    maps = sum(block.attention.num_heads for block in model.layers)
    for_maps = math.sqrt(0.6 * MOST_BYTES * 2 / (MAP_BYTES_PER_WEIGHT * maps))
    for_layers = 0.3 * MOST_BYTES / (CELL_BYTES * (model.num_layers + 1))
    return max(1, min(wanted, model.context_length, int(for_maps), int(for_layers)))


def page_html(reading: Reading, tokenizer: Tokenizer, title: str, facts: dict[str, str], notes: list[str]) -> str:
    """The text of the page; facts are shown under the title, notes before the text."""
    highest = max(token for depth in reading.lens for one in depth for token, _ in one.likeliest)
    unused = set(tokenizer.unused_ids(highest + 1))

    def name(token: int) -> str:
        return f"id {token}" if token in unused else label(tokenizer.decode_bytes([token]))

    own_style = Markup(f"{style()}\n{_shades()}\n{source(Path(__file__).parent / 'page.css')}")
    script = source(Path(__file__).parent / "page.js")
    depths = ["embedding", *(f"after block {layer + 1}" for layer in range(len(reading.attention)))]
    context = {
        "title": title,
        "facts": facts,
        "notes": notes,
        "style": own_style,
        "script": script,
        "policy": policy(own_style, script, images=True),
        "reading": reading,
        "predictions": [None, *reading.predictions],
        "special": set(tokenizer.special_tokens.values()),
        "name": name,
        "depths": depths,
        "lens_chart": _lens_chart(reading, depths),
        "maps": [None if weights is None else [_map(head) for head in weights] for weights in reading.attention],
        "shades": SHADES,
        "most_bits": MOST_BITS,
        "data": script_json(_data(reading, name)),
    }
    return _template().render(context)


def label(token: bytes) -> str:
    """A token in a table: blanks and line ends are seen, bytes that are no characters hexadecimal, long ones cut."""
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:
        return f"<{token[:LABEL_LENGTH].hex(' ')}>"
    for character, sign in ((" ", "\N{MIDDLE DOT}"), ("\n", "\N{RETURN SYMBOL}"), ("\t", "\N{RIGHTWARDS ARROW}")):
        text = text.replace(character, sign)
    return printable(text if len(text) <= LABEL_LENGTH else f"{text[:LABEL_LENGTH]}…")


def _data(reading: Reading, name: Any) -> dict[str, Any]:
    """What the script shows of the token that is pointed at."""
    predictions = [
        [round(one.loss, 4), one.rank, [[name(token), round(share, 5)] for token, share in one.likeliest]]
        for one in reading.predictions
    ]
    heads = [0 if weights is None else len(weights) for weights in reading.attention]
    return {"names": [name(token) for token in reading.tokens], "predictions": predictions, "heads": heads}


# ----------------------------------------------------------------------------------------------------------- colours


def _shades() -> str:
    """Classes `loss0` to `loss11` and `true0` to `true11`: ever more of a colour over the paper."""
    steps = [(at, round(78 * at / (SHADES - 1))) for at in range(SHADES)]
    return "\n".join(
        f".{kind}{at} {{ background: color-mix(in oklab, var(--{kind}) {share}%, transparent); }}"
        for kind in ("loss", "true")
        for at, share in steps
    )


def shade_of_loss(prediction: Prediction) -> int:
    """In equal steps of bits."""
    return min(SHADES - 1, int(prediction.bits * SHADES / MOST_BITS))


def shade_of_probability(prediction: Prediction) -> int:
    """In equal steps of the square root, so that a small probability is not drawn as zero."""
    return round((SHADES - 1) * math.sqrt(prediction.probability))


# ----------------------------------------------------------------------------------------------------------- pictures


def _lens_chart(reading: Reading, depths: list[str]) -> Markup:
    import altair as alt

    named = range(len(depths)) if len(depths) <= 8 else (0, len(depths) - 1)  # of more, numbers would overlap
    rows = [
        {"depth": depth, "bits": bits, "text": f"{bits:.2f}" if at in named else ""}
        for at, depth in enumerate(depths)
        for bits in [reading.bits_per_byte(at)]
    ]
    base = chart(rows).encode(
        x=alt.X("depth:O", sort=None, title=None, axis=alt.Axis(labelAngle=-35, labelOverlap=True)),
        y=alt.Y("bits:Q", title="bits per byte", scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(grid=True)),
    )
    line = base.mark_line(color=PAGE.hues[1], strokeWidth=2, point=alt.OverlayMarkDef(color=PAGE.hues[1], size=40))
    values = base.mark_text(dx=6, dy=-11, align="left", fontSize=11).encode(text="text:N")
    return picture("lens", specification(finished([line, values], PAGE, 440, 190)))


def _map(weights: Tensor) -> str:
    """The weights (T, T) of a head as the address of a picture of T x T points."""
    opacity = (weights.clamp(0, 1).sqrt() * 255).round().byte().numpy()
    rows = b"".join(b"\0" + row.tobytes() for row in opacity)
    head = struct.pack(">IIBBBBB", *opacity.shape[::-1], 8, 3, 0, 0, 0)  # points are indices of a palette
    chunks = [
        (b"IHDR", head), (b"PLTE", bytes(MAP_COLOUR) * 256), (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""),
    ]  # fmt: skip
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@cache
def _template() -> jinja2.Template:
    environment = environment_of(Path(__file__).parent)
    environment.globals |= {"shade_of_loss": shade_of_loss, "shade_of_probability": shade_of_probability, "zip": zip}
    return environment.get_template("page.html.jinja")
