"""Which configuration keys tell arms apart, and what to call them."""

from collections.abc import Mapping, Sequence
from typing import Any

from atomiclm.comparison.results import Column

NOT_A_DIFFERENCE = (
    "seed",
    "name",
    "evaluation",
    "tracking",
    "match",
    "study",
    "arm",
    "profile",
    "held_out",
    "runtime",
    "output_dir",
    "cache_dir",
    "experiments",
    "debug",
)
"""Top-level keys that make no arm: the seed, and how a run is kept, watched and executed."""


def differing_columns(arms: Sequence[Sequence[Mapping[str, Any]]]) -> list[Column]:
    """The keys that tell the arms apart, in the order of the configuration.

    A key that takes several values within one arm only follows the seed (an interpolated `${seed}` somewhere in the
    configuration), and is no difference between arms.

    Args:
        arms: for each the configurations of its runs, under dotted names; one without runs says nothing.
    """
    known = [configs for configs in arms if configs]
    keys = dict.fromkeys(key for configs in known for config in configs for key in config)
    differing = []
    for key in keys:
        if key.split(".")[0] in NOT_A_DIFFERENCE or key.endswith("._partial_"):
            continue
        values = [{repr(config.get(key)) for config in configs} for configs in known]
        if all(len(own) == 1 for own in values) and len(set.union(*values)) > 1:
            differing.append(key)
    short = short_names(differing)
    return [Column(key, short[key]) for key in differing]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """For each dotted name the fewest last parts that tell it apart; a class is known by the part it fills."""
    parts = {key: key.removesuffix("._target_").split(".") for key in keys}
    short = {}
    for key, own in parts.items():
        for length in range(1, len(own) + 1):
            name = own[-length:]
            if not any(name == other[-length:] for rival, other in parts.items() if rival != key):
                break
        short[key] = ".".join(name)
    # `model.norm` and `model.norm._target_` may both be there, and only the second then needs its full name.
    return {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}
