"""Sources with known answers: a trained model reaches the entropy; attention copies and recalls, without it chance."""

from functools import partial

import numpy as np
import pytest
import torch

from atomiclm.data import (
    AssociativeRecall,
    BestFit,
    Copy,
    Markov,
    ShuffledWindows,
    prepare,
    training_batches,
)
from atomiclm.evaluation import Conditions, Subject
from atomiclm.model import Decoder, MultiHeadAttention, NoAttention, NormalInit, parameter_roles
from atomiclm.optim import Cosine, Muon
from atomiclm.run_evaluation import validation_row
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.training import Runtime, Trainer, TrainState

CPU = torch.device("cpu")


def _bytes() -> BasicTokenizer:
    return BasicTokenizer(vocab_size=257, pattern="none", special_tokens=["<|endoftext|>"])


def _trained(source, folder, attention, order, context_length, steps, batch_size, separate_documents):
    """Train two layers on a source and return the corpus and the row of its validation."""
    corpus = prepare(source, _bytes(), folder)
    model = Decoder(
        vocab_size=257,
        dim=32,
        num_layers=2,
        context_length=context_length,
        attention=partial(attention, num_heads=2),
        init=NormalInit(seed=0, std=0.1),
    )
    optimizer = Muon(
        model.named_parameters(), parameter_roles(model), lr=0.02, adamw_lr=5e-3, weight_decay=0.0
    )  # induction heads form within some hundred steps whatever the seed; under AdamW they may take thousands
    trainer = Trainer(
        batch_size=batch_size,
        order=order,
        max_steps=steps,
        precision="float32",
        separate_documents=separate_documents,
    )
    batches = training_batches(corpus, context_length, order, separate_documents)
    trainer.fit(TrainState(model, optimizer), batches, Cosine(warmup_steps=20), Runtime(device="cpu"))
    conditions = Conditions(corpus, context_length, context_length, separate_documents)
    return corpus, validation_row(Subject(model, model, CPU, 64 * context_length), conditions)


@pytest.mark.slow
def test_a_markov_source_is_predicted_to_its_entropy(tmp_path):
    """Within 2 % of the entropy rate: below it only by what the validation text happens to be easier than average."""
    source = Markov(num_symbols=12, num_documents=400, document_bytes=400, seed=1)
    corpus, row = _trained(source, tmp_path, MultiHeadAttention, ShuffledWindows(0), 128, 150, 8, False)
    assert corpus.anchors == {"entropy": source.entropy_bits}
    assert row["validation/bits_per_byte"] == pytest.approx(source.entropy_bits, rel=0.02)
    without_context = -(source.stationary * np.log2(source.stationary)).sum()
    assert source.entropy_bits < 0.8 * without_context  # there was something to learn


TASKS = {
    "copy": (Copy(min_length=10, max_length=10, num_symbols=12, num_documents=3000), 44, 150),
    "recall": (AssociativeRecall(num_pairs=4, num_keys=8, num_values=8, num_documents=5000), 36, 280),
}
CHANCE = {"copy": 1 / 12, "recall": 1 / 8}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_attention_finds_what_was_said_before(tmp_path, task):
    source, context_length, steps = TASKS[task]
    _, row = _trained(source, tmp_path, MultiHeadAttention, BestFit(0), context_length, steps, 16, True)
    assert row["validation/accuracy"] > 0.95
    assert row["validation/separate_documents"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("task", TASKS)
def test_without_attention_it_is_chance(tmp_path, task):
    """About 1200 to 2000 answers, so a standard error of 0.01; the likeliest symbol of all is a little above chance."""
    source, context_length, _ = TASKS[task]
    _, row = _trained(source, tmp_path, NoAttention, BestFit(0), context_length, 60, 16, True)
    assert row["validation/accuracy"] == pytest.approx(CHANCE[task], abs=0.035)
