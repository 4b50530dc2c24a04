"""A comparison as one HTML page that loads nothing: `page.html.jinja` filled with tables, charts and commands."""

import itertools
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError
from atomiclm.comparison import charts, factor_charts, wording
from atomiclm.comparison.charts import PAGE, ArmStyle, styled
from atomiclm.comparison.curves import ArmRows, Recorded, read_recorded
from atomiclm.comparison.factor_tables import arm_fields, keys_line, verdict_blocks
from atomiclm.comparison.forest_charts import effects, has_difference
from atomiclm.comparison.line_charts import MOST_INTERVALS, Line, curves, last_value, lines, pareto
from atomiclm.comparison.provenance import facts_of
from atomiclm.comparison.results import Comparison
from atomiclm.comparison.saved_evaluations import (
    SavedEvaluation,
    Series,
    families,
    read_saved_evaluations,
    with_decoding,
)
from atomiclm.comparison.tables import other_columns
from atomiclm.comparison.web_page import environment_of, picture, policy, script_json, source, style
from atomiclm.comparison.wording import MINUS, QUANTITIES, heading, name, number, verdict_word
from atomiclm.tracking.console import duration, short_number
from atomiclm.tracking.run_result import RunResult

MOST_COLUMNS = 2
"""Settings that stand between an arm and its figures; more have a table of their own below."""
SAMPLE_CHARACTERS = 1200
"""Of an arm's sample; all of it is in the record."""
PHONE = 320
"""Pixels that every screen has."""
DIGITS = 6
"""Significant digits of the numbers in a chart: a loss to some millionths, more than any seed can tell."""
PLACES = {"induction": "tokens back", "length_extrapolation": "windows, in multiples of the context trained on"}

Draw = Callable[[str, Any], dict[str, Any] | None]
"""Adds a chart to the page under a key; returns what the template needs, None where there is no chart."""


def write_page(comparison: Comparison, path: str | Path) -> None:
    """Write the page of a comparison, whole or not at all.

    Curves and samples are read from the runs' `metrics.jsonl`, evaluations from their `evaluations/`.
    """
    write_atomic(Path(path), page_html(comparison).encode("utf-8"))


def page_html(comparison: Comparison) -> str:
    specifications: dict[str, Any] = {}

    def draw(key: str, chart: Any) -> dict[str, Any] | None:
        if chart is None:
            return None
        spec = charts.specification(chart)
        specifications[key] = _columnwise(spec)
        return {"key": key, "picture": picture(key, spec)}

    recorded = read_recorded(comparison)
    first = next((run for arm in comparison.arms for run in arm.runs), None)
    words = Counter(verdict_word(arm) for arm in comparison.arms if arm.contrast or arm.diverged)
    evaluations, faults = read_saved_evaluations(comparison)
    factors = _factors(comparison, recorded, draw) if comparison.factors else None
    priced = with_decoding(comparison, evaluations)
    tradeoffs = {
        cost: draw(f"tradeoff-{at}", styled(panel, PAGE))
        for at, (cost, quantity) in enumerate(QUANTITIES.items())
        if quantity.is_traded and not factors and (panel := pareto(priced, cost, PAGE)) is not None
    }
    own_style, script = style(), source(Path(__file__).parent / "page.js")
    context = {
        "comparison": comparison,
        "style": own_style,
        "scripts": [_vega(), script],
        "policy": policy(own_style, _vega(), script),
        "states": ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in comparison.unfinished).items()),
        "summary": ", ".join(f"{n} {word}" for word, n in words.items()),
        "other_columns": other_columns(comparison),
        "keys": "; ".join(f"{one.short}: {one.key}" for one in comparison.columns if one.short != one.key),
        "factors": factors,
        "effects": None if factors else draw("effects", effects(comparison, PAGE)),
        "curves": draw("curves", curves(comparison, recorded, PAGE)),
        "recorded": recorded,
        "tradeoffs": tradeoffs,
        "tuning": _tuning(comparison, draw),
        "evaluations": [_protocol(one, f"evaluation-{at}", draw) for at, one in enumerate(evaluations)],
        "evaluation_faults": faults,
        "costs": [
            cost
            for cost, quantity in QUANTITIES.items()
            if quantity.on_page and any(cost in arm.figures for arm in comparison.arms)
        ],
        "unmatched": sorted({cost.quantity for arm in comparison.arms for cost in arm.costs if not cost.is_matched}),
        "facts": _facts(first) if first else {},
        "this_page": f"atomiclm compare {shlex.join(comparison.folders)} --html page.html",
        "charts": script_json(specifications),
    }
    return _template().render(context)


def _facts(run: RunResult) -> dict[str, str]:
    """What a run was made on; what is wrong with its `environment.json`, where that cannot be read."""
    try:
        return facts_of(run.environment or run.folder.read_environments()[-1])
    except UserError as error:
        return {"environment.json": str(error)}


# ----------------------------------------------------------------------------------------------------------- sections


PICTURES = {
    "effects": "Effects",
    "heatmap": "Two factors at once",
    "interactions": "Interactions",
    "curves": "Learning curves",
    "cost": "Quality against cost",
}
"""Of a sweep over several factors, in the order of the page."""


def _factors(comparison: Comparison, recorded: Recorded, draw: Draw) -> dict[str, Any]:
    """What a sweep over several factors says: verdicts, pictures, and its arms."""
    assert comparison.factors is not None
    pictures = []
    for kind, title in PICTURES.items():
        if (picture := factor_charts.draw(kind, comparison, PAGE, recorded, room=PHONE)) is None:
            continue
        panels = picture.panels
        if kind == "effects":
            fitted = alt.AutoSizeParams(type="fit-x", contains="padding")
            panels = [panel.properties(width="container", autosize=fitted) for panel in panels]
        drawn = [draw(f"factor-{kind}-{at}", styled(panel, PAGE)) for at, panel in enumerate(panels)]
        pictures.append({"title": title, "panels": drawn, "said": picture.said})
    return {
        "blocks": list(verdict_blocks(comparison, comparison.factors)),
        "pictures": pictures,
        "arms": arm_fields(comparison, comparison.factors),
        "names": keys_line(comparison.factors),
    }


def _tuning(comparison: Comparison, draw: Draw) -> dict[str, Any] | None:
    """Trials and choice of every tuned arm."""
    tried, arms = [], []
    for position, arm in enumerate(comparison.arms):
        if (tuned := comparison.tuned.get(arm.name)) is None:
            continue
        trials = sorted((float(value), mean) for value, mean in tuned.trials.items())
        chosen = [at for at, (value, _) in enumerate(trials) if math.isclose(value, tuned.value)]
        tried.append(Line(arm.name, ArmStyle.of(position), trials, ringed=chosen))
        row = {"position": position, "name": arm.name, "tuned": tuned, "best": dict(trials).get(tuned.value, math.nan)}
        arms.append({**row, "failed": sum(not math.isfinite(mean) for _, mean in trials)})
    if not arms:
        return None
    key = comparison.study.tuning.key if comparison.study.tuning is not None else "the tuned setting"
    metric = f"{heading(comparison.metric)} on the dev split"
    reach = None
    if finite := sorted(mean for line in tried for _, mean in line.points if math.isfinite(mean)):
        # Trials that nearly diverged would flatten the valleys that matter.
        low, middle = finite[0], finite[len(finite) // 2]
        reach = charts.padded([low, min(finite[-1], low + 4 * max(middle - low, 1e-9))], 0.06)
    chart = lines(tried, key, metric, PAGE, own_ticks=True, y_domain=reach)
    return {"key": key, "metric": metric, "chart": draw("tuning-chart", chart), "arms": arms}


def _protocol(saved: SavedEvaluation, key: str, draw: Draw) -> dict[str, Any]:
    """What `evaluate --save` left of one protocol."""
    positions = _positions(saved.series)
    kinds = list(dict.fromkeys(kind for series in saved.series for kind in families(series.figures)))
    # Bits per byte and loss say the same of one tokenizer, and bits per byte can be compared between two.
    kinds = [kind for kind in kinds if (other := kind.replace("loss", "bits_per_byte")) == kind or other not in kinds]
    place = PLACES.get(saved.protocol, "position")
    wanted = [(place, _called(kind), [families(one.figures).get(kind, []) for one in saved.series]) for kind in kinds]
    x, y = saved.curve_names
    wanted.append((f"{x} in the window, in tokens", _called(y), [list(one.curve) for one in saved.series]))
    found = []
    for at, (x, y, points) in enumerate(wanted):
        named = zip(saved.series, positions, points, strict=True)
        given = [Line(series.name, ArmStyle.of(position), own) for series, position, own in named]
        chart = lines(given, x, y, PAGE, own_ticks=at < len(kinds))
        found.append((draw(f"{key}-{at}", chart), f"{y} against {x}"))
    return {
        "title": _called(saved.protocol),
        "protocol": saved.protocol,
        "figures": {figure: _called(figure) for figure in saved.series[0].figures if "/" not in figure},
        "series": list(zip(positions, saved.series, strict=True)),
        "charts": [(chart, label) for chart, label in found if chart],
    }


def _positions(series: Sequence[Series]) -> list[int]:
    """Which style a series has: its arm's, and where an arm has several, those that no arm has."""
    free = itertools.count(1 + max(one.position for one in series))
    found: list[int] = []
    for one in series:
        found.append(next(free) if one.position in found else one.position)
    return found


def _called(figure: str) -> str:
    return heading(f"validation/{figure}") if figure in ("loss", "bits_per_byte") else figure.replace("_", " ")


def _sort_key(value: float | None) -> str:
    """A number that is not there sorts last."""
    return "" if value is None or math.isnan(value) else repr(float(value))


def _last_value(arm: ArmRows, figure: str) -> str:
    """Where a curve ends, as at the end of its line."""
    return number(last_value(arm.curves[figure].mean()) if figure in arm.curves else math.nan, 4)


def _minus(text: str) -> str:
    """Numbers with a true minus sign."""
    return re.sub(r"-(?=\d)", MINUS, text)


# ----------------------------------------------------------------------------------------------------------- the page


_WORDS: tuple[Callable[..., Any], ...] = (
    wording.confidence, wording.confidence_of_differences, wording.difference_parts, wording.format_cost,
    wording.format_p, wording.format_relative, wording.format_spread, wording.format_value, wording.verdict_word,
    heading, name, number, duration, short_number,
)  # fmt: skip
"""What the template calls by name."""


@cache
def _template() -> jinja2.Template:
    environment = environment_of(Path(__file__).parent)
    said = {word.__name__: word for word in _WORDS}
    environment.filters |= said
    environment.globals |= said
    environment.globals |= {
        "has_difference": has_difference, "last_value": _last_value, "minus": _minus,
        "sort_key": _sort_key, "zip": zip, "style_of": ArmStyle.of, "dashes": charts.DASHES, "shapes": charts.SHAPES,
        "signs": wording.SIGNS, "decimals_for": wording.decimals_for, "most_columns": MOST_COLUMNS,
        "most_intervals": MOST_INTERVALS, "sample_characters": SAMPLE_CHARACTERS,
    }  # fmt: skip
    return environment.get_template("page.html.jinja")


@cache
def _vega() -> Markup:
    """Vega, Vega-Lite and vega-embed, which draw the charts in the browser."""
    return Markup(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        .replace("</script", "<\\/script")
        .replace("<!--", "<\\!--")
    )


def _columnwise(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification whose data is a list a field, with as many digits as a chart can show; `page.js` undoes it."""
    datasets = {}
    for key, rows in spec.get("datasets", {}).items():
        fields = dict.fromkeys(key for row in rows for key in row)
        columns = {field: _column([row.get(field) for row in rows]) for field in fields}
        datasets[key] = {"rows": len(rows), "columns": columns}
    return {**spec, "datasets": datasets}


def _column(values: Sequence[Any]) -> list[Any] | dict[str, Any]:
    """Rounded values; where they often repeat, each with how often it follows itself."""
    short = [float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for value in values]
    short = [int(value) if isinstance(value, float) and value.is_integer() else value for value in short]
    runs = [[value, len(list(same))] for value, same in itertools.groupby(short)]
    return {"runs": runs} if 2 * len(runs) < len(short) else short
