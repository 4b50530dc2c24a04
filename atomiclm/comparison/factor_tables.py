"""A sweep over several factors as cells and sentences: its arms, best first, and what mattered."""

import math
from collections.abc import Iterator, Sequence

from atomiclm.comparison.results import Arm, Comparison, Effect, FactorReport
from atomiclm.comparison.tables import Field, are_numbers, seeds_of
from atomiclm.comparison.wording import confidence, decimals_for, format_p, heading, number


def arm_fields(comparison: Comparison, report: FactorReport) -> list[Field]:
    """One row an arm that ended, best first, diverged last: its levels, metric, how far it is from the best, seeds."""
    sign = 1 if comparison.direction == "lower" else -1
    arms = [arm for arm in comparison.arms if arm.runs or arm.diverged]
    arms.sort(key=lambda arm: sign * report.means.get(arm.name, (sign * math.inf, 0.0))[0])
    fields = [
        Field(factor.name, [factor.levels[report.levels[arm.name][index]] for arm in arms], are_numbers(factor.levels))
        for index, factor in enumerate(report.factors)
    ]
    means = [report.means.get(arm.name, (math.nan, math.nan)) for arm in arms]
    known = list(zip(arms, means, strict=True))
    halves = [half for _, half in means if math.isfinite(half)]
    decimals = decimals_for(max(halves)) if halves else 4
    figures = [
        f"{number(mean, decimals)} ± {half:.{decimals}f}" if math.isfinite(half) else number(mean, decimals)
        for mean, half in means
    ]
    order = [mean for mean, _ in means]
    fields.append(Field(heading(comparison.metric), figures, values=order))
    best = report.means[report.best][0] if report.best else math.nan
    behind = ["" if arm.name == report.best else number(mean - best, decimals, True) for arm, (mean, _) in known]
    fields.append(Field("to best", behind, values=order))
    fields.append(Field("seeds", [seeds_of(arm) for arm in arms]))
    fields.append(Field("", [_note(arm, report) for arm in arms], is_number=False))
    return fields


def effect_fields(effects: Sequence[Effect], alpha: float) -> list[Field]:
    """One row an effect: what against what, its size and interval, and its verdict."""
    simple = any(effect.at for effect in effects)
    fields = [Field("factor", [effect.factor for effect in effects], is_number=False)]
    if simple:
        fields.append(Field("at", [effect.at for effect in effects], is_number=False))
    means = [effect.mean for effect in effects]
    p_values = [math.nan if effect.p_holm is None else effect.p_holm for effect in effects]
    return [
        *fields,
        Field("level", [f"{effect.level} vs {effect.against}" for effect in effects], is_number=False),
        Field(f"effect ± {confidence(alpha)}", list(map(_interval, effects)), values=means),
        Field("p", [format_p(effect.p_holm) for effect in effects], values=p_values),
        Field("verdict", [effect.verdict for effect in effects], is_number=False),
    ]


def keys_line(report: FactorReport) -> str:
    """What each factor's name is short for."""
    return "; ".join(f"{factor.name}: {factor.key}" for factor in report.factors if factor.name != factor.key)


def verdict_blocks(comparison: Comparison, report: FactorReport) -> Iterator[str | list[Field]]:
    """Sentences and tables: interactions with their simple effects, then main effects, then what they rest on."""
    yield from _interaction_lines(report)
    for one in report.interactions:
        if one.effects:
            yield effect_fields(one.effects, comparison.alpha)
    yield effect_fields(report.effects, comparison.alpha)
    for effect in report.effects:
        if effect.note:
            yield f"{effect.factor} {effect.level}: {effect.note}"
    yield from report.notes
    if report.deviation is not None:
        freedom = f"{report.degrees_of_freedom} degree{'s' if report.degrees_of_freedom != 1 else ''} of freedom"
        yield f"residual sd {report.deviation:.2g}, seeds as blocks, {freedom}; p with Holm's correction"


def _interaction_lines(report: FactorReport) -> Iterator[str]:
    """Which factors depend on one another; said before any main effect."""
    tested = [one for one in report.interactions if one.p_holm is not None]
    present = [one for one in tested if one.is_present]
    for one in present:
        test = f"F({one.numerator}, {one.denominator}) = {one.statistic or 0.0:.3g}, p {format_p(one.p_holm)}"
        yield f"{one.factors[0]} and {one.factors[1]} interact: {test}; the effect of one depends on the other"
    if tested and not present:
        least = min(tested, key=lambda one: one.p_holm or 0.0)
        p = format_p(least.p_holm)
        if len(tested) > 1:
            named = " and ".join(least.factors)
            yield f"no interaction found between {len(tested)} pairs of factors (least p {p}, {named})"
        else:
            yield f"no interaction found between {least.factors[0]} and {least.factors[1]} (p {p})"
    for one in report.interactions:
        if one.note and report.degrees_of_freedom:
            yield f"{one.factors[0]} and {one.factors[1]}: interaction not tested, {one.note}"


def effect_text(effect: Effect) -> str:
    """The effect with its sign, to two digits of half its interval; "-" where it cannot be estimated."""
    return "-" if math.isnan(effect.mean) else number(effect.mean, _decimals(effect), signed=True)


def _interval(effect: Effect) -> str:
    """The effect and half its interval, which lies even around it; no interval where there is no noise to tell it."""
    if effect.low is None or effect.high is None:
        return effect_text(effect)
    return f"{effect_text(effect)} ± {(effect.high - effect.low) / 2:.{_decimals(effect)}f}"


def _decimals(effect: Effect) -> int:
    return 4 if effect.low is None or effect.high is None else decimals_for((effect.high - effect.low) / 2)


def _note(arm: Arm, report: FactorReport) -> str:
    if arm.diverged:
        return arm.verdict
    return "best" if arm.name == report.best else "may be best" if arm.name in report.may_be_best else ""
