"""The arms of a study: the cells of a sweep with its seeds left out."""

from collections.abc import Mapping, Sequence

from atomiclm.config.declared import expanded, read_study
from atomiclm.config.overrides import override_key, override_value


def arms_of_experiment(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every arm that the chosen experiment declares, `overrides` among them; seeds aside.

    Where `overrides` choose an arm, and without an experiment that has any, they are the only one. An arm's setting
    that is tuned is shown at the middle of its grid.
    """
    study = read_study(overrides)
    if not study.arms or any(override_key(override) == "arm" for override in overrides):
        return [list(overrides)]
    tuning = study.tuning
    untuned = {arm: tuning.grid(arm)[len(tuning.values) // 2] for arm in study.arms} if tuning else None
    return [expanded([*overrides, f"arm={arm}"], untuned) for arm in study.arms]


def settings_that_differ(arms: Sequence[Sequence[str]]) -> list[Mapping[str, str]]:
    """Return, for every arm, those of its settings in which not all arms agree; of a study's arms their names."""
    settings = [{override_key(override): override_value(override) for override in arm} for arm in arms]
    if all("arm" in arm for arm in settings):
        return [{"arm": arm["arm"]} for arm in settings]
    shared = set(settings[0].items()).intersection(*(arm.items() for arm in settings))
    keys = [key for key in dict.fromkeys(key for arm in settings for key in arm) if key != "seed"]
    differing = [key for key in keys if any((key, arm.get(key)) not in shared for arm in settings)]
    return [{key: arm.get(key, "") for key in differing} for arm in settings]
