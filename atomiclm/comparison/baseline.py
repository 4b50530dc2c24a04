"""Which arm the others are held against."""

from collections import Counter
from collections.abc import Sequence

from atomiclm.comparison.comparison import Column
from atomiclm.comparison.grouping import Group
from atomiclm.comparison.wording import format_value
from atomiclm.tracking.run_result import RunResult
from atomiclm.user_error import UserError


def choose_baseline(
    groups: Sequence[Group], columns: Sequence[Column], wanted: str | None, declared: str | None, is_planned: bool
) -> tuple[str | None, str]:
    """Return the baseline's name, and a note where nobody chose it.

    Args:
        wanted: what the user asks for: an arm's name, or `key=value` of a differing key.
        declared: the study's.
        is_planned: whether the arms stand in the order of a plan; the first is then the baseline. Else it is the arm
            with the most usual value of most keys, by the configuration alone: to choose it by its result would make
            the differences smaller or larger than they are.

    Raises:
        ValueError: `wanted` is none of the arms, or more than one.
    """
    names = [group.name for group in groups]
    if wanted is not None:
        return _wanted(groups, columns, wanted), ""
    if declared in names:
        return declared, ""
    if not groups:
        return None, ""
    chosen = names[0] if is_planned else _most_usual(groups, columns).name
    if len(groups) == 1:
        return chosen, ""
    why = "the first of the sweep" if is_planned else "the first with the most usual settings"
    lack = f"The baseline {declared} is not in the plan" if declared else "No baseline was declared"
    return chosen, f"{lack}; differences are to {chosen}, {why} (--baseline chooses another)."


def _wanted(groups: Sequence[Group], columns: Sequence[Column], wanted: str) -> str:
    names = [group.name for group in groups]
    if wanted in names:
        return wanted
    key, _, value = wanted.partition("=")
    own = [column.key for column in columns if key in (column.key, column.short) or column.key.endswith(f".{key}")]
    found = [
        group.name
        for group in groups
        if (run := _first(group)) and any(value in _spellings(run.config.get(name)) for name in own)
    ]
    if len(found) == 1:
        return found[0]
    problem = f"{wanted!r} is {len(found)} of the arms" if found else f"{wanted!r} is none of the arms"
    raise UserError(f"--baseline: {problem}; give one of: {', '.join(map(repr, found or names)) or 'none has ended'}")


def _spellings(value: object) -> set[str]:
    return {str(value), format_value(value)}


def _first(group: Group) -> RunResult | None:
    return next(iter((*group.runs, *group.diverged)), None)


def _most_usual(groups: Sequence[Group], columns: Sequence[Column]) -> Group:
    configs = [run.config if (run := _first(group)) else {} for group in groups]
    counts = [Counter(repr(config.get(column.key)) for config in configs) for column in columns]

    def usual(index: int) -> tuple[int, int]:
        shared = (count[repr(configs[index].get(column.key))] for count, column in zip(counts, columns, strict=True))
        return sum(shared), len(groups[index].runs)

    return groups[max(range(len(groups)), key=usual)]
