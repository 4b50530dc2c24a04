"""The loss of one token the simplest way there is, and small things to evaluate; none of it is evaluation code."""

from functools import partial

import numpy as np
import torch

from atomiclm.data import Markov, prepare
from atomiclm.evaluation import Conditions, Subject
from atomiclm.model import Decoder, MultiHeadAttention, NormalInit
from atomiclm.tokenizer import BasicTokenizer

CPU = torch.device("cpu")
SEPARATOR = 256
TRAINED = 8


def tokenizer():
    return BasicTokenizer(vocab_size=257, pattern="none", special_tokens=["<|endoftext|>"])


def small_corpus(folder, source=None):
    source = source or Markov(num_documents=16, document_bytes=30, validation_fraction=0.4)
    return prepare(source, tokenizer(), folder)


def decoder(context_length=TRAINED, window=None, **settings):
    attention = partial(MultiHeadAttention, num_heads=2, window=window)
    return Decoder(257, 16, 2, context_length, attention=attention, init=NormalInit(seed=3, std=0.3), **settings)


def conditions(corpus, separate=False, **others):
    return Conditions(corpus, TRAINED, TRAINED, separate, **others)


def subject(model, forward=None, tokens_per_batch=64):
    return Subject(model, forward or model, CPU, tokens_per_batch)


def begin_of_document(tokens, place):
    """Where the document that a token stands in begins."""
    return int(np.flatnonzero(tokens[: place + 1] == SEPARATOR)[-1])


@torch.no_grad()
def nats_from(model, tokens, begin, target):
    """What tokens[target + 1] costs a plain model that has read tokens[begin], ..., tokens[target]; 0 if no text."""
    if tokens[target + 1] == SEPARATOR:
        return 0.0
    read = torch.from_numpy(tokens[begin : target + 1].astype(np.int64))[None]
    return -float(torch.log_softmax(model.eval()(read)[0, -1].double(), -1)[int(tokens[target + 1])])


def text_targets(tokens):
    """The places whose next token is text."""
    return [place for place in range(len(tokens) - 1) if tokens[place + 1] != SEPARATOR]
