"""The run's record on disk, what the user sees while it runs, and the W&B mirror. Torch-free."""

from atomiclm.tracking.console import Console
from atomiclm.tracking.lock import Locked, is_locked, run_lock
from atomiclm.tracking.record import Record, read_metrics, read_summary, write_summary
from atomiclm.tracking.run_folder import RunFolder, find_cell, find_run
from atomiclm.tracking.wandb_mirror import WeightsAndBiases
from atomiclm.tracking.wandb_run import Place

__all__ = [
    "Console",
    "Locked",
    "Place",
    "Record",
    "RunFolder",
    "WeightsAndBiases",
    "find_cell",
    "find_run",
    "is_locked",
    "read_metrics",
    "read_summary",
    "run_lock",
    "write_summary",
]
