"""What a model costs, asked of its components.

FLOPs are those of matrix products, a multiply and an add counting as two, for one token of a full context in one
forward pass; a training step costs three times that. Attention is counted over the whole rectangle of
``context_length`` keys a query, as PaLM does (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): ``2 *
matmul_weights + 4 * layers * heads * head_dim * context_length``. Look-ups, norms, biases, softmax and rotations count
zero, a tied head's matrix once.
"""

from abc import ABC
from typing import Any

from torch import nn

from atomiclm.model.components import Component, parameter_roles
from atomiclm.roles import ROLES, Role

AUTOCAST_BYTES = 2.8
"""Of a saved number where products are bfloat16: the stream, and what norms save, stay in float32. Measured: 2.80, 2.84
and 2.5 for model=mini, small and tiny."""

BYTES_PER_SCORE = 12
"""Three numbers in float32, see ``DecoderCosts.activation_bytes``."""


class Accounted(Component, ABC):
    """A module that says what it costs."""

    def flops_per_token(self, context_length: int) -> int:
        """Forward FLOPs of one token in a full context of ``context_length`` tokens.

        Unless a class knows better: two for each weight of its matrices, and what its children say.
        """
        return _flops(self, context_length, asked=True)

    def activation_elements_per_token(self, context_length: int) -> int:
        """Numbers that one token leaves behind for the backward pass, in a full context of ``context_length`` tokens.

        Unless a class knows better: what its children leave, and the inputs and outputs of its projections.
        """
        return sum(_saved(child, context_length) for child in self.children())


def _flops(module: nn.Module, context_length: int, asked: bool = False) -> int:
    if not asked and callable(count := getattr(module, "flops_per_token", None)):  # ours or not
        return int(count(context_length))
    own = sum(2 * weight.numel() for weight in module.parameters(recurse=False) if weight.ndim >= 2)
    return own + sum(_flops(child, context_length) for child in module.children())


def _saved(module: nn.Module, context_length: int) -> int:
    if callable(count := getattr(module, "activation_elements_per_token", None)):
        return int(count(context_length))
    if isinstance(module, nn.Linear):
        return module.in_features + module.out_features
    return sum(_saved(child, context_length) for child in module.children())


class DecoderCosts(nn.Module):
    """Parameters, FLOPs and bytes of a ``Decoder``."""

    vocab_size: int
    dim: int
    num_layers: int
    context_length: int
    blocks: nn.ModuleList
    head: Accounted
    lookahead: Any

    @property
    def layers(self) -> list[Any]:
        return list(self.blocks)

    def num_parameters(self) -> int:
        """Number of parameters; a tied head has none of its own."""
        return sum(parameter.numel() for parameter in self.parameters())

    def num_parameters_by_role(self) -> dict[Role, int]:
        """Number of parameters of each role, every role listed; a shared parameter counts once."""
        roles = parameter_roles(self)
        counts: dict[Role, int] = dict.fromkeys(ROLES, 0)
        for name, parameter in self.named_parameters():
            counts[roles[name]] += parameter.numel()
        return counts

    def flops_per_token(self, context_length: int | None = None) -> int:
        """Forward FLOPs of one token in a context of that length (None: the model's own)."""
        length = self.context_length if context_length is None else context_length
        return sum(block.flops_per_token(length) for block in self.layers) + self.head.flops_per_token(length)

    def training_flops_per_token(self, context_length: int | None = None) -> int:
        """FLOPs of training on one token, three forward passes; ``lookahead`` passes through the head as well."""
        length = self.context_length if context_length is None else context_length
        forward = self.flops_per_token(length)
        if self.lookahead is not None:
            forward += self.lookahead.flops_per_token(length)
            forward += self.lookahead.depth * self.head.flops_per_token(length)
        return 3 * forward

    def needed_training_flops_per_token(self, context_length: int | None = None) -> float:
        """``training_flops_per_token`` without the attention scores that the mask throws away (``attended_keys``)."""
        length = self.context_length if context_length is None else context_length
        spared = 0.0
        for block in self.layers:
            # The cost is linear in the number of keys, so its slope is the cost of one.
            of_all_keys = block.flops_per_token(length) - block.flops_per_token(0)
            spared += of_all_keys * (1.0 - block.attention.attended_keys(length) / length)
        return self.training_flops_per_token(length) - 3 * spared

    def num_active_parameters(self) -> int:
        """Parameters that predict one token: all but ``lookahead``'s and those of experts that are not chosen."""
        ahead = set() if self.lookahead is None else set(self.lookahead.modules())
        idle = sum(parameter.numel() for module in ahead for parameter in module.parameters(recurse=False))
        for module in self.modules():
            count = getattr(module, "num_inactive_parameters", None)
            if count is not None and module not in ahead:
                idle += count()
        return self.num_parameters() - idle

    def cache_bytes(self, length: int, bytes_per_element: int = 2) -> int:
        """Bytes that a sequence of ``length`` tokens takes in the cache, all layers; 2 an element is bfloat16."""
        return bytes_per_element * sum(block.attention.cache_elements(length) for block in self.layers)

    def cache_bytes_per_token(self, bytes_per_element: int = 2) -> int:
        """The same by token of a full context, rounded down (windowed layers cache less than the whole context)."""
        return self.cache_bytes(self.context_length, bytes_per_element) // self.context_length

    def activation_bytes(
        self,
        batch_size: int,
        context_length: int | None = None,
        bytes_per_element: float = 4.0,
        chunk_tokens: int | None = None,
    ) -> int:
        """Bytes that training on one batch takes at its peak, where the backward pass begins:

            batch_size length (bytes_per_element sum over parts of a(part)) + 12 vocab_size scored

        a(part) is ``activation_elements_per_token``: of the blocks, of ``lookahead``, of the final norm and the head. A
        score takes three float32 numbers: its log-probability, that one's gradient, its own. ``scored`` are the tokens
        times the predictions of each; with ``chunk_tokens``, which go through the head at a time, at most two thirds of
        those, as log-probability and gradient are one number there. What
        dropout saves is left out. bytes_per_element is 4 in float32, ``AUTOCAST_BYTES`` where products are bfloat16.
        """
        length = self.context_length if context_length is None else context_length
        elements = sum(block.activation_elements_per_token(length) for block in self.layers)
        predictions = 1 if self.lookahead is None else 1 + self.lookahead.depth
        if self.lookahead is not None:
            elements += self.lookahead.activation_elements_per_token(length)
        # The features before the final norm; then, for each prediction, what the head saves.
        elements += self.dim + predictions * self.head.activation_elements_per_token(length)
        tokens = batch_size * length
        scored = tokens * predictions if chunk_tokens is None else 2 * min(chunk_tokens, tokens) / 3
        return int(tokens * elements * bytes_per_element + BYTES_PER_SCORE * self.vocab_size * scored)

    def validation_bytes(self, tokens: int, context_length: int | None = None, bytes_per_element: float = 4.0) -> int:
        """Bytes that scoring so many tokens at once takes without gradients: one block's numbers, and 12 a score.

        Of the scores there are then those of this batch and of the one before, and their log-probabilities.
        """
        length = self.context_length if context_length is None else context_length
        block = max(block.activation_elements_per_token(length) for block in self.layers)
        return int(tokens * block * bytes_per_element) + BYTES_PER_SCORE * self.vocab_size * tokens
