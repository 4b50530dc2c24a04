"""From runs and a plan to a `Comparison`: grouped, refused where unlike, held against the baseline, judged."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atomiclm.cli import UserError
from atomiclm.comparison import provenance
from atomiclm.comparison.arms import Group, Grouped, by_plan, by_variant, choose_baseline, without_figures_diverged
from atomiclm.comparison.results import Arm, Column, Comparison, Spread
from atomiclm.comparison.runs import numbers_of, read_plan, read_runs, refuse_unlike
from atomiclm.comparison.seeds import planned_looks
from atomiclm.comparison.statistics import one_sample
from atomiclm.comparison.verdicts import Rules, contrasts, outcome
from atomiclm.comparison.wording import COSTS, larger_is_better
from atomiclm.sweep.ledger import StudyLedger
from atomiclm.sweep.study import Expected, Study, check_margin
from atomiclm.tracking.run_result import RunResult


def compare_runs(
    runs: Sequence[RunResult],
    ledger: StudyLedger | None = None,
    *,
    metric: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    baseline: str | None = None,
) -> Comparison:
    """Compare runs arm by arm with a baseline, paired by seed.

    Args:
        runs: as `read_runs` has them.
        ledger: the plan of their sweep; where it declares no arms, runs that differ only in the seed are an arm.
        metric: figure of summary.json that decides; the study's, else bits per byte.
        margin: smallest difference that matters; the study's, where its metric decides.
        alpha: chance of error.
        baseline: an arm's name, or key=value of one; the study's, else the first of the plan.

    Raises:
        ValueError: runs that cannot be compared (`runs.refuse_unlike`), or a setting out of range.
    """
    if not 0 < alpha < 1:
        raise UserError(f"--alpha: {alpha:g} is not between 0 and 1; 0.05 makes intervals of 95 %")
    if margin is not None:
        check_margin("--margin: ", margin)
    study = ledger.study if ledger else Study()
    metric = metric or study.metric
    runs = without_figures_diverged(runs, metric)
    cells = ledger.cells if ledger else ()
    grouped = by_plan(runs, cells) if study.is_declared else by_variant(runs, cells)
    from atomiclm.comparison.factors import report_of, swept_factors  # numpy, which `compare --help` can do without

    swept = swept_factors(grouped.groups, grouped.columns, study, cells)
    labels: dict[str, str] = {}
    named = {cell.arm for cell in cells} or set(swept[1] if swept else ())
    if swept and not study.is_declared and {group.name for group in grouped.groups} <= named:
        # Runs beside those of a sweep leave its arms the names that they have there.
        labels = {arm: place.label for arm, place in swept[1].items()}
        grouped = replace(
            grouped,
            groups=[replace(group, name=labels.get(group.name, group.name)) for group in grouped.groups],
            unfinished=[replace(run, arm=labels.get(run.arm, run.arm)) for run in grouped.unfinished],
        )
        swept = swept[0], {place.label: place for place in swept[1].values()}
    refuse_unlike([run for run in grouped.compared if run.done], metric)
    is_studys = metric == study.metric
    rules = Rules(
        direction=study.direction if is_studys else ("higher" if larger_is_better(metric) else "lower"),
        margin=margin if margin is not None else study.margin if is_studys else None,
        alpha=alpha,
        looks=_looks(ledger),
    )
    groups = grouped.groups
    chosen, note = choose_baseline(groups, grouped.columns, baseline, study.baseline, ledger is not None)
    arms = [_arm(group, grouped.columns, metric, alpha) for group in groups]
    arms = _judged(arms, chosen, metric, rules, study)
    if ledger is None:
        sign = 1 if rules.direction == "lower" else -1
        arms.sort(key=lambda arm: (math.isnan(mean := arm.figures[metric].mean), sign * mean))
    arms.sort(key=lambda arm: arm.name != chosen)
    base = next((arm for arm in arms if arm.name == chosen), None)
    contrasted = [arm.contrast for arm in arms if arm.contrast]
    everything = [run for run in runs if run.folder.run_id not in set(grouped.unplanned)]
    return Comparison(
        name=ledger.name if ledger else ", ".join(dict.fromkeys(run.folder.name for run in runs)),
        folders=list(dict.fromkeys(str(run.folder.path.parent) for run in runs)),
        study=study,
        profile=ledger.profile if ledger else "",
        command=ledger.command if ledger else "",
        metric=metric,
        direction=rules.direction,
        margin=rules.margin,
        alpha=alpha,
        baseline=chosen,
        columns=grouped.columns,
        arms=arms,
        unfinished=grouped.unfinished,
        unplanned=grouped.unplanned,
        prediction=provenance.prediction(ledger),
        noise=provenance.noise(base.figures[metric], contrasted) if base and base.runs else None,
        anchors=provenance.anchors([run for run in grouped.compared if run.done]),
        environment=provenance.environment_differences(grouped.compared),
        total=provenance.total(everything),
        tuned={labels.get(arm, arm): tuned for arm, tuned in ledger.tuned.items()} if ledger else {},
        notes=[text for text in (note, *_notes(arms, base, grouped, ledger)) if text],
        factors=report_of(*swept, arms, metric, rules) if swept else None,
    )


def compare_folder(folder: Path) -> Comparison:
    """Compare the runs of a study's folder by its own rules; UserError: as `compare_runs`, or there is none."""
    return compare_runs(read_runs([folder]), read_plan([folder]))


def _looks(ledger: StudyLedger | None) -> list[int]:
    """All looks of a sequential study: those planned, and those that were taken besides."""
    if ledger is None or ledger.study.sequential is None:
        return []
    return sorted({*planned_looks(ledger.study), *ledger.looks})


def _arm(group: Group, columns: Sequence[Column], metric: str, alpha: float) -> Arm:
    numbers = [numbers_of(run) for run in group.runs]
    names = dict.fromkeys((metric, *COSTS, *(name for own in numbers for name in own)))
    figures = {name: Spread.of([float(own.get(name, math.nan)) for own in numbers]) for name in names}
    if figures[metric].deviation is not None:
        half = one_sample([own[metric] for own in numbers]).half_width(alpha)
        figures[metric] = replace(figures[metric], half_width=half)
    values = {column.key: group.config.get(column.key) for column in columns}
    return Arm(group.name, values, group.runs, group.diverged, group.planned, figures)


def _judged(arms: Sequence[Arm], baseline: str | None, metric: str, rules: Rules, study: Study) -> list[Arm]:
    """The arms with their contrasts, costs against the baseline, and outcomes of what was predicted."""
    base = next((arm for arm in arms if arm.name == baseline), None)
    others = {arm.name: _by_seed(arm, metric) for arm in arms if arm is not base}
    if base is None or not others:
        return list(arms)
    diverged = {arm.name: len(arm.diverged) for arm in arms}
    found = contrasts(_by_seed(base, metric), others, diverged, rules)
    # The expectations are about the study's own question: another metric or baseline answers another.
    is_studys = metric == study.metric and baseline == study.baseline
    expect: Mapping[str, Expected] = study.expect if is_studys else {}
    judged = []
    for arm in arms:
        if arm is not base:
            contrast, expected = found[arm.name], expect.get(arm.name)
            came = outcome(expected, contrast.verdict, not arm.runs) if expected else None
            costs = provenance.cost_differences(arm.figures, base.figures, arm.runs)
            arm = replace(arm, contrast=contrast, costs=costs, expected=expected, outcome=came)
        judged.append(arm)
    return judged


def _by_seed(arm: Arm, metric: str) -> dict[int, float]:
    return {run.seed: float(run.summary[metric]) for run in arm.runs}


def _notes(arms: Sequence[Arm], base: Arm | None, grouped: Grouped, ledger: StudyLedger | None) -> Iterator[str]:
    """What holds for the whole comparison."""
    if base and base.diverged:
        yield (
            f"The baseline {base.name} {base.verdict}; it is compared on the seeds where it ended, which flatters it."
        )
    if len({len(arm.runs) for arm in arms if arm.runs}) > 1:
        yield "The arms have different numbers of seeds; each is compared on those it shares with the baseline."
    if grouped.unplanned:
        shown = ", ".join(grouped.unplanned[:3]) + (", ..." if len(grouped.unplanned) > 3 else "")
        yield (
            f"Not in the study's plan and left out: {len(grouped.unplanned)} runs ({shown}); given run by run, compare "
            "shows them."
        )
    if ledger is None:
        return
    for arm, tuned in ledger.tuned.items():
        if not tuned.interior and ledger.study.tuning:
            yield (
                f"{arm}: {ledger.study.tuning.key}={tuned.value:g} is at the end of what was tried, so its optimum may "
                "lie beyond."
            )
    if ledger.study.sequential and _looks(ledger) != planned_looks(ledger.study):
        yield "It was compared at other numbers of seeds than planned; the chance of error is divided among those."
