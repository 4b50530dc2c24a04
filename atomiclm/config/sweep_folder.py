"""The folder of a sweep: its ledger, what has ended in it, and the training of the rest."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from atomiclm.config.declared import known_ledger
from atomiclm.config.faults import FailedCells
from atomiclm.config.launching import Failure, Launching, show
from atomiclm.config.overrides import value_of
from atomiclm.config.planning import Wanted
from atomiclm.config.standing import ended, note_other_code, refuse_other_text, take_over
from atomiclm.study.board import Board
from atomiclm.study.ledger import StudyLedger, TunedValue, write_ledger
from atomiclm.study.study import Study
from atomiclm.tracking import RunFolder, find_cell


class SweepFolder:
    """One sweep's folder: its ledger, what has ended, and what is still to be trained.

    Args:
        typed: the overrides of the command.
        study: what they choose.
        folder: where the runs lie.
        launching: trains cells.
        tolerant: go on after failures; of a tuning, where a trial that fails only rules its value out.
    """

    def __init__(
        self, typed: Sequence[str], study: Study, folder: Path, launching: Launching, tolerant: bool = False
    ) -> None:
        self.typed = typed
        self.study = study
        self.folder = folder
        self.launching = launching
        self.tolerant = tolerant

    def run(self, wanted: Sequence[Wanted], tuned: Mapping[str, TunedValue], looks: Sequence[int]) -> None:
        """Train what has not ended.

        Raises:
            FailedCells: cells failed; the others have run.
            UserError: a finished run was trained on another text than is there now.
        """
        finished = [one for one in wanted if ended(RunFolder(one.run.folder)) or take_over(one.run)]
        refuse_other_text([one.run for one in finished])
        self._write_ledger(wanted, tuned, looks, len(finished))
        note_other_code([RunFolder(one.run.folder) for one in finished])
        left = [one for one in wanted if one not in finished]
        cells = [one.cell for one in wanted]
        board = Board.read(self.folder, cells, self.study.metric)
        show([f"{self.folder.name}: {board.headline()}", *(f"  {row}" for row in board.rows())])
        failures = self.launching.run(left, cells)
        if failures and not self.tolerant:
            raise FailedCells(_told(failures, len(wanted), self.typed))
        if not failures:
            print(f"\nCells done: {len(wanted)} of {len(wanted)}.", file=sys.stderr, flush=True)
            print(f"next        python -m atomiclm.compare {self.folder}", file=sys.stderr, flush=True)

    def _write_ledger(
        self, wanted: Sequence[Wanted], tuned: Mapping[str, TunedValue], looks: Sequence[int], finished: int
    ) -> None:
        """Write what is wanted; of other sweeps into the same folder, what they ended."""
        known = known_ledger(self.folder)
        own = {one.cell.digest for one in wanted}
        planned = {(one.cell.arm, one.cell.seed) for one in wanted}
        others = [
            cell
            for cell in (known.cells if known else ())
            if cell.digest not in own
            and (cell.arm, cell.seed) not in planned
            and (cell.arm in self.study.arms if self.study.is_declared else find_cell(self.folder, cell.run_id))
        ]
        ledger = StudyLedger(
            name=self.folder.name,
            command=" ".join(["python -m atomiclm.train -m", *map(shlex.quote, self.typed)]),
            cells=[*(one.cell for one in wanted), *others],
            study=self.study,
            declared=known.declared if known else (),
            tuned=tuned or (known.tuned if known else {}),
            looks=list(looks),
            profile=value_of("profile", self.typed) or "cpu",
        )
        if self.study.is_declared:
            ledger = ledger.with_prediction(datetime.now(UTC).isoformat(timespec="seconds"), finished)
            if len(ledger.declared) > max(1, len(known.declared) if known else 0):
                show([f"{self.folder.name}: the prediction was changed after {finished} runs had ended; both are kept"])
        write_ledger(self.folder, ledger)


def _told(failures: Sequence[Failure], wanted: int, typed: Sequence[str]) -> str:
    again = " ".join(["python -m atomiclm.train -m", *map(shlex.quote, typed)])
    lines = [f"{len(failures)} of {wanted} cells failed:", *(f"  {failure}" for failure in failures)]
    return "\n".join([*lines, f"The others are kept. Once that is mended, this runs what is left:\n  {again}"])
