"""Overrides as the strings they are: `key=value`, `group=option`, `~group`."""

from collections.abc import Sequence


def override_key(override: str) -> str:
    """The key that an override sets: model.dim of ++model.dim=64."""
    return override.partition("=")[0].lstrip("+~")


def override_value(override: str) -> str:
    """What it sets the key to: `~group` chooses none of the group's options."""
    return "null" if override.startswith("~") else override.partition("=")[2]


def value_of(key: str, overrides: Sequence[str]) -> str | None:
    """What the last of `overrides` that sets `key` sets it to; None for null, and where none does."""
    found = [override_value(override) for override in overrides if override_key(override) == key]
    return found[-1] if found and found[-1] not in ("null", "") else None


def overridden(overrides: Sequence[str], later: Sequence[str]) -> list[str]:
    """`later` after those of `overrides` that set other keys: Hydra refuses two choices of one group."""
    keys = {override_key(override) for override in later}
    return [*(override for override in overrides if override_key(override) not in keys), *later]
