"""What the arms and profiles of a study may set: told before the first of them is composed."""

from collections.abc import Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from atomiclm.config.compose import override_key
from atomiclm.config.errors import Fault
from atomiclm.config.explain import explain
from atomiclm.sweep.study import Study

_OF_NEITHER: Mapping[str, str] = {
    "seed": "study.seeds lists the seeds, the same for every arm",
    "arm": "the command chooses it",
    "profile": "the command chooses it",
    "experiments": "an experiment does not contain another",
    "held_out": "all runs of a study are scored on the same text",
    "hydra": "that is for the command line",
}
_OF_NO_ARM: Mapping[str, str] = {
    **_OF_NEITHER,
    "name": "all runs of a study lie in one folder",
    "output_dir": "all runs of a study lie in one folder",
    "study": "the study is the same for all its arms",
}
"""Why a setting is not an arm's to change. Most of these would be read from elsewhere, and pass without effect."""


def study_faults(study: Study) -> list[Fault]:
    """Return what is wrong with the overrides of its arms and profiles, as far as it shows without composing them."""
    faults = [
        fault
        for group, listed, reserved in (("arms", study.arms, _OF_NO_ARM), ("profiles", study.profiles, _OF_NEITHER))
        for name, overrides in listed.items()
        for fault in _faults(f"study.{group}.{name}", overrides, reserved)
    ]
    if study.tuning:
        fixed = [f"study.arms.{arm}" for arm, own in study.arms.items() if study.tuning.key in map(override_key, own)]
        rule = f"sets {study.tuning.key}, which study.tuning chooses for every arm; give the arm a grid in tuning.grids"
        faults += [Fault(path, rule) for path in fixed]
    return faults


def _faults(path: str, overrides: Sequence[str], reserved: Mapping[str, str]) -> Iterator[Fault]:
    for override in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([override])
        except OverrideParseException as error:
            fault = explain(error, overrides)
            yield Fault(path, f"'{override}': {fault.message}")
            continue
        if parsed.is_sweep_override():
            yield Fault(path, f"'{override}' lists several values; give each an arm, or list them on the command line")
        group = override_key(override).replace("/", ".").split(".")[0]
        if group in reserved:
            yield Fault(path, f"'{override}' is not to be set here: {reserved[group]}")
    keys = [override_key(override) for override in overrides]
    for key in dict.fromkeys(key for key in keys if keys.count(key) > 1):
        yield Fault(path, f"sets {key} twice; keep one of them")
