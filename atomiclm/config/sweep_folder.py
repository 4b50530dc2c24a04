"""The folder of a sweep: its ledger, what has ended in it, and the training of the rest."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from atomiclm.config.cautions import cautions
from atomiclm.config.declared import FILE_PROFILE
from atomiclm.config.errors import FailedCells
from atomiclm.config.launching import Failure, Launching, show
from atomiclm.config.overrides import value_of
from atomiclm.config.planning import Wanted
from atomiclm.config.standing import ended, note_other_code, refuse_other_texts, take_over
from atomiclm.sweep.board import Board
from atomiclm.sweep.ledger import Cell, StudyLedger, TunedValue, read_ledger, write_ledger
from atomiclm.sweep.study import Study
from atomiclm.tracking import RunFolder, find_cell
from atomiclm.tracking.run_folder import EARLIER_DIGITS
from atomiclm.user_error import UserError


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

    def declare(self) -> None:
        """Put the prediction on record before anything is trained; which cells there will be is not known yet."""
        known = read_ledger(self.folder)
        if known is None or known.study.prediction_sha256() != self.study.prediction_sha256():
            cells = known.cells if known else ()
            self._write(cells, known.tuned if known else {}, known.looks if known else (), self._finished(cells))

    def run(self, wanted: Sequence[Wanted], tuned: Mapping[str, TunedValue], looks: Sequence[int]) -> None:
        """Train what has not ended.

        Raises:
            FailedCells: cells failed; the others have run.
            UserError: a finished run was trained on another text than is there now, or the folder holds a study that
                this sweep is not of, whose declaration it would replace.
        """
        known = read_ledger(self.folder)
        if known and known.study.is_declared and not self.study.is_declared:
            raise UserError(
                f"name: {self.folder} holds the study of `{known.command}`, and this sweep is not of it; "
                "give the sweep another name=..."
            )
        finished = [one for one in wanted if ended(RunFolder(one.run.folder)) or self._taken_over(one)]
        refuse_other_texts([one.run for one in finished])
        self._write(self._cells(wanted), tuned, looks, len(finished))
        note_other_code([RunFolder(one.run.folder) for one in finished])
        left = [one for one in wanted if one not in finished]
        cells = [one.cell for one in wanted]
        board = Board.read(self.folder, cells, self.study.metric)
        show([f"{self.folder.name}: {board.headline()}", *(f"  {row}" for row in board.rows())])
        doubts = list(cautions([(one.cell.arm, one.run.values) for one in left]))
        if doubts and not looks:  # later looks add seeds to the same arms
            show(doubts)
        failures = self.launching.run(left, cells)
        if failures and not self.tolerant:
            raise FailedCells(_told(failures, len(wanted), self.typed))
        if not failures:
            print(f"\nCells done: {len(wanted)} of {len(wanted)}.", file=sys.stderr, flush=True)
            print(
                f"next        python -m atomiclm.compare {shlex.quote(str(self.folder))}", file=sys.stderr, flush=True
            )

    def _taken_over(self, one: Wanted) -> bool:
        """Whether another study has trained it. A sweep that is no study was given its name to train anew."""
        return self.study.is_declared and take_over(one.run) is not None

    def _cells(self, wanted: Sequence[Wanted]) -> list[Cell]:
        """What is wanted; and what other sweeps into the same folder wanted, as far as it is still of this study.

        Of sweeps that are no study, only what they trained, and no arm of a name that is wanted: under other settings
        beside it, it is another arm.
        """
        known = read_ledger(self.folder)
        mine = [one.cell for one in wanted]
        digests = {digest for cell in mine for digest in (cell.digest, cell.digest[:EARLIER_DIGITS])}
        places, names = {(cell.arm, cell.seed) for cell in mine}, {cell.arm for cell in mine}
        arms = self.study.arms

        def is_kept(cell: Cell) -> bool:
            if self.study.is_declared:
                return cell.arm in arms and (cell.arm, cell.seed) not in places
            return cell.arm not in names and find_cell(self.folder, cell.run_id) is not None

        others = [cell for cell in (known.cells if known else ()) if cell.digest not in digests and is_kept(cell)]
        return [*mine, *others]

    def _finished(self, cells: Sequence[Cell]) -> int:
        folders = (find_cell(self.folder, cell.run_id) for cell in cells)
        return sum(path is not None and ended(RunFolder(path)) is not None for path in folders)

    def _write(
        self, cells: Sequence[Cell], tuned: Mapping[str, TunedValue], looks: Sequence[int], finished: int
    ) -> None:
        known = read_ledger(self.folder)
        ledger = StudyLedger(
            name=self.folder.name,
            command=" ".join(["python -m atomiclm.train -m", *map(shlex.quote, self.typed)]),
            cells=cells,
            study=self.study,
            declared=known.declared if known else (),
            tuned=tuned or (known.tuned if known else {}),
            looks=list(looks),
            profile=value_of("profile", self.typed) or FILE_PROFILE,
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
