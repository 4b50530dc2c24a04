"""What happens inside a decoder: the residual stream after each block, and the attention weights of each layer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.model.attention_kernels import recording_weights
from atomiclm.model.components import evaluating
from atomiclm.model.decoder import Decoder


@dataclass(frozen=True)
class Look:
    """One forward pass, with what it computed on its way.

    logits      (batch, time, vocab_size)
    hidden      num_layers + 1 tensors (batch, time, dim): the residual stream as it enters the first block, then after
                each block. What the model would predict there is ``model.logits(model.norm(hidden[i]))`` (the logit
                lens: nostalgebraist 2020); with the last it is ``logits``
    attention   num_layers tensors (batch, num_heads, time, time): ``attention[layer][b, h, i, j]`` is the weight that
                head h gives token j when it mixes values for token i, 0 for what it does not see. Each row sums to 1,
                or with ``SinkSoftmax`` to what the sink leaves. None for a layer without weights (``NoAttention``)
    """

    logits: Tensor
    hidden: list[Tensor]
    attention: list[Tensor | None]


def look(model: Decoder, tokens: Tensor, documents: Tensor | None = None) -> Look:
    """Run ``model`` in eval mode, without gradients, and return what it computed inside; arguments as ``forward``'s.

    Attention runs in the explicit kernel, so logits equal those of ``model(tokens)`` to rounding. Weights are seen of
    any attention that calls ``attend``, or that calls ``record_weights`` with its own; one that does neither is None.
    An attention that attends several times in a pass has all its heads, in order, in one tensor.

    Weights of all layers take ``4 num_layers num_heads time^2`` bytes a row.
    """
    hidden: list[Tensor] = []
    attention: list[Tensor | None] = []
    # Not in inference mode, whose tensors could not be what a probe is trained on.
    with recording_weights() as recorded, evaluating(model), torch.inference_mode(False), torch.no_grad():

        def after(block: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            hidden.extend([output] if hidden else [arguments[0], output])
            attention.append(torch.cat(recorded, 1) if recorded else None)
            recorded.clear()

        hooks = [block.register_forward_hook(after) for block in model.blocks]
        try:
            logits = model(tokens, documents=documents)
        finally:
            for hook in hooks:
                hook.remove()
    return Look(logits, hidden, attention)
