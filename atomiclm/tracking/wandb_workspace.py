"""A W&B workspace as code: the saved view that a study opens on.

Needs wandb-workspaces (`atomiclm[workspace]`). Building it needs neither network nor account; its classes refuse an
unknown keyword or a wrong type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atomiclm.tracking.record import AXES

COSTS = ("parameters", "flops_per_token", "cache_bytes_per_token")
"""Entries of `config.derived` shown as costs; what was measured, tokens_per_second, is beside them."""


@dataclass(frozen=True)
class View:
    """What a study's view is about.

    Attributes:
        study: the study's name, which its runs have in `config.study`.
        question: what is asked, in words; "" where nobody wrote it down.
        metric: the figure that decides, as it stands in the rows ("validation/bits_per_byte").
        direction: whether a lower or a higher metric is better.
        baseline: the arm the others are held against, where there is one.
        has_arms: whether the runs say which arm they belong to.
        columns: configuration keys that differ between the runs, dotted.
    """

    study: str
    question: str = ""
    metric: str = "validation/bits_per_byte"
    direction: str = "lower"
    baseline: str | None = None
    has_arms: bool = False
    columns: Sequence[str] = ()

    @property
    def final_metric(self) -> str:
        """The metric's name in W&B's summary, see `wandb_description.final_figures`."""
        group, _, rest = self.metric.partition("/")
        return f"final/{rest}" if group == "validation" else self.metric

    @property
    def group(self) -> str:
        """The configuration key that runs are told apart by: everything but the seed."""
        return "arm" if self.has_arms else "variant"


def workspace(view: View, entity: str, project: str) -> Any:
    """Build the workspace: runs of the study grouped by arm and variant, the comparison first, then costs and samples.

    Args:
        view: what it is about.
        entity: W&B user or team.
        project: W&B project.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`; its `save()` makes a new saved view.

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    from wandb_workspaces import workspaces as ws

    groups = ["arm", "variant"] if view.has_arms else ["variant"]
    two_columns = ws.SectionLayoutSettings(columns=2, rows=3)
    figures = [view.final_metric, "tokens_per_second", "state"]
    costs = [f"derived.{cost}" for cost in COSTS]
    columns = [f"config:{key}" for key in (*groups, *view.columns, "seed")]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=view.study,
        sections=[
            ws.Section(name="comparison", is_open=True, panels=_comparison(view), layout_settings=two_columns),
            ws.Section(name="cost", is_open=True, panels=_costs(view), layout_settings=two_columns),
            ws.Section(name="samples", is_open=False, panels=_samples()),
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Config("study") == view.study),
            groupby=[ws.Config(key) for key in groups],
            order=[ws.Ordering(ws.Summary(view.final_metric), ascending=view.direction == "lower")],
            pinned_columns=[*columns, *(f"summary:{key}" for key in figures), *(f"config:{key}" for key in costs)],
        ),
        auto_generate_panels=False,
    )


def _comparison(view: View) -> list[Any]:
    from wandb_workspaces.reports import v2 as wr

    text = [f"# {view.study}", view.question, f"Decided by `{view.metric}`, {view.direction} is better."]
    if view.baseline is not None:
        text.append(f"Baseline: {view.baseline}.")
    text.append("Lines are means over the seeds with their standard deviation. Intervals and verdicts: `compare`.")
    panels: list[Any] = [
        wr.MarkdownPanel(markdown="\n\n".join(line for line in text if line)),
        wr.BarPlot(
            title=f"{view.final_metric} by {view.group}",
            metrics=[wr.SummaryMetric(view.final_metric)],
            groupby=wr.Config(view.group),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        ),
    ]
    for axis in ("tokens", "flops", "seconds", "step"):
        assert axis in AXES
        curve = wr.LinePlot(
            title=f"{view.metric} against {axis}",
            x=wr.Metric(axis),
            y=[wr.Metric(view.metric)],
            log_x=axis != "seconds",
            groupby=wr.Config(view.group),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        panels.append(curve)
    return panels


def _costs(view: View) -> list[Any]:
    """Return what an arm costs, and what its quality costs."""
    from wandb_workspaces.reports import v2 as wr

    measured = wr.BarPlot(
        title=f"tokens per second by {view.group}",
        metrics=[wr.SummaryMetric("tokens_per_second")],
        groupby=wr.Config(view.group),
        groupby_aggfunc="mean",
    )
    return [
        measured,
        *(
            wr.ScatterPlot(
                title=f"{view.final_metric} against {cost}",
                x=wr.Config(f"derived.{cost}"),
                y=wr.SummaryMetric(view.final_metric),
            )
            for cost in COSTS
        ),
    ]


def _samples() -> list[Any]:
    from wandb_workspaces.reports import v2 as wr

    return [wr.WeavePanelSummaryTable(table_name="samples")]
