"""The figure of a study, and the colours of both figure and page."""

import xml.etree.ElementTree as ET

import pytest
from comparison.fake_runs import METRIC
from comparison.page_study import eventful_study

from atomiclm.cli import UserError
from atomiclm.comparison.charts import DARK, FIGURE, LIGHT, ArmStyle, save
from atomiclm.comparison.forest_charts import means
from atomiclm.comparison.wording import format_spread


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return eventful_study(tmp_path_factory.mktemp("outputs") / "gqa")


def test_the_figure_shows_every_arm_seed_interval_and_the_margin(comparison, tmp_path):
    save(means(comparison), tmp_path / "figure.svg")
    root = ET.parse(tmp_path / "figure.svg").getroot()
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for arm in comparison.arms:
        assert {arm.name, format_spread(arm.figures[METRIC])} <= set(texts)
    data = {name: rows for rows in means(comparison).to_dict()["datasets"].values() for name in rows[0]}
    assert len(data["value"]) == sum(len(arm.runs) for arm in comparison.arms), "a dot a seed"
    for arm, row in zip(comparison.arms, data["text"], strict=True):
        spread = arm.figures[METRIC]
        ends = (spread.mean - spread.half_width, spread.mean, spread.mean + spread.half_width)
        assert (row["low"], row["mean"], row["high"]) == ends
    (band,) = data["from"]
    assert band["to"] - band["from"] == pytest.approx(2 * comparison.margin)
    assert root.attrib["width"] == "700"


def test_the_ending_of_a_figure_says_what_it_is(comparison, tmp_path):
    for ending, magic in ((".svg", b"<svg"), (".png", b"\x89PNG"), (".pdf", b"%PDF")):
        save(means(comparison), tmp_path / f"figure{ending}")
        assert (tmp_path / f"figure{ending}").read_bytes().startswith(magic)
    with pytest.raises(UserError, match=r"\.svg, \.png or \.pdf"):
        save(means(comparison), tmp_path / "figure.jpeg")


def luminance(colour):
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """WCAG 2.2's contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_arms_stand_out_from_their_background_and_the_figure_from_any():
    for theme in (LIGHT, DARK):
        assert min(contrast(hue, theme.paper) for hue in theme.hues) >= 3
    for colour in (FIGURE.ink, FIGURE.quiet, *FIGURE.verdicts):
        assert min(contrast(colour, "#ffffff"), contrast(colour, "#0d1117")) >= 4, colour
    assert min(contrast(FIGURE.faint, "#ffffff"), contrast(FIGURE.faint, "#0d1117")) >= 2.5


def test_25_arms_differ_in_their_lines_and_again_in_their_markers():
    styles = [ArmStyle.of(position) for position in range(25)]
    assert len({(style.hue, style.dash) for style in styles}) == 25
    assert len({(style.hue, style.shape) for style in styles}) == 25
