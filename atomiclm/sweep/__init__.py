"""Sweeps: what a study declares, and which cells are run for it. Imports neither torch nor Hydra."""

from atomiclm.sweep.ledger import StudyLedger, read_ledger
from atomiclm.sweep.study import Sequential, Study, Tuning

__all__ = ["Sequential", "Study", "StudyLedger", "Tuning", "read_ledger"]
