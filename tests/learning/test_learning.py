"""The whole stack learns: it can learn a text by heart; and validation counts what it says it counts."""

from functools import partial

import numpy as np
import pytest
import torch

from atomiclm.data import RepeatedWindows, TextDataset, ValidationWindows
from atomiclm.evaluation import Subject, validate
from atomiclm.model import (
    Decoder,
    FeedForward,
    LayerNorm,
    LearnedPosition,
    MultiHeadAttention,
    NormalInit,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    parameter_roles,
)
from atomiclm.optim import AdamW, Cosine
from atomiclm.training import Runtime, Trainer, TrainState

STYLES = {
    "modern": {"feedforward": SwiGLU, "norm": RMSNorm, "position": RotaryEmbedding},
    "gpt2": {"feedforward": FeedForward, "norm": LayerNorm, "position": LearnedPosition},
}


def _state(vocab_size: int, context_length: int, style: str, lr: float) -> TrainState:
    model = Decoder(
        vocab_size=vocab_size,
        dim=32,
        num_layers=2,
        context_length=context_length,
        attention=partial(MultiHeadAttention, num_heads=4, num_kv_heads=2),
        init=NormalInit(seed=0),
        **STYLES[style],
    )
    return TrainState(model, AdamW(model.named_parameters(), parameter_roles(model), lr=lr))


def _fit(state: TrainState, dataset: TextDataset, steps: int, batch_size: int) -> float:
    losses = []

    class Collect:
        def after_step(self, state, result, progress):
            losses.append(result.loss)

    trainer = Trainer(batch_size=batch_size, order=dataset.order, max_steps=steps, precision="float32")
    trainer.fit(state, dataset, Cosine(warmup_steps=10), Runtime(device="cpu"), [Collect()])
    return losses[-1]


@pytest.mark.parametrize("style", STYLES)
def test_random_text_is_learned_by_heart(style):
    tokens = np.random.default_rng(0).integers(0, 64, 2000).astype(np.uint16)
    dataset = TextDataset(tokens, 16, RepeatedWindows(seed=0, num_windows=4))
    assert _fit(_state(64, 16, style, lr=1e-2), dataset, steps=120, batch_size=4) < 0.1


def test_validation_charges_text_only_and_leaves_the_model_as_it_was():
    state = _state(16, 8, "modern", lr=1e-2)
    tokens = np.random.default_rng(2).integers(0, 16, 50).astype(np.uint16)
    lengths = [0 if token == 3 else token + 1 for token in range(16)]
    before = torch.get_rng_state()
    state.model.train()
    subject = Subject(state.model, state.model, torch.device("cpu"), 32)
    result = validate(subject.scored(ValidationWindows(tokens, 8, 4), lengths))
    assert state.model.training
    assert torch.equal(torch.get_rng_state(), before)
    targets = tokens[1:]
    assert result.tokens == int((targets != 3).sum())
    assert result.bytes == sum(lengths[token] for token in targets)
    expected = 0.0
    state.model.eval()
    for start in range(0, len(tokens) - 1, 8):
        window = torch.tensor(tokens[start : start + 9].astype(np.int64))
        with torch.no_grad():
            scores = torch.log_softmax(state.model(window[None, :-1]).float(), -1)[0]
        expected -= sum(float(scores[i, t]) for i, t in enumerate(window[1:]) if t != 3)
    assert result.nats == pytest.approx(expected, rel=1e-5)
