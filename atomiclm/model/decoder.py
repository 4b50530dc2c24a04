"""The decoder: token embedding, blocks, final norm, head."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.model.accounting import Accounted, DecoderCosts
from atomiclm.model.attention import Attention, MultiHeadAttention
from atomiclm.model.attention_mask import CausalMask
from atomiclm.model.block import Block, TransformerBlock
from atomiclm.model.cache import KVCache
from atomiclm.model.components import PartError, check_dropout, check_positive, supply_part
from atomiclm.model.embedding import Embedding, Head
from atomiclm.model.feedforward import SwiGLU
from atomiclm.model.init import Initialisation, NormalInit
from atomiclm.model.multi_token_prediction import Lookahead, Prediction
from atomiclm.model.norm import RMSNorm
from atomiclm.model.position import AttentionContext, Position
from atomiclm.model.rope import RotaryEmbedding

_FOUR_HEADS = partial(MultiHeadAttention, num_heads=4)


class Decoder(DecoderCosts):
    """Decoder-only language model: ``logits = head(norm(block_L(... block_1(embedding(tokens)))))``.

    With its defaults it is a small LLaMA (Touvron et al. 2023, arXiv 2302.13971) with tied embeddings.

    Components are classes or partials of them, and each is called with the sizes its constructor names: all get dim,
    num_layers, context_length, vocab_size and dropout, those of a block also layer (from 0), and the position scheme
    num_heads and head_dim of the first layer's attention. What a component refuses is a ValueError that begins with
    its path, ``attention: ...``. ``Decoder(vocab_size=512, dim=128, num_layers=4, context_length=256,
    attention=partial(MultiHeadAttention, num_heads=8, num_kv_heads=2))`` is a model. What one costs is in
    ``DecoderCosts``; on torch's meta device it is built without numbers, to ask that.

    context_length   the length trained on; whether longer inputs work is the position scheme's affair
    final_norm       the norm before the head; None is ``norm``
    lookahead        predicts further tokens, in training alone (see ``Lookahead``)
    init             is given the built decoder and returns its first weights and scales (None: those that it has); None
                     is ``NormalInit()``. Building leaves the global random state as it was
    dropout          on the embeddings, the attention weights and what blocks add to the stream, in training mode
    """

    head: Head

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        num_layers: int,
        context_length: int,
        attention: Callable[..., Attention] = _FOUR_HEADS,
        feedforward: Callable[..., Accounted] = SwiGLU,
        norm: Callable[..., nn.Module] = RMSNorm,
        position: Callable[..., Position] = RotaryEmbedding,
        block: Callable[..., Block] = TransformerBlock,
        head: Callable[..., Head] = Head,
        embedding: Callable[..., nn.Embedding] = Embedding,
        final_norm: Callable[..., nn.Module] | None = None,
        lookahead: Callable[..., Lookahead] | None = None,
        init: Callable[["Decoder"], Initialisation | None] | None = None,
        tie_embeddings: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes: dict[str, Any] = {
            "vocab_size": vocab_size, "dim": dim, "num_layers": num_layers, "context_length": context_length,
        }  # fmt: skip
        check_positive(**sizes)
        check_dropout(dropout)
        self.vocab_size = vocab_size
        self.dim = dim
        self.num_layers = num_layers
        self.context_length = context_length
        sizes["dropout"] = dropout

        def build_block(layer: int) -> Block:
            # Each builder makes a new module at each call: layers share no weights.
            builders = {
                "attention": partial(supply_part, "attention", attention, Attention, layer=layer, **sizes),
                "feedforward": partial(supply_part, "feedforward", feedforward, Accounted, layer=layer, **sizes),
                "norm": partial(supply_part, "norm", norm, None, layer=layer, **sizes),
            }
            return _supply_builders("block", block, Block, layer=layer, **sizes, **builders)

        # Modules of torch draw their first weights from the global random state; init replaces them all.
        device = torch.get_default_device()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.embedding = supply_part("embedding", embedding, **sizes)
            self.blocks = nn.ModuleList(build_block(layer) for layer in range(num_layers))
            first = self.layers[0].attention
            heads = {"num_heads": first.num_heads, "head_dim": first.head_dim}
            self.position = supply_part("position", position, Position, **heads, **sizes)
            self.norm = supply_part("final_norm", norm if final_norm is None else final_norm, **sizes)
            self.head = supply_part("head", head, Accounted, tie_embeddings=tie_embeddings, **sizes)
            self.lookahead = None
            if lookahead is not None:
                builders = {"block": build_block, "norm": partial(supply_part, "norm", norm, **sizes)}
                self.lookahead = _supply_builders("lookahead", lookahead, Lookahead, **(sizes | builders))
            self.dropout = nn.Dropout(dropout)
        _check_positions_fit(self.position, [*self.layers, *(self.lookahead.layers if self.lookahead else [])])
        # Those that may take part in a step beyond `forward`, found once: a scan of all modules takes a millisecond.
        self._parts = [m for m in self.modules() if m is not self and not type(m).__module__.startswith("torch.")]
        self.lr_multipliers: dict[str, float] = {}
        self._initialise(init or NormalInit())

    @torch.no_grad()
    def _initialise(self, init: Callable[["Decoder"], Initialisation | None]) -> None:
        try:
            initial = init(self)
        except ValueError as error:
            raise PartError("init", error) from error
        if initial is None:
            return
        for name, parameter in self.named_parameters():
            if not parameter.is_meta and (weight := initial.weight(name)) is not None:
                parameter.copy_(weight)
        self.lr_multipliers = dict(initial.lr_multipliers)
        self.head.scale *= initial.logits_scale
        if isinstance(self.embedding, Embedding) and self.embedding.scale == "sqrt_dim":
            self.embedding.scale = initial.embedding_scale or "sqrt_dim"
        for name, scale in initial.score_scales.items():
            attention: Any = self.get_submodule(name)
            attention.scores.scale = scale

    def forward(self, tokens: Tensor, cache: KVCache | None = None, documents: Tensor | None = None) -> Tensor:
        """Score the next token at every position.

        tokens      (batch, time) int64 in [0, vocab_size)
        cache       tokens follow those already in it, and are added to it
        documents   (batch, time) int64: attention and positions stay within tokens of equal ids; None is one document
        returns     logits (batch, time, vocab_size)
        """
        return self.logits(self.hidden(tokens, cache, documents))

    def hidden(self, tokens: Tensor, cache: KVCache | None = None, documents: Tensor | None = None) -> Tensor:
        """Features (batch, time, dim) after the final norm: all of ``forward`` but the head."""
        return self._run(tokens, self._contexts(tokens, cache, documents), cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocab_size) of features (..., dim)."""
        return self.head(hidden, self.embedding.weight)

    def predictions(
        self, tokens: Tensor, targets: Tensor, mask: Tensor | None = None, documents: Tensor | None = None
    ) -> list[Prediction]:
        """What a loss scores: the next token's, and in training mode those of each depth of ``lookahead``.

        targets (batch, time) int64 are the tokens that follow, mask (batch, time) is True where they count.
        """
        contexts = self._contexts(tokens, None, documents)
        hidden = self._run(tokens, contexts, None)
        first = Prediction(hidden, targets, mask, 1.0)
        if self.lookahead is None or not self.training:
            return [first]
        ahead = self.lookahead.predictions(hidden, targets, mask, documents, self.embedding, contexts.__getitem__)
        return [first, *ahead]

    def _contexts(self, tokens: Tensor, cache: KVCache | None, documents: Tensor | None) -> list[AttentionContext]:
        """What the attention of each layer needs to know; layers of one position scheme share it."""
        self._check(tokens, documents)
        batch, time = tokens.shape
        end = time if cache is None else cache.length + time
        limit = self.position.max_length
        if limit is not None and end > limit:
            raise ValueError(
                f"{end} positions asked of {type(self.position).__name__}, which has {limit} (context_length); shorten "
                "the input, train with a larger context_length, or use positions that extend (position=rope or "
                "position=none)"
            )
        if cache is not None:
            documents = cache.add_documents(documents, batch, time)
        mask = CausalMask(time, end, device=tokens.device, documents=documents)
        # The same for a prompt and all that follows it, so that no score depends on how many tokens there are yet.
        length = max(self.context_length, end if cache is None else cache.max_length)
        depth = self.lookahead.depth if self.lookahead is not None and self.training else 0
        schemes = [self.position.of_layer(layer) for layer in range(self.num_layers + depth)]
        contexts = {scheme: AttentionContext.build(scheme, mask, length) for scheme in dict.fromkeys(schemes)}
        return [contexts[scheme] for scheme in schemes]

    def _run(self, tokens: Tensor, contexts: list[AttentionContext], cache: KVCache | None) -> Tensor:
        hidden = self.embedding(tokens)
        for scheme in dict.fromkeys([context.position for context in contexts[: self.num_layers]]):
            hidden = scheme.embed(hidden, contexts[0].positions)
        hidden = self.dropout(hidden)
        for layer, block in enumerate(self.blocks):
            hidden = block(hidden, contexts[layer], None if cache is None else cache.layers[layer])
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.norm(hidden)

    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype | None = None) -> KVCache:
        """An empty cache for ``max_length`` tokens a row, on the model's device.

        ``dtype=None`` is what keys and values are computed in: autocast's where it is on, else the parameters'.
        """
        weight = self.embedding.weight
        if dtype is None:
            autocast = torch.is_autocast_enabled(weight.device.type)
            dtype = torch.get_autocast_dtype(weight.device.type) if autocast else weight.dtype
        layers = [block.attention.make_cache(batch_size, max_length, dtype) for block in self.layers]
        return KVCache(layers, batch_size, max_length, weight.device)

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Weighted losses of the last forward pass in training mode, by name, over all layers.

        A module has them in ``auxiliary: dict[str, Tensor]``, scalars, each a mean over all tokens of the pass.
        """
        totals: dict[str, Tensor] = {}
        for module in self._parts:
            for name, loss in getattr(module, "auxiliary", {}).items():
                totals[name] = totals[name] + loss if name in totals else loss
        return totals

    def step_counts(self) -> Iterator[Tensor]:
        """Yield what modules count over a whole step, by their ``step_counts()``: of several processes, in all."""
        for module in self._parts:
            if callable(counts := getattr(module, "step_counts", None)):
                yield from counts()

    @property
    def needs_survey(self) -> bool:
        """Whether a module, by its ``needs_survey``, must see the whole batch before the step's micro-batches.

        A survey runs all of them in training mode without gradients, and ends with ``after_survey``.
        """
        return any(getattr(module, "needs_survey", False) for module in self._parts)

    def after_survey(self) -> None:
        """Call ``after_survey`` of the modules that have it: the passes since the last step were a survey."""
        self._call_on_modules("after_survey")

    def after_step(self) -> None:
        """Call ``after_step`` of the modules that have it: the optimizer has taken a step."""
        self._call_on_modules("after_step")

    def discard_step(self) -> None:
        """Call ``discard_step`` of the modules that have it: the step begun is not taken, nor counted."""
        self._call_on_modules("discard_step")

    def _call_on_modules(self, name: str) -> None:
        for module in self._parts:
            if callable(method := getattr(module, name, None)):
                method()

    def _check(self, tokens: Tensor, documents: Tensor | None) -> None:
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}: need (batch, time) with at least one token")
        if documents is not None and documents.shape != tokens.shape:
            raise ValueError(f"documents {tuple(documents.shape)} must have the shape of tokens {tuple(tokens.shape)}")
        # On an accelerator this would wait for the device, and in a compiled graph break it.
        if tokens.device.type == "cpu" and not torch.compiler.is_compiling() and tokens.numel():
            low, high = map(int, tokens.aminmax())
            if low < 0 or high >= self.vocab_size:
                raise ValueError(
                    f"token ids from {low} to {high}, but vocab_size={self.vocab_size} allows 0 to "
                    f"{self.vocab_size - 1}; was the text encoded with the tokenizer this model was built for?"
                )


def _supply_builders[Built](part: str, component: Callable[..., Built], interface: type, /, **sizes: Any) -> Built:
    """``supply_part`` for a part that is given builders of others, whose errors have paths of their own."""
    try:
        return supply_part(part, component, interface, **sizes)
    except PartError as error:
        if isinstance(error.__cause__, PartError):
            raise error.__cause__ from None
        raise


def _check_positions_fit(position: Position, layers: list[Block]) -> None:
    """Raise PartError unless a scheme built for heads of a width or number gets them in each layer that uses it."""
    for layer, attention in enumerate(block.attention for block in layers):
        scheme = position.of_layer(layer)
        if not attention.attended_keys(1):
            continue  # what looks at no token needs no positions
        for name in ("num_heads", "head_dim"):
            own = getattr(attention, name)
            expected = getattr(scheme, name, own)
            if expected != own:
                reason = (
                    f"{type(scheme).__name__} was built for {name}={expected}, but the attention of layer {layer} has "
                    f"{name}={own}; give all layers the same, or each kind of layer a scheme of its own with "
                    f"PositionPattern and {name} stated"
                )
                raise PartError("position", ValueError(reason))
