"""`python -m atomiclm.workspace PATH`: a saved W&B view that opens on the comparison a study is about.

Runs grouped by arm and variant, the metric against tokens, FLOPs, seconds and steps, its final value as a bar an arm,
what the arms cost, and the settings in which they differ as columns of the run table. Each call saves a new view.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm.command import VERSION, command
from atomiclm.comparison.runs import read_runs
from atomiclm.comparison.table import NOT_A_DIFFERENCE
from atomiclm.sweep.ledger import read_ledger
from atomiclm.tracking.run_result import RunResult
from atomiclm.user_error import UserError

if TYPE_CHECKING:
    from atomiclm.tracking.wandb_workspace import View

MISSING = "wandb-workspaces is not installed; it comes with `pip install 'atomiclm[workspace]'`"


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
    built = _built(view, entity, project)
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


def _built(view: "View", entity: str, project: str) -> Any:
    from atomiclm.tracking.wandb_workspace import workspace

    try:
        return workspace(view, entity, project)
    except ImportError as error:
        raise UserError(MISSING) from error


def _view(path: Path, runs: Sequence[RunResult]) -> "View":
    """Describe what the study is about, as far as its ledger and its runs say."""
    from atomiclm.tracking.wandb_workspace import View

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
    from atomiclm.tracking.wandb_mode import choose_mode, import_wandb

    wandb = import_wandb()
    mode, reason = choose_mode("online", wandb.setup().settings.base_url)
    if mode != "online":
        raise UserError(f"{reason}; or look at the view with --dry-run")
    try:
        return str(wandb.Api().default_entity)
    except Exception as error:
        raise UserError(f"the server does not say whose the key is ({error}); give --entity") from error


if __name__ == "__main__":
    sys.exit(main())
