"""Greedy decoding beside transformers' Llama with the same weights.

    OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 python benchmarks/decoding.py [ROUNDS] [ROWS...]

11 million parameters in float32, a prompt of 16 tokens and 200 tokens after it; the weights go to transformers through
our own export. Theirs is `generate` with a cache that grows and with a static one, run eagerly. The sides in turn,
round by round, after one to warm up and to compile. Printed are the median tokens a CPU second of each, how many times
the faster of theirs that is in the same round, and what the first round took. The ids are asserted to be equal.
"""

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from atomiclm.generation import Sampler, generate
from atomiclm.interop import save_huggingface
from atomiclm.model import Decoder, MultiHeadAttention, NormalInit, SwiGLU

VOCABULARY, CONTEXT, PROMPT, NEW = 2048, 256, 16, 200
GREEDY = Sampler(temperature=0)
type Ids = list[list[int]]


def models() -> tuple[Decoder, torch.nn.Module]:
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    ours = Decoder(
        VOCABULARY,
        dim=384,
        num_layers=6,
        context_length=CONTEXT,
        attention=partial(MultiHeadAttention, num_heads=6),
        feedforward=partial(SwiGLU, hidden_dim=1024),
        init=NormalInit(seed=1, std=0.1),  # so large that no two tokens are almost equally likely
    ).eval()
    with tempfile.TemporaryDirectory() as folder:
        save_huggingface(ours, Path(folder, "model"))
        theirs = LlamaForCausalLM.from_pretrained(Path(folder, "model"), dtype=torch.float32)
    return ours, theirs.eval()


def sides(ours: Decoder, theirs: torch.nn.Module, prompts: Ids) -> dict[str, Callable[[], Ids]]:
    def transformers(cache: str) -> Ids:
        tokens = torch.tensor(prompts)
        settings = {"max_new_tokens": NEW, "do_sample": False, "cache_implementation": cache, "disable_compile": True}
        return theirs.generate(tokens, attention_mask=torch.ones_like(tokens), **settings)[:, PROMPT:].tolist()

    return {
        "ours": lambda: generate(ours, prompts, NEW, GREEDY),
        "ours, compiled": lambda: generate(ours, prompts, NEW, GREEDY, compile=True),
        "transformers, growing cache": lambda: transformers("dynamic"),
        "transformers, static cache": lambda: transformers("static"),
    }


def compare(rows: int, rounds: int, ours: Decoder, theirs: torch.nn.Module) -> None:
    prompts = torch.randint(VOCABULARY, (rows, PROMPT), generator=torch.Generator().manual_seed(0)).tolist()
    ways = sides(ours, theirs, prompts)
    times: dict[str, list[float]] = {name: [] for name in ways}
    expected: Ids = []
    for _ in range(rounds + 1):
        for name, run in ways.items():
            started = time.process_time()
            ids = run()
            times[name].append(time.process_time() - started)
            expected = expected or ids
            assert ids == expected, f"{name} wrote other tokens"
    first = {name: taken.pop(0) for name, taken in times.items()}
    best = min(
        (name for name in ways if name.startswith("transformers")), key=lambda name: statistics.median(times[name])
    )
    print(f"{rows} row{'s' if rows > 1 else ''} of {PROMPT} + {NEW} tokens, {rounds} rounds, relative to {best}:")
    for name, taken in times.items():
        ratios = sorted(base / own for base, own in zip(times[best], taken, strict=True))
        rate = rows * NEW / statistics.median(taken)
        print(
            f"  {name:28} {rate:8.0f} tokens/s  {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            f"  first round {first[name]:.1f} s",
            flush=True,
        )


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # transformers' own
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    ours, theirs = models()
    print(f"{ours.num_parameters():,} parameters, torch {torch.__version__}")
    for rows in map(int, sys.argv[2:] or ("1", "32")):
        compare(rows, rounds, ours, theirs)


if __name__ == "__main__":
    main()
