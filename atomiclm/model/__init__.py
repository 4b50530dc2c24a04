"""A decoder-only transformer built from components, each variant one class."""

from atomiclm.model.attention import Attention, MultiHeadAttention, NoAttention, OutputGate
from atomiclm.model.attention_kernels import attend, attention_kernel, record_weights, recording_weights
from atomiclm.model.attention_mask import CausalMask, Visible
from atomiclm.model.attention_scores import CappedSoftmax, Scores, SinkSoftmax, Softmax
from atomiclm.model.block import (
    Block,
    ParallelBlock,
    PostNormBlock,
    ReorderedNormBlock,
    ResidualBlock,
    SandwichNormBlock,
    TransformerBlock,
)
from atomiclm.model.cache import KVCache, LayerCache, WindowCache
from atomiclm.model.components import LayerPattern, PartError, ResidualLinear, parameter_roles, supply
from atomiclm.model.decoder import Decoder
from atomiclm.model.embedding import Embedding, Head, SoftcapHead
from atomiclm.model.feedforward import GEGLU, GLU, Bilinear, ClampedSwiGLU, FeedForward, GatedFeedForward, ReGLU, SwiGLU
from atomiclm.model.init import FanInInit, Initialisation, Initialiser, NormalInit, TruncatedNormalInit, ZeroOutputInit
from atomiclm.model.introspection import Look, look
from atomiclm.model.latent_attention import LatentAttention
from atomiclm.model.loss import cross_entropy
from atomiclm.model.moe import Experts, MixtureOfExperts
from atomiclm.model.multi_token_prediction import Lookahead, ParallelPrediction, Prediction, SequentialPrediction
from atomiclm.model.mup import MaximalUpdateInit
from atomiclm.model.norm import (
    HeadNorm,
    LayerNorm,
    NoNorm,
    Norm,
    OffsetRMSNorm,
    PlainHeadNorm,
    QueryKeyNorm,
    RMSNorm,
    WidthNorm,
)
from atomiclm.model.objective import Loss, NextToken, Objective
from atomiclm.model.position import (
    Alibi,
    AttentionContext,
    LearnedPosition,
    NoPosition,
    Position,
    PositionPattern,
    Sinusoidal,
)
from atomiclm.model.rope import RotaryEmbedding
from atomiclm.model.rope_scaling import (
    DynamicNTK,
    Llama3Scaling,
    NTKAware,
    PositionInterpolation,
    ProportionalRotary,
    YaRN,
)
from atomiclm.model.router import GroupLimitedSoftmax, Router, Routing, SigmoidTopK, SoftmaxTopK

__all__ = [
    "GEGLU", "GLU", "Alibi", "Attention", "AttentionContext", "Bilinear", "Block", "CappedSoftmax", "CausalMask",
    "ClampedSwiGLU", "Decoder", "DynamicNTK", "Embedding", "Experts", "FanInInit", "FeedForward", "GatedFeedForward",
    "GroupLimitedSoftmax", "Head", "HeadNorm", "Initialisation", "Initialiser", "KVCache", "LatentAttention",
    "LayerCache", "LayerNorm", "LayerPattern", "LearnedPosition", "Llama3Scaling", "Look", "Lookahead", "Loss",
    "MaximalUpdateInit", "MixtureOfExperts", "MultiHeadAttention", "NTKAware", "NextToken", "NoAttention", "NoNorm",
    "NoPosition", "Norm", "NormalInit", "Objective", "OffsetRMSNorm", "OutputGate", "ParallelBlock",
    "ParallelPrediction", "PartError", "PlainHeadNorm", "Position", "PositionInterpolation", "PositionPattern",
    "PostNormBlock", "Prediction", "ProportionalRotary", "QueryKeyNorm", "RMSNorm", "ReGLU", "ReorderedNormBlock",
    "ResidualBlock", "ResidualLinear", "RotaryEmbedding", "Router", "Routing", "SandwichNormBlock", "Scores",
    "SequentialPrediction", "SigmoidTopK", "SinkSoftmax", "Sinusoidal", "SoftcapHead", "Softmax", "SoftmaxTopK",
    "SwiGLU", "TransformerBlock", "TruncatedNormalInit", "Visible", "WidthNorm", "WindowCache", "YaRN",
    "ZeroOutputInit", "attend", "attention_kernel", "cross_entropy", "look", "parameter_roles", "record_weights",
    "recording_weights", "supply",
]  # fmt: skip
