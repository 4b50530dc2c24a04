"""The page of a reading: what it shows, that no text can act in it, its size, and that it works in a browser."""

import re
from functools import partial

import pytest
import torch
from comparison.page_browser import CHROMIUM, Browser
from comparison.page_reading import Page, walk
from comparison.test_page_untrusted import HOSTILE
from inspection.test_reading import TEXT, build

from atomiclm.inspection import most_tokens, page_html, read
from atomiclm.inspection.page import MOST_BYTES, label
from atomiclm.model import MultiHeadAttention, NoAttention
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tracking.console import printable


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = BasicTokenizer(vocab_size=280)
    tokenizer.train("the cat sat on the mat and the cat ate the rat that sat on the mat " * 20)
    return tokenizer


def written(tokenizer, text, model=None, title="run"):
    model = model or build()
    tokens = [tokenizer.special_tokens[END_OF_TEXT], *tokenizer.encode(text)][: 1 + most_tokens(model, 256)]
    reading = read(model, tokenizer, tokens)
    return reading, page_html(reading, tokenizer, title, {"layers": "3"}, [f"A note: {title}"])


@pytest.fixture(scope="module")
def shown(tokenizer):
    return written(tokenizer, TEXT)


def test_every_token_layer_and_head_is_on_the_page(tokenizer, shown):
    reading, html = shown
    page = Page(html)
    spans = page.root.one("div", id="passage").all("span", kind="token")
    assert len(spans) == len(reading.tokens)
    for span, prediction in zip(spans[1:], reading.predictions, strict=True):
        assert f"loss {prediction.loss:.2f} nats ({prediction.bits:.2f} bits)" in span.attributes["title"]
        assert f"rank {prediction.rank};" in span.attributes["title"]
    lens = page.table("Predictions of each layer")
    assert lens[0] == ["token that follows", "embedding", "after block 1", "after block 2", "after block 3"]
    assert len(lens) == 1 + len(reading.predictions)
    assert [row[0] for row in lens[1:]] == [label(tokenizer.decode_bytes([token])) for token in reading.tokens[1:]]
    assert len(page.root.all("img")) == 3 * 4
    assert len(page.table("Where each head looks, in numbers")) == 1 + 3 * 4
    assert f"{reading.bits_per_byte():.3f} bits per byte" in page.root.one("section", id="text").text


def test_a_layer_without_weights_is_said_and_not_drawn(tokenizer):
    page = Page(written(tokenizer, TEXT, build(attention=partial(NoAttention, num_heads=2)))[1])
    assert page.root.one("section", id="attention").text.count("This layer gives no attention weights.") == 3
    assert not page.root.all("img")


def test_labels_show_what_cannot_be_seen_and_are_short():
    assert label(b" the\n") == "·the⏎"
    assert label("ü".encode()[:1]) == "<c3>"
    assert label(b"\x1b") == "\\x1b"
    assert label(b"=" * 500) == "=" * 30 + "…"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_acts(tokenizer, shown, text):
    html = written(tokenizer, text + TEXT, title=text)[1]
    html.encode("utf-8")
    page, harmless = Page(html), Page(shown[1])
    assert {element.name for element in walk(page.root)} <= {element.name for element in walk(harmless.root)}
    assert len(page.root.all("script")) == len(harmless.root.all("script")) == 2
    assert page.comments == []
    for element in walk(page.root):
        assert not [key for key in element.attributes if key.startswith("on") or key == "style"]
        assert element.attributes.get("href", "#").startswith("#")
        assert element.attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert not re.search("[\u2028\u2029<>]", page.root.one("script", id="data").text)
    if text.isprintable():
        passage = page.root.one("div", id="passage").text
        assert passage.replace("⏎", "").startswith(END_OF_TEXT + printable(text))


def test_the_page_of_a_wide_and_deep_model_stays_small(tokenizer):
    """Weights of an untrained model are nearly even, and its losses high: hardly anything repeats."""
    model = build(
        dim=48, num_layers=12, context_length=512, attention=partial(MultiHeadAttention, num_heads=12)
    ).float()
    text = "".join(map(chr, torch.randint(32, 900, (4000,), generator=torch.Generator().manual_seed(1)).tolist()))
    reading, html = written(tokenizer, text, model)
    assert MOST_BYTES / 3 < len(html.encode()) < MOST_BYTES
    assert len(reading.tokens) > 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here; the page's script is not run")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def path(shown, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(shown[1], encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_quiet_loads_nothing_and_fits(browser, path, width, scheme):
    browser.open(path, width, scheme)
    browser.run("document.querySelectorAll('.token')[9].click()")
    browser.wait("document.querySelector('#panel').textContent.includes('Where each head looks')")
    assert browser.run("document.documentElement.scrollWidth") <= width
    asked = [heard for heard in browser.heard if not heard[1].startswith("data:image/png")]
    assert asked == [("request", path.as_uri())]
    dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_what_is_pointed_at_is_told_and_where_heads_look_is_coloured(browser, path, shown):
    reading = shown[0]
    browser.open(path, 1280)
    browser.run("document.querySelectorAll('.token')[9].click()")
    panel = "document.querySelector('#panel').textContent"
    browser.wait(f"{panel}.includes('token 10 of')")
    one = reading.predictions[8]
    assert f"loss {one.loss:.2f} nats, {one.bits:.2f} bits" in browser.run(panel)
    browser.run("document.querySelector('#panel tr:nth-of-type(3) button').click()")  # layer 2, head 1
    weights = reading.attention[1][0, 9]
    browser.wait("document.querySelector('#head-name').textContent === 'layer 2, head 1'")
    found = browser.run("[...document.querySelectorAll('.token')].map((one) => one.style.getPropertyValue('--weight'))")
    assert [float(weight) ** 2 for weight in found[:10]] == pytest.approx(weights[:10].tolist(), abs=0.005)
    assert {float(weight) for weight in found[10:]} == {0.0}


def test_the_pictures_hold_the_weights(browser, path, shown):
    browser.open(path, 1280)
    read_pixels = """(async () => {
        const image = document.querySelector("img[data-layer='2'][data-head='3']");
        const canvas = document.createElement("canvas");
        await image.decode();
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, at) => at % 4 === 3);
    })()"""
    weights = shown[0].attention[2][3]
    pixels = torch.tensor(browser.run(f"await {read_pixels}")).reshape(weights.shape)
    assert torch.equal(pixels, (weights.sqrt() * 255).round().long())
