"""`atomiclm sync RUN...`: show runs in W&B that were trained without it, from their folders alone.

They become what the live mirror would have made them. Doing it twice gives the same W&B run: it has the id noted in the
run's folder, and rows that the server holds are not sent again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import to_json, write_atomic
from atomiclm.cli import UserError, command, command_parser, format_error, from_user, say_if_slow
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.sweep.ledger import place_of
from atomiclm.tracking import Locked, RunFolder, WeightsAndBiases, find_run, run_lock
from atomiclm.tracking.run_folder import runs_in
from atomiclm.tracking.wandb_mirror import VERDICT, choose_mode, require_key

# Settings of `tracking` in a run's config.yaml that also hold for a run sent later.
SAVED_SETTINGS = ("project", "entity", "tags", "artifacts", "init_timeout_seconds")

EXAMPLES = """\
examples:
  atomiclm sync outputs/gqa_ratio
  atomiclm sync RUN --project mine
  atomiclm sync RUN --offline

Exit codes: 0 every run was sent; 1 a run could not be sent whole; 2 wrong arguments or no key."""


@command("sync")
def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    named = {key: getattr(arguments, key) for key in ("project", "entity", "artifacts")}
    settings: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    settings |= {"mode": "offline" if arguments.offline else "online", "finish_timeout_seconds": arguments.timeout}
    with from_user():
        WeightsAndBiases(**settings)  # refuses what is wrong with them once, not for every run
    folders: list[RunFolder] = []
    for text in arguments.runs:
        path = Path(text).expanduser()
        inside = [] if RunFolder(path).looks_like_a_run() else runs_in(path)
        folders += inside or [find_run(text, arguments.outputs)[0]]
    if not arguments.offline:
        require_key("give --offline")
    failed = 0
    for number, folder in enumerate(folders, 1):
        try:
            with say_if_slow(f"sending run {number} of {len(folders)}", quiet=arguments.quiet):
                mirror = send(folder, settings)
        except (OSError, UserError) as error:
            failed = 1
            print(f"{folder.path}: not sent: {format_error(error)}", file=sys.stderr)
        else:
            rows = f"{mirror.sent} rows sent" if mirror.sent else "no new rows"
            print(f"{folder.path}: {rows}{f', {mirror.held} were there' if mirror.held else ''}: {mirror.where}")
    return failed


def parser() -> argparse.ArgumentParser:
    parser = command_parser("sync", __doc__, EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, a run id, or a folder of runs")
    parser.add_argument("--offline", action="store_true", help="make offline segments, for `wandb sync` elsewhere")
    parser.add_argument("--project", help="W&B project (default: the run's tracking.project)")
    parser.add_argument("--entity", help="W&B user or team (default: the run's tracking.entity)")
    parser.add_argument("--artifacts", choices=("none", "small", "all"), help="default: the run's tracking.artifacts")
    parser.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="for each run (default 600)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print results and errors, not what is being done")
    parser.add_argument("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return parser


def send(folder: RunFolder, settings: dict[str, Any], verdict: dict[str, Any] | None = None) -> WeightsAndBiases:
    """Send one run, with its own settings of the mirror where `settings` says nothing.

    A `verdict`, for the summary in W&B, is saved in the run's `wandb/` and sent ever after.

    Raises:
        UserError, OSError: W&B has not all of it, and why.
    """
    said: list[str] = []
    try:
        # A run that is being trained has a mirror of its own, and two would double its rows.
        with run_lock(folder.path, said.append):
            # Damaged files are refused before W&B hears of the run.
            folder.read_summary(), folder.read_environments(), folder.read_rows()
            saved = folder.read_config().get("tracking", {})
            with from_user():
                mirror = WeightsAndBiases(**{key: saved[key] for key in SAVED_SETTINGS if key in saved} | settings)
            if verdict is not None:
                folder.wandb.mkdir(exist_ok=True)
                write_atomic(folder.wandb / VERDICT, to_json(verdict))
            mirror.start(folder, said.append, place_of(folder), live=False)
            if mirror.finish():
                return mirror
    except Locked:
        said.append("it is being trained; send it when it has ended")
    raise UserError(" ".join(said).replace("W&B: ", ""))


def send_verdicts(comparison: Comparison, quiet: bool = False) -> str:
    """Write into each ended run's summary in W&B how its arm compares; returns the line that says so, or why not.

    Stops at the first run that W&B does not take: a server that does not answer costs the timeouts of one.
    """
    if choose_mode("auto")[0] == "disabled":
        return "W&B: no verdicts, for WANDB_MODE is disabled"
    runs = [(run.folder, arm) for arm in comparison.arms for run in (*arm.runs, *arm.diverged)]
    where = "nowhere"
    for number, (folder, arm) in enumerate(runs):
        try:
            with say_if_slow(f"W&B: verdict {number + 1} of {len(runs)}", quiet=quiet):
                where = send(folder, {"mode": "auto"}, _verdict(comparison, arm)).where
        except Exception as error:  # no fault of the comparison
            return f"W&B: verdicts of {number} of {len(runs)} runs; then {folder.path}: {format_error(error)}"
    return f"W&B: verdicts of {len(runs)} runs; the last is {where}"


def _verdict(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    """All keys, whatever is known, so that nothing is left of an earlier comparison."""
    contrast, report = arm.contrast, comparison.factors
    found = {
        "metric": comparison.metric,
        "baseline": comparison.baseline,
        "verdict": arm.verdict or ("baseline" if arm.name == comparison.baseline else None),
        "difference": contrast.mean if contrast else None,
        **{key: getattr(contrast, key, None) for key in ("low", "high", "p_holm")},
        "best_arm": report.best if report else None,
        "within_noise_of_best": arm.name in report.may_be_best if report and report.may_be_best else None,
    }
    return {f"compare/{key}": value for key, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
