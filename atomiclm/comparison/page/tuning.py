"""The setting that was tuned for every arm: what was tried, and what was taken."""

import math

from atomiclm.comparison.comparison import Comparison
from atomiclm.comparison.page.lines import Line, LineChart
from atomiclm.comparison.page.markup import Markup, join
from atomiclm.comparison.page.palette import Look, swatch
from atomiclm.comparison.page.parts import Cell, figure, number_cell, section, table
from atomiclm.comparison.page.scale import number
from atomiclm.comparison.page.words import short_name_of
from atomiclm.comparison.wording import format_value


def tuning(comparison: Comparison) -> Markup:
    """Trials and choice of every tuned arm."""
    arms = [(index, arm) for index, arm in enumerate(comparison.arms) if arm.name in comparison.tuned]
    if not arms:
        return join()
    key = comparison.study.tuning.key if comparison.study.tuning is not None else "the tuned setting"
    lines, rows = [], []
    for index, arm in arms:
        tuned = comparison.tuned[arm.name]
        trials = sorted((float(value), mean) for value, mean in tuned.trials.items())
        chosen = [at for at, (value, _) in enumerate(trials) if math.isclose(value, tuned.value)]
        lines.append(Line(arm.name, Look.of(index), trials, ringed=chosen))
        best = dict(trials).get(tuned.value, math.nan)
        end = "inside" if tuned.interior else "at an end: the optimum may lie beyond"
        failed = sum(not math.isfinite(mean) for _, mean in trials)
        rows.append(
            [
                Cell(join(swatch(Look.of(index)), " ", arm.name), arm.name),
                number_cell(format_value(tuned.value), tuned.value),
                number_cell(number(best, 4), best),
                Cell(end),
                number_cell(f"{len(trials)}" + (f", {failed} diverged" if failed else ""), float(len(trials))),
            ]
        )
    metric = f"{short_name_of(comparison.metric)} on the dev split"
    finite = [mean for line in lines for _, mean in line.points if math.isfinite(mean)]
    reach = None
    if finite and max(finite) > min(finite):
        # Trials that nearly diverged would flatten the valleys that matter.
        low, middle = min(finite), sorted(finite)[len(finite) // 2]
        high = min(max(finite), low + 4 * max(middle - low, 1e-9))
        reach = (low - 0.06 * (high - low), high + 0.06 * (high - low))
    chart = LineChart(key, metric, f"{metric} against {key}", x_log=True, x_own=True, y_range=reach, height=320.0).draw(
        lines
    )
    caption = "Means over the tuning seeds, on text apart from the validation text; rings are what was taken."
    headings = ["arm", f"{key} taken", metric, "in the grid", "values tried"]
    return section(
        "tuning", f"Tuning of {key}", figure(chart, caption), table("What tuning took", headings, rows, sortable=True)
    )
