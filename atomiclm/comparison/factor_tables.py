"""A sweep over several factors as cells and sentences: its arms, best first, and what mattered."""

import math
from collections.abc import Iterator

from atomiclm.comparison.factors import Effect, FactorReport, Interaction
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.comparison.tables import Field
from atomiclm.comparison.wording import confidence, decimals_for, format_p, format_spread, heading, number


def ranked(comparison: Comparison, report: FactorReport) -> list[Arm]:
    """The arms of the sweep, best first; those that diverged, or have not ended, last."""
    sign = 1 if comparison.direction == "lower" else -1

    def rank(arm: Arm) -> tuple[bool, float]:
        mean = arm.figures[comparison.metric].mean if arm.runs else math.nan
        return not math.isfinite(mean), sign * mean if math.isfinite(mean) else 0.0

    return sorted((arm for arm in comparison.arms if arm.name in report.levels), key=rank)


def arm_fields(comparison: Comparison, report: FactorReport) -> list[Field]:
    """One row an arm: its levels, the metric, how far it is from the best, its seeds."""
    arms = ranked(comparison, report)
    fields = [
        Field(factor.name, [factor.levels[report.levels[arm.name][index]] for arm in arms], _are_numbers(factor.levels))
        for index, factor in enumerate(report.factors)
    ]
    spreads = [arm.figures[comparison.metric] for arm in arms]
    fields.append(Field(heading(comparison.metric), [format_spread(spread) for spread in spreads]))
    best = spreads[0].mean if spreads else math.nan
    fields.append(
        Field(
            "to best",
            ["" if not index else number(spread.mean - best, 4, signed=True) for index, spread in enumerate(spreads)],
        )
    )
    fields.append(Field("seeds", [_seeds(arm) for arm in arms]))
    fields.append(Field("", [_note(arm, report) for arm in arms], is_number=False))
    return fields


def effect_fields(effects: list[Effect], alpha: float) -> list[Field]:
    """One row an effect: what against what, its size and interval, and its verdict."""
    simple = any(effect.at for effect in effects)
    fields = [Field("factor", [effect.factor for effect in effects], is_number=False)]
    if simple:
        fields.append(Field("at", [effect.at for effect in effects], is_number=False))
    return [
        *fields,
        Field("level", [f"{effect.level} against {effect.against}" for effect in effects], is_number=False),
        Field("effect", [_effect(effect) for effect in effects]),
        Field(f"{confidence(alpha)} interval", [_interval(effect) for effect in effects]),
        Field("p", [format_p(effect.p_holm) for effect in effects]),
        Field("verdict", [effect.verdict for effect in effects], is_number=False),
    ]


def interaction_lines(report: FactorReport, alpha: float) -> Iterator[str]:
    """Which factors depend on one another; said before any main effect."""
    tested = [one for one in report.interactions if one.p_holm is not None]
    present = [one for one in tested if one.is_present]
    for one in present:
        yield f"{one.factors[0]} and {one.factors[1]} interact: {_test(one)}; the effect of one depends on the other"
    if tested and not present:
        least = min(tested, key=lambda one: one.p_holm or 0.0)
        pairs = f"{len(tested)} pairs of factors" if len(tested) > 1 else "the two factors"
        named = " and ".join(least.factors)
        yield f"no interaction found between {pairs} (least p {format_p(least.p_holm)}, {named})"
    for one in report.interactions:
        if one.note and report.degrees_of_freedom:
            yield f"{one.factors[0]} and {one.factors[1]}: interaction not tested, {one.note}"


def basis(report: FactorReport) -> str:
    """What the verdicts rest on."""
    if report.deviation is None:
        return ""
    freedom = f"{report.degrees_of_freedom} degree{'s' if report.degrees_of_freedom != 1 else ''} of freedom"
    return f"noise of a run sd {report.deviation:.2g}, seeds apart, {freedom}; p after Holm"


def _effect(effect: Effect) -> str:
    if math.isnan(effect.mean):
        return "-"
    half = (effect.high - effect.low) / 2 if effect.low is not None and effect.high is not None else 0.0
    return number(effect.mean, decimals_for(half), signed=True)


def _interval(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return "-"
    decimals = decimals_for((effect.high - effect.low) / 2)
    return f"{number(effect.low, decimals, signed=True)} to {number(effect.high, decimals, signed=True)}"


def _test(one: Interaction) -> str:
    assert one.statistic is not None
    return f"F({one.numerator}, {one.denominator}) = {one.statistic:.3g}, p {format_p(one.p_holm)}"


def _seeds(arm: Arm) -> str:
    wanted = max(arm.planned, len(arm.runs))
    return str(len(arm.runs)) if len(arm.runs) == wanted else f"{len(arm.runs)} of {wanted}"


def _note(arm: Arm, report: FactorReport) -> str:
    if arm.diverged:
        return arm.verdict
    return "best" if arm.name == report.best else "may be best" if arm.name in report.may_be_best else ""


def _are_numbers(levels: list[str] | tuple[str, ...]) -> bool:
    return all(level.replace(".", "").replace("e-", "").replace("e", "").isdigit() for level in levels)
