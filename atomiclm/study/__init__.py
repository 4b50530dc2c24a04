"""Studies: what is asked, what it costs, what came of it. Torch-free.

Names are loaded on first use: a configuration that names a study is checked without reading runs.
"""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.study.comparing import compare_folder, compare_runs
    from atomiclm.study.comparison import Comparison
    from atomiclm.study.cost import Cost, residuals
    from atomiclm.study.ledger import StudyLedger, read_ledger
    from atomiclm.study.matching import Match, Unmatched, solve
    from atomiclm.study.runs import RunResult, read_runs
    from atomiclm.study.study import Sequential, Study, Tuning

_MODULE_OF = {
    "Comparison": "comparison",
    "Cost": "cost",
    "Match": "matching",
    "RunResult": "runs",
    "Sequential": "study",
    "Study": "study",
    "StudyLedger": "ledger",
    "Tuning": "study",
    "Unmatched": "matching",
    "compare_folder": "comparing",
    "compare_runs": "comparing",
    "read_ledger": "ledger",
    "read_runs": "runs",
    "residuals": "cost",
    "solve": "matching",
}

__all__ = [
    "Comparison",
    "Cost",
    "Match",
    "RunResult",
    "Sequential",
    "Study",
    "StudyLedger",
    "Tuning",
    "Unmatched",
    "compare_folder",
    "compare_runs",
    "read_ledger",
    "read_runs",
    "residuals",
    "solve",
]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
