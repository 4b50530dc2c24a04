"""What the arms cost, and what was not made equal."""

from atomiclm.comparison.comparison import Arm, Comparison
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.palette import Look, swatch
from atomiclm.comparison.page.pareto import COSTS as AGAINST
from atomiclm.comparison.page.pareto import MOST_NAMES, pareto
from atomiclm.comparison.page.parts import Cell, figure, number_cell, paragraphs, section, table
from atomiclm.comparison.page.scale import number
from atomiclm.comparison.page.words import confidence, format_cost, name_of
from atomiclm.tracking.wording import duration, short_number

COSTS = ("parameters", "flops_per_token", "cache_bytes_per_token", "tokens", "flops", "seconds", "tokens_per_second")


def tradeoffs(comparison: Comparison) -> Markup:
    """Quality against each cost that tells the arms apart."""
    drawn = [chart for cost in AGAINST if (chart := pareto(comparison, cost)) is not None]
    if not drawn:
        return join()
    caption = (
        f"Means with {confidence(comparison)} intervals; the dashed line joins the arms that no other beats in both. "
        f"Of more than {MOST_NAMES} arms only these and the baseline have names, and intervals as far as the chart "
        "goes; others show theirs under the pointer."
    )
    return section("tradeoffs", "Quality against cost", figure(element("div", *drawn, class_="pair"), caption))


def costs(comparison: Comparison) -> Markup:
    """Each arm's costs, and by how much they differ from the baseline's where they were not matched."""
    known = [cost for cost in COSTS if any(cost in arm.figures for arm in comparison.arms)]
    if not known:
        return join()
    rows = [
        [Cell(join(swatch(Look.of(index)), " ", arm.name), arm.name), *(_cost(arm, cost) for cost in known)]
        for index, arm in enumerate(comparison.arms)
    ]
    kinds = ["baseline" if arm.name == comparison.baseline else None for arm in comparison.arms]
    drawn = table("Costs of the arms", ["arm", *map(name_of, known)], rows, row_kinds=kinds, sortable=True)
    unmatched = sorted({cost.quantity for arm in comparison.arms for cost in arm.costs if not cost.is_matched})
    said = (
        f"Not the same for all arms, and not matched: {', '.join(map(name_of, unmatched))}."
        if unmatched
        else "No cost differs from the baseline's beyond what was matched."
    )
    total = comparison.total
    spent = (
        f"All runs, those that did not end included: {duration(total.seconds)} of training, "
        f"{duration(total.core_seconds)} of processor cores, {short_number(total.flops)} FLOPs."
    )
    return section("costs", "Costs, and what was not equal", paragraphs(said), drawn, paragraphs(spent))


def _cost(arm: Arm, cost: str) -> Cell:
    spread = arm.figures.get(cost)
    shown: list[Markup | str] = [format_cost(cost, spread)]
    for difference in arm.costs:
        if difference.quantity == cost:
            matched = ", matched" if difference.is_matched else ""
            shown += [
                element("br"),
                element("small", f"{number(100 * difference.relative, 1, signed=True)} %{matched}"),
            ]
    plain = number_cell("", spread.mean if spread is not None else None)
    return Cell(join(*shown), plain.sort, plain.kind)
