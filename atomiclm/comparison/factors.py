"""Which factors of a sweep mattered: main effects, interactions with their simple effects, and the best arm."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from atomiclm.comparison.arms import Group
from atomiclm.comparison.factorial import Factorial, Levels
from atomiclm.comparison.results import Arm, Column, Effect, FactorReport, Interaction
from atomiclm.comparison.statistics import holm
from atomiclm.comparison.verdicts import Rules, decide
from atomiclm.comparison.wording import format_value
from atomiclm.sweep.factors import Factor, FactorialArm, factors_of
from atomiclm.sweep.ledger import Cell, variants_of
from atomiclm.sweep.study import Study


@dataclass(frozen=True)
class ArmFigures:
    """What is known of one combination of levels."""

    levels: Levels
    figures: Mapping[int, float]  # the metric by seed
    diverged: Collection[int] = ()  # seeds


def swept_factors(
    groups: Sequence[Group], columns: Sequence[Column], study: Study, cells: Sequence[Cell]
) -> tuple[list[Factor], dict[str, FactorialArm]] | None:
    """The factors of a sweep, and by name what each arm is in them; None with fewer than two.

    They are what a study declares; else what was typed, where every arm has a cell of a sweep; of loose runs the keys
    in which they differ.
    """
    known = variants_of(study, cells)
    if study.is_declared:
        if not all(group.name in known for group in groups):
            return None  # arms are declared, or the ledger is of an earlier declaration
        variants = [known[group.name] for group in groups]
    else:
        variants = _typed(groups, known) or _configured(groups, columns)
    factors, places = factors_of(variants)
    if len(factors) < 2 or len({place.label for place in places}) < len(places):
        return None  # arms that differ in what a match solved for alone
    return factors, {group.name: place for group, place in zip(groups, places, strict=True)}


def _typed(groups: Sequence[Group], typed: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """For each arm the levels that were typed, or that it has without; empty unless every arm has a cell."""
    if not all(group.name in typed for group in groups):
        return []
    varied = dict.fromkeys(key for own in typed.values() for key in own)
    found = []
    for group in groups:
        levels = {key: typed[group.name].get(key) or _unsaid(group, key, groups, typed) for key in varied}
        found.append({key: level for key, level in levels.items() if level is not None})
    return found


def _unsaid(group: Group, key: str, groups: Sequence[Group], typed: Mapping[str, Mapping[str, str]]) -> str | None:
    """What an arm has of a key that another sweep in the folder varied: spelled as there, or as configured."""
    part = key.replace("/", ".")

    def settings(one: Group) -> dict[str, Any]:
        return {name: value for name, value in one.config.items() if f"{name}.".startswith(f"{part}.")}

    own = settings(group)
    alike = (typed[one.name][key] for one in groups if key in typed[one.name] and own and settings(one) == own)
    value = own.get(part, own.get(f"{part}._target_"))
    return next(alike, None if value is None else _spelled(value))


def _configured(groups: Sequence[Group], columns: Sequence[Column]) -> list[dict[str, str]]:
    """For each arm the values of the keys in which the arms differ, but for what a match solved for."""
    solved = {str(run.config.get("match.free")) for group in groups for run in group.ended}
    varied = [column.key for column in columns if column.key not in solved]
    return [
        {key: _spelled(group.config[key]) for key in varied if group.config.get(key) is not None} for group in groups
    ]


def _spelled(value: Any) -> str:
    """A configured value as one types it; a float is known by its point, so that 100000.0 becomes 1e5."""
    return repr(value) if isinstance(value, float) else format_value(value)


def report_of(
    factors: Sequence[Factor], places: Mapping[str, FactorialArm], arms: Sequence[Arm], metric: str, rules: Rules
) -> FactorReport | None:
    """What the figures of the arms say about the factors."""
    figures = {
        arm.name: ArmFigures(
            places[arm.name].levels,
            {run.seed: float(run.summary[metric]) for run in arm.runs},
            [run.seed for run in arm.diverged],
        )
        for arm in arms
    }
    return factor_report(factors, figures, rules)


def factor_report(factors: Sequence[Factor], arms: Mapping[str, ArmFigures], rules: Rules) -> FactorReport | None:
    """Analyze a sweep over at least two factors; None where fewer have two levels with figures.

    P values are adjusted by Holm over all main effects, over all interactions, and over all simple effects that are
    shown: in each of the three families the chance of any false verdict is at most `rules.alpha`.
    """
    kept, places = _with_figures(factors, arms)
    if len(kept) < 2:
        return None
    analysis = _Analysis(kept, places, rules)
    interactions = analysis.interactions()
    best, may_be_best = analysis.best()
    fit, notes = analysis.fit, list(_without_figures(factors, arms))
    if not analysis.has_error:
        notes.append("no combination has two seeds with a figure: effects have no error bar (seed=1,2,3)")
    elif not fit.is_full and len(kept) > 2:
        notes.append("some combinations have no figure: interactions of three factors and more count as noise")
    return FactorReport(
        factors=factors,
        levels={name: arm.levels for name, arm in arms.items()},
        effects=analysis.main_effects(interactions),
        interactions=interactions,
        means=analysis.means(),
        best=best,
        may_be_best=may_be_best,
        deviation=fit.deviation if analysis.has_error else None,
        degrees_of_freedom=fit.degrees_of_freedom if analysis.has_error else 0,
        is_full=fit.is_full,
        notes=notes,
    )


def _without_figures(factors: Sequence[Factor], arms: Mapping[str, ArmFigures]) -> Iterator[str]:
    """Levels of which nothing can be estimated; where they diverged, that is the result."""
    for number, factor in enumerate(factors):
        for index, level in enumerate(factor.levels):
            own = [arm for arm in arms.values() if arm.levels[number] == index]
            if not any(arm.figures for arm in own):
                diverged = sum(len(arm.diverged) for arm in own)
                what = f"all {diverged} runs that ended diverged" if diverged else "no run has ended"
                yield f"{factor.name} {level}: {what}"


def _with_figures(
    factors: Sequence[Factor], arms: Mapping[str, ArmFigures]
) -> tuple[list[Factor], dict[str, ArmFigures]]:
    """The factors of which two levels have figures, with those levels; and the arms, in their numbers."""
    seen = [sorted({arm.levels[number] for arm in arms.values() if arm.figures}) for number in range(len(factors))]
    kept = [number for number, levels in enumerate(seen) if len(levels) > 1]
    places = {
        name: replace(arm, levels=tuple(seen[number].index(arm.levels[number]) for number in kept))
        for name, arm in arms.items()
        if all(arm.levels[number] in seen[number] for number in range(len(factors)))
    }
    return [
        replace(factors[number], levels=[factors[number].levels[index] for index in seen[number]]) for number in kept
    ], places


class _Analysis:
    """The fit of a sweep and the words for what is in it."""

    def __init__(self, factors: Sequence[Factor], arms: Mapping[str, ArmFigures], rules: Rules) -> None:
        self.factors, self.arms, self.rules = factors, arms, rules
        self.at = {arm.levels: arm for arm in arms.values()}
        self.fit = Factorial(
            {levels: arm.figures for levels, arm in self.at.items()}, [len(factor.levels) for factor in factors]
        )
        # One seed has no error bar, though interactions of three factors could pass for noise.
        self.has_error = self.fit.degrees_of_freedom > 0 and any(len(arm.figures) > 1 for arm in arms.values())

    def main_effects(self, interactions: Sequence[Interaction]) -> list[Effect]:
        """Every level against the first of its factor."""
        effects = [effect for factor in range(len(self.factors)) for effect in self._effects(factor)]
        return [self._noted(effect, interactions) for effect in self._judged(effects)]

    def interactions(self) -> list[Interaction]:
        """Of every pair of factors, with the simple effects where there is one."""
        pairs = list(combinations(range(len(self.factors)), 2))
        tests = {pair: self.fit.interaction(*pair) if self.has_error else None for pair in pairs}
        p_values = {pair: test.p() if test else None for pair, test in tests.items()}
        adjusted = dict(zip(pairs, holm([1.0 if p is None else p for p in p_values.values()]), strict=True))
        present = [pair for pair in pairs if tests[pair] and adjusted[pair] < self.rules.alpha]
        simple = {pair: [*self._simple(*pair), *self._simple(*reversed(pair))] for pair in present}
        judged = iter(self._judged([effect for effects in simple.values() for effect in effects]))
        found = []
        for pair, test in tests.items():
            effects = [next(judged) for _ in simple.get(pair, ())]
            found.append(
                Interaction(
                    factors=(self.factors[pair[0]].name, self.factors[pair[1]].name),
                    levels=(self.factors[pair[0]].levels, self.factors[pair[1]].levels),
                    statistic=test.statistic if test else None,
                    numerator=test.numerator if test else 0,
                    denominator=test.denominator if test else 0,
                    p=p_values[pair],
                    p_holm=adjusted[pair] if test else None,
                    is_present=pair in present,
                    means=[
                        [self._mean({pair[0]: i, pair[1]: j}) for j in range(len(self.factors[pair[1]].levels))]
                        for i in range(len(self.factors[pair[0]].levels))
                    ],
                    effects=effects,
                    note="" if test else self._why_untested(*pair),
                )
            )
        return found

    def best(self) -> tuple[str | None, list[str]]:
        """The arm with the best mean, and the arms that may be the best.

        An arm is left out where it is worse than some other by more than t(1 - alpha/(arms - 1)) standard errors: by
        Bonferroni the true best one is left out in at most a share alpha of sweeps, whichever looked best. Source:
        Gupta 1965, "On some multiple decision (selection and ranking) rules".
        """
        sign = 1 if self.rules.direction == "lower" else -1
        known = {name: sign * mean for name, (mean, _) in self.means().items()}
        if len(known) < 2:
            return None, []
        best = min(known, key=lambda name: known[name])
        if not self.has_error:
            return best, []
        level = 2 * self.rules.alpha / (len(known) - 1)

        def is_worse(name: str, other: str) -> bool:
            worse = self.fit.difference(self.arms[name].levels, self.arms[other].levels)
            low, high = worse.interval(min(1.0, level)) if worse else (0.0, 0.0)
            return (low if sign > 0 else -high) > 0

        ranked = sorted(known, key=lambda name: known[name])
        return best, [name for name in ranked if not any(is_worse(name, other) for other in known if other != name)]

    def means(self) -> dict[str, tuple[float, float]]:
        """Of every arm that has a figure, and half their intervals."""
        found = {name: self._mean(dict(enumerate(arm.levels))) for name, arm in self.arms.items() if arm.figures}
        return {name: mean for name, mean in found.items() if mean is not None}

    def _mean(self, at: Mapping[int, int]) -> tuple[float, float] | None:
        found = self.fit.mean(at)
        return (found.mean, found.half_width(self.rules.alpha) if self.has_error else math.nan) if found else None

    def _simple(self, factor: int, other: int) -> list[Effect]:
        """The effects of one factor at each level of another."""
        levels = range(len(self.factors[other].levels))
        return [effect for level in levels for effect in self._effects(factor, (other, level))]

    def _effects(self, factor: int, at: tuple[int, int] | None = None) -> list[Effect]:
        """Of every level but the first."""
        return [self._effect(factor, level, at) for level in range(1, len(self.factors[factor].levels))]

    def _effect(self, factor: int, level: int, at: tuple[int, int] | None) -> Effect:
        estimate = self.fit.effect(factor, level, at=dict([at]) if at else None)
        tested = estimate if self.has_error else None
        low, high = tested.interval(self.rules.alpha) if tested else (None, None)
        margin = self.rules.margin
        both, only_level, only_first = self._pairs(factor, level, at)
        levels = self.factors[factor].levels
        first = self.factors[factor].label(levels[0])
        note = ""
        if only_level:
            note = f"diverged in {only_level} of {both + only_level + only_first} pairs where {first} did not"
        elif only_first:
            note = f"{first} diverged in {only_first} of {both + only_first} pairs"
        elif estimate is None:
            note = "cannot be told from other effects by the runs that ended"
        return Effect(
            factor=self.factors[factor].name,
            level=levels[level],
            against=levels[0],
            at=self.factors[at[0]].label(self.factors[at[0]].levels[at[1]]) if at else "",
            pairs=both,
            mean=estimate.mean if estimate else math.nan,
            low=low,
            high=high,
            degrees_of_freedom=self.fit.degrees_of_freedom if tested else 0,
            p=tested.p() if tested else None,
            p_holm=None,
            p_equivalence=tested.p_equivalence(margin) if tested and margin is not None else None,
            verdict="diverged" if only_level else "inconclusive",
            note=note,
        )

    def _judged(self, effects: Sequence[Effect]) -> list[Effect]:
        """With p after Holm, and the verdict; what diverged or cannot be tested counts in Holm's correction as well."""
        open_ = [effect.p if effect.p is not None and not effect.note else None for effect in effects]
        adjusted = holm([1.0 if p is None else p for p in open_])
        direction, alpha = self.rules.direction, self.rules.alpha
        return [
            effect
            if p is None
            else replace(
                effect, p_holm=p_holm, verdict=decide(effect.mean, p_holm, effect.p_equivalence, direction, alpha)
            )
            for effect, p, p_holm in zip(effects, open_, adjusted, strict=True)
        ]

    def _noted(self, effect: Effect, interactions: Sequence[Interaction]) -> Effect:
        """A main effect that depends on another factor is an average over unlike things."""
        others = [
            next(name for name in one.factors if name != effect.factor)
            for one in interactions
            if one.is_present and effect.factor in one.factors
        ]
        if not others or effect.note:
            return effect
        return replace(effect, note=f"depends on {' and '.join(others)}: an average over its levels")

    def _pairs(self, factor: int, level: int, at: tuple[int, int] | None) -> tuple[int, int, int]:
        """Pairs in which both levels have a figure, in which only `level` diverged, and only the first."""
        both = only_level = only_first = 0
        for place, arm in self.at.items():
            first = self.at.get((*place[:factor], 0, *place[factor + 1 :]))
            if place[factor] != level or (at and place[at[0]] != at[1]) or first is None:
                continue
            both += len(arm.figures.keys() & first.figures.keys())
            only_level += len(set(arm.diverged) & first.figures.keys())
            only_first += len(set(first.diverged) & arm.figures.keys())
        return both, only_level, only_first

    def _why_untested(self, one: int, other: int) -> str:
        if not self.has_error:
            return "no combination has two seeds with a figure"
        if self.fit.is_full or (one, other) in self.fit.in_model:
            return "cannot be told from other effects by the runs that ended"
        seen = {(levels[one], levels[other]) for levels, arm in self.at.items() if arm.figures}
        ones, others = self.factors[one], self.factors[other]
        missing = [
            f"{ones.label(first)} {others.label(second)}"
            for i, first in enumerate(ones.levels)
            for j, second in enumerate(others.levels)
            if (i, j) not in seen
        ]
        return f"no run of {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''} has a figure"
