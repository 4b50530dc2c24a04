"""Solve a configuration's `match` at composition, and write the solution into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from atomiclm.config.build import build
from atomiclm.config.compose import compose, overridden, resolved
from atomiclm.config.cost import Cost, Quantity, cost_of, residuals
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.matching import Match, Unmatched, solve
from atomiclm.config.validate import node_faults
from atomiclm.user_error import UserError


@dataclass(frozen=True)
class Matched:
    """What a match came to.

    Attributes:
        match: the demand.
        value: what `match.free` was set to.
        residuals: difference of every counted quantity to the baseline's, as a fraction of it.
    """

    match: Match
    value: int
    residuals: dict[Quantity, float]

    @property
    def solution(self) -> str:
        """The setting that was solved for, by the last part of its path."""
        return f"{str(self.match.free).rpartition('.')[2]}={self.value}"

    def __str__(self) -> str:
        others = ", ".join(f"{quantity} {share:+.2%}" for quantity, share in self.residuals.items())
        return f"{self.solution} matches {self.match.quantity} of {' '.join(self.match.baseline)}: {others}"


def apply_match(config: DictConfig, overrides: Sequence[str]) -> Matched | None:
    """Set the free size in `config` so that it matches its baseline, and say what came of it; None if nothing is asked,
    or nothing needs to change.

    Args:
        config: the composed configuration, changed in place.
        overrides: what it was composed from: the baseline is these and then `match.baseline`.

    Raises:
        ConfigError: faults of the configuration, of the baseline, or no solution within the tolerance.
    """
    if OmegaConf.select(config, "match.quantity") is None:
        return None
    given = resolved(config)
    if any(node_faults(group, given[group]) for group in ("model", "optim", "trainer")):
        return None  # nothing to count; validation, which follows, reports these faults with all others
    node = given["match"]
    faults = node_faults("match", node)
    if faults:
        raise ConfigError(faults)
    try:
        match: Match = build(node)
    except ValueError as error:
        raise ConfigError([Fault("match", str(error))]) from error
    quantity, free = match.quantity, str(match.free)
    assert quantity is not None
    if not isinstance(OmegaConf.select(config, free, default="absent"), int | None):
        raise ConfigError([Fault("match.free", f"'{free}' is no whole number of this configuration")])
    target = _counted(_baseline(tuple(overridden(overrides, [*match.baseline, "match=none"]))))
    try:
        if cost_of(given).quantity(quantity) == target.quantity(quantity):
            return None  # the baseline itself, or its equal: it stays the run that it is without a match
    except (ValueError, TypeError, RuntimeError):
        return None  # validation says what is wrong with the model

    def cost_at(value: int) -> Cost:
        OmegaConf.update(config, free, value)  # in the composed configuration, so that what refers to it follows
        return cost_of(resolved(config))

    try:
        value = solve(lambda value: cost_at(value).quantity(quantity), target.quantity(quantity), match.multiple_of)
        found = residuals(cost_at(value), target)
    except Unmatched as error:
        message = f"no {free} gives the {quantity} of {' '.join(match.baseline)}: {error}"
        raise ConfigError([Fault("match", message)]) from error
    except UserError as error:
        raise ConfigError([Fault("match", f"while looking for {free}: {error}")]) from error
    if abs(found[quantity]) > match.tolerance:
        raise ConfigError(
            [
                Fault(
                    "match",
                    f"the nearest {free}={value} misses the {quantity} of {' '.join(match.baseline)} by "
                    f"{found[quantity]:+.2%}, more than match.tolerance={match.tolerance}; choose a finer "
                    f"match.multiple_of than {match.multiple_of}, another match.free, or a larger tolerance",
                )
            ]
        )
    return Matched(match, value, found)


@lru_cache(maxsize=64)
def _baseline(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Compose a baseline: the arms of a study share it."""
    try:
        return resolved(compose(overrides))
    except Exception as error:
        raise ConfigError([Fault("match.baseline", f"does not compose: {str(error).splitlines()[0]}")]) from error


def _counted(baseline: dict[str, Any]) -> Cost:
    try:
        return cost_of(baseline)
    except (UserError, TypeError, RuntimeError) as error:
        raise ConfigError([Fault("match.baseline", f"cannot be counted: {str(error).splitlines()[0]}")]) from error
