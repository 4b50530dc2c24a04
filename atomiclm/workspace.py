"""`atomiclm workspace PATH`: a saved W&B view that opens on the comparison a study is about.

Of a sweep over several factors their effects (the final metric by arm and by level, parallel coordinates) and curves by
factor; of any the metric by arm, against tokens, FLOPs, seconds and steps; costs; samples. The run table has what
differs, and what `compare --wandb` found. Each call saves a new view.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError, command, command_parser, say_if_slow
from atomiclm.comparison.arms import differing_columns
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import StudyLedger, read_ledger
from atomiclm.sweep.study import Study
from atomiclm.tracking.run_result import RunResult
from atomiclm.tracking.wandb_mirror import require_key
from atomiclm.tracking.wandb_run import factor_key

COSTS = ("parameters", "flops_per_token", "cache_bytes_per_token")  # in W&B's `config.derived`

EXAMPLES = """\
examples:
  atomiclm workspace outputs/gqa_ratio
  atomiclm workspace outputs/gqa_ratio --dry-run

Exit codes: 0 saved or printed; 1 W&B did not take it; 2 the arguments are wrong or a part is missing."""


@command("workspace")
def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    with say_if_slow(f"reading {arguments.path}", quiet=arguments.quiet):
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
    try:
        with say_if_slow("importing wandb-workspaces", quiet=arguments.quiet):
            import wandb_workspaces.workspaces  # noqa: F401 - a second or two
        view = workspace(path.absolute().name, read_ledger(path), runs, entity, project)
    except ImportError as error:
        raise UserError(
            "wandb-workspaces is not installed; it comes with the extra: `uv sync --extra workspace`"
        ) from error
    if arguments.dry_run:
        # wandb stands in for sys.stdout, and would end `| head` with a traceback.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(view._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=2))
        return 0
    try:
        view.save()
    except Exception as error:  # whatever a server may answer
        print(f"atomiclm workspace: W&B did not take the view ({type(error).__name__}: {error})", file=sys.stderr)
        return 1
    print(f"{arguments.path}: {view.url}")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = command_parser("workspace", __doc__, EXAMPLES)
    parser.add_argument("path", metavar="PATH", help="a folder of runs (outputs/gqa_ratio)")
    parser.add_argument("--project", help="W&B project (default: the runs' tracking.project)")
    parser.add_argument("--entity", help="W&B user or team (default: the runs', else the key's own)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print results and errors, not what is being done")
    parser.add_argument("--dry-run", action="store_true", help="print the view as JSON, and ask W&B nothing")
    return parser


def _tracking(runs: Sequence[RunResult], key: str) -> str | None:
    """The setting of `tracking` that all runs share; None where none has it."""
    found = {str(run.config[name]) for run in runs if run.config.get(name := f"tracking.{key}") is not None}
    if len(found) > 1:
        raise UserError(f"the runs have different values of tracking.{key}: {sorted(found)}; choose one with --{key}")
    return next(iter(found), None)


def workspace(folder: str, ledger: StudyLedger | None, runs: Sequence[RunResult], entity: str, project: str) -> Any:
    """A `wandb_workspaces.workspaces.Workspace` of a sweep's runs, the settings in which they differ as columns."""
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    name = next((str(run.summary["name"]) for run in runs if "name" in run.summary), folder)  # `config.study`
    study, groups = (ledger.study, ["arm", "variant"]) if ledger else (Study(), ["variant"])
    factors = ledger.factors()[0] if ledger else []
    keys = {factor.name: factor_key(factor.name) for factor in factors if len(factors) > 1}  # else the arms say it
    final = study.metric.replace("validation/", "final/", 1)  # in W&B's summary, see `wandb_run.final_figures`

    def grouped(by: str) -> dict[str, Any]:
        return {"groupby": wr.Config(keys.get(by, by)), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}

    def bars(metric: str, by: str) -> Any:
        return wr.BarPlot(title=f"{metric} by {by}", metrics=[wr.SummaryMetric(metric)], **grouped(by))

    def curves(by: str, axis: str) -> Any:
        title, is_log = f"{study.metric} against {axis} by {by}", axis != "seconds"
        return wr.LinePlot(title=title, x=wr.Metric(axis), y=[wr.Metric(study.metric)], log_x=is_log, **grouped(by))

    decided = f"Decided by `{study.metric}`, {study.direction} is better."
    means = "Lines are means over runs with their standard deviation. Intervals and verdicts: `compare`."
    text = [f"# {name}", study.question, decided, study.baseline and f"Baseline: {study.baseline}.", means]
    final_figures = [wr.MarkdownPanel(markdown="\n\n".join(filter(None, text))), bars(final, groups[0])]
    by_arm = [curves(groups[0], axis) for axis in ("tokens", "flops", "seconds", "step")]
    sections: dict[str, list[Any]] = {"comparison": [*final_figures, *by_arm]}
    if keys:
        axes = {name: wr.Config(key) for name, key in keys.items()} | {final: wr.SummaryMetric(final)}
        columns = [wr.ParallelCoordinatesPlotColumn(axis, display_name=name) for name, axis in axes.items()]
        sections = {
            "effects": [*final_figures, wr.ParallelCoordinatesPlot(columns), *(bars(final, name) for name in keys)],
            "curves by factor": [curves(name, "tokens") for name in keys],
            "curves by arm": by_arm,
        }
    figure = wr.SummaryMetric(final)
    sections["cost"] = [
        bars("tokens_per_second", groups[0]),
        *(wr.ScatterPlot(title=f"{final} against {cost}", x=wr.Config(f"derived.{cost}"), y=figure) for cost in COSTS),
    ]
    sections["samples"] = [wr.WeavePanelSummaryTable(table_name="samples")]
    differing = [column.key for column in differing_columns([[run.config] for run in runs if run.config])]
    settings = list(keys.values()) or [key for key in differing if not key.endswith(".seed")]
    results = (final, "compare/verdict", "compare/difference", "tokens_per_second", "state")
    two_columns = ws.SectionLayoutSettings(columns=2, rows=3)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(name=title, is_open=title != "samples", panels=panels, layout_settings=two_columns)
            for title, panels in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Config("study") == name),
            groupby=[ws.Config(key) for key in groups],
            order=[ws.Ordering(ws.Summary(final), ascending=study.direction == "lower")],
            pinned_columns=[
                *(f"config:{key}" for key in (*groups, *settings, "seed")),
                *(f"summary:{key}" for key in results),
                *(f"config:derived.{cost}" for cost in COSTS),
            ],
        ),
        auto_generate_panels=False,
    )


if __name__ == "__main__":
    sys.exit(main())
