"""The factors of a sweep: what it varies, at which levels, and what its arms are called after them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

ABSENT = "-"
"""The value of a key that an arm does not have."""

_NUMBER = r"-?[0-9.]+(e[+-]?[0-9]+)?"
_SAYS_LITTLE = ("none", "default", "null", "auto", "off", ABSENT)
_UNITS = "_(heads|layers|dim|size|steps|length|tokens)"


@dataclass(frozen=True)
class Factor:
    """One thing that a sweep varies."""

    name: str  # short, and unlike the other factors': "kv", "theta", "feedforward"
    key: str  # what is typed: "model.attention.num_kv_heads", "model/feedforward"
    levels: Sequence[str]  # its values as they are written, the first one of the sweep first

    @property
    def values(self) -> Sequence[str | float]:
        """The levels, as numbers where all of them are."""
        try:
            return [int(level) if level.isdigit() else float(level) for level in self.levels]
        except ValueError:
            return self.levels

    def label(self, level: str) -> str:
        """The level in the name of an arm: "kv1", "theta1e5", "gelu", "norm=none", "bias=false"."""
        if re.fullmatch(_NUMBER, level):
            return self.name + level
        is_option = "." not in self.key or self.key.endswith("._target_")
        return level if is_option and level not in _SAYS_LITTLE else f"{self.name}={level}"


@dataclass(frozen=True)
class FactorialArm:
    """An arm as a combination of levels."""

    label: str  # the levels in words: "kv1 theta1e5 gelu"
    levels: tuple[int, ...]  # for each factor the index of its level


def factors_of(variants: Sequence[Mapping[str, str]]) -> tuple[list[Factor], list[FactorialArm]]:
    """Return what tells `variants` apart, each given as its values by key, and each variant's place in it.

    A key that varies with another is one factor with it, and so are the keys that an option brings and its rivals lack,
    as `gelu` brings an activation. A key that several others decide together is no factor: a size that was matched.
    """
    keys = list(dict.fromkeys(key for variant in variants for key in variant))
    values = {key: [variant.get(key, ABSENT) for variant in variants] for key in keys}
    grouped: list[list[str]] = []
    for key in sorted(keys, key=lambda key: len(set(values[key]))):  # stable: an option before its details
        together = [one for own in grouped for one in own]
        own_count = len(set(values[key]))
        alike = [own for own in grouped if _count(values, own) == _count(values, [*own, key]) == own_count]
        option = [own for own in grouped if _is_of_option(key, own[0]) and _count(values, [*own, key]) == own_count]
        if own_count > 1 and alike:
            alike[0].append(key)
        elif _count(values, [*together, key]) > _count(values, together):
            if option:
                option[0].append(key)
            else:
                grouped.append([key])
    grouped.sort(key=lambda own: keys.index(own[0]))
    names = short_names([own[0] for own in grouped])
    columns = [briefly(_told_apart(values, own)) for own in grouped]
    factors = [
        Factor(names[own[0]], own[0], list(dict.fromkeys(column))) for own, column in zip(grouped, columns, strict=True)
    ]
    arms = []
    for row in zip(*columns, strict=True) if columns else ((),) * len(variants):
        words = [_spelled(factor, level, factors) for factor, level in zip(factors, row, strict=True)]
        places = tuple(factor.levels.index(level) for factor, level in zip(factors, row, strict=True))
        arms.append(FactorialArm(" ".join(words), places))
    return factors, arms


def declared_arms(factors: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, dict[str, str]]:
    """The arms of a study that declares factors: every combination of levels, the last factor fastest, as key: level.

    An arm is named by its levels: "kv1-gelu".

    Args:
        factors: by name the one key that a factor varies, and its levels: `{width: {model.dim: [64, 128]}}`.

    Raises:
        ValueError: a factor that is not one key with at least two different levels, each a number, a word or null.
    """
    axes: list[list[tuple[str, str, str, str]]] = []
    for name, varied in factors.items():
        entries = list(varied.items()) if isinstance(varied, Mapping) else []
        key, values = entries[0] if len(entries) == 1 else ("", None)
        if not isinstance(values, list | tuple) or not all(isinstance(one, str | int | float | None) for one in values):
            raise ValueError(f"factors.{name}: give one key and its levels, such as {name}: {{model.dim: [64, 128]}}")
        if key in [axis[0][1] for axis in axes]:
            raise ValueError(f"factors.{name}: {key} is varied by another factor already; make one factor of the two")
        levels = [json.dumps(value) if value is None or isinstance(value, bool) else str(value) for value in values]
        if len(set(levels)) < max(2, len(levels)):
            raise ValueError(f"factors.{name}: {list(values)} must be at least two levels, all different")
        factor = Factor(name, key, briefly(levels))
        axes.append(
            [(name, key, level, factor.label(brief)) for level, brief in zip(levels, factor.levels, strict=True)]
        )
    arms = {
        "-".join(label.replace("=", "-") for *_, label in arm): {key: level for _, key, level, _ in arm}
        for arm in product(*axes)
    }
    if len(arms) < prod(map(len, axes)):
        raise ValueError(
            f"factors: two combinations are called alike, of {', '.join(arms)}; rename a factor, or declare arms"
        )
    return arms


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """For each key its last parts, without what a reader supplies: "kv" of num_kv_heads."""
    names = last_parts(keys)
    brief = {key: re.sub(f"{_UNITS}$", "", re.sub(r"(^|\.)num_", r"\1", name)) for key, name in names.items()}
    return {key: name if list(brief.values()).count(name) == 1 else names[key] for key, name in brief.items()}


def last_parts(keys: Sequence[str]) -> dict[str, str]:
    """For each key the fewest last parts that tell it apart; a class is known by the part it fills."""
    parts = {key: re.split(r"[./]", key.removesuffix("._target_")) for key in keys}
    lengths = dict.fromkeys(keys, 1)
    while True:
        names = {key: ".".join(own[-lengths[key] :]) for key, own in parts.items()}
        alike = [key for key in keys if list(names.values()).count(names[key]) > 1]
        longer = {key: lengths[key] + 1 for key in alike if lengths[key] < len(parts[key])}
        if not longer:  # `model.norm` and `model.norm._target_` may both be there: only their full names differ
            return names | {key: key for key in alike}
        lengths |= longer


def _is_of_option(key: str, option: str) -> bool:
    return option.endswith("._target_") and key.startswith(option.removesuffix("_target_"))


def _count(values: Mapping[str, Sequence[str]], keys: Sequence[str]) -> int:
    """How many combinations of values the keys take together."""
    return len(set(zip(*(values[key] for key in keys), strict=True))) if keys else 1


def _told_apart(values: Mapping[str, Sequence[str]], keys: Sequence[str]) -> list[str]:
    """The level of each variant: the first key's value, with those of further keys where it stands for several."""
    classes = list(zip(*(values[key] for key in keys), strict=True))
    for count in range(1, len(keys) + 1):
        levels = [
            " ".join(dict.fromkeys(value for value in one[:count] if value != ABSENT)) or ABSENT for one in classes
        ]
        if len(set(levels)) == len(set(classes)):
            return levels
    return [" ".join(one) for one in classes]


def briefly(levels: Sequence[str]) -> list[str]:
    """Floats in as few characters as they take, all of a factor alike: 1e3 and 1e5, 0.1 and 0.25."""
    if not all(re.fullmatch(_NUMBER, level) for level in levels) or all(level.isdigit() for level in levels):
        return list(levels)
    plain = [f"{float(level):.6g}".replace("e+0", "e").replace("e-0", "e-") for level in levels]
    powers = [re.sub(r"\.?0*e([+-])0*", r"e\1", f"{float(level):.5e}").replace("e+", "e") for level in levels]
    powers = [re.sub(r"e-?$", "e0", power) for power in powers]
    is_shorter = any(len(power) + 1 < len(one) for power, one in zip(powers, plain, strict=True))
    brief = powers if is_shorter else plain
    return brief if len(set(brief)) == len(set(levels)) else list(levels)


def _spelled(factor: Factor, level: str, factors: Sequence[Factor]) -> str:
    """The level's label, with the factor's name where another factor has a level of the same label."""
    label = factor.label(level)
    others = (other.label(one) for other in factors if other is not factor for one in other.levels)
    return f"{factor.name}={level}" if label in others else label
