"""What an optimizer demands of its settings. Torch-free, so that a config is judged before torch is imported."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from atomiclm.roles import ROLES

_GREATEST_FLOAT32 = (2.0 - 2.0**-23) * 2.0**127
_LEAST_FLOAT32 = 2.0**-126
"""The least number of full precision; processors may take smaller ones for 0, and then 0 / eps is not a number."""


def check_optimizer(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting out of range; a name means the same in every optimizer.

    Unknown settings are left to the signature check.
    """
    for name, rule in _RULES.items():
        value = settings.get(name)
        message = None if value is None else _too_large(value) or rule(value)
        if message:
            yield name, message
    for role, scale in (settings.get("lr_scales") or {}).items():
        if role not in ROLES:
            yield f"lr_scales.{role}", f"no such role of a parameter; roles: {', '.join(ROLES)}"
        elif not (isinstance(scale, int | float) and scale >= 0):
            yield f"lr_scales.{role}", f"{scale!r} is not a number of at least 0"
        elif message := _too_large(scale):
            yield f"lr_scales.{role}", message


def unusual_rates(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each sound learning rate that is _UNUSUAL times above or below what is usual."""
    rates = {name: float(settings[name]) for name in _USUAL_RATES if settings.get(name) is not None}
    doubts = {name: _unusual(name, rate) for name, rate in rates.items()}
    yield from ((name, message) for name, message in doubts.items() if message)
    for role, scale in (settings.get("lr_scales") or {}).items():
        is_adamws = "adamw_lr" in rates and role not in settings.get("orthogonalized_roles", ())
        base = "adamw_lr" if is_adamws else "lr"
        if scale and base in rates and not doubts[base] and (message := _unusual(base, rates[base] * scale)):
            yield f"lr_scales.{role}", f"{scale:g} makes a learning rate of {message}"


def _unusual(name: str, rate: float) -> str | None:
    low, high = map(float, _USUAL_RATES[name])
    factor, side = (rate / high, "above") if rate > high else (low / rate, "below")
    if factor < _UNUSUAL:
        return None
    return f"{rate:g}, {factor:.3g} times {side} the usual range, {' to '.join(_USUAL_RATES[name])}"


def require_sound(**settings: Any) -> None:
    """Raise a ValueError that names the argument and the rule, for the first setting out of range."""
    for argument, message in check_optimizer(settings):
        raise ValueError(f"{argument}: {message}")


def _too_large(value: Any) -> str | None:
    for number in value if isinstance(value, Sequence) else [value]:
        if isinstance(number, int | float) and abs(number) > _GREATEST_FLOAT32:
            return f"{str(number)[:30]} is more than float32 holds, {_GREATEST_FLOAT32:.2g}; give less"
    return None


_USUAL_RATES = {"lr": ("1e-4", "3e-2"), "adamw_lr": ("1e-4", "1e-2")}
_UNUSUAL = 30


def _rate(name: str) -> Callable[[float], str | None]:
    usual = " to ".join(_USUAL_RATES[name])

    def rule(value: float) -> str | None:
        sound = math.isfinite(value) and value >= _LEAST_FLOAT32
        return None if sound else f"{value} is not a positive number of float32; the usual range is {usual}"

    return rule


def _positive(usual: str) -> Callable[[float], str | None]:
    return lambda value: None if value > 0 else f"{value} is not positive; the usual value is {usual}"


def _epsilon(value: float) -> str | None:
    if value >= _LEAST_FLOAT32:
        return None
    return f"{value} is not positive in float32, whose least number is {_LEAST_FLOAT32:.2g}; the usual value is 1e-8"


def _betas(value: Any) -> str | None:
    sound = len(value) == 2 and all(0.0 <= beta < 1.0 for beta in value)
    return None if sound else f"{list(value)} must be two numbers in [0, 1); usual values are [0.9, 0.95]"


def _coefficients(value: Any) -> str | None:
    sound = len(value) == 3 and all(math.isfinite(coefficient) for coefficient in value)
    return None if sound else f"{list(value)} must be three numbers; usual values are [3.4445, -4.775, 2.0315]"


def _momentum(value: float) -> str | None:
    return None if 0.0 <= value < 1.0 else f"{value} must lie in [0, 1); the usual value is 0.95"


def _decay(value: float) -> str | None:
    return None if math.isfinite(value) and value >= 0 else f"{value} is negative or not finite; give 0 for none"


def _at_least_one(value: int) -> str | None:
    return None if value >= 1 else f"{value} is not positive; give at least 1"


def _steps(value: int) -> str | None:
    return None if 0 < value < 100 else f"{value} is not between 1 and 99; 5 is usual, more gain nothing"


def _roles(value: Any) -> str | None:
    for role in value:
        if role not in ROLES:
            return f"'{role}' is no role of a parameter; roles: {', '.join(ROLES)}"
    return None


def _adjustment(value: str) -> str | None:
    options = ("original", "match_rms_adamw")
    return None if value in options else f"{value!r} is not one of: {', '.join(options)}"


_RULES: dict[str, Callable[[Any], str | None]] = {
    "lr": _rate("lr"),
    "adamw_lr": _rate("adamw_lr"),
    "betas": _betas,
    "adamw_betas": _betas,
    "momentum": _momentum,
    "eps": _epsilon,
    "adamw_eps": _epsilon,
    "weight_decay": _decay,
    "decayed_roles": _roles,
    "orthogonalized_roles": _roles,
    "newton_schulz_coefficients": _coefficients,
    "newton_schulz_steps": _steps,
    "adjust_lr": _adjustment,
    "decay_exponent": _positive("0.8"),
    "least_scale": _positive("1e-3"),
    "clip_threshold": _positive("1"),
    "refresh_every_steps": _at_least_one,
    "largest_side": _at_least_one,
}
