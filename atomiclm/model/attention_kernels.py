"""Scores, weights and the weighted mean of values: the same function in three kernels.

    explicit   plain products and a softmax in float32 or wider: the oracle of the others, the one whose FLOPs torch's
               counter sees, and the only one that any new kind of scores runs in
    sdpa       ``F.scaled_dot_product_attention``: torch's fused kernels, for a plain softmax
    flex       FlexAttention (Dong et al. 2024, arXiv 2412.05496), which skips what the mask hides block by block

``auto``, unless ``with attention_kernel(name):`` says otherwise, takes sdpa for a plain softmax and explicit for the
rest; on CUDA, flex where it has blocks to skip or scores to fuse. On a CPU it takes explicit also in a large step of
decoding, perhaps with values summed as bags of embeddings; and in training in bfloat16, with a softmax of the rounded
products, a quarter of the queries at a time where there are more keys (see ``_kernel``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from atomiclm.model.attention_mask import FLEX_BLOCK, Visible
from atomiclm.model.attention_scores import EXPLICIT, FLEX, SDPA, Scores

Kernel = Literal["auto", "explicit", "sdpa", "flex"]
AUTO: Kernel = "auto"

# Its CUDA kernels need heads this wide (torch.nn.attention.flex_attention).
_FLEX_MIN_WIDTH = 16

_NARROW = "explicit, products not widened"
_NARROW_KEYS = 128
"""The CPU's fused kernel takes several times as long backwards in bfloat16 as plain products (benchmarks/training.py);
with more keys the weights, which those save, take a quarter of a run's memory and more. A score is rounded to bfloat16,
so a weight to about 2^-9 of its score."""
_NARROW_KEYS_COMPILED = 256
"""Up to so many, quarters are no faster once compiled, and their code takes 24 s more to compile."""

_QUARTERS = "narrow, a quarter of the queries at a time, weights computed again backwards"
_QUARTERS_KEYS = 512
"""So many keys take 0.75 of the fused kernel's time, 1024 up to 1.2 of it, and their quarters memory of their own."""

_STEP = "explicit, values summed as bags"
_STEP_NUMBERS = 2**19
"""With so many numbers in the values, 16 rows of 4 heads and 128 tokens of width 64, say, a step of decoding takes 0.8
to 1.0 of the fused kernel's time in float32, 0.15 to 0.6 in bfloat16 (an AMD processor); with few, calls cost more. For
keys and values of two widths, as of latents, there is none: plain products decode 32 rows in 0.4 of the time."""

# A plain global: torch.compile guards on it and compiles anew when it changes.
_chosen: Kernel = AUTO
_recorded: list[Tensor] | None = None  # where weights are recorded, while somebody asks for them


@contextmanager
def attention_kernel(kernel: Kernel) -> Iterator[None]:
    """Compute all attention of this process in one kernel inside. Raises ValueError for one that is not known."""
    global _chosen
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel={kernel!r} is not known; give one of {', '.join(get_args(Kernel))}")
    before = _chosen
    _chosen = kernel
    try:
        yield
    finally:
        _chosen = before


@contextmanager
def recording_weights() -> Iterator[list[Tensor]]:
    """Attend in the explicit kernel inside, and record the weights of each call, (batch, heads, queries, keys)."""
    global _recorded
    before = _recorded
    _recorded = []
    try:
        with attention_kernel("explicit"):
            yield _recorded
    finally:
        _recorded = before


def record_weights(weights: Tensor) -> None:
    """Offer the weights (batch, heads, queries, keys) of an attention that computes them without ``attend``.

    Does nothing unless somebody looks (``atomiclm.model.look``).
    """
    if _recorded is not None:
        _recorded.append(weights)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible,
    scores: Scores,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """``weights(transform(scale * q k^T) + bias + mask) v``: (batch, num_heads, queries, width of value).

    query     (batch, num_heads, queries, width)
    key       (batch, num_kv_heads, keys, width); query head h reads key head ``h // (num_heads / num_kv_heads)``
    value     (batch, num_kv_heads, keys, any width)
    dropout   probability with which a weight is dropped; 0 outside training
    scale     factor on the products; None is that of ``scores``
    """
    if scale is None:
        scale = query.shape[-1] ** -0.5 if scores.scale is None else scores.scale
    kernel = _kernel(query, value, visible, scores, dropout)
    if kernel == SDPA:
        return _sdpa(query, key, value, visible, scale, dropout)
    if kernel == FLEX:
        return _flex(query, key, value, visible, scores, scale)
    if kernel == _QUARTERS:
        key, value = key.to(query.dtype), value.to(query.dtype)
        mixed: Tensor = _Quarters.apply(query, key, value, visible.additive(query.dtype), scale)
        return mixed
    return _explicit(query, key, value, visible, scores, scale, dropout, kernel)


def _kernel(query: Tensor, value: Tensor, visible: Visible, scores: Scores, dropout: float) -> str:
    """The chosen kernel, or on auto the fastest that can. Raises ValueError where the chosen one cannot."""
    if _chosen != AUTO:
        if _chosen not in scores.kernels:
            able = ", ".join(scores.kernels)
            raise ValueError(f"kernel={_chosen} cannot compute {type(scores).__name__}; use one of auto, {able}")
        if _chosen == FLEX and dropout:
            raise ValueError(f"kernel=flex cannot drop attention weights (dropout={dropout}); use auto, or dropout=0")
        return _chosen
    flex_can = (
        FLEX in scores.kernels
        and query.is_cuda
        and _has_triton()
        and not dropout
        and query.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and min(query.shape[-1], value.shape[-1]) >= _FLEX_MIN_WIDTH
        # A decoding step has one query, and new shapes at every length: nothing to skip, and a compilation each.
        and visible.mask.offset == 0
        and visible.slots is None
        and query.shape[2] >= FLEX_BLOCK
    )
    has_blocks_to_skip = visible.window is not None or visible.mask.documents is not None
    if flex_can and (has_blocks_to_skip or SDPA not in scores.kernels):
        return FLEX
    is_step = query.is_cpu and query.shape[2] == 1 and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if is_step and (value.numel() >= _STEP_NUMBERS or query.shape[-1] != value.shape[-1]):
        is_table = value.stride(-1) == 1 and not any(step % value.shape[-1] for step in value.stride()[:-1])
        return _STEP if query.shape[1] == value.shape[1] and is_table else EXPLICIT
    if SDPA not in scores.kernels:
        return EXPLICIT
    if query.is_cpu and query.dtype == torch.bfloat16 and query.requires_grad and torch.is_grad_enabled():
        if visible.num_keys <= (_NARROW_KEYS_COMPILED if torch.compiler.is_compiling() else _NARROW_KEYS):
            return _NARROW
        is_constant = not dropout and not (visible.bias is not None and visible.bias.requires_grad)
        if visible.num_keys <= _QUARTERS_KEYS and visible.mask.offset == 0 and is_constant:
            return _QUARTERS
    return SDPA


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible,
    scores: Scores,
    scale: float,
    dropout: float,
    kernel: str,
) -> Tensor:
    num_kv_heads, time = key.shape[1], query.shape[2]
    products = _ungrouped(_grouped(query, num_kv_heads) @ key.mT, time)
    if kernel != _NARROW:
        products = products.to(torch.promote_types(products.dtype, torch.float32))
    transformed = scores.transform(products * scale)
    if not visible.is_everything:
        transformed = transformed + visible.additive(transformed.dtype)
    weights = scores.weights(transformed)
    record_weights(weights)
    weights = F.dropout(weights, dropout).to(value.dtype)
    if kernel == _STEP:
        return _sum_bags(weights, value)
    return _ungrouped(_grouped(weights, num_kv_heads) @ value, time)


def _sum_bags(weights: Tensor, value: Tensor) -> Tensor:
    """``weights @ value`` for one query a head, (rows, heads, 1, keys) and (rows, heads, keys, width).

    A bag of embeddings each, from the table of all vectors that lie where the values do, the cache: products of all
    heads at once, where the fused kernel makes one a head, and values are read at the speed of memory.
    """
    width = value.shape[-1]
    places = _places(value.shape[:-1], tuple(step // width for step in value.stride()[:-1]))
    table = value.as_strided((int(places[-1, -1]) + 1, width), (width, 1))
    mixed = F.embedding_bag(places, table, mode="sum", per_sample_weights=weights.flatten(0, 2))
    return mixed.view(*value.shape[:2], 1, width)


@lru_cache(maxsize=1)  # the layers of a pass have the same
def _places(shape: tuple[int, int, int], steps: tuple[int, int, int]) -> Tensor:
    """(rows * heads, keys) int64: where each vector lies in the table, from strides counted in vectors."""
    rows, heads, keys = (torch.arange(size, device="cpu") * step for size, step in zip(shape, steps, strict=True))
    return (rows[:, None, None] + heads[:, None] + keys).flatten(0, 1)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float, dropout: float) -> Tensor:
    unmasked = visible.is_causal or visible.is_everything
    value_width, width = value.shape[-1], max(query.shape[-1], value.shape[-1])
    if query.shape[-1] != value_width and query.device.type == "cpu" and query.shape[2] > 1:
        # The CPU's fused kernel wants one width, and zeros more than pay for it: they spare the matrix of scores.
        query, key, value = (F.pad(each, (0, width - each.shape[-1])) for each in (query, key, value))
    mixed = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if unmasked else visible.additive(query.dtype),
        dropout_p=dropout,
        is_causal=visible.is_causal and not visible.is_everything,
        scale=scale,
        enable_gqa=True if key.shape[1] != query.shape[1] else False,  # noqa: SIM210 - no symbol, where it is compiled
    )
    return mixed[..., :value_width]


class _Quarters(torch.autograd.Function):
    """``softmax(scale * q k^T + mask) v`` of a whole text, a quarter of the queries at a time.

    No query sees a key after it, so three eighths of the products are left out; and no weights are saved, but computed
    again backwards (as in Dao et al. 2022, arXiv 2205.14135, whose blocks are of keys as well).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        ctx.scale = scale
        mixed = value.new_empty(len(query), query.shape[2], query.shape[1], value.shape[-1]).transpose(1, 2)
        for quarter in _quarters(query):
            _, weights = _narrow_weights(query, key, mask, scale, quarter)
            mixed[:, :, quarter] = _ungrouped(weights @ value[:, :, : quarter.stop], quarter.stop - quarter.start)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        of_query = torch.empty_like(query)
        wide = torch.promote_types(key.dtype, torch.float32)
        of_key, of_value = (torch.zeros_like(each, dtype=wide) for each in (key, value))
        for quarter in _quarters(query):
            end = quarter.stop
            grouped, weights = _narrow_weights(query, key, mask, ctx.scale, quarter)
            of_mixed = _grouped(gradient[:, :, quarter], key.shape[1])
            of_weights = of_mixed @ value[:, :, :end].mT
            of_products = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scale)
            of_query[:, :, quarter] = _ungrouped(of_products @ key[:, :, :end], end - quarter.start)
            of_key[:, :, :end] += of_products.mT @ grouped
            of_value[:, :, :end] += weights.mT @ of_mixed
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype), None, None


def _quarters(query: Tensor) -> list[slice]:
    return [slice(begin, end) for begin, end in pairwise(query.shape[2] * quarter // 4 for quarter in range(5))]


def _narrow_weights(query: Tensor, key: Tensor, mask: Tensor, scale: float, some: slice) -> tuple[Tensor, Tensor]:
    """Some queries, grouped, and their weights (batch, kv heads, queries of a group, keys) of rounded products."""
    grouped = _grouped(query[:, :, some], key.shape[1])
    products = (grouped @ key[:, :, : some.stop].mT).mul_(scale)
    _ungrouped(products, some.stop - some.start).add_(mask[..., some, : some.stop])
    return grouped, products.softmax(-1)


def _grouped(queries: Tensor, num_kv_heads: int) -> Tensor:
    """(batch, heads, time, any) to (batch, kv heads, heads of a group * time, any): one after the other, so that keys
    and values need not be repeated.
    """
    return queries.unflatten(1, (num_kv_heads, -1)).flatten(2, 3)


def _ungrouped(mixed: Tensor, time: int) -> Tensor:
    return mixed.unflatten(2, (-1, time)).flatten(1, 2)


def _flex(query: Tensor, key: Tensor, value: Tensor, visible: Visible, scores: Scores, scale: float) -> Tensor:
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    bias = visible.bias
    if bias is not None:
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])

    def score(product: Tensor, batch: Tensor, head: Tensor, query_at: Tensor, key_at: Tensor) -> Tensor:
        transformed = scores.transform(product)
        return transformed if bias is None else transformed + bias[batch, head, query_at, key_at].to(product.dtype)

    # It is a fused kernel only when compiled, by us or around us.
    compute: Any = flex_attention if torch.compiler.is_compiling() else _standalone_flex(query.is_cuda)
    mixed, aux = compute(
        query,
        key,
        value,
        score_mod=score,
        block_mask=visible.blocks(),
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
        return_aux=AuxRequest(lse=True),
    )
    assert aux.lse is not None, "it was asked for"
    share = scores.share(aux.lse)
    return mixed if share is None else mixed * share[..., None].to(mixed.dtype)


@cache
def _standalone_flex(fused: bool) -> Callable[..., Any]:
    """FlexAttention outside a compiled model: compiled by itself, or unfused on the CPU."""
    from torch._dynamo import config
    from torch.nn.attention.flex_attention import flex_attention

    function = torch.compile(flex_attention) if fused else flex_attention

    def call(*arguments: Any, **settings: Any) -> Any:
        # It traces the scores. Two models with two caps would make the cap a symbol, which FlexAttention cannot take.
        with config.patch(specialize_float=True):
            return function(*arguments, **settings)

    return call


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
