"""A training step of ours beside one of transformers' models of the same shapes, on the CPU.

    OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 python benchmarks/training.py [RECIPE...] [--rounds N] [--precision float32]
    ... python benchmarks/training.py --optimizers            model=small: the updates alone, and whole steps

Both sides train in one process, in turn, on the same random tokens: ours by `Trainer.fit` with everything that a run's
step does, theirs by the usual loop (autocast, the model's own loss, `clip_grad_norm_`, `AdamW(fused=True)`). Printed
are the medians of the CPU time of a step, and theirs over ours round by round. Memory is asked of two more processes,
one a side: the peak of resident memory in three rounds over what was resident before the model was built.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atomiclm.config.build import build
from atomiclm.config.compose import compose, resolved
from atomiclm.data import ShuffledWindows, TextDataset
from atomiclm.model import Decoder, parameter_roles
from atomiclm.training import Runtime, Trainer, TrainState

RECIPES: dict[str, tuple[list[str], int]] = {
    "nanogpt-cpu": (["experiments=nanogpt_cpu"], 10),
    "mini": (["model=mini", "model.attention.num_kv_heads=4", "model.vocab_size=1024"], 10),
    "9.6M": (["model.dim=384", "model.num_layers=5", "model.attention.num_heads=6", "model.attention.num_kv_heads=6",
              "model.context_length=256", "model.vocab_size=2048", "trainer.batch_size=16"], 1),
    "19.7M": (["model.dim=384", "model.num_layers=4", "model.attention.num_heads=6", "model.attention.num_kv_heads=6",
               "model.context_length=256", "model.vocab_size=32768", "trainer.batch_size=4"], 1),
    "small": (["model=small"], 10),
}  # fmt: skip
"""Overrides by name, and steps of a round. `nanogpt-cpu` is GPT-2's architecture, the others Llama's; `small` is for
`--optimizers`, and takes as many steps as SOAP from one refreshment to the next."""

OPTIMIZERS = ("adamw", "lion", "adafactor", "schedule_free", "muon", "soap")


class Recipe:
    """A recipe as configured, and its random tokens."""

    def __init__(self, name: str, precision: str, more: list[str]) -> None:
        overrides, self.steps = RECIPES[name]
        self.values = resolved(compose([*overrides, f"trainer.precision={precision}", *more]))
        self.values["trainer"] |= {"max_steps": 10**9, "max_tokens": None}
        self.runtime: Runtime = build(self.values["runtime"])
        self.runtime.prepare()
        self.trainer: Trainer = build(self.values["trainer"])
        self.is_gpt2 = name == "nanogpt-cpu"
        context_length, vocab_size = self.values["model"]["context_length"], self.values["model"]["vocab_size"]
        tokens = np.random.default_rng(0).integers(0, vocab_size, 2**20).astype(np.uint16)
        self.dataset = TextDataset(tokens, context_length, ShuffledWindows(seed=0))

    def ours(self) -> Callable[[], None]:
        """Return a function that trains for the steps of a round."""
        model: Decoder = build(self.values["model"]).to(self.runtime.device)
        state = TrainState(model, build(self.values["optim"])(model.named_parameters(), parameter_roles(model)))
        schedule = build(self.values["schedule"])

        def train() -> None:
            last = state.step + self.steps
            self.trainer.fit(
                state, self.dataset, schedule, self.runtime, stop_requested=lambda: bool(state.step >= last)
            )

        return train

    def theirs(self) -> Callable[[], None]:
        model: Any = self._transformers().to(self.runtime.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        dtype, batch_size, index = self.runtime.dtype(self.trainer.precision), self.trainer.batch_size, 0

        def train() -> None:
            nonlocal index
            for _ in range(self.steps):
                batch = self.dataset.batch(index, batch_size)
                index += 1
                tokens, targets = (
                    torch.from_numpy(each).to(self.runtime.device) for each in (batch.inputs, batch.targets)
                )
                with self.runtime.autocast(dtype):
                    loss = model(tokens, labels=tokens, shift_labels=targets, use_cache=False).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                loss.item()

        return train

    def _transformers(self) -> torch.nn.Module:
        from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

        values = self.values["model"]
        decoder: Decoder = build(values)
        layers, dim, context = values["num_layers"], values["dim"], values["context_length"]
        heads, kv_heads = decoder.layers[0].attention.num_heads, values["attention"].get("num_kv_heads")
        if self.is_gpt2:
            return GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=decoder.vocab_size, n_positions=context, n_embd=dim, n_layer=layers, n_head=heads,
                    resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, attn_implementation="sdpa",
                )
            )  # fmt: skip
        hidden_dim: Any = decoder.layers[0].feedforward.hidden_dim
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=decoder.vocab_size, hidden_size=dim, intermediate_size=hidden_dim, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=context,
                tie_word_embeddings=True, attn_implementation="sdpa",
            )
        )  # fmt: skip


def seconds(act: Callable[[], Any]) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started


def compare(what: str, sides: dict[str, Callable[[], Any]], rounds: int, each: int = 1) -> None:
    """Print the median of each side and how many times the first each other takes, after a round to warm up."""
    for act in sides.values():
        act()
    times = [{name: seconds(act) / each for name, act in sides.items()} for _ in range(rounds)]
    first = next(iter(sides))
    for name in sides:
        ratios = sorted(took[name] / took[first] for took in times)
        median = 1e3 * statistics.median(took[name] for took in times)
        spread = "" if name == first else f"{statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{what:12} {name:13} {median:9.2f} ms {spread}", flush=True)


def peak(name: str, side: str, precision: str, more: list[str]) -> None:
    """In a process of its own: print the bytes that three steps take."""
    recipe = Recipe(name, precision, more)
    import transformers  # noqa: F401  before the first reading, as it is theirs to import

    recipe._transformers()  # and so are its parts
    before = resident("VmRSS")
    train = getattr(recipe, side)()
    for _ in range(3):
        train()
    print(resident("VmHWM") - before)


def resident(line: str) -> int:
    """Return a line of /proc/self/status in bytes. Unlike getrusage's, this peak leaves out what the parent had."""
    [kibibytes] = re.findall(rf"^{line}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kibibytes) * 1024


def peaks(name: str, precision: str, more: list[str]) -> None:
    command = [sys.executable, __file__, name, "--precision", precision, *(["--more", *more] if more else []), "--peak"]
    ours, theirs = (
        json.loads(subprocess.run([*command, side], capture_output=True, text=True, check=True).stdout)
        for side in ("ours", "theirs")
    )
    print(f"{name:12} peak memory   {ours / 1e6:9.0f} MB, theirs {theirs / 1e6:.0f} MB, {ours / theirs:.2f} of it")


def optimizers(rounds: int, precision: str) -> None:
    """Updates alone, with gradients that stay, and whole steps by the optimizer."""
    sides: dict[str, Callable[[], Any]] = {}
    steps = RECIPES["small"][1]

    def repeated(step: Callable[[], Any]) -> Callable[[], None]:
        def act() -> None:
            for _ in range(steps):
                step()

        return act

    for name in ("torch fused", *OPTIMIZERS):
        values = resolved(compose(["model=small", f"optim={'adamw' if name == 'torch fused' else name}"]))
        model: Decoder = build(values["model"])
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        if name == "torch fused":
            optimizer: Any = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95), fused=True)
        else:
            optimizer = build(values["optim"])(model.named_parameters(), parameter_roles(model))
        sides[name] = repeated(optimizer.step)
    whole = {name: Recipe("small", precision, [f"optim={name}"]).ours() for name in ("adamw", "muon", "soap")}
    compare("update", sides, rounds, steps)
    compare("step", whole, rounds, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", choices=[*RECIPES, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="float32")
    parser.add_argument("--more", nargs="+", default=[], help="overrides for our side")
    parser.add_argument("--optimizers", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        peak(asked.recipes[0], asked.peak, asked.precision, asked.more)
        return
    if asked.optimizers:
        optimizers(asked.rounds, asked.precision)
        return
    for name in asked.recipes or list(RECIPES)[:4]:
        recipe = Recipe(name, asked.precision, asked.more)
        sides = {"ours": recipe.ours(), "transformers": recipe.theirs()}
        compare(name, sides, asked.rounds, recipe.steps)
        if not asked.no_memory:
            peaks(name, asked.precision, asked.more)


if __name__ == "__main__":
    main()
