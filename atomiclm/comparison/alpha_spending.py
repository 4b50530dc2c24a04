"""Looking at a study more than once: the chance of error is shared out over the looks before the first."""

import itertools
import math
from collections.abc import Sequence

_SHAPE_ALPHA = 0.05


def look_shares(looks: Sequence[int]) -> list[float]:
    """What share of the chance of error each look may spend; they sum to 1.

    Looks are at n_1 < ... < n_K seeds. By the k-th a fraction f(n_k / n_K) / f(1) is spent, with O'Brien and Fleming's
    shape f(t) = 2 - 2 Phi(z / sqrt(t)), z the 97.5 % point of the normal: almost nothing early, when a t test on three
    seeds could find little anyhow, and most at the end.

    Why it holds, for Student's t and any number of seeds: where an arm does not differ, the p value at look k is at
    most share_k alpha with a chance of at most share_k alpha, since each look alone is an exact t test on seeds fixed
    beforehand. The chance that it happens at any look is at most the sum of those chances, which is alpha, however the
    looks depend on each other and whatever is done between them. Divided by its share, a p value may therefore be used
    as if there had been one look, and Holm's correction over arms be applied to it at every look: with m arms that do
    not differ, some look has a p / share below alpha / m for one of them with a chance of at most alpha, and without
    that event Holm never calls any of them different.

    The sum wastes a little: with the normal distribution the joint one is known and gives later looks more (0.044 for
    the last of four, not 0.031). For t on few seeds the joint distribution has no such table, and the sum is safe.

    Sources: O'Brien and Fleming 1979, "A multiple testing procedure for clinical trials"; the spending function is from
    Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials". The shape is that for alpha = 0.05 at any
    alpha, so that shares do not depend on it.
    """
    from scipy.special import ndtr, ndtri

    assert looks and all(early < late for early, late in itertools.pairwise(looks)), f"looks {list(looks)}"
    z = -float(ndtri(_SHAPE_ALPHA / 2))
    spent = [2 * float(ndtr(-z / math.sqrt(look / looks[-1]))) for look in looks]
    return [(late - early) / spent[-1] for early, late in itertools.pairwise([0.0, *spent])]


def look_alphas(looks: Sequence[int], alpha: float) -> list[float]:
    """The chance of error each look may take; they sum to `alpha` (`look_shares`)."""
    return [alpha * share for share in look_shares(looks)]


def planned_looks(seeds: int, step: int, max_seeds: int) -> list[int]:
    """The numbers of seeds to look at: `seeds` at first, `step` more each time, `max_seeds` at last."""
    return [*range(seeds, max_seeds, step), max_seeds]
