"""After a look at a sequential study: more seeds, or enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from atomiclm.comparison.alpha_spending import planned_looks
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.sweep.study import Study

Decision = Literal["add seeds", "resolved", "limit reached"]


@dataclass(frozen=True)
class NextLook:
    """What to do after a look.

    Attributes:
        decision: in words.
        unresolved: names of the arms without a verdict.
        seeds: how many an arm is to have at the next look; as many as it has where there is none.
    """

    decision: Decision
    unresolved: Sequence[str]
    seeds: int

    @property
    def goes_on(self) -> bool:
        """Whether there is a next look."""
        return self.decision == "add seeds"

    @property
    def reason(self) -> str:
        """The same in a sentence."""
        if self.decision == "resolved":
            return "every arm has its verdict"
        names = ", ".join(self.unresolved)
        if self.decision == "limit reached":
            return f"no more seeds are wanted (sequential.max_seeds={self.seeds}); without a verdict: {names}"
        return f"without a verdict: {names}; the next look is at {self.seeds} seeds"


def next_look(comparison: Comparison, study: Study, seeds: int) -> NextLook:
    """Decide after a look at `seeds` seeds an arm; a pure function of what was seen.

    An arm is resolved by any verdict but "inconclusive"; one that diverged is, as no further seed takes that back.

    Args:
        comparison: of what has ended, its verdicts those of this look (`alpha_spending.look_shares`).
        study: a sequential one.
    """
    assert study.sequential is not None, "only a sequential study is looked at more than once"
    unresolved = [arm.name for arm in comparison.arms if _is_open(arm)]
    if not unresolved:
        return NextLook("resolved", [], seeds)
    later = [look for look in planned_looks(len(study.seeds), **_plan(study)) if look > seeds]
    if not later:
        return NextLook("limit reached", unresolved, seeds)
    return NextLook("add seeds", unresolved, later[0])


def _plan(study: Study) -> dict[str, int]:
    assert study.sequential is not None
    return {"step": study.sequential.step, "max_seeds": study.sequential.max_seeds}


def _is_open(arm: Arm) -> bool:
    return arm.contrast is not None and arm.contrast.verdict == "inconclusive"
