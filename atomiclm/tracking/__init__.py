"""The run's record on disk, what the user sees while it runs, and the W&B mirror. Torch-free."""

from atomiclm.tracking.console import Console
from atomiclm.tracking.environment import code_of, environment
from atomiclm.tracking.record import Record, read_metrics, read_summary, write_summary
from atomiclm.tracking.run_folder import RunFolder, are_one_run, find_cell, find_run, is_held
from atomiclm.tracking.weights_biases import WeightsAndBiases

__all__ = [
    "Console",
    "Record",
    "RunFolder",
    "WeightsAndBiases",
    "are_one_run",
    "code_of",
    "environment",
    "find_cell",
    "find_run",
    "is_held",
    "read_metrics",
    "read_summary",
    "write_summary",
]
