"""Run folders as training leaves them, made of random numbers: arms with known effects, noise, and misfortunes.

ledger = write_study(tmp_path / "outputs" / "gqa", [FakeArm("mha"), FakeArm("mqa", effect=0.03)], seeds=(1, 2, 3))
"""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from atomiclm.atomic_io import to_json
from atomiclm.sweep.ledger import Cell, StudyLedger, TunedValue, write_ledger
from atomiclm.sweep.study import Study

METRIC = "validation/bits_per_byte"
NATS_PER_BIT_PER_BYTE = 2.3
"""Of the loss: nats per token are so many times the bits per byte."""

CONFIG: dict[str, Any] = {
    "tokenizer._target_": "atomiclm.tokenizer.BasicTokenizer",
    "tokenizer.vocab_size": 4096,
    "model.attention._target_": "atomiclm.model.MultiHeadAttention",
    "model.attention.num_heads": 8,
    "model.attention.num_kv_heads": 8,
    "model.feedforward._target_": "atomiclm.model.SwiGLU",
    "model.dim": 128,
    "model.context_length": 256,
    "optim.lr": 0.003,
    "trainer.max_tokens": 1_000_000,
}
"""Under dotted names; the seed is set by the run, and followed by `model.init.seed` as in a real one."""

PROTOCOL: dict[str, Any] = {
    "protocol": "bits_per_byte",
    "compared": {"revision": 1, "validation_sha256": "1a76159a29c5", "separate_documents": False},
    "recorded": {"context_length": 256, "precision": "bfloat16"},
}

SUMMARY: dict[str, Any] = {
    "parameters": 2_557_632,
    "parameters_non_embedding": 2_033_344,
    "flops_per_token": 17_694_720,
    "cache_bytes_per_token": 3072,
    "cache_dtype": "bfloat16",
    "vocab_size": 4096,
    "validation_sha256": "1a76159a29c5",
    "protocol": PROTOCOL,
    "validation_bytes": 327_899,
    "train_bytes": 10_400_248,
    "train_tokens": 3_034_072,
    "tokens_per_second": 20_000.0,
}
ANCHORS = {"5-gram": 2.408, "xz": 2.518}


@dataclass(frozen=True)
class FakeArm:
    """One arm.

    Attributes:
        effect: what it adds to the true bits per byte of the baseline.
        config: what differs in its configuration, under dotted names.
        summary: what differs in the summary of its runs.
        states: by seed, for the runs that are not done: failed, diverged, interrupted, running, torn, missing.
    """

    name: str
    effect: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[int, str] = field(default_factory=dict)


def gqa_arms(effects: Sequence[float] = (0.0, 0.004, 0.012, 0.03)) -> list[FakeArm]:
    """Four arms that share keys and values between more and more heads."""
    return [
        FakeArm(
            f"kv{heads}",
            effect,
            {"model.attention.num_kv_heads": heads},
            {"parameters": 2_410_176 + 18_432 * heads, "cache_bytes_per_token": 384 * heads},
        )
        for heads, effect in zip((8, 4, 2, 1), effects, strict=True)
    ]


def many_arms(number: int = 24) -> list[FakeArm]:
    """As many arms as asked for, each 0.002 bits per byte behind the one before."""
    return [
        FakeArm(
            f"lr{0.001 * 2 ** (index % 6):g}-dim{64 * (1 + index // 6)}",
            0.002 * index,
            {"optim.lr": 0.001 * 2 ** (index % 6), "model.dim": 64 * (1 + index // 6)},
            {"parameters": 1_000_000 * (1 + index // 6), "cache_bytes_per_token": 512 * (1 + index % 4)},
        )
        for index in range(number)
    ]


def four_factors() -> list[FakeArm]:
    """24 arms, each 0.01 bits per byte behind the one before."""
    shapes = itertools.product((1, 4), (1e3, 1e5), ("SwiGLU", "FeedForward"), (1e-3, 3e-3, 1e-2))
    return [
        FakeArm(
            f"arm{number}",
            0.01 * number,
            {
                "model.attention.num_kv_heads": kv,
                "model.position.theta": theta,
                "model.feedforward._target_": f"atomiclm.model.{network}",
                "optim.lr": rate,
            },
            {"parameters": 1_000_000 * kv + 1000 * len(network), "cache_bytes_per_token": 512 * kv},
        )
        for number, (kv, theta, network, rate) in enumerate(shapes)
    ]


def write_study(
    folder: Path,
    arms: Sequence[FakeArm],
    seeds: Sequence[int] = (1, 2, 3),
    *,
    noise: float = 0.01,
    correlation: float = 0.5,
    mean: float = 1.9,
    rows: int = 8,
    validations: int = 4,
    ledger: bool = True,
    study: Mapping[str, Any] | None = None,
    tuned: Mapping[str, TunedValue] | None = None,
    looks: Sequence[int] = (),
    finished_cells: int = 0,
) -> StudyLedger:
    """Write every run of every arm, and the ledger beside them unless `ledger=False`; the first arm is the baseline.

    Args:
        noise: standard deviation of the bits per byte over seeds.
        correlation: of the bits per byte of two arms over seeds, which is what pairing lives on.
        mean: true bits per byte of the baseline.
        rows: training rows of a run.
        validations: validation rows of a run.
        study: fields of the declaration beside the arms, the baseline and the seeds.
        finished_cells: how many had ended when the prediction was declared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for arm in arms:
        overrides = [f"{key}={value}" for key, value in arm.config.items()]
        for seed in seeds:
            run_id = f"{arm.name}-seed={seed}-{_digest(arm.name, seed)}"
            cells.append(Cell(arm.name, seed, run_id, [f"name={folder.name}", *overrides, f"seed={seed}"]))
            state = arm.states.get(seed, "done")
            common, own = random.Random(f"common {seed}"), random.Random(f"own {arm.name} {seed}")
            luck = math.sqrt(correlation) * common.gauss(0, 1) + math.sqrt(1 - correlation) * own.gauss(0, 1)
            if state != "missing":
                bits = mean + arm.effect + noise * luck
                write_run(folder / run_id, arm, seed, bits, state=state, rows=rows, validations=validations)
    declaration = Study(
        **{
            "question": "What does sharing keys and values between heads cost?",
            "prediction": "A little, and more the more is shared.",
            "source": "Shazeer 2019, arXiv 1911.02150",
            "baseline": arms[0].name,
            "arms": {arm.name: [f"{key}={value}" for key, value in arm.config.items()] for arm in arms},
            "seeds": list(seeds),
            "margin": 0.01,
            **(study or {}),
        }
    )
    command = f"atomiclm train -m experiments={folder.name}"
    found = StudyLedger(folder.name, command, cells, declaration, tuned=tuned or {}, looks=list(looks))
    found = found.with_prediction("2026-11-22T10:00:00+00:00", finished_cells)
    if ledger:
        write_ledger(folder, found)
    return found


def write_run(
    path: Path,
    arm: FakeArm,
    seed: int,
    bits_per_byte: float,
    *,
    state: str = "done",
    rows: int = 8,
    validations: int = 4,
) -> None:
    """Write one run folder: config.yaml, environment.json, metrics.jsonl, summary.json."""
    path.mkdir(parents=True)
    config = {**CONFIG, **arm.config, "name": path.parent.name, "seed": seed, "model.init.seed": seed}
    (path / "config.yaml").write_text(yaml.safe_dump(_nested(config)), encoding="utf-8")
    (path / "environment.json").write_bytes(to_json({"processes": [_environment(arm.name, seed)]}))
    if state == "torn":
        return
    figures = {**SUMMARY, **arm.summary}
    share = 1.0 if state == "done" else 0.4
    tokens = round(share * config["trainer.max_tokens"])
    position = _position(1.0, tokens, figures)
    events = _events(arm.name, seed, bits_per_byte, tokens, figures, rows, validations, state)
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    facts = {"state": state, "name": path.parent.name, "run_id": path.name, "variant": _digest(arm.name), "seed": seed}
    ended: dict[str, Any] = {"anchors": {}}
    if state == "done":
        ended = {
            METRIC: bits_per_byte,
            "validation/loss": NATS_PER_BIT_PER_BYTE * bits_per_byte,
            "train/loss": 0.98 * NATS_PER_BIT_PER_BYTE * bits_per_byte,
            "anchors": ANCHORS,
        }
    errors = {
        "failed": {"type": "OutOfMemoryError", "message": "out of memory in layer 3\nsecond line"},
        "diverged": {"type": "Diverged", "message": "the loss is nan at step 100"},
    }
    error = {"error": errors[state]} if state in errors else {}
    (path / "summary.json").write_bytes(to_json({**facts, **figures, **position, **ended, **error}, indent=2))


def _events(
    name: str,
    seed: int,
    bits_per_byte: float,
    tokens: int,
    figures: Mapping[str, Any],
    rows: int,
    validations: int,
    state: str,
) -> list[dict[str, Any]]:
    """Rows of a loss that falls like a power of the tokens and ends at what the run reports."""
    draw = random.Random(f"rows {name} {seed}")
    found: list[tuple[float, dict[str, Any]]] = []

    def bits_at(share: float) -> float:
        return bits_per_byte * (1 + 0.6 * ((0.02 + share) ** -0.3 - 1.02**-0.3))

    for index in range(1, rows + 1):
        share = index / rows
        bits = bits_at(share) + draw.gauss(0, 0.01)
        row = {
            "event": "train", **_position(share, tokens, figures), "progress": round(share, 6),
            "train/loss": NATS_PER_BIT_PER_BYTE * bits, "train/bits_per_byte": bits,
            "train/gradient_norm": abs(draw.gauss(1, 0.1)), "train/learning_rate": 0.003 * (1 - 0.9 * share),
            "train/tokens_per_second": figures["tokens_per_second"], "train/flops_utilization": 0.4,
        }  # fmt: skip
        found.append((share, row))
    for index in range(1, validations + 1):
        share = index / validations
        bits = bits_at(share)
        row = {"event": "validation", **_position(share, tokens, figures)}
        found.append((share, {**row, METRIC: bits, "validation/loss": NATS_PER_BIT_PER_BYTE * bits}))
    end = _position(1.0, tokens, figures)
    if state == "done":
        sample = {"prompt": "def ", "text": f"def {name}(self):\n    return {seed}  # <b>&amp;</b>"}
        found.append((1.0, {"event": "sample", **end, "samples": [sample]}))
        anchors = {f"anchor/{anchor}": value for anchor, value in ANCHORS.items()}
        found.append((1.0, {"event": "anchors", **end, **anchors}))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def _position(share: float, tokens: int, figures: Mapping[str, Any]) -> dict[str, Any]:
    done = round(share * tokens)
    return {
        "step": max(1, done // 2048),
        "tokens": done,
        "seconds": round(done / figures["tokens_per_second"], 3),
        "flops": float(done * figures["flops_per_token"]),
    }


def _environment(name: str, seed: int) -> dict[str, Any]:
    return {
        "python": "3.12.1",
        "host_sha256": "5bce98f73f3e",
        "cpu": "Intel(R) Xeon(R) Processor",
        "versions": {"atomiclm": "0.1.0", "torch": "2.15.0", "numpy": "2.5.5"},
        "source": {"commit": "a28da00365b608a0091ec5964d5389ccc9c0cf48", "dirty": False, "diff_sha256": None},
        "command": ["/somewhere/atomiclm/train.py", f"arm={name}", f"seed={seed}"],
        "device": "cpu",
        "precision": "bfloat16",
        "torch_threads": 1,
        "compiled": False,
    }


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree
