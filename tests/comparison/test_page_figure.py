"""The figure of a study, and the colours of both figure and page."""

import xml.etree.ElementTree as ET

import pytest
from comparison.fake_runs import METRIC
from comparison.page_study import eventful_study

from atomiclm.comparison.page import figure_svg
from atomiclm.comparison.page.figure import COLOURS, FAINT, INK, QUIET
from atomiclm.comparison.page.palette import DARK_BACKGROUND, DARK_HUES, LIGHT_BACKGROUND, LIGHT_HUES, Look
from atomiclm.comparison.page.words import format_mean


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return eventful_study(tmp_path_factory.mktemp("outputs") / "gqa")


def test_the_figure_shows_every_arm_seed_interval_and_the_margin(comparison):
    root = ET.fromstring(figure_svg(comparison))
    inside = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{inside}text")]
    for arm in comparison.arms:
        assert arm.name in texts
        assert format_mean(arm.figures[METRIC]) in texts
    dots = [float(circle.attrib["cx"]) for circle in root.iter(f"{inside}circle") if circle.attrib["r"] == "2"]
    assert len(dots) == sum(len(arm.runs) for arm in comparison.arms)
    means = [float(circle.attrib["cx"]) for circle in root.iter(f"{inside}circle") if circle.attrib["r"] == "4.5"]
    bits = [arm.figures[METRIC].mean for arm in comparison.arms]
    slope = (means[3] - means[0]) / (bits[3] - bits[0])
    assert means == pytest.approx([means[0] + slope * (value - bits[0]) for value in bits], abs=0.02)
    band = next(root.iter(f"{inside}rect"))
    assert float(band.attrib["width"]) == pytest.approx(2 * comparison.margin * slope, abs=0.02)
    assert root.attrib["width"] == "700"
    assert all("style" not in element.attrib and element.tag != f"{inside}style" for element in root.iter())


def luminance(colour):
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """WCAG 2.2's contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_arms_stand_out_from_their_background_and_the_figure_from_any():
    assert min(contrast(hue, LIGHT_BACKGROUND) for hue in LIGHT_HUES) >= 3
    assert min(contrast(hue, DARK_BACKGROUND) for hue in DARK_HUES) >= 3
    for colour in (INK, QUIET, *COLOURS.values()):
        assert min(contrast(colour, "#ffffff"), contrast(colour, "#0d1117")) >= 4, colour
    assert min(contrast(FAINT, "#ffffff"), contrast(FAINT, "#0d1117")) >= 2.5


def test_25_arms_differ_in_their_lines_and_again_in_their_markers():
    looks = [Look.of(position) for position in range(25)]
    assert len({(look.hue, look.dash) for look in looks}) == 25
    assert len({(look.hue, look.shape, look.filling) for look in looks}) == 25
