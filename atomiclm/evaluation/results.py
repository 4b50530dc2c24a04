"""Evaluations in a run's folder and on paper: saved, found again by what they are; for a terminal, as JSON, as CSV.

    RUN/evaluations/<protocol>-<hash>.json

The hash is over all that decides the figures (`result_path`), so an evaluation that is asked for again is found,
another checkpoint or setting is another file, and none is ever out of date.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import read_file
from atomiclm.cli import UserError
from atomiclm.evaluation.protocol import Described, Measured, content_hash

FOLDER = "evaluations"


class NotFinite(ArithmeticError):
    """A figure came out NaN or infinite."""


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of one protocol for one checkpoint.

    checkpoint, weights_sha256: of which weights; `step_00001000`, and the sha256 of its safetensors file
    model: settings of the model that were changed for the evaluation, by dotted name; empty as it was trained
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
        """The text of its file. Raises NotFinite: a result with such a figure is not saved."""
        columns = {f"{name}/{key}": c for name, curve in self.measured.curves.items() for key, c in curve.items()}
        columns |= {name: [value] for name, value in self.measured.figures.items()}
        if broken := [name for name, column in columns.items() if not all(map(math.isfinite, column))]:
            raise NotFinite(
                f"{self.protocol.name}: {', '.join(broken[:3])} came out NaN or infinite, so nothing is saved; the "
                f"weights of {self.checkpoint} have diverged, or the model cannot be run with these settings"
            )
        content = {
            **self.protocol.facts(),
            "checkpoint": self.checkpoint,
            "step": self.step,
            "weights_sha256": self.weights_sha256,
            "model": self.model,
            **vars(self.measured),
        }
        lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items()]
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def result_path(run: Path, protocol: Described, weights_sha256: str, model: Mapping[str, Any]) -> Path:
    """Where a run's result is saved: by the protocol's description, the weights and the model's changed settings."""
    content = content_hash({**protocol.facts(), "weights_sha256": weights_sha256, "model": dict(model)})
    return run / FOLDER / f"{protocol.name}-{content}.json"


def read_result(path: Path) -> EvaluationResult:
    """The result in a file; ValueError if it is damaged."""
    try:
        content = json.loads(read_file(path))
        measured = Measured(content["figures"], content["curves"], content["notes"])
        protocol, model = Described.from_facts(content), content["model"]
        return EvaluationResult(protocol, content["checkpoint"], content["weights_sha256"], model, measured)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else f"not what an evaluation writes: {error!r}"
        raise UserError(f"{path} is damaged ({reason}); remove it, and evaluate --save writes it again") from error


def read_evaluations(run: str | Path) -> list[EvaluationResult]:
    """All results saved in a run's folder, by protocol, step and changed settings. UserError: a file is damaged."""
    found = [read_result(path) for path in sorted((Path(run) / FOLDER).glob("*-*.json"))]
    return sorted(found, key=lambda result: (result.protocol.name, result.step, str(sorted(result.model.items()))))


def to_terminal(run: str, result: EvaluationResult, saved: bool, validation_bytes: int) -> Iterator[str]:
    """Lines: what was measured and how, its figures, and its curve by position where it has one."""
    protocol, figures = result.protocol, dict(result.measured.figures)
    known = {**protocol.compared, **protocol.recorded}
    words = [run, result.checkpoint, *([] if protocol.name == "bits_per_byte" else [protocol.name])]
    if "bits_per_byte" in figures:
        words.append(f"{figures.pop('bits_per_byte'):.4f} bits per byte")
        words.append(f"{figures.pop('loss'):.4f} nats per token")
    words += [f"{validation_bytes:,} bytes" if "validation_sha256" in known else str(known["device"])]
    words += [str(known["precision"])]
    words += ["documents apart"] if known.get("separate_documents") else []
    words += [f"source {known['source']}"] if "source" in known else []
    words += [f"{name} {known[name]}" for name in ("stride", "trained_length") if name in known]
    for name, value in result.model.items():
        part = name.removesuffix("._target_")  # a class by the part it fills
        words.append(f"{part}={value if part == name else str(value).rpartition('.')[2]}")
    words += ["saved before"] if saved else []
    yield "  ".join(words)
    yield from _grouped(figures)
    if curve := result.measured.curves.get("binned"):
        yield "    " + "".join(f"{name:>16}" for name in ("from position", "nats per token", "bits per byte", "tokens"))
        columns = (curve[name] for name in ("position", "loss", "bits_per_byte", "tokens"))
        for position, loss, bits, tokens in zip(*columns, strict=True):
            yield f"    {position:>16}{loss:>16.4f}{bits:>16.4f}{tokens:>16,}"
    yield from (f"    not measured: {note}" for note in result.measured.notes)


def _grouped(figures: dict[str, float]) -> Iterator[str]:
    """One line a figure; figures of several kinds (`loss/1x`, `bits_per_byte/1x`) in one table, a row each part."""
    split = [name.split("/", 1) for name in figures if "/" in name]
    kinds, parts = dict.fromkeys(kind for kind, _ in split), dict.fromkeys(part for _, part in split)
    in_table = len(kinds) > 1
    yield from (f"    {name:32} {value:.4f}" for name, value in figures.items() if not (in_table and "/" in name))
    if in_table:
        yield "    " + " " * 10 + "".join(f"{kind:>22}" for kind in kinds)
        for part in parts:
            cells = [figures.get(f"{kind}/{part}") for kind in kinds]
            yield f"    {part:>10}" + "".join(f"{'' if cell is None else f'{cell:.4f}':>22}" for cell in cells)


def to_json(results: Iterable[tuple[str, EvaluationResult]]) -> str:
    """A list, one object a result, as its file has it, with the run beside it."""
    return json.dumps(_objects(results), indent=2) + "\n"


def to_json_lines(results: Iterable[tuple[str, EvaluationResult]]) -> str:
    """The same objects, one a line."""
    return "".join(f"{json.dumps(each)}\n" for each in _objects(results))


def _objects(results: Iterable[tuple[str, EvaluationResult]]) -> list[dict[str, Any]]:
    return [{"run": run, **json.loads(result.to_json())} for run, result in results]


def to_csv(results: Iterable[tuple[str, EvaluationResult]]) -> str:
    """Figures alone, one a line: run, checkpoint, protocol with hash, changed settings, figure, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "checkpoint", "protocol", "model", "figure", "value"])
    for run, result in results:
        changed = " ".join(f"{name}={value}" for name, value in result.model.items())
        for name, value in result.measured.figures.items():
            writer.writerow([run, result.checkpoint, result.protocol.comparability, changed, name, repr(value)])
    return out.getvalue()
