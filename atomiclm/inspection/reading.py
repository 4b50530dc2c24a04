"""What a model made of a text: the loss of each token, what each layer would have predicted, where heads looked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from atomiclm.cli import UserError
from atomiclm.model import Decoder, look
from atomiclm.tokenizer import IncrementalDecoder, Tokenizer


@dataclass(frozen=True)
class Prediction:
    """What was predicted in the place of a token.

    loss          nats that the token cost: -log of its probability
    rank          1 where no token was likelier
    likeliest     the likeliest tokens and their probabilities, the first the likeliest
    """

    loss: float
    rank: int
    likeliest: list[tuple[int, float]]

    @property
    def bits(self) -> float:
        return self.loss / math.log(2)

    @property
    def probability(self) -> float:
        return math.exp(-self.loss)


@dataclass(frozen=True)
class HeadSummary:
    """Where a head looks on average, as shares of its weight; the first token, which sees itself alone, is left out.

    itself, previous, first   the token itself, the one before it, the first of the text
    after_copy                the tokens that follow earlier copies of the token, over the tokens that have one: high
                              in an induction head (Olsson et al. 2022, arXiv 2209.11895)
    distance                  tokens back, on average
    """

    itself: float
    previous: float
    first: float
    after_copy: float
    distance: float


@dataclass(frozen=True)
class Reading:
    """A text of T + 1 tokens as a model read it; the last of them is only predicted.

    tokens        (T + 1) ids
    texts         (T + 1) the text that each adds; "" within a character of several tokens
    predictions   (T) of the tokens after the first
    lens          num_layers + 1 lists of T predictions: what the final norm and the head make of the residual stream
                  as it enters the first block, then after each (logit lens: nostalgebraist 2020); the last is
                  ``predictions``
    attention     a tensor (heads, T, T) for each layer, or None where it gave no weights
    summaries     of each head of each layer
    is_text       (T) whether a predicted token is text; special tokens stand for no bytes, and are not charged
    num_bytes     of the predicted tokens
    """

    tokens: list[int]
    texts: list[str]
    predictions: list[Prediction]
    lens: list[list[Prediction]]
    attention: list[Tensor | None]
    summaries: list[list[HeadSummary]]
    is_text: list[bool]
    num_bytes: int

    def loss(self, depth: int = -1) -> float:
        """Nats per token of text, by the predictions of a depth of `lens`; special tokens are not charged."""
        losses = [one.loss for one, counts in zip(self.lens[depth], self.is_text, strict=True) if counts]
        return sum(losses) / len(losses) if losses else math.nan

    def bits_per_byte(self, depth: int = -1) -> float:
        """Bits that a byte of the text cost."""
        return self.loss(depth) * sum(self.is_text) / (math.log(2) * self.num_bytes) if self.num_bytes else math.nan


def read(
    model: Decoder, tokenizer: Tokenizer, tokens: Sequence[int], alternatives: int = 5, documents: Tensor | None = None
) -> Reading:
    """Let ``model`` read ``tokens``, at least two; documents (1, T) as in ``Decoder.forward``, of all but the last.

    Raises UserError: its scores are not finite.
    """
    device = model.embedding.weight.device
    ids = torch.tensor(tokens, device=device)
    inputs, targets = ids[:-1], ids[1:]
    seen = look(model, inputs[None], documents)
    if not seen.logits.isfinite().all():
        raise UserError("the model's scores are not finite (NaN or infinite): it has diverged")
    with torch.no_grad():  # one depth at a time: scores are T x vocab_size
        lens = [
            _predictions(model.logits(model.norm(hidden))[0].cpu().double(), targets.cpu(), alternatives)
            for hidden in seen.hidden
        ]
    attention = [None if weights is None else weights[0].float().cpu() for weights in seen.attention]
    decoder = IncrementalDecoder(tokenizer)
    lengths = tokenizer.token_bytes()
    return Reading(
        tokens=list(tokens),
        texts=[decoder.push(token) for token in tokens],
        predictions=lens[-1],
        lens=lens,
        attention=attention,
        summaries=[[] if weights is None else _summaries(weights, inputs.cpu()) for weights in attention],
        is_text=[lengths[token] > 0 for token in tokens[1:]],
        num_bytes=sum(lengths[token] for token in tokens[1:]),
    )


def _predictions(scores: Tensor, targets: Tensor, count: int) -> list[Prediction]:
    """Of scores (T, vocab_size) in float64."""
    losses = cross_entropy(scores, targets, reduction="none")
    own = scores.gather(-1, targets[:, None])
    ranks = 1 + (scores > own).sum(-1)
    best = scores.softmax(-1).topk(min(count, scores.shape[-1]))
    return [
        Prediction(loss, rank, list(zip(ids, probabilities, strict=True)))
        for loss, rank, ids, probabilities in zip(
            losses.tolist(), ranks.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]


def _summaries(weights: Tensor, inputs: Tensor) -> list[HeadSummary]:
    """Of weights (heads, T, T) of the tokens that were read."""
    time = len(inputs)
    later = weights[:, 1:].double()  # the rows of tokens that can choose where to look
    back = torch.arange(1, time)[:, None] - torch.arange(time)
    # follows[i, j]: j comes after an earlier copy of token i
    follows = torch.zeros(time - 1, time, dtype=torch.bool)
    follows[:, 1:] = (inputs[1:, None] == inputs[None, :-1]) & (back[:, 1:] >= 0)
    has_copy = follows.any(-1)
    after_copy = (later * follows).sum(-1)[:, has_copy].mean(-1)
    shares = torch.stack(
        [
            (later * (back == 0)).sum(-1).mean(-1),
            (later * (back == 1)).sum(-1).mean(-1),
            later[:, :, 0].mean(-1),
            after_copy,
            (later * back).sum(-1).mean(-1),
        ],
        -1,
    )
    return [HeadSummary(*head) for head in shares.tolist()]
