"""A training small enough for unit tests: a two-layer decoder on a fixed stream of bytes."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from atomiclm.data import ShuffledWindows, TextDataset
from atomiclm.model import (
    Decoder,
    MixtureOfExperts,
    MultiHeadAttention,
    NextToken,
    NormalInit,
    SigmoidTopK,
    parameter_roles,
)
from atomiclm.optim import AdamW, Cosine
from atomiclm.training import Runtime, Trainer, TrainState, checkpoint
from atomiclm.training.hooks import Retention, prune

VOCAB_SIZE, CONTEXT_LENGTH = 32, 16
CPU = torch.device("cpu")


def stream(num_tokens: int = 600, seed: int = 0) -> np.ndarray:
    """Tokens of a noisy cycle, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    tokens = np.cumsum(generator.integers(1, 3, num_tokens)) % VOCAB_SIZE
    return tokens.astype(np.uint16)


def dataset(seed: int = 0) -> TextDataset:
    return TextDataset(stream(), CONTEXT_LENGTH, ShuffledWindows(seed=seed))


ORDER = ShuffledWindows(seed=0)


def fresh_state(seed: int = 1, dropout: float = 0.0) -> TrainState:
    torch.manual_seed(seed)
    model = Decoder(
        vocab_size=VOCAB_SIZE,
        dim=16,
        num_layers=2,
        context_length=CONTEXT_LENGTH,
        attention=partial(MultiHeadAttention, num_heads=2, num_kv_heads=1),
        init=NormalInit(seed=seed),
        dropout=dropout,
    )
    return TrainState(model, AdamW(model.named_parameters(), parameter_roles(model), lr=1e-2))


def save(state: TrainState, folder: Path, keep: int) -> Path:
    """Write a checkpoint as the hook of a run does, but here and now; return its folder."""
    path = checkpoint.write(checkpoint.Snapshot.take(state), folder)
    prune(folder, Retention(keep))
    return path


def fresh_mixture(balance_weight: float = 0.0) -> TrainState:
    """With routers that count tokens over all micro-batches of a step, and move their bias by it."""
    torch.manual_seed(1)
    model = Decoder(
        vocab_size=VOCAB_SIZE,
        dim=16,
        num_layers=1,
        context_length=CONTEXT_LENGTH,
        attention=partial(MultiHeadAttention, num_heads=2, num_kv_heads=1),
        feedforward=partial(
            MixtureOfExperts,
            num_experts=4,
            hidden_dim=16,
            router=partial(SigmoidTopK, bias_rate=0.1),
            balance_weight=balance_weight,
        ),
        init=NormalInit(seed=3),
        dropout=0.1,
    )
    return TrainState(model, AdamW(model.named_parameters(), parameter_roles(model), lr=1e-2))


def loss_of(model: Decoder, **objective: float):
    return partial(NextToken(**objective), model)


def trainer(max_steps: int, batch_size: int = 4) -> Trainer:
    return Trainer(batch_size=batch_size, order=ORDER, max_steps=max_steps, precision="float32")


def runtime(micro_batch_size: int | None = None) -> Runtime:
    return Runtime(device="cpu", micro_batch_size=micro_batch_size)


def schedule() -> Cosine:
    return Cosine(warmup_steps=2)


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in state.model.named_parameters()}
