"""Scalings of rotary positions to contexts longer than the one trained on: other frequencies, one class each."""

from math import ceil, floor, log, pi

import torch
from torch import Tensor

from atomiclm.model.components import check_positive
from atomiclm.model.position import wavelengths
from atomiclm.model.rope import Layout, RotaryEmbedding, check_fraction


class ScaledRotary(RotaryEmbedding):
    """RoPE stretched by a factor; a subclass overrides ``frequencies``.

    factor   the longest context over the one trained on, at least 1
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        layout: Layout = "adjacent",
    ) -> None:
        super().__init__(head_dim, theta, rotary_fraction, layout)
        if not 1 <= factor < float("inf"):
            raise ValueError(f"factor={factor} must be at least 1: the longest context over the one trained on")
        self.factor = factor

    def stretched_theta(self, factor: float) -> float:
        """``theta * factor^(rotated / (rotated - 2))``: the slowest pair becomes factor times slower."""
        stretched: float = self.theta * factor ** (self.rotated / (self.rotated - 2))
        return stretched

    def check_has_slow_pair(self) -> None:
        """Raise ValueError unless the exponent of ``stretched_theta`` exists."""
        if self.rotated <= 2:
            raise ValueError(
                f"head_dim={self.head_dim} has {self.rotated} rotated features, one pair and no slowest one to "
                "stretch; NTK scaling needs head_dim * rotary_fraction of at least 4"
            )


class PositionInterpolation(ScaledRotary):
    """Squeeze positions: ``theta^(-2i / rotated) / factor`` radians a position, so factor times as many fit.

    Position t is rotated as t / factor is in the model trained without it. ``transformers`` calls it "linear".

    Source: Chen et al. 2023, arXiv 2306.15595.
    """

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        return super().frequencies(length, device) / self.factor


class NTKAware(ScaledRotary):
    """RoPE with ``theta' = theta * factor^(rotated / (rotated - 2))``.

    The exponent is such that the slowest pair rotates factor times slower (as in position interpolation) and the
    fastest as before. Angles: ``theta'^(-2i / rotated)`` radians a position.

    Source: bloc97 2023 (a post, "NTK-aware scaled RoPE"), written up in Peng et al. 2023, arXiv 2309.00071,
    section 3.1.
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        layout: Layout = "adjacent",
    ) -> None:
        super().__init__(head_dim, factor, theta, rotary_fraction, layout)
        self.check_has_slow_pair()

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        return 1.0 / wavelengths(self.stretched_theta(self.factor), self.rotated, device)


class DynamicNTK(ScaledRotary):
    """NTK-aware scaling by as much as the length needs, and none up to ``original_length``.

    A sequence of ``length`` tokens is rotated with ``theta' = theta * s^(rotated / (rotated - 2))`` and
    ``s = factor * max(length, original_length) / original_length - (factor - 1)``. With factor = 1, s is the length
    over the one trained on; larger factors stretch by more than that.

    original_length   length trained on, in tokens; None is the model's context_length

    Source: emozilla 2023 (a post, "Dynamically scaled RoPE"), in Peng et al. 2023, arXiv 2309.00071, section 3.3; the
    formula with a factor is Hugging Face's.

    Departure from the source: a sequence shorter than the model's context_length counts as that long (see
    ``Position.rotation``). In the source s follows the tokens seen so far, and cached decoding then differs from the
    full pass: keys keep the angles of an earlier s (transformers, issue 25104), and even where they are cached before
    rotation (the paper), what layers above the first have read was computed with an earlier s. Here the scaling is
    fixed within the context, as in vLLM and in training on whole windows, and follows the length of a pass only beyond
    it. With original_length=None there is none within the context, as in the source. Packed documents share the length
    of their row.
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        original_length: int | None = None,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        layout: Layout = "adjacent",
        context_length: int | None = None,
    ) -> None:
        super().__init__(head_dim, factor, theta, rotary_fraction, layout)
        self.check_has_slow_pair()
        self.original_length = _trained_length(original_length, context_length)
        self.context_length = context_length

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        """(rotated / 2,) float32: radians a position in a sequence of ``length`` tokens."""
        longer = max(length, self.original_length)
        factor = self.factor * longer / self.original_length - (self.factor - 1)
        return 1.0 / wavelengths(self.stretched_theta(factor), self.rotated, device)


class Llama3Scaling(ScaledRotary):
    """Divide the frequencies of slow pairs by ``factor``, leave those of fast ones, with a ramp between.

    A pair of frequency f (radians a position) makes ``n = original_length * f / (2 pi)`` turns in the length trained
    on. It keeps f when ``n > high_frequency_factor``, gets ``f / factor`` when ``n < low_frequency_factor``, and
    between the two ``(1 - r) f / factor + r f``, where r rises from 0 to 1 with n.

    original_length   length trained on, in tokens; None is the model's context_length

    Source: Grattafiori et al. 2024, arXiv 2407.21783 (Llama 3), whose released code has the formula; Llama 3.1 is
    factor 8, bounds 1 and 4, original_length 8192, theta 500000.
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        low_frequency_factor: float = 1.0,
        high_frequency_factor: float = 4.0,
        original_length: int | None = None,
        theta: float = 500000.0,
        rotary_fraction: float = 1.0,
        layout: Layout = "adjacent",
        context_length: int | None = None,
    ) -> None:
        super().__init__(head_dim, factor, theta, rotary_fraction, layout)
        check_positive("low_frequency_factor", low_frequency_factor)
        if not high_frequency_factor > low_frequency_factor:
            raise ValueError(
                f"high_frequency_factor={high_frequency_factor} must be greater than low_frequency_factor="
                f"{low_frequency_factor}: pairs with more turns than the one stay as they are, those with fewer than "
                "the other are stretched; 4 and 1 are usual"
            )
        self.low_frequency_factor = low_frequency_factor
        self.high_frequency_factor = high_frequency_factor
        self.original_length = _trained_length(original_length, context_length)
        self.context_length = context_length

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        plain = super().frequencies(length, device)
        turns = self.original_length / (2 * pi / plain)
        bounds = self.high_frequency_factor - self.low_frequency_factor
        ramp = ((turns - self.low_frequency_factor) / bounds).clamp(0, 1)
        return (1 - ramp) * plain / self.factor + ramp * plain


class YaRN(ScaledRotary):
    """Interpolate slow pairs by ``factor``, leave fast ones, ramp between, and sharpen the scores.

    Pair i gets ``(1 - r_i) f_i / factor + r_i f_i`` radians a position, with f_i RoPE's own. r_i falls linearly in i
    from 1 at the pair that makes beta_fast turns in original_length to 0 at the one that makes beta_slow turns.
    Longer contexts spread attention thinner, so scores grow by the square of ``temperature(factor) = 0.1 ln factor
    + 1``: queries and keys are multiplied by it as they are rotated (features that are not rotated are not).

    original_length    length trained on, in tokens; None is the model's context_length
    attention_factor   the factor on rotated queries and keys; None is the temperature
    mscale, mscale_all_dim   DeepSeek's way: rotated features get ``temperature(factor, mscale) / temperature(factor,
                       mscale_all_dim)`` and the scores as a whole (``score_scale``, in ``LatentAttention``) the square
                       of the latter, with ``temperature(s, m) = 0.1 m ln s + 1``. In ordinary attention, as in
                       transformers, the quotient is all there is of them
    truncate           whether the ends of the ramp are rounded outward to whole pairs

    Source: Peng et al. 2023, arXiv 2309.00071, sections 3.2 and 3.4 and its code; DeepSeek-AI 2024, arXiv 2405.04434,
    section 3.1.4, and its code for mscale.
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        original_length: int | None = None,
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        attention_factor: float | None = None,
        mscale: float | None = None,
        mscale_all_dim: float | None = None,
        truncate: bool = True,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        layout: Layout = "adjacent",
        context_length: int | None = None,
    ) -> None:
        super().__init__(head_dim, factor, theta, rotary_fraction, layout)
        original_length = _trained_length(original_length, context_length)
        check_positive("beta_slow", beta_slow)
        if not beta_fast > beta_slow:
            raise ValueError(
                f"beta_fast={beta_fast} must be greater than beta_slow={beta_slow}: pairs that make more than "
                "beta_fast turns in original_length are left alone, those below beta_slow are interpolated; 32 and 1 "
                "are usual"
            )
        if original_length <= 2 * pi * beta_slow:
            raise ValueError(
                f"original_length={original_length} is too short: not even the fastest pair makes beta_slow="
                f"{beta_slow} turns in it; use at least {int(2 * pi * beta_slow) + 1}, or a smaller beta_slow"
            )
        if (mscale is None) != (mscale_all_dim is None):
            raise ValueError(
                f"mscale={mscale} and mscale_all_dim={mscale_all_dim} are a pair (DeepSeek's); give both or neither"
            )
        if attention_factor is not None and mscale is not None:
            raise ValueError(
                f"attention_factor={attention_factor} and mscale={mscale} both set the temperature; leave one of them "
                "None"
            )
        for name, value in (
            ("attention_factor", attention_factor),
            ("mscale", mscale),
            ("mscale_all_dim", mscale_all_dim),
        ):
            if value is not None:
                check_positive(name, value)
        self.original_length = original_length
        self.context_length = context_length
        self.beta_fast = beta_fast
        self.beta_slow = beta_slow
        self.attention_factor = attention_factor
        self.mscale = mscale
        self.mscale_all_dim = mscale_all_dim
        self.truncate = truncate
        if attention_factor is not None:
            self.rotation_scale = attention_factor
        elif mscale is None or mscale_all_dim is None:
            self.rotation_scale = _temperature(factor)
        else:
            self.rotation_scale = _temperature(factor, mscale) / _temperature(factor, mscale_all_dim)
            self.score_scale = _temperature(factor, mscale_all_dim) ** 2

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
        """The pair (a fraction in general) that makes so many turns in original_length."""
        return self.rotated * log(self.original_length / (turns * 2 * pi)) / (2 * log(self.theta))


class ProportionalRotary(RotaryEmbedding):
    """RoPE on the fastest ``int(fraction * head_dim // 2)`` pairs; the slowest ones carry no position.

    Pair i has ``theta^(-2i / head_dim)`` radians a position as in full RoPE, or 0 from there on: wavelengths are cut
    off, where ``rotary_fraction`` spreads all of them over fewer pairs. ``transformers`` calls it "proportional".

    Source: Barbero et al. 2024, arXiv 2410.06205 (p-RoPE).
    """

    def __init__(self, head_dim: int, fraction: float, theta: float = 10000.0, layout: Layout = "adjacent") -> None:
        super().__init__(head_dim, theta, layout=layout)
        check_fraction("fraction", fraction)
        if int(fraction * head_dim // 2) < 1:
            raise ValueError(
                f"fraction={fraction} of the {head_dim // 2} pairs of head_dim={head_dim} is none; take at least "
                f"{ceil(2e4 / head_dim) / 1e4}, or position=none for no positions at all"
            )
        self.fraction = fraction

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        frequencies = super().frequencies(length, device)
        rotates = torch.arange(self.head_dim // 2, device=device) < int(self.fraction * self.head_dim // 2)
        return frequencies * rotates


def _trained_length(original_length: int | None, context_length: int | None) -> int:
    """The length that a scaling starts from: original_length, or the model's context_length when it is None."""
    length = context_length if original_length is None else original_length
    if length is None:
        raise ValueError("original_length=None stands for the model's context_length, which is not given; give either")
    check_positive("original_length", length)
    return length


def _temperature(factor: float, mscale: float = 1.0) -> float:
    """``0.1 mscale ln factor + 1``: how much sharper queries and keys have to be in a context factor times longer."""
    return 0.1 * mscale * log(factor) + 1.0
