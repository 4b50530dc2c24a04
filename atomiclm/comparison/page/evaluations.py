"""The section of evaluations that were made after training: loss by position, longer windows, copying."""

from collections.abc import Sequence

from atomiclm.comparison.comparison import Comparison
from atomiclm.comparison.page.kept import Kept, Series, families, read_kept
from atomiclm.comparison.page.lines import Line, LineChart
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.palette import Look, swatch
from atomiclm.comparison.page.parts import Cell, figure, number_cell, paragraphs, section, table
from atomiclm.comparison.page.scale import number
from atomiclm.comparison.page.words import short_name_of

PLACES = {"induction": "tokens back", "length_extrapolation": "windows, in multiples of the context trained on"}


def evaluations(comparison: Comparison) -> Markup:
    """One part a protocol; nothing where no run was evaluated."""
    kept, faults = read_kept(comparison)
    notes = paragraphs(*(f"Not read: {fault}" for fault in faults))
    return section("evaluations", "Evaluations", *(_protocol(one, at) for at, one in enumerate(kept)), notes)


def _protocol(kept: Kept, at: int) -> Markup:
    looks = _looks(kept.series)
    plain = [name for name in kept.series[0].figures if "/" not in name]
    rows = [
        [
            Cell(join(swatch(look), " ", series.name), series.name),
            number_cell(str(series.count), float(series.count)),
            *(_figure(series, name) for name in plain),
        ]
        for series, look in zip(kept.series, looks, strict=True)
    ]
    caption = f"{kept.protocol}: means over the seeds"
    drawn = table(caption, ["arm", "seeds", *map(_called, plain)], rows, sortable=True) if plain else None
    return join(element("h3", _called(kept.protocol), id=f"evaluation-{at}"), drawn, *_charts(kept, looks))


def _charts(kept: Kept, looks: Sequence[Look]) -> list[Markup]:
    charts = []
    kinds = list(dict.fromkeys(kind for series in kept.series for kind in families(series.figures)))
    # Bits per byte and loss say the same of one tokenizer, and bits per byte can be compared between two.
    kinds = [
        kind
        for kind in kinds
        if kind.replace("loss", "bits_per_byte") == kind or kind.replace("loss", "bits_per_byte") not in kinds
    ]
    for kind in kinds:
        lines = [
            Line(series.name, look, families(series.figures).get(kind, []))
            for series, look in zip(kept.series, looks, strict=True)
        ]
        place = PLACES.get(kept.protocol, "place")
        chart = LineChart(
            place, _called(kind), f"{_called(kind)} against {place}", x_log=True, x_own=True, height=300.0
        ).draw(lines)
        charts.append(figure(chart, f"{_called(kind).capitalize()}: means over the seeds."))
    lines = [Line(series.name, look, series.curve) for series, look in zip(kept.series, looks, strict=True)]
    x, y = kept.curve_names
    # A token at position 0 has nothing before it; a logarithmic axis begins behind it.
    shown = LineChart(
        f"{x} in the window, in tokens", _called(y), f"{_called(y)} by position", x_log=True, height=340.0
    ).draw(lines)
    if shown is not None:
        charts.append(figure(shown, "Means over the seeds, by position in the window; the first position is left out."))
    return charts


def _looks(series: Sequence[Series]) -> list[Look]:
    """The arms' own looks, unless changed settings make several lines of an arm."""
    positions = [one.position for one in series]
    distinct = len(set(positions)) == len(positions)
    return [Look.of(position if distinct else at) for at, position in enumerate(positions)]


def _figure(series: Series, name: str) -> Cell:
    value = series.figures.get(name)
    return number_cell("-" if value is None else number(value, 4), value)


def _called(name: str) -> str:
    return short_name_of(f"validation/{name}") if name in ("loss", "bits_per_byte") else name.replace("_", " ")
