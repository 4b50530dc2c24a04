"""Evaluations that are saved are kept in the run's folder, and found again by what they are. Torch-free.

    RUN/evaluations/<protocol>-<hash>.json

The hash is over all that decides the figures: the protocol's description (both halves), the weights, and the settings
of the model that were changed for the evaluation. So the same question asked again finds its answer, another checkpoint
or another setting is another file, and none is ever out of date.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from atomiclm.atomic_io import read_file
from atomiclm.evaluation.protocol import Described, content_hash
from atomiclm.user_error import UserError

FOLDER = "evaluations"

Curve = Mapping[str, Sequence[float]]


class NotFinite(ArithmeticError):
    """A figure came out as no finite number."""


@dataclass(frozen=True)
class Measured:
    """What one protocol found.

    figures: by name; `name/part` where there are several of a kind
    curves: columns of equal length, by name of the curve
    notes: what could not be measured, and why
    """

    figures: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """What one protocol found of one checkpoint.

    protocol: how the figures came about
    checkpoint, weights_sha256: of which weights; `step_00001000`, and the sha256 of its safetensors file
    model: settings of the model that were changed for the evaluation, by dotted name; empty as it was trained
    measured: what was found
    """

    protocol: Described
    checkpoint: str
    weights_sha256: str
    model: Mapping[str, Any]
    measured: Measured

    @property
    def step(self) -> int:
        """Optimizer steps behind the weights."""
        return int(self.checkpoint.rpartition("_")[2])

    def to_json(self) -> bytes:
        """The text of its file.

        Raises:
            NotFinite: a figure is no finite number; such a result is not to be kept.
        """
        broken = [name for name, value in _numbers(self.measured) if not math.isfinite(value)]
        if broken:
            raise NotFinite(
                f"{self.protocol.name}: {', '.join(broken[:3])} came out as no finite number, so nothing is kept; the "
                f"weights of {self.checkpoint} have diverged, or the model cannot be run with these settings"
            )
        content = {
            **self.protocol.facts(),
            "checkpoint": self.checkpoint,
            "step": self.step,
            "weights_sha256": self.weights_sha256,
            "model": dict(self.model),
            "figures": dict(self.measured.figures),
            "curves": {
                name: {key: list(column) for key, column in c.items()} for name, c in self.measured.curves.items()
            },
            "notes": list(self.measured.notes),
        }
        lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items()]
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Inverse of `to_json`; ValueError where that did not write it."""
        try:
            content = json.loads(data)
            measured = Measured(content["figures"], content["curves"], content["notes"])
            return cls(
                Described.from_facts(content),
                content["checkpoint"],
                content["weights_sha256"],
                content["model"],
                measured,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not what an evaluation writes ({error!r})") from error


def result_path(run: Path, protocol: Described, weights_sha256: str, model: Mapping[str, Any]) -> Path:
    """Where the result of this question about a run is kept."""
    content = content_hash({**protocol.facts(), "weights_sha256": weights_sha256, "model": dict(model)})
    return run / FOLDER / f"{protocol.name}-{content}.json"


def read_result(path: Path) -> EvaluationResult:
    """The result in a file; ValueError if it is damaged."""
    try:
        return EvaluationResult.from_json(read_file(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and evaluate --save writes it again") from error


def read_evaluations(run: str | Path) -> list[EvaluationResult]:
    """All results kept in a run's folder, by protocol, step and changed settings; none if there are none.

    Raises:
        ValueError: a file is damaged; the message names it.
    """
    found = [read_result(path) for path in sorted((Path(run) / FOLDER).glob("*-*.json"))]
    return sorted(found, key=lambda result: (result.protocol.name, result.step, str(sorted(result.model.items()))))


def _numbers(measured: Measured) -> Iterator[tuple[str, float]]:
    yield from measured.figures.items()
    for name, curve in measured.curves.items():
        for key, column in curve.items():
            yield from ((f"{name}/{key}", value) for value in column)
