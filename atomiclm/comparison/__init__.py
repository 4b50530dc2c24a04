"""From run folders to verdicts, tables, charts and a page. Imports neither torch nor Hydra."""

from atomiclm.comparison.analysis import compare_folder, compare_runs
from atomiclm.comparison.results import Comparison
from atomiclm.comparison.runs import read_runs

__all__ = ["Comparison", "compare_folder", "compare_runs", "read_runs"]
