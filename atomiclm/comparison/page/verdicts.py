"""What came out: the runs that are missing, the table of verdicts, and the prediction beside it."""

import math
from collections import Counter

from atomiclm.comparison.comparison import Arm, Comparison, Unfinished
from atomiclm.comparison.page.forest import cell, forest
from atomiclm.comparison.page.markup import Child, Markup, element, join
from atomiclm.comparison.page.palette import Look, swatch
from atomiclm.comparison.page.parts import Cell, command, figure, number_cell, paragraphs, section, table, word
from atomiclm.comparison.page.words import (
    confidence,
    confidence_of_differences,
    format_difference,
    format_mean,
    metric_of,
    short_name_of,
    verdict_of,
)
from atomiclm.comparison.wording import format_p, format_value

MOST_COLUMNS = 2
"""Settings that stand between an arm and its figures; more have a table of their own below."""


def problems(comparison: Comparison) -> Markup:
    """What failed or is missing, with the commands that mend it, in a box before everything else."""
    unfinished, diverged = comparison.unfinished, [arm for arm in comparison.arms if arm.diverged]
    if not unfinished and not diverged:
        return join()
    parts: list[Child] = []
    if unfinished:
        states = Counter(run.state for run in unfinished)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        parts.append(element("h2", f"Not in the figures below: {counts}", id="problems-heading"))
        if comparison.command:
            parts += [element("p", "All of it, finished runs skipped:"), command(comparison.command)]
        parts.append(element("ul", *(element("li", _about(run)) for run in unfinished)))
    else:
        parts.append(element("h2", "Some seeds diverged", id="problems-heading"))
    for arm in diverged:
        seeds = ", ".join(str(run.seed) for run in arm.diverged)
        text = f"{arm.name}: {arm.verdict} (seed {seeds}); its figures are of the seeds that ended."
        parts.append(element("p", text))
    return element("section", *parts, class_="problems", id="problems", aria_labelledby="problems-heading")


def verdicts(comparison: Comparison) -> Markup:
    """The table: one row an arm."""
    if not comparison.arms:
        return section("verdicts", "Verdicts", element("p", "No run has ended: there is nothing to compare yet."))
    metric = short_name_of(comparison.metric)
    interval = join(metric, element("br"), element("small", f"mean and {confidence(comparison)} interval"))
    difference = join(
        "difference", element("br"), element("small", f"to the baseline, {confidence_of_differences(comparison)}")
    )
    settings = [column.short for column in comparison.columns]
    headings = [
        "arm",
        "verdict",
        *(settings if len(settings) <= MOST_COLUMNS else []),
        "seeds",
        interval,
        difference,
        "p (Holm)",
        "note",
    ]
    rows = [_row(comparison, index, arm) for index, arm in enumerate(comparison.arms)]
    kinds = ["baseline" if arm.name == comparison.baseline else None for arm in comparison.arms]
    drawn = table("Verdicts: one row an arm", headings, rows, row_kinds=kinds, sortable=True)
    better = f"{comparison.direction.capitalize()} is better."
    margin = (
        f" The shaded margin is ±{comparison.margin:g}: smaller differences do not matter." if comparison.margin else ""
    )
    short = {column.short: column.key for column in comparison.columns if column.short != column.key}
    keys = "; ".join(f"{name}: {key}" for name, key in short.items())
    notes = paragraphs(f"{better}{margin}", *comparison.notes, element("small", keys) if keys else None)
    apart = _settings(comparison) if len(settings) > MOST_COLUMNS else None
    return section("verdicts", "Verdicts", paragraphs(summary(comparison)), drawn, apart, notes)


def _settings(comparison: Comparison) -> Markup:
    """What tells the arms apart, one row an arm."""
    rows = [
        [Cell(arm_label(comparison, index, arm), arm.name), *_values(comparison, arm)]
        for index, arm in enumerate(comparison.arms)
    ]
    return table("Settings: what tells the arms apart", ["arm", *(column.short for column in comparison.columns)], rows)


def summary(comparison: Comparison) -> str:
    """The verdicts in a sentence."""
    against = [arm for arm in comparison.arms if arm.contrast is not None or arm.diverged]
    counts = Counter(verdict_of(arm) for arm in against if verdict_of(arm))
    if not counts:
        return ""
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"Against {comparison.baseline}: {words}."


def prediction(comparison: Comparison) -> Markup:
    """What was predicted and when, beside what was observed."""
    said = comparison.prediction
    if said is None:
        return join()
    declared = f"Declared {said.time}" if said.time else "Declared"
    if said.finished_cells is None:
        when = "The plan does not say when this was declared."
    elif said.is_before_the_results:
        when = f"{declared}, before the first result."
    else:
        when = f"{declared}, when {said.finished_cells} runs had already ended: too late to be a prediction."
    changes = f" It had been declared otherwise {said.earlier_versions} times before." if said.earlier_versions else ""
    sha256 = element("small", f"sha256 of the declaration {said.sha256}") if said.sha256 else None
    expected = [arm for arm in comparison.arms if arm.expected]
    rows = [
        [
            Cell(arm.name),
            Cell(arm.expected),
            Cell(word(verdict_of(arm), arm.verdict) if arm.verdict else "-"),
            Cell(word(arm.outcome) if arm.outcome else "-"),
        ]
        for arm in expected
    ]
    drawn = table("Predictions by arm", ["arm", "predicted", "observed", "prediction"], rows) if rows else None
    source = f"Source: {said.source}" if said.source else None
    return section(
        "prediction", "Prediction and observation", paragraphs(said.text, source, f"{when}{changes}", sha256), drawn
    )


def differences(comparison: Comparison) -> Markup:
    """The forest plot."""
    drawn = forest(comparison)
    if drawn is None:
        return join()
    share = confidence_of_differences(comparison)
    caption = (
        f"Squares are mean differences to {comparison.baseline}, lines {share} intervals (arrow: it goes on beyond the "
        "chart), dots single seeds. An interval that leaves the baseline's line on one side is a difference before the "
        "correction for the number of arms; the table has the corrected p."
    )
    return section("differences", "Differences to the baseline", figure(drawn, caption))


def arm_label(comparison: Comparison, index: int, arm: Arm) -> Markup:
    """The arm's sign and name."""
    baseline = element("small", " baseline") if arm.name == comparison.baseline else None
    return join(swatch(Look.of(index)), " ", arm.name, baseline)


def _row(comparison: Comparison, index: int, arm: Arm) -> list[Cell]:
    spread, contrast = metric_of(comparison, arm), arm.contrast
    settings = _values(comparison, arm) if len(comparison.columns) <= MOST_COLUMNS else []
    seeds = f"{len(arm.runs)}" if len(arm.runs) == arm.planned else f"{len(arm.runs)} of {arm.planned}"
    if contrast is None or math.isnan(contrast.mean):
        difference, p = Cell("", ""), number_cell("")
    else:
        mean, interval = format_difference(contrast)
        in_words = join(mean, element("br"), element("small", interval)) if interval else join(mean)
        drawn = element("div", cell(comparison, arm), element("span", in_words), class_="difference")
        difference, p = (
            Cell(drawn, repr(contrast.mean), "number"),
            number_cell(format_p(contrast.p_holm), contrast.p_holm),
        )
    note = element("small", contrast.note) if contrast is not None and contrast.note else join()
    said = word(verdict_of(arm), arm.verdict) if arm.verdict else join()
    return [
        Cell(arm_label(comparison, index, arm), arm.name),
        Cell(said, arm.verdict),
        *settings,
        number_cell(seeds, float(len(arm.runs))),
        number_cell(format_mean(spread), spread.mean),
        difference,
        p,
        Cell(note, "", "wide"),
    ]


def _values(comparison: Comparison, arm: Arm) -> list[Cell]:
    return [Cell(format_value(arm.values.get(column.key)), kind="setting") for column in comparison.columns]


def _about(run: Unfinished) -> Markup:
    seed = f", seed {run.seed}" if run.seed is not None else ""
    where = f"{run.arm or run.run}{seed}"
    about = join(word(run.state), f" {where}", f" ({run.progress})" if run.progress else None)
    error = element("p", element("code", run.error)) if run.error else None
    return join(about, error, command(run.command) if run.command else None)
