"""`python -m atomiclm.sync RUN...`: show runs in W&B that were trained without it, from their folders alone.

Rows, configuration, summary, samples and exit state become what the live mirror would have made them. Doing it twice
gives the same W&B run: it has the id noted in the run's folder, and rows that the server holds are not sent again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from atomiclm.command import VERSION, command, told
from atomiclm.sweep.ledger import read_ledger
from atomiclm.tracking import Locked, RunFolder, WeightsAndBiases, find_run, run_lock
from atomiclm.tracking.run_folder import runs_in
from atomiclm.tracking.wandb_mirror import Mirrored, choose_mode, import_wandb
from atomiclm.user_error import UserError, from_user

SAVED_SETTINGS = ("project", "entity", "tags", "artifacts", "init_timeout_seconds")
"""Settings of `tracking` in a run's config.yaml that also hold for a run sent later."""

EXIT_CODES = """\
Exit codes: 0 every run was sent, 1 a run could not be sent whole, 2 the arguments are wrong or no key was found."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = argparse.ArgumentParser(
        prog="python -m atomiclm.sync",
        description=__doc__,
        epilog=EXIT_CODES,
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
    mode = "offline" if arguments.offline else "online"
    named = {key: getattr(arguments, key) for key in ("project", "entity", "artifacts")}
    settings = {key: value for key, value in named.items() if value is not None}
    settings |= {"mode": mode, "finish_timeout_seconds": arguments.timeout}
    with from_user():
        WeightsAndBiases(**settings)  # speaks up now, not once for every run
    folders = [folder for text in arguments.runs for folder in _runs(text, arguments.outputs)]
    arms = {folder.path: _arm(folder) for folder in folders}
    if mode == "online":
        _refuse_without_key()
    return int(not all([_sent(folder, arms[folder.path], settings) for folder in folders]))


def _runs(text: str, outputs: str) -> list[RunFolder]:
    path = Path(text).expanduser()
    if not RunFolder(path).looks_like_a_run() and (inside := runs_in(path)):
        return inside
    return [find_run(text, outputs)[0]]


def _arm(folder: RunFolder) -> str | None:
    ledger = read_ledger(folder.path.absolute().parent)
    return ledger.arm_of(folder.run_id) if ledger else None


def _refuse_without_key() -> None:
    mode, reason = choose_mode("online", import_wandb().setup().settings.base_url)
    if mode != "online":
        raise UserError(f"{reason}; or give --offline")


def _sent(folder: RunFolder, arm: str | None, given: dict[str, object]) -> bool:
    """Send one run and say what became of it; returns whether all of it was sent."""
    said: list[str] = []
    try:
        # A run that is being trained has a mirror of its own, and two would double its rows.
        with run_lock(folder.path, said.append):
            mirrored = _mirror(folder, arm, given, said)
    except Locked:
        said.append("it is being trained; send it when it has ended")
        mirrored = None
    except (OSError, UserError) as error:
        said.append(told(error))
        mirrored = None
    if mirrored is None or mirrored.missing:
        print(f"{folder.path}: not sent: {' '.join(said).replace('W&B: ', '')}", file=sys.stderr)
        return False
    rows = f"{mirrored.sent} rows sent" if mirrored.sent else "no new rows"
    print(f"{folder.path}: {rows}{f', {mirrored.held} were there' if mirrored.held else ''}: {mirrored.where}")
    return True


def _mirror(folder: RunFolder, arm: str | None, given: dict[str, object], said: list[str]) -> Mirrored | None:
    folder.read_summary(), folder.read_environments(), folder.read_rows()  # refused before W&B hears of the run
    saved = {key: value for key, value in folder.read_config().get("tracking", {}).items() if key in SAVED_SETTINGS}
    with from_user():
        mirror = WeightsAndBiases(**{**saved, **given})
    mirror.start(folder, arm=arm, live=False, say=said.append)
    return mirror.finish()


if __name__ == "__main__":
    sys.exit(main())
