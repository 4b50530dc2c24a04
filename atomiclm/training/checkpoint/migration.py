"""Checkpoints of older versions, brought to the present format as they are read. One function a step.

Format 1 recorded neither the interval since the last row nor averages, and is not read.
"""

from typing import Any

from atomiclm.training.checkpoint.layout import FORMAT_VERSION

OLDEST_FORMAT = 2


def migrated(scalars: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the content of a state.json of format `version` as the present one has it."""
    for older in range(version, FORMAT_VERSION):
        scalars = _NEXT[older](scalars)
    return scalars


def _from_2(scalars: dict[str, Any]) -> dict[str, Any]:
    """Format 3 knows steps over bad batches, interrupted evaluations, and how many rows the record had."""
    return {
        **scalars,
        "batch": scalars.get("step"),
        "skipped": [],
        "bad_steps": 0,
        "recent_losses": [],
        "unfinished": None,
        "validated": None,
        "best": None,
        "record_rows": None,
    }


_NEXT = {2: _from_2}
