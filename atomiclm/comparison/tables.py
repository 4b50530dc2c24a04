"""The tables of a comparison as headings, cells and sentences; terminal and Markdown lay them out, each in its way."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atomiclm.comparison import wording
from atomiclm.comparison.arms import MOST_NAMED
from atomiclm.comparison.results import Arm, Column, Comparison, Prediction, Unfinished
from atomiclm.tracking.console import duration, printable, short_number


@dataclass(frozen=True)
class Field:
    """One column of a table, a cell a row."""

    heading: str
    cells: Sequence[str]
    is_number: bool = True
    values: Sequence[float] = ()  # unrounded, to sort by; empty: the cells


def names(comparison: Comparison) -> Field:
    """The first column of a table of arms."""
    return Field("arm", [arm.name for arm in comparison.arms], is_number=False)


def quality(comparison: Comparison) -> list[Field]:
    """The columns after the arm's name: settings where they are few, seeds, the metric, the difference, the verdict."""
    arms = comparison.arms
    named = wording.heading(comparison.metric)
    found = [] if many_settings(comparison) else settings(comparison)
    found.append(Field("seeds", [seeds_of(arm) for arm in arms]))
    found.append(Field(named, [wording.format_spread(arm.figures[comparison.metric]) for arm in arms]))
    if any(arm.contrast for arm in arms):
        found.append(Field("difference", [wording.format_difference(arm.contrast) for arm in arms]))
        found.append(Field("p", [wording.format_p(arm.contrast.p_holm) if arm.contrast else "" for arm in arms]))
    if any(arm.verdict or arm.expected for arm in arms) or len(arms) > 1:
        words = [arm.verdict or ("baseline" if arm.name == comparison.baseline else "") for arm in arms]
        found.append(Field("verdict", words, is_number=False))
    if any(arm.expected for arm in arms):
        words = [f"{arm.expected}: {arm.outcome}" if arm.expected else "" for arm in arms]
        found.append(Field("predicted", words, is_number=False))
    return found


def costs(comparison: Comparison) -> list[Field]:
    """What an arm takes."""
    return [
        Field(wording.heading(name), [wording.format_cost(name, arm.figures[name]) for arm in comparison.arms])
        for name in wording.COSTS
        if name != comparison.metric
    ]


def other_columns(comparison: Comparison) -> Sequence[Column]:
    """The settings that differ between the arms and that no factor of the sweep stands for."""
    keys = [
        factor.key.replace("/", ".").removesuffix("._target_")
        for factor in (comparison.factors.factors if comparison.factors else ())
    ]
    return [column for column in comparison.columns if not any(f"{column.key}.".startswith(f"{key}.") for key in keys)]


def settings(comparison: Comparison) -> list[Field]:
    """The differing settings; none where the arms are called by them already."""
    columns = other_columns(comparison)

    def spelled(column: Column, arm: Arm) -> str:
        return f"{column.short.rpartition('.')[2]}={wording.format_value(arm.values[column.key])}"

    if all(spelled(column, arm) in arm.name for column in columns for arm in comparison.arms):
        return []
    found = []
    for column in columns:
        cells = [wording.format_value(arm.values[column.key]) for arm in comparison.arms]
        found.append(Field(column.short, cells, are_numbers(cells)))
    return found


def many_settings(comparison: Comparison) -> list[Field]:
    """The differing settings where they are so many that they have a table of their own."""
    return settings(comparison) if len(other_columns(comparison)) > MOST_NAMED else []


def are_numbers(cells: Sequence[str]) -> bool:
    """Of settings, or settings that are not there."""
    return all(re.fullmatch(r"[0-9.]+(e-?[0-9]+)?|-", cell) for cell in cells)


def statements(comparison: Comparison) -> list[list[str]]:
    """Paragraphs under the tables: what was predicted, costs, notes, anchors with noise and cost; a line a sentence."""
    return [list(block(comparison)) for block in (_prediction_lines, _cost_lines, _notes, _closing)]


def _prediction_lines(comparison: Comparison) -> Iterator[str]:
    """What was predicted, how beforehand, and what came of it."""
    predicted = comparison.prediction
    if predicted is None:
        return
    if predicted.text:
        yield f"Predicted: {predicted.text}{f' ({predicted.source})' if predicted.source else ''}"
    yield f"{declared(predicted)}."
    outcomes = [arm for arm in comparison.arms if arm.outcome]
    for word in ("reproduced", "contradicted", "unresolved"):
        own = [f"{arm.name} ({arm.expected})" for arm in outcomes if arm.outcome == word]
        if own:
            yield f"{word.capitalize()}: {', '.join(own)}."


def declared(predicted: Prediction) -> str:
    """How beforehand a prediction was made."""
    if predicted.finished_cells is None:
        return "It is not known when this was declared"
    named = f"(sha256 {str(predicted.sha256)[:12]}, {predicted.time})"
    if predicted.is_before_the_results:
        return f"Declared before the first run ended {named}"
    verb = "Changed" if predicted.earlier_versions else "Declared"
    return f"{verb} after {predicted.finished_cells} runs had ended {named}"


def _cost_lines(comparison: Comparison) -> Iterator[str]:
    """What an arm costs more or less than the baseline, and what it was matched in."""
    for arm in comparison.arms:
        open_costs = [one for one in arm.costs if not one.is_matched]
        matched = [one for one in arm.costs if one.is_matched]
        words = [f"{wording.heading(one.quantity)} {wording.format_relative(one.relative)}" for one in open_costs]
        words += [
            f"matched in {wording.heading(one.quantity)} to {wording.format_relative(one.relative)}" for one in matched
        ]
        if words:
            yield f"{arm.name} against {comparison.baseline}: {', '.join(words)}"


def _notes(comparison: Comparison) -> Iterator[str]:
    """What the reader of the table must know, and what the figures in it are."""
    for arm in comparison.arms:
        if arm.contrast and arm.contrast.note:
            yield f"{arm.name}: {arm.contrast.note}."
    yield from comparison.notes
    for difference in comparison.environment:
        values = ", ".join(f"{value} ({count} runs)" for value, count in difference.runs.items())
        yield f"Not the same for all runs: {difference.fact}: {values}."
    yield from _legend(comparison)


def _legend(comparison: Comparison) -> Iterator[str]:
    alpha, family = comparison.alpha, sum(arm.contrast is not None for arm in comparison.arms)
    if any(arm.figures[comparison.metric].half_width is not None for arm in comparison.arms):
        yield f"± is half the {100 * (1 - alpha):g} % interval of the mean over seeds; one seed has none."
    contrasts = [arm.contrast for arm in comparison.arms if arm.contrast and arm.contrast.p is not None]
    if contrasts:
        levels = sorted({contrast.alpha for contrast in contrasts})
        arms = f"{family} {'arm' if family == 1 else 'arms'} (Holm)"
        looks = " and for the looks at this study" if comparison.study.sequential else ""
        paired = {contrast.is_paired for contrast in contrasts}
        pairing = (
            "paired by seed where noted" if len(paired) == 2 else "paired by seed" if True in paired else "not paired"
        )
        yield (
            f"Differences are to {comparison.baseline}, {pairing}, with their {_confidence(levels)} "
            f"interval; p is adjusted for {arms}{looks}."
        )
        if comparison.margin is not None:
            yield (
                f"Equivalent: the {_confidence([2 * level for level in levels])} interval lies within "
                f"±{comparison.margin:g}. A difference can be certain and as small as that."
            )
        else:
            yield "No margin was declared, so nothing is called equivalent (--margin)."
    yield from (f"{column.short}: {column.key}" for column in comparison.columns if column.short != column.key)


def _confidence(errors: Sequence[float]) -> str:
    return " or ".join(map(wording.confidence, errors))


def under_trained(comparison: Comparison) -> str | None:
    """A warning where the best arm has learned less than counting n-grams does; None otherwise."""
    counted = comparison.anchors.get("5-gram")
    means = [arm.figures[comparison.metric].mean for arm in comparison.arms if comparison.metric in arm.figures]
    means = [mean for mean in means if math.isfinite(mean)]
    if counted is None or not means or min(means) <= counted or not comparison.metric.endswith("bits_per_byte"):
        return None
    return f"no arm is as good as the 5-gram ({counted:.3f} bits per byte): longer training may change the order"


def _closing(comparison: Comparison) -> Iterator[str]:
    """Anchors, noise floor and cost, a line each."""
    if comparison.anchors:
        values = "  ".join(f"{name} {value:.3f}" for name, value in comparison.anchors.items())
        yield f"anchors  {values}  (bits per byte on the same bytes)"
    if warning := under_trained(comparison):
        yield warning
    floor = comparison.noise
    if floor and floor.deviation is not None:
        text = f"noise    sd {floor.deviation:.2g} over {floor.count} seeds of {comparison.baseline}"
        if floor.difference_deviation is not None and floor.detectable is not None:
            text += (
                f", {floor.difference_deviation:.2g} of paired differences; {floor.pairs} seeds find "
                f"{floor.detectable:.2g} in 80 % of studies"
            )
        yield text
    spent = comparison.total
    if spent.runs or spent.seconds:
        cores = f", {duration(spent.core_seconds)} of cores" if spent.core_seconds else ""
        yield (
            f"cost     {spent.runs} finished run{'s' * (spent.runs != 1)}, {duration(spent.seconds)} of training"
            f"{cores}, {short_number(spent.flops)} FLOPs"
        )


def about(run: Unfinished) -> tuple[str, str, str, str]:
    """State, which run, how far it came, what went wrong."""
    named = f"{run.arm} seed {run.seed}" if run.arm and run.seed is not None else run.run
    return run.state, printable(named), run.progress, printable(run.error)


def seeds_of(arm: Arm) -> str:
    """How many runs ended, of how many that are wanted."""
    wanted = max(arm.planned, len(arm.runs))
    return str(len(arm.runs)) if len(arm.runs) == wanted else f"{len(arm.runs)} of {wanted}"
