"""A decoder-only transformer built from components, each one class in one file.

Names are loaded on first use, so that ``atomiclm.model.rules`` (checked before anything runs) costs no import of torch.
"""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.model.alibi import Alibi
    from atomiclm.model.attend import attention_kernel
    from atomiclm.model.attention import Attention, MultiHeadAttention
    from atomiclm.model.block import Block, ResidualBlock, TransformerBlock
    from atomiclm.model.cache import KVCache, LayerCache, WindowCache
    from atomiclm.model.context import AttentionContext
    from atomiclm.model.decoder import Decoder
    from atomiclm.model.embedding import Embedding
    from atomiclm.model.experts import Experts
    from atomiclm.model.feedforward import (
        GEGLU,
        GLU,
        Bilinear,
        ClampedSwiGLU,
        FeedForward,
        GatedFeedForward,
        ReGLU,
        SwiGLU,
    )
    from atomiclm.model.gate import OutputGate
    from atomiclm.model.head import Head, SoftcapHead
    from atomiclm.model.init import FanInInit, Initialiser, NormalInit, TruncatedNormalInit, ZeroOutputInit
    from atomiclm.model.latent_attention import LatentAttention
    from atomiclm.model.linear import ResidualLinear
    from atomiclm.model.lookahead import Lookahead, ParallelPrediction, SequentialPrediction
    from atomiclm.model.loss import cross_entropy
    from atomiclm.model.mask import CausalMask
    from atomiclm.model.moe import MixtureOfExperts
    from atomiclm.model.mup import MaximalUpdateInit
    from atomiclm.model.no_attention import NoAttention
    from atomiclm.model.norm import LayerNorm, NoNorm, Norm, OffsetRMSNorm, RMSNorm
    from atomiclm.model.objective import Loss, NextToken, Objective
    from atomiclm.model.parallel_block import ParallelBlock
    from atomiclm.model.pattern import LayerPattern, PositionPattern
    from atomiclm.model.position import LearnedPosition, NoPosition, Position
    from atomiclm.model.post_norm import PostNormBlock
    from atomiclm.model.query_key_norm import HeadNorm, PlainHeadNorm, QueryKeyNorm, WidthNorm
    from atomiclm.model.reordered_norm import ReorderedNormBlock
    from atomiclm.model.roles import parameter_roles
    from atomiclm.model.rope import RotaryEmbedding
    from atomiclm.model.rope_interpolation import PositionInterpolation
    from atomiclm.model.rope_llama3 import Llama3Scaling
    from atomiclm.model.rope_ntk import DynamicNTK, NTKAware
    from atomiclm.model.rope_proportional import ProportionalRotary
    from atomiclm.model.rope_yarn import YaRN
    from atomiclm.model.router import GroupLimitedSoftmax, Router, Routing, SigmoidTopK, SoftmaxTopK
    from atomiclm.model.sandwich_norm import SandwichNormBlock
    from atomiclm.model.scores import CappedSoftmax, Scores, SinkSoftmax, Softmax
    from atomiclm.model.sinusoidal import Sinusoidal
    from atomiclm.model.sizes import PartError, supply
    from atomiclm.model.visible import Visible

_MODULE_OF = {
    "Alibi": "alibi",
    "Attention": "attention",
    "AttentionContext": "context",
    "Bilinear": "feedforward",
    "Block": "block",
    "CappedSoftmax": "scores",
    "CausalMask": "mask",
    "ClampedSwiGLU": "feedforward",
    "Decoder": "decoder",
    "DynamicNTK": "rope_ntk",
    "Embedding": "embedding",
    "Experts": "experts",
    "FanInInit": "init",
    "FeedForward": "feedforward",
    "GEGLU": "feedforward",
    "GLU": "feedforward",
    "GatedFeedForward": "feedforward",
    "GroupLimitedSoftmax": "router",
    "Head": "head",
    "HeadNorm": "query_key_norm",
    "Initialiser": "init",
    "KVCache": "cache",
    "LatentAttention": "latent_attention",
    "LayerCache": "cache",
    "LayerNorm": "norm",
    "LayerPattern": "pattern",
    "LearnedPosition": "position",
    "Llama3Scaling": "rope_llama3",
    "Lookahead": "lookahead",
    "Loss": "objective",
    "MaximalUpdateInit": "mup",
    "MixtureOfExperts": "moe",
    "MultiHeadAttention": "attention",
    "NTKAware": "rope_ntk",
    "NextToken": "objective",
    "NoAttention": "no_attention",
    "NoNorm": "norm",
    "NoPosition": "position",
    "Norm": "norm",
    "NormalInit": "init",
    "Objective": "objective",
    "OffsetRMSNorm": "norm",
    "OutputGate": "gate",
    "ParallelBlock": "parallel_block",
    "ParallelPrediction": "lookahead",
    "PartError": "sizes",
    "PlainHeadNorm": "query_key_norm",
    "Position": "position",
    "PositionInterpolation": "rope_interpolation",
    "PositionPattern": "pattern",
    "PostNormBlock": "post_norm",
    "ProportionalRotary": "rope_proportional",
    "QueryKeyNorm": "query_key_norm",
    "RMSNorm": "norm",
    "ReGLU": "feedforward",
    "ReorderedNormBlock": "reordered_norm",
    "ResidualBlock": "block",
    "ResidualLinear": "linear",
    "RotaryEmbedding": "rope",
    "Router": "router",
    "Routing": "router",
    "SandwichNormBlock": "sandwich_norm",
    "Scores": "scores",
    "SequentialPrediction": "lookahead",
    "SigmoidTopK": "router",
    "SinkSoftmax": "scores",
    "Sinusoidal": "sinusoidal",
    "SoftcapHead": "head",
    "Softmax": "scores",
    "SoftmaxTopK": "router",
    "SwiGLU": "feedforward",
    "TransformerBlock": "block",
    "TruncatedNormalInit": "init",
    "Visible": "visible",
    "WidthNorm": "query_key_norm",
    "WindowCache": "cache",
    "YaRN": "rope_yarn",
    "ZeroOutputInit": "init",
    "attention_kernel": "attend",
    "cross_entropy": "loss",
    "parameter_roles": "roles",
    "supply": "sizes",
}

__all__ = [
    "GEGLU",
    "GLU",
    "Alibi",
    "Attention",
    "AttentionContext",
    "Bilinear",
    "Block",
    "CappedSoftmax",
    "CausalMask",
    "ClampedSwiGLU",
    "Decoder",
    "DynamicNTK",
    "Embedding",
    "Experts",
    "FanInInit",
    "FeedForward",
    "GatedFeedForward",
    "GroupLimitedSoftmax",
    "Head",
    "HeadNorm",
    "Initialiser",
    "KVCache",
    "LatentAttention",
    "LayerCache",
    "LayerNorm",
    "LayerPattern",
    "LearnedPosition",
    "Llama3Scaling",
    "Lookahead",
    "Loss",
    "MaximalUpdateInit",
    "MixtureOfExperts",
    "MultiHeadAttention",
    "NTKAware",
    "NextToken",
    "NoAttention",
    "NoNorm",
    "NoPosition",
    "Norm",
    "NormalInit",
    "Objective",
    "OffsetRMSNorm",
    "OutputGate",
    "ParallelBlock",
    "ParallelPrediction",
    "PartError",
    "PlainHeadNorm",
    "Position",
    "PositionInterpolation",
    "PositionPattern",
    "PostNormBlock",
    "ProportionalRotary",
    "QueryKeyNorm",
    "RMSNorm",
    "ReGLU",
    "ReorderedNormBlock",
    "ResidualBlock",
    "ResidualLinear",
    "RotaryEmbedding",
    "Router",
    "Routing",
    "SandwichNormBlock",
    "Scores",
    "SequentialPrediction",
    "SigmoidTopK",
    "SinkSoftmax",
    "Sinusoidal",
    "SoftcapHead",
    "Softmax",
    "SoftmaxTopK",
    "SwiGLU",
    "TransformerBlock",
    "TruncatedNormalInit",
    "Visible",
    "WidthNorm",
    "WindowCache",
    "YaRN",
    "ZeroOutputInit",
    "attention_kernel",
    "cross_entropy",
    "parameter_roles",
    "supply",
]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
