"""A comparison as one HTML page that loads nothing: `page.html.jinja` filled with tables, charts and commands.

Names of arms, errors and samples come from run folders, which are not ours to trust. The template escapes every text,
control characters and reversed writing directions are spelt out (`printable`), and the page's content security policy
lets only its own scripts and style run (by their hashes) and nothing be loaded.
"""

import base64
import hashlib
import itertools
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

from atomiclm.atomic_io import write_atomic
from atomiclm.comparison import charts
from atomiclm.comparison.charts import DARK, LIGHT, PAGE, SHAPES, ArmStyle, Line
from atomiclm.comparison.curves import read_recorded
from atomiclm.comparison.results import Arm, Comparison, Spread
from atomiclm.comparison.saved_evaluations import SavedEvaluation, Series, families, read_saved_evaluations
from atomiclm.comparison.wording import (
    MINUS,
    QUANTITIES,
    SIGNS,
    confidence,
    confidence_of_differences,
    decimals_for,
    difference_parts,
    format_cost,
    format_p,
    format_relative,
    format_spread,
    format_value,
    heading,
    name,
    number,
    verdict_word,
)
from atomiclm.tracking.wording import duration, printable, short_number
from atomiclm.user_error import UserError

MOST_COLUMNS = 2
"""Settings that stand between an arm and its figures; more have a table of their own below."""
SAMPLE_CHARACTERS = 1200
"""Of an arm's sample; all of it is in the record."""
DIGITS = 6
"""Significant digits of the numbers in a chart: a loss to some millionths, more than any seed can tell."""
PLACES = {"induction": "tokens back", "length_extrapolation": "windows, in multiples of the context trained on"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it shows.
        note: the same in small letters on the next line.
        sort: the number or text it is sorted by; "" sorts last.
        kind: CSS classes.
        arm: position of the arm whose sign stands before the text.
        word: verdict whose sign and colour the text has.
        effect: the arm's difference, drawn before the text (see `_effect`).
    """

    text: str = ""
    note: str = ""
    sort: float | str | None = None
    kind: str = ""
    arm: int | None = None
    word: str = ""
    effect: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Table:
    """A table: `headings` are texts, or pairs with a second line in small letters."""

    caption: str
    headings: Sequence[str | tuple[str, str]]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    baseline: int | None = None


@dataclass
class _Charts:
    """The charts of a page: pictures for a reader without script or on paper, and what Vega draws in their place."""

    specifications: dict[str, Any] = field(default_factory=dict)

    def add(self, key: str, chart: alt.LayerChart | None, label: str, caption: str = "") -> dict[str, Any] | None:
        """What the template needs of one chart; None where there is nothing to draw."""
        if chart is None:
            return None
        spec = charts.specification(chart)
        picture = charts.svg({**spec, "width": 640} if spec.get("width") == "container" else spec)
        clips = list(dict.fromkeys(re.findall(r'id="(clip\d+)"', picture)))

        def plain(tag: re.Match[str]) -> str:
            # The page's policy allows no style attributes, and says the font once; nobody needs hundreds of roles, or
            # thousandths of a pixel. Ids are unique in a page.
            kept = re.sub(r' (style|role|aria-[a-z]+|font-family|pointer-events)="[^"]*"', "", tag[0])
            kept = re.sub(r"(\d\.\d)\d+", r"\1", kept)
            return re.sub(r"\bclip\d+", lambda found: f"{key}-{clips.index(found[0])}", kept)

        picture = re.sub(r"<[^>]*>", plain, picture)
        self.specifications[key] = _columnwise(spec)
        return {"key": key, "picture": Markup(picture), "label": label, "caption": caption}


def write_page(comparison: Comparison, path: str | Path) -> None:
    """Write the page of a comparison, whole or not at all.

    Curves and samples are read from the runs' `metrics.jsonl`, evaluations from their `evaluations/`.

    Raises:
        OSError: it cannot be written.
    """
    write_atomic(Path(path), page_html(comparison).encode("utf-8"))


def page_html(comparison: Comparison) -> str:
    """The text of the page."""
    drawn = _Charts()
    recorded = read_recorded(comparison)
    samples = [
        {"arm": index, "name": arm.name, "seed": rows.sample[0], "prompt": rows.sample[1], "text": _cut(rows.sample[2])}
        for index, (arm, rows) in enumerate(zip(comparison.arms, recorded.arms, strict=True))
        if rows.sample is not None
    ]
    share = confidence_of_differences(comparison)
    effects = drawn.add(
        "effects",
        charts.effects(comparison, PAGE, "container"),
        f"Differences to the baseline {comparison.baseline}, with intervals; also in the table.",
        f"Squares are mean differences to {comparison.baseline}, lines {share} intervals (arrow: it goes on beyond the "
        "chart), dots single seeds. An interval that leaves the baseline's line on one side is a difference before the "
        "correction for the number of arms; the table has the corrected p.",
    )
    curves = drawn.add(
        "curves",
        charts.curves(comparison, recorded, PAGE, "container"),
        "Course of training",
        "Lines are means over the seeds, bands reach from the least to the greatest seed at the same fraction of the "
        "budget. A training loss is the mean of all steps since the point before. Losses per token compare arms of one "
        "tokenizer only. A name in the legend singles out its arm, with Shift several.",
    )
    tradeoffs = [
        drawn.add(
            f"tradeoff-{at}",
            charts.pareto(comparison, cost, PAGE),
            f"{heading(comparison.metric)} against {name(cost)}",
        )
        for at, cost in enumerate(key for key, quantity in QUANTITIES.items() if quantity.is_traded)
    ]
    style, script = _style(), _template_source("page.js")
    context = {
        "comparison": comparison,
        "style": style,
        "scripts": [_vega(), script],
        "policy": (
            f"default-src 'none'; style-src {_sha256(style)}; script-src {_sha256(_vega())} {_sha256(script)}; "
            "base-uri 'none'; form-action 'none'"
        ),
        "signs": SIGNS,
        "shapes": SHAPES,
        "style_of": ArmStyle.of,
        "dashes": charts.DASHES,
        "states": ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in comparison.unfinished).items()),
        "diverged": [arm for arm in comparison.arms if arm.diverged],
        "summary": _summary(comparison),
        "verdicts": _verdicts(comparison),
        "settings": _settings(comparison) if len(comparison.columns) > MOST_COLUMNS else None,
        "reading": _reading(comparison),
        "keys": "; ".join(f"{one.short}: {one.key}" for one in comparison.columns if one.short != one.key),
        "declared": _declared(comparison),
        "predictions": _predictions(comparison),
        "effects": effects,
        "curves": curves,
        "faults": recorded.faults,
        "tradeoffs": [chart for chart in tradeoffs if chart],
        "interval": confidence(comparison.alpha),
        "tuning": _tuning(comparison, drawn),
        "evaluations": _evaluations(comparison, drawn),
        "costs": _costs(comparison),
        "unmatched": _unmatched(comparison),
        "spent": _spent(comparison),
        "anchors": _anchors(comparison),
        "noise": _noise(comparison),
        "samples": samples,
        "environment": _environment(comparison),
        "arms": _overrides(comparison),
        "this_page": f"python -m atomiclm.compare {shlex.join(comparison.folders)} --html page.html",
    }
    context["charts"] = _script_json(drawn.specifications)
    return _template().render(context)


# ----------------------------------------------------------------------------------------------------------- sections


def _verdicts(comparison: Comparison) -> Table:
    settings = [column.short for column in comparison.columns]
    headings: list[str | tuple[str, str]] = [
        "arm",
        "verdict",
        *(settings if len(settings) <= MOST_COLUMNS else []),
        "seeds",
        (heading(comparison.metric), f"mean and {confidence(comparison.alpha)} interval"),
        ("difference", f"to the baseline, {confidence_of_differences(comparison)}"),
        "p (Holm)",
        "note",
    ]
    rows = []
    for index, arm in enumerate(comparison.arms):
        spread, contrast = _metric(comparison, arm), arm.contrast
        mean, *ends = map(_minus, difference_parts(contrast))
        seeds = f"{len(arm.runs)}" if len(arm.runs) == arm.planned else f"{len(arm.runs)} of {arm.planned}"
        has_difference = contrast is not None and charts.has_difference(arm)
        row = [
            _arm(comparison, index, "baseline" if arm.name == comparison.baseline else ""),
            Cell(arm.verdict, sort=arm.verdict, word=verdict_word(arm)),
            *(_values(comparison, arm) if len(settings) <= MOST_COLUMNS else []),
            _number(seeds, len(arm.runs)),
            _number(_minus(format_spread(spread)), spread.mean),
            Cell(sort="", kind="number"),
            _number(
                format_p(contrast.p_holm) if contrast and has_difference else "", contrast.p_holm if contrast else None
            ),
            Cell(note=contrast.note if contrast else "", kind="wide"),
        ]
        if contrast is not None and has_difference:
            interval = " to ".join(ends) if ends[0] else ""
            row[-3] = Cell(mean, interval, repr(contrast.mean), "number", word="", effect=_effect(comparison, arm))
        rows.append(row)
    return Table("Verdicts: one row an arm", headings, rows, sortable=True, baseline=_baseline(comparison))


def _effect(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    """Where the baseline, the margin and the arm's interval are in a cell, in per cent of its width."""
    low, high = charts.effect_domain(comparison)

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    contrast, margin = arm.contrast, comparison.margin or 0.0
    assert contrast is not None
    ends = (
        (contrast.low, contrast.high)
        if contrast.low is not None and contrast.high is not None
        else (contrast.mean,) * 2
    )
    return {
        "word": verdict_word(arm), "zero": at(0), "band": at(-margin), "width": at(margin) - at(-margin),
        "mean": at(contrast.mean), "from": at(ends[0]), "to": at(ends[1]),
    }  # fmt: skip


def _settings(comparison: Comparison) -> Table:
    rows = [[_arm(comparison, index), *_values(comparison, arm)] for index, arm in enumerate(comparison.arms)]
    return Table("Settings: what tells the arms apart", ["arm", *(column.short for column in comparison.columns)], rows)


def _summary(comparison: Comparison) -> str:
    counts = Counter(verdict_word(arm) for arm in comparison.arms if arm.verdict and (arm.contrast or arm.diverged))
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"Against {comparison.baseline}: {words}." if words else ""


def _reading(comparison: Comparison) -> str:
    better = f"{comparison.direction.capitalize()} is better."
    if comparison.margin is None:
        return better
    return f"{better} The shaded margin is ±{comparison.margin:g}: smaller differences do not matter."


def _declared(comparison: Comparison) -> str:
    said = comparison.prediction
    if said is None:
        return ""
    declared = f"Declared {said.time}" if said.time else "Declared"
    if said.finished_cells is None:
        when = "The plan does not say when this was declared."
    elif said.is_before_the_results:
        when = f"{declared}, before the first result."
    else:
        when = f"{declared}, when {said.finished_cells} runs had already ended: too late to be a prediction."
    changes = f" It had been declared otherwise {said.earlier_versions} times before." if said.earlier_versions else ""
    return when + changes


def _predictions(comparison: Comparison) -> Table | None:
    rows = [
        [
            Cell(arm.name),
            Cell(str(arm.expected)),
            Cell(arm.verdict or "-", word=verdict_word(arm)),
            Cell(arm.outcome or "-", word=arm.outcome or ""),
        ]
        for arm in comparison.arms
        if arm.expected
    ]
    return Table("Predictions by arm", ["arm", "predicted", "observed", "prediction"], rows) if rows else None


def _tuning(comparison: Comparison, drawn: _Charts) -> dict[str, Any] | None:
    """Trials and choice of every tuned arm."""
    arms = [(index, arm) for index, arm in enumerate(comparison.arms) if arm.name in comparison.tuned]
    if not arms:
        return None
    key = comparison.study.tuning.key if comparison.study.tuning is not None else "the tuned setting"
    lines, rows = [], []
    for index, arm in arms:
        tuned = comparison.tuned[arm.name]
        trials = sorted((float(value), mean) for value, mean in tuned.trials.items())
        chosen = [at for at, (value, _) in enumerate(trials) if math.isclose(value, tuned.value)]
        lines.append(Line(arm.name, ArmStyle.of(index), trials, ringed=chosen))
        best = dict(trials).get(tuned.value, math.nan)
        end = "inside" if tuned.interior else "at an end: the optimum may lie beyond"
        failed = sum(not math.isfinite(mean) for _, mean in trials)
        tried = f"{len(trials)}" + (f", {failed} diverged" if failed else "")
        rows.append(
            [
                _arm(comparison, index),
                _number(format_value(tuned.value), tuned.value),
                _number(number(best, 4), best),
                Cell(end),
                _number(tried, len(trials)),
            ]
        )
    metric = f"{heading(comparison.metric)} on the dev split"
    finite = [mean for line in lines for _, mean in line.points if math.isfinite(mean)]
    reach = None
    if finite and max(finite) > min(finite):
        # Trials that nearly diverged would flatten the valleys that matter.
        low, middle = min(finite), sorted(finite)[len(finite) // 2]
        high = min(max(finite), low + 4 * max(middle - low, 1e-9))
        reach = (low - 0.06 * (high - low), high + 0.06 * (high - low))
    chart = charts.lines(lines, key, metric, own_ticks=True, y_domain=reach, theme=PAGE, width="container")
    caption = "Means over the tuning seeds, on text apart from the validation text; rings are what was taken."
    headings = ["arm", f"{key} taken", metric, "in the grid", "values tried"]
    return {
        "key": key,
        "chart": drawn.add("tuning-chart", chart, f"{metric} against {key}", caption),
        "table": Table("What tuning took", headings, rows, sortable=True),
    }


def _evaluations(comparison: Comparison, drawn: _Charts) -> dict[str, Any] | None:
    """What `evaluate --save` left, one part a protocol; None where no run was evaluated."""
    saved, faults = read_saved_evaluations(comparison)
    parts = [_protocol(comparison, one, at, drawn) for at, one in enumerate(saved)]
    return {"parts": parts, "faults": faults} if parts or faults else None


def _protocol(comparison: Comparison, saved: SavedEvaluation, key: int, drawn: _Charts) -> dict[str, Any]:
    styles = _styles_of_series(saved.series)
    plain = [figure for figure in saved.series[0].figures if "/" not in figure]
    rows = [
        [
            Cell(series.name, sort=series.name, arm=None if position is None else position),
            _number(str(series.count), series.count),
            *(_number("-" if (value := series.figures.get(one)) is None else number(value, 4), value) for one in plain),
        ]
        for series, position in zip(saved.series, _positions(saved.series), strict=True)
    ]
    headings = ["arm", "seeds", *map(_called, plain)]
    table = Table(f"{saved.protocol}: means over the seeds", headings, rows, sortable=True) if plain else None
    kinds = list(dict.fromkeys(kind for series in saved.series for kind in families(series.figures)))
    # Bits per byte and loss say the same of one tokenizer, and bits per byte can be compared between two.
    kinds = [kind for kind in kinds if (other := kind.replace("loss", "bits_per_byte")) == kind or other not in kinds]
    found = []
    place = PLACES.get(saved.protocol, "position")
    for at, kind in enumerate(kinds):
        lines = [
            Line(series.name, style, families(series.figures).get(kind, []))
            for series, style in zip(saved.series, styles, strict=True)
        ]
        chart = charts.lines(lines, place, _called(kind), own_ticks=True, theme=PAGE, width="container")
        label = f"{_called(kind)} against {place}"
        found.append(
            drawn.add(f"evaluation-{key}-{at}", chart, label, f"{_called(kind).capitalize()}: means over the seeds.")
        )
    lines = [Line(series.name, style, series.curve) for series, style in zip(saved.series, styles, strict=True)]
    x, y = saved.curve_names
    chart = charts.lines(lines, f"{x} in the window, in tokens", _called(y), theme=PAGE, width="container")
    caption = "Means over the seeds, by position in the window; the first position is left out."
    found.append(drawn.add(f"evaluation-{key}-positions", chart, f"{_called(y)} by position", caption))
    return {"title": _called(saved.protocol), "table": table, "charts": [chart for chart in found if chart]}


def _positions(series: Sequence[Series]) -> list[int]:
    """Which style a series has: its arm's, and where an arm has several, those that no arm has."""
    taken, free = set[int](), 1 + max(one.position for one in series)
    found = []
    for one in series:
        position = one.position if one.position not in taken else free
        free += position == free
        taken.add(position)
        found.append(position)
    return found


def _styles_of_series(series: Sequence[Series]) -> list[ArmStyle]:
    return [ArmStyle.of(position) for position in _positions(series)]


def _called(figure: str) -> str:
    return heading(f"validation/{figure}") if figure in ("loss", "bits_per_byte") else figure.replace("_", " ")


def _costs(comparison: Comparison) -> Table | None:
    known = [
        key
        for key, quantity in QUANTITIES.items()
        if quantity.on_page and any(key in arm.figures for arm in comparison.arms)
    ]
    rows = [
        [_arm(comparison, index), *(_cost(arm, cost) for cost in known)] for index, arm in enumerate(comparison.arms)
    ]
    headings = ["arm", *map(name, known)]
    return Table("Costs of the arms", headings, rows, True, _baseline(comparison)) if known else None


def _cost(arm: Arm, cost: str) -> Cell:
    spread = arm.figures.get(cost)
    own = [one for one in arm.costs if one.quantity == cost]
    note = "".join(_minus(format_relative(one.relative)) + (", matched" if one.is_matched else "") for one in own)
    return Cell(format_cost(cost, spread), note, _sort(spread.mean if spread else None), "number")


def _unmatched(comparison: Comparison) -> str:
    found = sorted({cost.quantity for arm in comparison.arms for cost in arm.costs if not cost.is_matched})
    if not found:
        return "No cost differs from the baseline's beyond what was matched."
    return f"Not the same for all arms, and not matched: {', '.join(map(name, found))}."


def _spent(comparison: Comparison) -> str:
    total = comparison.total
    return (
        f"All runs, those that did not end included: {duration(total.seconds)} of training, "
        f"{duration(total.core_seconds)} of processor cores, {short_number(total.flops)} FLOPs."
    )


def _anchors(comparison: Comparison) -> Table | None:
    rows = [[Cell(text), _number(number(value, 3), value)] for text, value in comparison.anchors.items()]
    return Table("Anchors", ["anchor", "bits per byte"], rows) if rows else None


def _noise(comparison: Comparison) -> list[str]:
    """The spread over seeds, in sentences."""
    noise, said = comparison.noise, []
    if noise is not None and noise.deviation is not None:
        deviation = number(noise.deviation, decimals_for(noise.deviation))
        said.append(
            f"Noise: {heading(comparison.metric)} of the baseline has a standard deviation of {deviation} over "
            f"{noise.count} seeds."
        )
    if noise is not None and noise.difference_deviation is not None:
        deviation = number(noise.difference_deviation, decimals_for(noise.difference_deviation))
        text = f"Differences to it by seed have one of {deviation}"
        if noise.detectable is not None:
            detectable = number(noise.detectable, decimals_for(noise.detectable))
            text += (
                f": with {noise.pairs} seeds an arm, a difference of {detectable} is found in 80 % of studies like this"
            )
        said.append(f"{text}.")
    return said


def _environment(comparison: Comparison) -> dict[str, Any]:
    """On what the runs were made: what differs between them, and what the first says."""
    rows = [
        [Cell(entry.fact), Cell("; ".join(f"{value} ({count} runs)" for value, count in entry.runs.items()))]
        for entry in comparison.environment
    ]
    first = next((run for arm in comparison.arms for run in arm.runs), None)
    facts: dict[str, str] = {}
    if first is not None:
        try:
            facts = _facts(first.folder.read_environments()[-1])
        except UserError as error:
            facts = {"environment.json": str(error)}
    return {
        "facts": facts,
        "differs": Table("What differs between the runs", ["fact", "values"], rows) if rows else None,
    }


def _facts(process: Mapping[str, Any]) -> dict[str, str]:
    keys = ("device", "precision", "cpu", "torch_threads", "compiled", "python", "platform")
    given = {key: process.get(key) for key in keys}
    versions, source = process.get("versions"), process.get("source")
    if isinstance(versions, Mapping):
        given |= {package: versions.get(package) for package in ("atomiclm", "torch", "numpy")}
    if isinstance(source, Mapping):
        given |= {
            "commit": source.get("commit"),
            "uncommitted changes": source.get("diff_sha256") or source.get("dirty"),
        }
    return {key: str(value) for key, value in given.items() if value is not None}


def _overrides(comparison: Comparison) -> Table | None:
    rows = [
        [Cell(arm), Cell(" ".join(overrides) or "as the file has it", kind="code")]
        for arm, overrides in comparison.study.arms.items()
    ]
    return Table("Arms", ["arm", "overrides"], rows) if rows else None


# -------------------------------------------------------------------------------------------------------------- cells


def _arm(comparison: Comparison, index: int, note: str = "") -> Cell:
    text = comparison.arms[index].name
    return Cell(text, note, text, arm=index)


def _number(text: str, value: float | None = None) -> Cell:
    return Cell(text, sort=_sort(value), kind="number")


def _sort(value: float | None) -> str:
    """A number that is not there sorts last."""
    return "" if value is None or math.isnan(value) else repr(float(value))


def _values(comparison: Comparison, arm: Arm) -> list[Cell]:
    return [Cell(format_value(arm.values.get(column.key)), kind="setting") for column in comparison.columns]


def _metric(comparison: Comparison, arm: Arm) -> Spread:
    return arm.figures.get(comparison.metric, Spread.of([]))


def _baseline(comparison: Comparison) -> int | None:
    return next((index for index, arm in enumerate(comparison.arms) if arm.name == comparison.baseline), None)


def _minus(text: str) -> str:
    """Numbers with a true minus sign."""
    return re.sub(r"-(?=\d)", MINUS, text)


def _cut(text: str) -> str:
    return text[:SAMPLE_CHARACTERS] + ("…" if len(text) > SAMPLE_CHARACTERS else "")


# ----------------------------------------------------------------------------------------------------------- the page


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template("page.html.jinja")


@cache
def _template_source(file: str) -> Markup:
    return Markup((Path(__file__).parent / file).read_text(encoding="utf-8"))


@cache
def _style() -> Markup:
    hues = zip(LIGHT.hues, DARK.hues, strict=True)
    colours = "".join(f"--hue{index}: light-dark({light}, {dark}); " for index, (light, dark) in enumerate(hues))
    return Markup(f":root {{ {colours}}}\n{_template_source('page.css')}")


@cache
def _vega() -> Markup:
    """Vega, Vega-Lite and vega-embed, which draw the charts in the browser."""
    return Markup(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        .replace("</script", "<\\/script")
        .replace("<!--", "<\\!--")
    )


def _sha256(text: str) -> str:
    """As a content security policy names a text that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script_json(value: Any) -> Markup:
    """JSON that can stand inside `<script>`: no `</script>`, `<!--`, U+2028, lone surrogate or NaN can be in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # only ever inside strings, where the escape means the same
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


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
