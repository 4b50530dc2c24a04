"""Everything that a lent GPU is needed for, in one call of less than ten minutes.

    python benchmarks/gpu.py [PART...] [--device cuda] [--quick]        PARTS: mfu small decode resume cells tests

Each part is a process with a time limit of its own, so one that hangs costs the others nothing. A result is a line of
JSON, `{"part": ..., ...}`, and a table of all comes last. `--device cpu --quick` runs the same code at sizes of a
second, to try it; its figures mean nothing.

`mfu` trains GPT-2 at T 1024 in bfloat16, compiled, beside transformers' GPT2LMHeadModel (left out where transformers is
missing) under nanoGPT's recipe: fused AdamW, TF32, a vocabulary of 50,304. In turn; FLOPs are ours of both sides, over
989 TFLOP/s, the dense bfloat16 peak of an H100 or H200. Not tried on a GPU yet.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = {"mfu": 270, "small": 80, "decode": 40, "resume": 60, "cells": 90, "tests": 50}
"""By part, in the order in which they run: 590 in all."""
PEAK = 989e12


def tell(part: str, **figures: Any) -> None:
    print(json.dumps({"part": part, **figures}), flush=True)


class Side:
    """A model that takes training steps of next-token prediction on random tokens, with fused AdamW or ours."""

    def __init__(self, loss: Callable[[Any, Any], Any], optimizer: Any, tokens: Any, device: str) -> None:
        import torch

        self.torch, self.device, self.optimizer, self.tokens, self.loss = torch, device, optimizer, tokens, loss
        self.parameters = [each for group in optimizer.param_groups for each in group["params"]]
        self.open = ExitStack()

    def seconds(self, steps: int) -> float:
        """Of one step: the wall time of `steps` of them, with one wait for the device at the end."""
        begun = time.perf_counter()
        for _ in range(steps):
            with self.torch.autocast(self.device, dtype=self.torch.bfloat16):
                loss = self.loss(self.tokens[:, :-1], self.tokens[:, 1:])
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return (time.perf_counter() - begun) / steps


def ours(overrides: list[str], tokens: Any, device: str, compiled: bool) -> tuple[Side, Any]:
    from atomiclm.config.build import build
    from atomiclm.config.compose import compose, resolved
    from atomiclm.model import parameter_roles
    from atomiclm.training import Runtime

    values = resolved(compose(overrides))
    model, objective = build(values["model"]).to(device), build(values["trainer"]["objective"])
    optimizer = build(values["optim"])(model.named_parameters(), parameter_roles(model), model.lr_multipliers)
    count = tokens[:, 1:].numel()
    side = Side(lambda x, y: objective(model, x, y).total / count, optimizer, tokens, device)
    if compiled:
        side.open.enter_context(Runtime(device=device, compile=True).training(model))  # as a run compiles
    return side, model


def in_turn(sides: dict[str, Side], steps: int, rounds: int) -> dict[str, list[float]]:
    for side in sides.values():
        side.seconds(2)  # compiles
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side.seconds(steps))
    return found


def mfu(device: str, quick: bool) -> None:
    import torch

    torch.set_float32_matmul_precision("high")
    sizes = {"124M": (768, 12, 12, 32), "350M": (1024, 24, 16, 16)}
    for name, (dim, layers, heads, batch_size) in ({"tiny": (32, 2, 2, 2)} if quick else sizes).items():
        length, vocab_size = (64, 512) if quick else (1024, 50304)
        torch.manual_seed(1)
        tokens = torch.randint(vocab_size, (batch_size, length + 1), device=device)
        shape = [f"model.dim={dim}", f"model.num_layers={layers}", f"model.attention.num_heads={heads}"]
        shape += [f"model.context_length={length}", f"model.vocab_size={vocab_size}"]
        side, model = ours(["model=gpt2", *shape], tokens, device, not quick)
        sides = {"ours": side}
        try:
            from transformers import GPT2Config, GPT2LMHeadModel
        except ImportError:
            tell("mfu", model=name, note="transformers is missing here, and left out")
        else:
            sizes_there = {"n_embd": dim, "n_layer": layers, "n_head": heads, "n_positions": length}
            peer = GPT2LMHeadModel(
                GPT2Config(vocab_size=vocab_size, **sizes_there, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
            )
            sides["transformers"] = recipe(peer.to(device), tokens, device, not quick)
        found = in_turn(sides, steps=2 if quick else 8, rounds=2 if quick else 7)
        flops = model.training_flops_per_token(length) * batch_size * length
        for who, seconds in found.items():
            ratios = sorted(own / other for own, other in zip(seconds, found["ours"], strict=True))
            spread = [round(value, 3) for value in (statistics.median(ratios), ratios[0], ratios[-1])]
            median = statistics.median(seconds)
            share = round(flops / median / PEAK, 4)
            tell("mfu", model=name, who=who, step_ms=round(1e3 * median, 2), mfu=share, over_ours=spread)
        del sides, side, model


def recipe(model: Any, tokens: Any, device: str, compiled: bool) -> Side:
    """A model of transformers under nanoGPT's loop: cross-entropy of all logits, torch's fused AdamW."""
    import torch

    def loss(inputs: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), targets.flatten())

    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    return Side(torch.compile(loss) if compiled else loss, optimizer, tokens, device)


def small(device: str, quick: bool) -> None:
    import torch

    for name in ["tiny"] if quick else ["mini", "small"]:
        length = 128 if name != "small" else 256
        tokens = torch.randint(4096, (8, length + 1), device=device)
        sides = {kind: ours([f"model={name}"], tokens, device, kind == "compiled")[0] for kind in ("eager", "compiled")}
        if quick:
            del sides["compiled"]
        for kind, seconds in in_turn(sides, steps=2 if quick else 50, rounds=2 if quick else 7).items():
            tell("small", model=name, kind=kind, step_ms=round(1e3 * statistics.median(seconds), 3))


def decode(device: str, quick: bool) -> None:
    import torch

    from atomiclm.config.build import build
    from atomiclm.config.compose import compose, resolved
    from atomiclm.generation import Sampler, generate

    model = build(resolved(compose(["model=tiny" if quick else "model=gpt2"]))["model"]).to(device).eval()
    length = 8 if quick else 256
    for rows in (1, 4) if quick else (1, 32):
        for _ in range(2):
            begun = time.perf_counter()
            with torch.autocast(device, dtype=torch.bfloat16):
                generate(model, [[1, 2, 3]] * rows, length, Sampler(0.0))
            seconds = time.perf_counter() - begun
        tell("decode", rows=rows, tokens_per_second=round(rows * length / seconds, 1))


COMMAND = (
    "-m", "atomiclm.train", "tracking=off", "evaluation.anchors=false", "evaluation.samples=0", "evaluation.times=1",
    "data=markov", "tokenizer=bytes", "trainer.max_tokens=null",
)  # fmt: skip


def start(folder: Path, *overrides: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ATOMICLM_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    out = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, *COMMAND, *overrides], cwd=folder, env=environment, stdout=out, stderr=out)


def resume(device: str, quick: bool) -> None:
    """One run, and the same one killed after a checkpoint and started again: their weights are to be equal."""
    import torch
    from safetensors.torch import load_file

    steps = 60 if quick else 600
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = ["model=tiny", f"runtime.device={device}", f"trainer.max_steps={steps}", "runtime.keep_best=false"]
        shared.append("runtime.checkpoint_every_seconds=0")
        start(folder, *shared, "name=whole").wait()
        killed = start(folder, *shared, "name=killed")
        while not list((folder / "outputs").glob("killed/*/checkpoints/step_*/manifest.json")):
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        status = start(folder, *shared, "name=killed").wait()
        whole, again = (
            load_file(next((folder / "outputs").glob(f"{name}/*/checkpoints/step_{steps:08d}/model.safetensors")))
            for name in ("whole", "killed")
        )
        tell("resume", status=status, equal=all(torch.equal(tensor, again[name]) for name, tensor in whole.items()))


def cells(device: str, quick: bool) -> None:
    """Processes that train side by side, and the work they do together over that of one alone."""
    alone = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = ["model=mini", f"runtime.device={device}", f"trainer.max_steps={5 if quick else 200}"]
        start(folder, *shared, "name=first").wait()
        for count in (1, 2) if quick else (1, 4, 16):
            begun = time.perf_counter()
            running = [start(folder, *shared, f"seed={seed}", f"name=of{count}") for seed in range(1, count + 1)]
            failed = sum(process.wait() != 0 for process in running)
            seconds = time.perf_counter() - begun
            alone = alone or seconds
            tell("cells", cells=count, seconds=round(seconds, 1), work=round(count * alone / seconds, 2), failed=failed)


def tests(device: str, quick: bool) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-k", "cuda", "tests/training"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    tell("tests", status=done.returncode, last=done.stdout.strip().splitlines()[-1:])


PARTS = {"mfu": mfu, "small": small, "decode": decode, "resume": resume, "cells": cells, "tests": tests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS), metavar="PART")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        PARTS[asked.parts[0]](asked.device, asked.quick)
        return
    rows = []
    for part in asked.parts:
        flags = ["--inside", "--device", asked.device, *(["--quick"] if asked.quick else [])]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, __file__, part, *flags],
            env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=SECONDS[part])
            ending = [] if process.returncode == 0 else [{"part": part, "status": process.returncode}]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            output, _ = process.communicate()
            ending = [{"part": part, "stopped_after_seconds": SECONDS[part]}]
        found = [json.loads(line) for line in output.splitlines() if line.startswith('{"part"')] + ending
        for row in found:
            print(json.dumps(row), flush=True)
        rows += found
    print()
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
