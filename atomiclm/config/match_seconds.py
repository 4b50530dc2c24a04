"""Match the training seconds of a baseline: measured, where the other quantities are counted.

A measurement is never twice the same, and the solution is part of what a run is. So it is kept beside the caches, and
the same question on the same machine gets the same answer.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atomiclm.config.counting import cost_of
from atomiclm.config.identity import digest
from atomiclm.config.matching import Match, Unmatched
from atomiclm.config.pace import relative_seconds
from atomiclm.training.machine import processor_name

_FILE = "matched_seconds.json"
_TRIES = 4


def solve_seconds(
    at: Callable[[int], dict[str, Any]], start: int, baseline: dict[str, Any], match: Match, cache_dir: Path
) -> tuple[int, float]:
    """Return the size at which a run takes the baseline's seconds, and the ratio of seconds measured there, less one.

    Args:
        at: the configuration with a size put in; more of it takes longer.
        start: a size to begin from, the one with the baseline's FLOPs.
        baseline: the configuration to match.
        match: the demand.
        cache_dir: where solutions are kept.

    From `start`, each try corrects the size in proportion to what it missed by, as far as the size decides the FLOPs.

    Raises:
        Unmatched: no try came within the tolerance.
    """
    file = cache_dir / _FILE
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    key = _question(at(start), baseline, match)
    if key in kept:
        return int(kept[key][0]), float(kept[key][1])
    value, best = start, (start, float("inf"))
    print(f"match=seconds: measuring training steps for {match.free}, once on this machine", flush=True)
    for _ in range(_TRIES):
        ours = at(value)
        tokens, theirs = cost_of(ours).tokens, cost_of(baseline).tokens
        share = tokens / theirs if tokens and theirs else 1.0
        excess = relative_seconds(ours, baseline) * share - 1.0
        if abs(excess) < abs(best[1]):
            best = (value, excess)
        if abs(excess) <= match.tolerance / 2:
            break
        value = _corrected(at, value, excess, match.multiple_of)
    if abs(best[1]) > match.tolerance:
        raise Unmatched(
            f"the nearest, {best[0]}, is off by {best[1]:+.1%}; a busy machine measures badly: try again when it is "
            f"quiet, or raise match.tolerance={match.tolerance}"
        )
    cache_dir.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept | {key: best}, indent=1) + "\n", encoding="utf-8")
    return best


def _corrected(at: Callable[[int], dict[str, Any]], value: int, excess: float, multiple_of: int) -> int:
    """Move the size so that the FLOPs change by what the seconds are off."""
    here = cost_of(at(value)).flops
    slope = (cost_of(at(value + multiple_of)).flops - here) / multiple_of
    moved = value - excess * here / slope if slope else float(value)
    return max(multiple_of, round(moved / multiple_of) * multiple_of)


def _question(ours: dict[str, Any], baseline: dict[str, Any], match: Match) -> str:
    asked = [digest({**ours, "seed": 0}), digest({**baseline, "seed": 0}), str(match), processor_name()]
    machine = [ours["runtime"][name] for name in ("device", "compile", "micro_batch_size", "num_threads")]
    return hashlib.sha256(json.dumps([asked, machine]).encode()).hexdigest()[:16]
