"""Results in text: for a terminal, as JSON, as CSV. Torch-free."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atomiclm.evaluation.results import Curve, EvaluationResult


@dataclass(frozen=True)
class Answer:
    """A result, of which run, and whether it was there already."""

    run: str
    result: EvaluationResult
    kept: bool


def to_terminal(answer: Answer, validation_bytes: int) -> Iterator[str]:
    """Lines: what was measured and how, its figures, and its curve by position where it has one."""
    result = answer.result
    protocol, figures = result.protocol, dict(result.measured.figures)
    known = {**protocol.compared, **protocol.recorded}
    words = [answer.run, result.checkpoint]
    if protocol.name != "bits_per_byte":
        words.append(protocol.name)
    if "bits_per_byte" in figures:
        words.append(f"{figures.pop('bits_per_byte'):.4f} bits per byte")
        words.append(f"{figures.pop('loss'):.4f} nats per token")
    words += [f"{validation_bytes:,} bytes", str(known["precision"])]
    words += ["documents apart"] if known.get("separate_documents") else []
    words += [f"source {known['source']}"] if "source" in known else []
    words += [f"{name} {known[name]}" for name in ("stride", "trained_length") if name in known]
    words += [_setting(name, value) for name, value in result.model.items()]
    words += ["kept from before"] if answer.kept else []
    yield "  ".join(words)
    yield from _grouped(figures)
    if "binned" in result.measured.curves:
        yield from _curve(result.measured.curves["binned"])
    yield from (f"    not measured: {note}" for note in result.measured.notes)


def _setting(name: str, value: Any) -> str:
    """A changed setting; a class by the part it fills."""
    if name.endswith("._target_"):
        return f"{name.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{name}={value}"


def _grouped(figures: dict[str, float]) -> Iterator[str]:
    """One line a figure; figures of one kind (`name/1x`, `name/2x`) in one table, a row each."""
    several = {name.partition("/")[2] for name in figures if "/" in name}
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in figures if "/" in name))
    for name in figures:
        if "/" not in name:
            yield f"    {name:32} {figures[name]:.4f}"
    if len(kinds) == 1:
        yield from (f"    {name:32} {value:.4f}" for name, value in figures.items() if "/" in name)
    elif kinds:
        yield "    " + " " * 10 + "".join(f"{kind:>22}" for kind in kinds)
        for part in dict.fromkeys(name.partition("/")[2] for name in figures if name.partition("/")[2] in several):
            if part:
                cells = [figures.get(f"{kind}/{part}") for kind in kinds]
                yield f"    {part:>10}" + "".join(f"{'' if cell is None else f'{cell:.4f}':>22}" for cell in cells)


def _curve(curve: Curve) -> Iterator[str]:
    yield "    " + "".join(f"{name:>16}" for name in ("from position", "nats per token", "bits per byte", "tokens"))
    columns = (curve["position"], curve["loss"], curve["bits_per_byte"], curve["tokens"])
    for position, loss, bits, tokens in zip(*columns, strict=True):
        yield f"    {position:>16}{loss:>16.4f}{bits:>16.4f}{tokens:>16,}"


def to_json(answers: Sequence[Answer]) -> str:
    """A list, one object a result, as its file has it, with the run beside it."""
    objects = [{"run": answer.run, **json.loads(answer.result.to_json())} for answer in answers]
    return json.dumps(objects, indent=2) + "\n"


def to_csv(answers: Iterable[Answer]) -> str:
    """Figures alone, one a line: run, checkpoint, protocol with hash, changed settings, figure, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "checkpoint", "protocol", "model", "figure", "value"])
    for answer in answers:
        result = answer.result
        changed = " ".join(f"{name}={value}" for name, value in result.model.items())
        for name, value in result.measured.figures.items():
            row = [answer.run, result.checkpoint, result.protocol.comparability, changed, name, repr(value)]
            writer.writerow(row)
    return out.getvalue()
