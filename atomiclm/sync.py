"""`python -m atomiclm.sync RUN...`: show runs in W&B that were trained without it, from their folders alone.

Rows, configuration, summary, samples and exit state become what the live mirror would have made them. Doing it twice
gives the same W&B run: it has the id noted in the run's folder, and rows that the server holds are not sent again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from atomiclm.cli import VERSION, UserError, command, format_error, from_user
from atomiclm.sweep.ledger import read_ledger
from atomiclm.tracking import Locked, RunFolder, WeightsAndBiases, find_run, run_lock
from atomiclm.tracking.run_folder import runs_in
from atomiclm.tracking.wandb_mirror import require_key

SAVED_SETTINGS = ("project", "entity", "tags", "artifacts", "init_timeout_seconds")
"""Settings of `tracking` in a run's config.yaml that also hold for a run sent later."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = argparse.ArgumentParser(
        prog="python -m atomiclm.sync",
        description=__doc__,
        epilog="Exit codes: 0 every run was sent, 1 a run could not be sent whole, 2 wrong arguments or no key.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--version", action="version", version=VERSION)
    command.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, a run id, or a folder of runs")
    command.add_argument("--offline", action="store_true", help="make offline segments, for `wandb sync` elsewhere")
    command.add_argument("--project", help="W&B project (default: the run's tracking.project)")
    command.add_argument("--entity", help="W&B user or team (default: the run's tracking.entity)")
    command.add_argument(
        "--artifacts", choices=("none", "small", "all"), help="(default: the run's tracking.artifacts)"
    )
    command.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="for each run (default 600)")
    command.add_argument("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return command


@command("sync")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = parser().parse_args(argv)
    named = {key: getattr(arguments, key) for key in ("project", "entity", "artifacts")}
    settings = {key: value for key, value in named.items() if value is not None}
    settings |= {"mode": "offline" if arguments.offline else "online", "finish_timeout_seconds": arguments.timeout}
    with from_user():
        WeightsAndBiases(**settings)  # refuses what is wrong with them once, not for every run
    folders = [folder for text in arguments.runs for folder in _runs(text, arguments.outputs)]
    if not arguments.offline:
        require_key("give --offline")
    return int(not all([_send(folder, settings) for folder in folders]))


def _runs(text: str, outputs: str) -> list[RunFolder]:
    path = Path(text).expanduser()
    if not RunFolder(path).looks_like_a_run() and (inside := runs_in(path)):
        return inside
    return [find_run(text, outputs)[0]]


def _send(folder: RunFolder, given: dict[str, object]) -> bool:
    """Send one run and say what became of it; returns whether all of it was sent."""
    said: list[str] = []
    mirrored = None
    try:
        # A run that is being trained has a mirror of its own, and two would double its rows.
        with run_lock(folder.path, said.append):
            # Damaged files are refused before W&B hears of the run.
            folder.read_summary(), folder.read_environments(), folder.read_rows()
            saved = folder.read_config().get("tracking", {})
            ledger = read_ledger(folder.path.absolute().parent)
            with from_user():
                mirror = WeightsAndBiases(**{key: saved[key] for key in SAVED_SETTINGS if key in saved} | given)
            arm = ledger.arm_of(folder.run_id) if ledger else None
            mirror.start(folder, said.append, arm=arm, live=False)
            mirrored = mirror.finish()
    except Locked:
        said.append("it is being trained; send it when it has ended")
    except (OSError, UserError) as error:
        said.append(format_error(error))
    if mirrored is None:
        print(f"{folder.path}: not sent: {' '.join(said).replace('W&B: ', '')}", file=sys.stderr)
        return False
    rows = f"{mirrored.sent} rows sent" if mirrored.sent else "no new rows"
    print(f"{folder.path}: {rows}{f', {mirrored.held} were there' if mirrored.held else ''}: {mirrored.where}")
    return True


if __name__ == "__main__":
    sys.exit(main())
