"""Scalings of rotary positions to contexts longer than the one trained on: other frequencies, one class each."""

from dataclasses import dataclass, field
from math import ceil, floor, log, pi

import torch
from torch import Tensor

from atomiclm.model.components import check_positive, check_share
from atomiclm.model.position import wavelengths
from atomiclm.model.rope import RotaryEmbedding


@dataclass(eq=False, repr=False)
class ScaledRotary(RotaryEmbedding):
    """RoPE stretched by a factor, the longest context over the one trained on; a subclass overrides ``frequencies``."""

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor={self.factor} must be at least 1: the longest context over the one trained on")


class PositionInterpolation(ScaledRotary):
    """Squeeze positions: ``theta^(-2i / rotated) / factor`` radians a position; ``transformers`` calls it "linear".

    Source: Chen et al. 2023, arXiv 2306.15595.
    """

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        return super().frequencies(length, device) / self.factor


class NTKAware(ScaledRotary):
    """RoPE with ``theta' = theta * factor^(rotated / (rotated - 2))``.

    So the slowest pair rotates factor times slower (as in position interpolation) and the fastest as before. Angles:
    ``theta'^(-2i / rotated)`` radians a position.

    Source: bloc97 2023 (a post, "NTK-aware scaled RoPE"), in Peng et al. 2023, arXiv 2309.00071, section 3.1.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rotated <= 2:
            raise ValueError(
                f"head_dim={self.head_dim} has {self.rotated} rotated features, one pair and no slowest one to "
                "stretch; NTK scaling needs head_dim * rotary_fraction of at least 4"
            )

    def stretch(self, length: int) -> float:
        """The factor for a sequence of ``length`` tokens."""
        return self.factor

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        theta: float = self.theta * self.stretch(length) ** (self.rotated / (self.rotated - 2))
        return 1.0 / wavelengths(theta, self.rotated, device)


@dataclass(eq=False, repr=False)
class FromTrainedLength(ScaledRotary):
    """A scaling that counts from the length trained on.

    original_length   that length, in tokens; None is the model's context_length
    """

    original_length: int | None = None
    context_length: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        length = self.context_length if self.original_length is None else self.original_length
        if length is None:
            raise ValueError(
                "original_length=None stands for the model's context_length, which is not given; give either"
            )
        check_positive(original_length=length)
        self.original_length = self.trained_length = length


class DynamicNTK(NTKAware, FromTrainedLength):
    """NTK-aware scaling by as much as the length needs, and none up to ``original_length``.

    A sequence of ``length`` tokens is rotated with ``theta' = theta * s^(rotated / (rotated - 2))`` and ``s = factor *
    max(length, original_length) / original_length - (factor - 1)``: the length over the one trained on if factor = 1.
    With original_length=None nothing is scaled within the context.

    Source: emozilla 2023 (a post, "Dynamically scaled RoPE"), in Peng et al. 2023, arXiv 2309.00071, section 3.3; the
    formula with a factor is Hugging Face's. Departure: a sequence shorter than the model's context_length counts as
    that long, as in vLLM (see ``Position.rotation``). In the source s follows the tokens seen so far, and cached
    decoding then differs from the full pass (transformers, issue 25104). Packed documents share the length of their
    row.
    """

    def stretch(self, length: int) -> float:
        longer = max(length, self.trained_length)
        return self.factor * longer / self.trained_length - (self.factor - 1)


@dataclass(eq=False, repr=False)
class Llama3Scaling(FromTrainedLength):
    """Divide the frequencies of slow pairs by ``factor``, leave those of fast ones, with a ramp between.

    A pair of frequency f (radians a position) makes ``n = original_length * f / (2 pi)`` turns in the length trained
    on. It keeps f when ``n > high_frequency_factor``, gets ``f / factor`` when ``n < low_frequency_factor``, and
    between the two ``(1 - r) f / factor + r f``, where r rises from 0 to 1 with n.

    Source: Grattafiori et al. 2024, arXiv 2407.21783 (Llama 3), and its released code; Llama 3.1 is factor 8, bounds 1
    and 4, original_length 8192, theta 500000.
    """

    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    theta: float = field(default=500000.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(low_frequency_factor=self.low_frequency_factor)
        if not self.high_frequency_factor > self.low_frequency_factor:
            raise ValueError(
                f"high_frequency_factor={self.high_frequency_factor} must be greater than low_frequency_factor="
                f"{self.low_frequency_factor}: pairs with more turns than the first stay as they are, those with fewer "
                "than the second are stretched; 4 and 1 are usual"
            )

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        plain = super().frequencies(length, device)
        turns = self.trained_length / (2 * pi / plain)
        bounds = self.high_frequency_factor - self.low_frequency_factor
        ramp = ((turns - self.low_frequency_factor) / bounds).clamp(0, 1)
        return (1 - ramp) * plain / self.factor + ramp * plain


@dataclass(eq=False, repr=False)
class YaRN(FromTrainedLength):
    """Interpolate slow pairs by ``factor``, leave fast ones, ramp between, and sharpen the scores.

    Pair i gets ``(1 - r_i) f_i / factor + r_i f_i`` radians a position, with f_i RoPE's own. r_i falls linearly in i
    from 1 at the pair that makes beta_fast turns in original_length to 0 at the one that makes beta_slow turns. Rotated
    queries and keys are multiplied by the temperature ``0.1 ln factor + 1``, since longer contexts spread attention
    thinner.

    attention_factor         the factor on rotated queries and keys; None is the temperature
    mscale, mscale_all_dim   DeepSeek's way, with ``temperature(s, m) = 0.1 m ln s + 1``: rotated features get
                             ``temperature(factor, mscale) / temperature(factor, mscale_all_dim)``, and in
                             ``LatentAttention`` the scores (``score_scale``) the square of the latter
    truncate                 whether the ends of the ramp are rounded outward to whole pairs

    Source: Peng et al. 2023, arXiv 2309.00071, sections 3.2 and 3.4 and its code; DeepSeek-AI 2024, arXiv 2405.04434,
    section 3.1.4, and its code for mscale.
    """

    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        mscale, all_dim = self.mscale, self.mscale_all_dim
        check_positive(
            beta_slow=self.beta_slow, attention_factor=self.attention_factor, mscale=mscale, mscale_all_dim=all_dim
        )
        if not self.beta_fast > self.beta_slow:
            raise ValueError(
                f"beta_fast={self.beta_fast} must be greater than beta_slow={self.beta_slow}: pairs that make more "
                "than beta_fast turns in original_length are left alone, those below beta_slow are interpolated; 32 "
                "and 1 are usual"
            )
        if self.trained_length <= 2 * pi * self.beta_slow:
            raise ValueError(
                f"original_length={self.trained_length} is too short: not even the fastest pair makes beta_slow="
                f"{self.beta_slow} turns in it; use at least {int(2 * pi * self.beta_slow) + 1}, or a smaller beta_slow"
            )
        if (mscale is None) != (all_dim is None):
            raise ValueError(f"mscale={mscale} and mscale_all_dim={all_dim} are a pair (DeepSeek's); give both or none")
        if self.attention_factor is not None and mscale is not None:
            raise ValueError(
                f"attention_factor={self.attention_factor} and mscale={mscale} both set the temperature; leave one of "
                "them None"
            )
        if self.attention_factor is not None:
            self.rotation_scale = self.attention_factor
        elif mscale is None or all_dim is None:
            self.rotation_scale = self._temperature()
        else:
            self.rotation_scale = self._temperature(mscale) / self._temperature(all_dim)
            self.score_scale = self._temperature(all_dim) ** 2

    def _temperature(self, mscale: float = 1.0) -> float:
        return 0.1 * mscale * log(self.factor) + 1.0

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        periods = wavelengths(self.theta, self.rotated, device)
        plain, interpolated = 1.0 / periods, 1.0 / (self.factor * periods)
        begin, end = self._pair_with_turns(self.beta_fast), self._pair_with_turns(self.beta_slow)
        if self.truncate:
            begin, end = floor(begin), ceil(end)
        # The published code ends the ramp before feature rotated - 1, though it counts pairs; the same here.
        begin, end = max(begin, 0), min(end, self.rotated - 1)
        width = end - begin or 0.001
        pairs = torch.arange(self.rotated // 2, device=device, dtype=torch.float32)
        ramp = 1 - ((pairs - begin) / width).clamp(0, 1)
        return interpolated * (1 - ramp) + plain * ramp

    def _pair_with_turns(self, turns: float) -> float:
        return self.rotated * log(self.trained_length / (turns * 2 * pi)) / (2 * log(self.theta))


@dataclass(eq=False, repr=False)
class ProportionalRotary(RotaryEmbedding):
    """RoPE on the fastest ``int(fraction * head_dim // 2)`` pairs; the slowest ones carry no position.

    Pair i has ``theta^(-2i / head_dim)`` radians a position as in full RoPE, or 0 from there on; ``rotary_fraction``
    spreads all wavelengths over fewer pairs. ``transformers`` calls it "proportional".

    Source: Barbero et al. 2024, arXiv 2410.06205 (p-RoPE).
    """

    fraction: float
    rotary_fraction: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(fraction=self.fraction)
        if int(self.fraction * self.head_dim // 2) < 1:
            raise ValueError(
                f"fraction={self.fraction} of the {self.head_dim // 2} pairs of head_dim={self.head_dim} is none; take "
                f"at least {ceil(2e4 / self.head_dim) / 1e4}, or position=none for no positions at all"
            )

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        frequencies = super().frequencies(length, device)
        rotates = torch.arange(self.head_dim // 2, device=device) < int(self.fraction * self.head_dim // 2)
        return frequencies * rotates
