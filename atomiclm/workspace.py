"""`python -m atomiclm.workspace PATH`: a saved W&B view that opens on the comparison a study is about.

Runs grouped by arm and variant, the metric against tokens, FLOPs, seconds and steps, its final value as a bar an arm,
what the arms cost, and the settings in which they differ as columns of the run table. Each call saves a new view.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomiclm.command import VERSION, command
from atomiclm.comparison.differing_keys import NOT_A_DIFFERENCE
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import read_ledger
from atomiclm.tracking.record import AXES
from atomiclm.tracking.run_result import RunResult
from atomiclm.user_error import UserError

MISSING = "wandb-workspaces is not installed; it comes with `pip install 'atomiclm[workspace]'`"

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
        """The metric's name in W&B's summary, see `wandb_run.final_figures`."""
        group, _, rest = self.metric.partition("/")
        return f"final/{rest}" if group == "validation" else self.metric

    @property
    def group(self) -> str:
        """The configuration key that runs are told apart by: everything but the seed."""
        return "arm" if self.has_arms else "variant"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = argparse.ArgumentParser(
        prog="python -m atomiclm.workspace",
        description=__doc__,
        epilog="Exit codes: 0 saved or printed, 1 W&B did not take it, 2 the arguments are wrong or a part is missing.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--version", action="version", version=VERSION)
    command.add_argument("path", metavar="PATH", help="a folder of runs (outputs/gqa_ratio)")
    command.add_argument("--project", help="W&B project (default: the runs' tracking.project)")
    command.add_argument("--entity", help="W&B user or team (default: the runs', else the key's own)")
    command.add_argument("--dry-run", action="store_true", help="print the view as JSON, and ask W&B nothing")
    return command


@command("workspace")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = parser().parse_args(argv)
    runs = read_runs([arguments.path])
    view = _view(Path(arguments.path), runs)
    project = arguments.project or _tracking(runs, "project") or "atomiclm"
    entity = arguments.entity or _tracking(runs, "entity") or ""
    if not entity and not arguments.dry_run:
        entity = _default_entity()
    try:
        built = workspace(view, entity, project)
    except ImportError as error:
        raise UserError(MISSING) from error
    if arguments.dry_run:
        # wandb stands in for sys.stdout, and would end `| head` with a traceback.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(json.dumps(built._to_model().model_dump(mode="json", by_alias=True, exclude_none=True), indent=2))
        return 0
    try:
        built.save()
    except Exception as error:  # whatever a server may answer
        print(f"atomiclm.workspace: W&B did not take the view ({type(error).__name__}: {error})", file=sys.stderr)
        return 1
    print(f"{arguments.path}: {built.url}")
    return 0


def _view(path: Path, runs: Sequence[RunResult]) -> View:
    """Describe what the study is about, as far as its ledger and its runs say."""
    name = str(runs[0].summary.get("name", path.absolute().name))
    columns = differing_keys(runs)
    ledger = read_ledger(path)
    if ledger is None:
        return View(study=name, columns=columns)
    study = ledger.study
    return View(
        study=name,
        question=study.question,
        metric=study.metric,
        direction=study.direction,
        baseline=study.baseline,
        has_arms=study.is_declared,
        columns=columns,
    )


def differing_keys(runs: Sequence[RunResult]) -> list[str]:
    """Return the configuration keys in which runs differ, but for the seed and for how runs are kept and watched."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [
        key
        for key in keys
        if key.split(".")[0] not in NOT_A_DIFFERENCE
        and key.rpartition(".")[2] not in ("_partial_", "seed")
        and len({repr(run.config.get(key)) for run in runs if run.config}) > 1
    ]


def _tracking(runs: Sequence[RunResult], key: str) -> str | None:
    """Return a setting of `tracking` that all runs share; None where none has it.

    Raises:
        ValueError: the runs were sent to different places.
    """
    found = {str(run.config[name]) for run in runs if run.config.get(name := f"tracking.{key}") is not None}
    if len(found) > 1:
        raise UserError(f"the runs have different values of tracking.{key}: {sorted(found)}; choose one with --{key}")
    return next(iter(found), None)


def _default_entity() -> str:
    """Return whom the key belongs to.

    Raises:
        ValueError: there is no key, or the server does not say.
    """
    from atomiclm.tracking.wandb_mirror import choose_mode, import_wandb

    wandb = import_wandb()
    mode, reason = choose_mode("online", wandb.setup().settings.base_url)
    if mode != "online":
        raise UserError(f"{reason}; or look at the view with --dry-run")
    try:
        return str(wandb.Api().default_entity)
    except Exception as error:
        raise UserError(f"the server does not say whose the key is ({error}); give --entity") from error


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
    """Plots of what an arm costs, and what its quality costs."""
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


if __name__ == "__main__":
    sys.exit(main())
