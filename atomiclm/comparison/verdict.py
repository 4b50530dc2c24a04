"""A verdict in one word, and when a prediction is reproduced."""

from typing import Literal

from atomiclm.comparison.comparison import Outcome, Verdict
from atomiclm.sweep.study import Expected


def decide(
    mean: float,
    p_holm: float | None,
    p_equivalence: float | None,
    direction: Literal["lower", "higher"],
    alpha: float,
) -> Verdict:
    """The verdict on an arm that diverged on no seed, from its difference to the baseline in the study's metric.

    equivalent      the test of equivalence passes at `alpha`: the interval of `1 - 2 alpha` (90 %) lies within the
                    margin on both sides. It takes a margin that was declared.
    better, worse   else, if p after Holm's correction over the study's arms is below `alpha`.
    inconclusive    neither; also where fewer than two seeds can be compared.

    Both tests may pass: many seeds make a difference certain that is too small to matter. Then the arm is equivalent,
    since the margin is by declaration the smallest difference that matters, and its note tells of the difference. At
    the number of seeds that is planned for the margin the two hardly ever meet, so this costs no power there: a true
    difference as large as the margin is called equivalent in at most a share `alpha` of studies.

    Chances of error: that any arm is called better or worse which does not differ is at most `alpha` for the whole
    study (Holm). That an arm is called equivalent which differs by the margin or more is at most `alpha` for each arm;
    this one is not corrected over arms, so that it stays what everybody reads off the 90 % interval.

    An arm that diverged on k of n seeds has that as its verdict, whatever the others did: a mean over the runs that
    happened to survive is no estimate of the arm.

    Args:
        p_holm, p_equivalence: None where there is no such test; of a look in a sequential study, divided by its share
            (`looks.look_shares`).
    """
    if p_equivalence is not None and p_equivalence < alpha:
        return "equivalent"
    if p_holm is not None and p_holm < alpha:
        return "better" if (mean < 0) == (direction == "lower") else "worse"
    return "inconclusive"


def outcome(expected: Expected, verdict: Verdict, all_diverged: bool) -> Outcome:
    """Whether what was predicted of an arm was seen.

    Equivalence contradicts a predicted difference, and a difference predicted equivalence; what is inconclusive decides
    nothing. An arm that diverged on every seed is worse than any baseline that ends; on some, it decides nothing.
    """
    if verdict == "diverged":
        verdict = "worse" if all_diverged else "inconclusive"
    if verdict == "inconclusive":
        return "unresolved"
    seen = {verdict, "different"} if verdict in ("better", "worse") else {verdict}
    return "reproduced" if expected in seen else "contradicted"
