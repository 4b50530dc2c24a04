"""What `evaluate --save` left in run folders (`RUN/evaluations/*.json`), by arm, read as plain JSON.

`protocol` and `compared` say what may be put side by side, `model` which settings were changed to evaluate.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atomiclm.atomic_io import read_file
from atomiclm.comparison.results import Arm, Comparison, Spread


@dataclass(frozen=True)
class Series:
    """One arm under one choice of changed settings: means over its seeds."""

    position: int  # of the arm in the comparison
    name: str  # of the arm, with the changed settings
    figures: Mapping[str, float]
    curve: Sequence[tuple[float, float]]  # x and y of its farthest reaching curve; empty without
    count: int  # runs
    changed: bool  # whether settings were


@dataclass(frozen=True)
class SavedEvaluation:
    """Everything that was found by one protocol in the same way."""

    protocol: str
    curve_names: tuple[str, str]  # what x and y of the curves are
    series: Sequence[Series]  # one an arm and choice of settings


def read_saved_evaluations(comparison: Comparison) -> tuple[list[SavedEvaluation], list[str]]:
    """All evaluations of the runs that ended, by protocol, and what could not be read."""
    faults: list[str] = []
    found: dict[tuple[str, str], dict[tuple[int, str], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for position, arm in enumerate(comparison.arms):
        for key, results in _of_arm(arm, faults).items():
            protocol, compared, model = key
            found[protocol, compared][position, model] += results
    return [_saved(comparison, protocol, by_arm) for (protocol, _), by_arm in found.items()], faults


def with_decoding(comparison: Comparison, evaluations: Sequence[SavedEvaluation]) -> Comparison:
    """The comparison with `decode/ms_per_token` among the figures of its arms, of the machine that measured most arms.

    Of models whose settings were changed to evaluate there is none: their quality is not that of the arm.
    """
    arms = {at: dict(arm.figures) for at, arm in enumerate(comparison.arms)}
    measured = [[own for own in one.series if not own.changed] for one in evaluations if one.protocol == "decode"]
    for own in max(measured, key=len, default=[]):
        if "ms_per_token" in own.figures:
            arms[own.position]["decode/ms_per_token"] = Spread(own.figures["ms_per_token"], None, own.count)
    return replace(comparison, arms=[replace(arm, figures=arms[at]) for at, arm in enumerate(comparison.arms)])


def families(figures: Mapping[str, float]) -> dict[str, list[tuple[float, float]]]:
    """Figures of one kind at several places ("copy_loss/64", "bits_per_byte/4x") as x and y, by kind."""
    kinds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, value in figures.items():
        kind, slash, place = name.partition("/")
        if slash and place.removesuffix("x").isdecimal():
            kinds[kind].append((float(place.removesuffix("x")), value))
    return {kind: sorted(points) for kind, points in kinds.items() if len(points) > 1}


def _of_arm(arm: Arm, faults: list[str]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    results: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in arm.runs:
        own: dict[tuple[str, str, str], dict[str, Any]] = {}
        for path in sorted((run.folder.path / "evaluations").glob("*.json")):
            try:
                result = json.loads(read_file(path))
                settings = " ".join(f"{key}={value}" for key, value in sorted(result["model"].items()))
                key = (str(result["protocol"]), json.dumps(result["compared"], sort_keys=True), settings)
                _check(result)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                faults.append(f"{path}: {type(error).__name__} {error}")
                continue
            # Of several checkpoints the last.
            own[key] = max(result, own.get(key, result), key=lambda one: int(one.get("step", 0)))
        for key, result in own.items():
            results[key].append(result)
    return results


def _saved(
    comparison: Comparison, protocol: str, by_arm: Mapping[tuple[int, str], list[dict[str, Any]]]
) -> SavedEvaluation:
    series, names = [], ("position", "bits_per_byte")
    for (position, settings), results in sorted(by_arm.items(), key=lambda item: item[0]):
        shared = set.intersection(*(set(result["figures"]) for result in results))
        figures = {
            name: statistics.fmean(result["figures"][name] for result in results)
            for name in results[0]["figures"]
            if name in shared
        }
        curves = [curve for result in results if (curve := _farthest(result["curves"])) is not None]
        points: list[tuple[float, float]] = []
        if curves and all(curve["position"] == curves[0]["position"] for curve in curves):
            column = "bits_per_byte" if all("bits_per_byte" in curve for curve in curves) else "loss"
            names = ("position", column)
            means = [statistics.fmean(values) for values in zip(*(curve[column] for curve in curves), strict=True)]
            points = list(zip(curves[0]["position"], means, strict=True))
        name = comparison.arms[position].name + (f" ({settings})" if settings else "")
        series.append(Series(position, name, figures, points, len(results), bool(settings)))
    return SavedEvaluation(protocol, names, series)


def _farthest(curves: Mapping[str, Mapping[str, list[float]]]) -> Mapping[str, list[float]] | None:
    """Of the curves by position the one that goes on longest, in bins where there are bins."""
    usable = {
        name: curve
        for name, curve in curves.items()
        if curve.get("position") and ("loss" in curve or "bits_per_byte" in curve)
    }
    if "binned" in usable:
        usable.pop("position", None)
    return max(usable.values(), key=lambda curve: curve["position"][-1], default=None)


def _check(result: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError unless all figures are finite numbers and all columns of a curve equally long."""
    numbers = list(result["figures"].values())
    for curve in result["curves"].values():
        if len({len(column) for column in curve.values()}) > 1:
            raise ValueError("a curve has columns of different lengths")
        numbers += [value for column in curve.values() for value in column]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a figure is not a finite number")
