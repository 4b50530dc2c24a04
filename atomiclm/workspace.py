"""`python -m atomiclm.workspace PATH`: a saved W&B view that opens on the comparison a study is about.

Runs grouped by arm and variant, the metric against tokens, FLOPs, seconds and steps, its final value as a bar an arm,
what the arms cost, and the settings in which they differ as columns of the run table. Each call saves a new view.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from atomiclm.cli import VERSION, UserError, command
from atomiclm.comparison.arms import differing_columns
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import read_ledger
from atomiclm.sweep.study import Study
from atomiclm.tracking.run_result import RunResult
from atomiclm.tracking.wandb_mirror import require_key

COSTS = ("parameters", "flops_per_token", "cache_bytes_per_token")
"""Entries of `config.derived` shown as costs; what was measured, tokens_per_second, is beside them."""


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
    project = arguments.project or _tracking(runs, "project") or "atomiclm"
    entity = arguments.entity or _tracking(runs, "entity") or ""
    if not entity and not arguments.dry_run:
        wandb = require_key("look at the view with --dry-run")
        try:
            entity = str(wandb.Api().default_entity)
        except Exception as error:
            raise UserError(f"the server does not say whose the key is ({error}); give --entity") from error
    path = Path(arguments.path)
    ledger = read_ledger(path)
    name = str(runs[0].summary.get("name", path.absolute().name))
    try:
        view = workspace(name, ledger.study if ledger else Study(), runs, entity, project)
    except ImportError as error:
        message = "wandb-workspaces is not installed; it comes with `pip install 'atomiclm[workspace]'`"
        raise UserError(message) from error
    if arguments.dry_run:
        # wandb stands in for sys.stdout, and would end `| head` with a traceback.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(json.dumps(view._to_model().model_dump(mode="json", by_alias=True, exclude_none=True), indent=2))
        return 0
    try:
        view.save()
    except Exception as error:  # whatever a server may answer
        print(f"atomiclm.workspace: W&B did not take the view ({type(error).__name__}: {error})", file=sys.stderr)
        return 1
    print(f"{arguments.path}: {view.url}")
    return 0


def _tracking(runs: Sequence[RunResult], key: str) -> str | None:
    """The setting of `tracking` that all runs share; None where none has it."""
    found = {str(run.config[name]) for run in runs if run.config.get(name := f"tracking.{key}") is not None}
    if len(found) > 1:
        raise UserError(f"the runs have different values of tracking.{key}: {sorted(found)}; choose one with --{key}")
    return next(iter(found), None)


def workspace(name: str, study: Study, runs: Sequence[RunResult], entity: str, project: str) -> Any:
    """Build the workspace: runs of the study grouped by arm and variant, the comparison first, then costs and samples.

    Args:
        name: the study's, which its runs have in `config.study`.
        study: what it asks; one without arms if nothing was declared.
        runs: those whose differing settings become columns.
        entity: W&B user or team.
        project: W&B project.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`; its `save()` makes a new saved view.

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    groups = ["arm", "variant"] if study.is_declared else ["variant"]
    # The metric's name in W&B's summary, see `wandb_run.final_figures`.
    final = study.metric.replace("validation/", "final/", 1)
    bars = partial(wr.BarPlot, groupby=wr.Config(groups[0]), groupby_aggfunc="mean")
    curves = partial(wr.LinePlot, groupby=wr.Config(groups[0]), groupby_aggfunc="mean", groupby_rangefunc="stddev")

    text = [f"# {name}", study.question, f"Decided by `{study.metric}`, {study.direction} is better."]
    if study.baseline is not None:
        text.append(f"Baseline: {study.baseline}.")
    text.append("Lines are means over the seeds with their standard deviation. Intervals and verdicts: `compare`.")
    comparison: list[Any] = [
        wr.MarkdownPanel(markdown="\n\n".join(line for line in text if line)),
        bars(title=f"{final} by {groups[0]}", metrics=[wr.SummaryMetric(final)], groupby_rangefunc="stddev"),
        *(
            curves(
                title=f"{study.metric} against {axis}",
                x=wr.Metric(axis),
                y=[wr.Metric(study.metric)],
                log_x=axis != "seconds",
            )
            for axis in ("tokens", "flops", "seconds", "step")
        ),
    ]
    costs: list[Any] = [
        bars(title=f"tokens per second by {groups[0]}", metrics=[wr.SummaryMetric("tokens_per_second")]),
        *(
            wr.ScatterPlot(title=f"{final} against {cost}", x=wr.Config(f"derived.{cost}"), y=wr.SummaryMetric(final))
            for cost in COSTS
        ),
    ]
    configs = [[run.config] for run in runs if run.config]
    differing = [column.key for column in differing_columns(configs) if not column.key.endswith(".seed")]
    two_columns = ws.SectionLayoutSettings(columns=2, rows=3)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(name="comparison", is_open=True, panels=comparison, layout_settings=two_columns),
            ws.Section(name="cost", is_open=True, panels=costs, layout_settings=two_columns),
            ws.Section(name="samples", is_open=False, panels=[wr.WeavePanelSummaryTable(table_name="samples")]),
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Config("study") == name),
            groupby=[ws.Config(key) for key in groups],
            order=[ws.Ordering(ws.Summary(final), ascending=study.direction == "lower")],
            pinned_columns=[
                *(f"config:{key}" for key in (*groups, *differing, "seed")),
                *(f"summary:{key}" for key in (final, "tokens_per_second", "state")),
                *(f"config:derived.{cost}" for cost in COSTS),
            ],
        ),
        auto_generate_panels=False,
    )


if __name__ == "__main__":
    sys.exit(main())
