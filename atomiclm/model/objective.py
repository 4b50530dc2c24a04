"""What training minimises: next-token cross-entropy, and whatever is added to it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from atomiclm.model.components import check_not_negative, check_positive
from atomiclm.model.decoder import Decoder
from atomiclm.model.loss import chunked_loss, default_chunk_tokens, summed_loss


@dataclass(frozen=True)
class Loss:
    """What an objective found in one (micro-)batch. Figures are sums over the targets that count, in nats.

    nats        scalar, detached: cross-entropy of the next tokens, nothing added; what the log and the figures report
    total       scalar to differentiate: ``nats + sum(terms.values())``
    terms       by name, scalars, detached: what was added, with its weight in it
    auxiliary   by name, scalars to differentiate as well: weighted means over all tokens, whether their targets count
                or not (see ``Decoder.auxiliary_losses``)
    """

    nats: Tensor
    total: Tensor
    terms: dict[str, Tensor]
    auxiliary: dict[str, Tensor] = field(default_factory=dict)


class Objective(ABC):
    """Scores a model on a batch.

    There is no mean over targets: the caller divides by the number of counted targets of the whole step, and weighs
    auxiliary losses by the micro-batch's share of its tokens, so that how a step is cut changes nothing.
    """

    @abstractmethod
    def __call__(
        self,
        model: Decoder,
        tokens: Tensor,
        targets: Tensor,
        mask: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Loss:
        """Run the model and its head.

        tokens      (batch, time) int64, what the model reads
        targets     (batch, time) int64, the token that follows each; real ids also where masked
        mask        (batch, time) bool, True where a target counts; None counts all
        documents   (batch, time) int64, see ``Decoder.forward``
        """


class NextToken(Objective):
    """``sum -log softmax(logits)[target]``, plus what the model's parts and this objective's weights add.

    z_loss         weight of ``(log Z)^2`` of the next token's logits, Z the sum of exponentials that softmax divides by
                   (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, section 5: 1e-4). 0 computes nothing
    chunk_tokens   tokens that go through the head at a time, see ``chunked_loss``; None: see ``default_chunk_tokens``

    In training mode the total also has the weighted cross-entropy of the model's ``lookahead``, and there are its
    ``auxiliary_losses()``.
    """

    def __init__(self, z_loss: float = 0.0, chunk_tokens: int | None = None) -> None:
        check_not_negative(z_loss=z_loss)
        check_positive(chunk_tokens=chunk_tokens)
        self.z_loss = z_loss
        self.chunk_tokens = chunk_tokens

    def __call__(
        self,
        model: Decoder,
        tokens: Tensor,
        targets: Tensor,
        mask: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Loss:
        first, *ahead = model.predictions(tokens, targets, mask, documents)
        total, nats = self._score(model, first.features, first.targets, first.mask, self.z_loss)
        terms: dict[str, Tensor] = {}
        if self.z_loss:
            terms["z_loss"] = total.detach() - nats
        for later in ahead:
            weighted = self._score(model, later.features, later.targets, later.mask, 0.0)[0] * later.weight
            total = total + weighted
            terms["lookahead"] = terms.get("lookahead", 0) + weighted.detach()
        return Loss(nats, total, terms, model.auxiliary_losses() if model.training else {})

    def _score(
        self, model: Decoder, hidden: Tensor, targets: Tensor, mask: Tensor | None, z_loss: float
    ) -> tuple[Tensor, Tensor]:
        chunk_tokens = self.chunk_tokens or default_chunk_tokens(targets.numel(), model.vocab_size, targets.device)
        if chunk_tokens is None:
            return summed_loss(model.logits(hidden), targets, mask, z_loss)
        return chunked_loss(model.head, model.embedding.weight, hidden, targets, mask, z_loss, chunk_tokens)
