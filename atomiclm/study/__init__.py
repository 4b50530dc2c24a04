"""Comparing finished runs from their folders alone. Torch-free."""

from atomiclm.study.runs import RunResult, read_runs
from atomiclm.study.table import Column, Comparison, Spread, Variant, compare_runs

__all__ = ["Column", "Comparison", "RunResult", "Spread", "Variant", "compare_runs", "read_runs"]
