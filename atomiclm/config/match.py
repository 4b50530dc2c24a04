"""What a run costs, asked of its decoder before anything is allocated; and an arm made to cost what a baseline does.

Which quantity two components are to have in common is the researcher's choice, and can turn the conclusion around; so
it is a value of the configuration, the size that pays for it is written into the run, and the other costs are printed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf

from atomiclm.cli import UserError
from atomiclm.config.build import component
from atomiclm.config.compose import compose, overridden, override_key, resolved
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.validate import Check

Quantity = Literal["parameters", "non_embedding_parameters", "flops", "cache_bytes"]
COUNTED: tuple[Quantity, ...] = get_args(Quantity)


@dataclass(frozen=True)
class Cost:
    """The figures of one configuration.

    FLOPs are of matrix products, for one token of a full context, as executed (the whole rectangle of attention scores,
    PaLM's convention); training adds the backward pass and what only training computes, `needed` leaves out the scores
    that a mask throws away. The cache is of one sequence of context_length tokens in CACHE_DTYPE, activations of one
    micro-batch, estimated, as what a validation takes; the optimizer's state is in float32, None when its class does
    not say. Steps and tokens are None when the budget is in seconds.

    host_bytes is what a CPU takes in addition: the copy of weights and optimizer state that is being written as a
    checkpoint while training goes on, and the gaps that the C library's allocator leaves, about two fifths of what a
    step or a validation takes (measured with model=tiny, mini, small); where scores come in chunks, a validation has no
    use for what a step has freed. On an accelerator it is 0.
    """

    context_length: int
    parameters_by_role: dict[str, int]
    active_parameters: int
    forward_flops_per_token: int
    training_flops_per_token: int
    needed_flops_per_token: float
    cache_bytes: int
    activation_bytes: int
    validation_bytes: int
    host_bytes: int
    optimizer_bytes: int | None
    steps: int | None
    tokens: int | None

    @property
    def parameters(self) -> int:
        return sum(self.parameters_by_role.values())

    @property
    def non_embedding_parameters(self) -> int:
        """All but the token and position tables and an untied head; a tied one has none of its own."""
        return self.parameters - self.parameters_by_role["embedding"] - self.parameters_by_role["head"]

    @property
    def weight_bytes(self) -> int:
        """Of the weights in float32."""
        return 4 * self.parameters

    @property
    def memory_bytes(self) -> int:
        """At the peak of the run, estimated; what summary.json has as peak_memory_bytes once it was trained.

        Weights, optimizer state, and the larger of a step (gradients and activations) and a validation; host_bytes.
        """
        work = max(self.weight_bytes + self.activation_bytes, self.validation_bytes)
        return self.weight_bytes + (self.optimizer_bytes or 0) + work + self.host_bytes

    @property
    def flops(self) -> int:
        """Training FLOPs of the whole run, or of one token where the budget is in seconds."""
        return self.training_flops_per_token * (self.tokens or 1)

    @property
    def cache_bytes_per_token(self) -> int:
        """Averaged over a full context, of which windowed layers do not cache all; rounded down."""
        return self.cache_bytes // self.context_length

    def quantity(self, name: Quantity) -> int:
        """The figure that a match compares."""
        return int(getattr(self, name))


def residuals(cost: Cost, baseline: Cost) -> dict[Quantity, float]:
    """By how much each quantity differs from the baseline's, as a fraction of it: 0.01 is one per cent more."""
    pairs = {name: (cost.quantity(name), baseline.quantity(name)) for name in COUNTED}
    return {name: ours / theirs - 1.0 if theirs else float(ours != theirs) for name, (ours, theirs) in pairs.items()}


def cost_of(values: Mapping[str, Any]) -> Cost:
    """Count the run of a configuration whose interpolations are resolved; UserError: what its model refused."""
    import torch

    from atomiclm.config.load import decoder_of_shapes
    from atomiclm.machine import has_native_bfloat16
    from atomiclm.model import parameter_roles
    from atomiclm.model.accounting import AUTOCAST_BYTES
    from atomiclm.model.loss import default_chunk_tokens
    from atomiclm.training import Budget
    from atomiclm.training.runtime import available_devices

    trainer, model, optim = values["trainer"], values["model"], values["optim"]
    length: int = model["context_length"]
    runtime, evaluation = values["runtime"], values.get("evaluation") or {}
    decoder = decoder_of_shapes(model)
    budget = Budget(trainer.get("max_steps"), trainer.get("max_tokens"), trainer.get("max_seconds"))
    steps = budget.steps(trainer["batch_size"] * length)
    micro_batch_size = runtime.get("micro_batch_size") or trainer["batch_size"]
    device = torch.device(available_devices()[0] if runtime.get("device", "auto") == "auto" else runtime["device"])
    precision = trainer.get("precision", "auto")
    is_narrow = has_native_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    width = AUTOCAST_BYTES if is_narrow else 4.0
    chunk_tokens = (trainer.get("objective") or {}).get("chunk_tokens")
    chunk_tokens = chunk_tokens or default_chunk_tokens(micro_batch_size * length, decoder.vocab_size, device)
    validated = evaluation.get("batch_size", 0) * length if evaluation.get("times") else 0
    optimizer_bytes = None
    if elements := getattr(component(optim["_target_"]), "state_elements", None):
        roles = parameter_roles(decoder)
        parameters = decoder.named_parameters()
        optimizer_bytes = 4 * sum(elements(tuple(each.shape), roles[name], optim) for name, each in parameters)
    state_bytes = 4 * decoder.num_parameters() + (optimizer_bytes or 0)
    activation_bytes = decoder.activation_bytes(micro_batch_size, length, width, chunk_tokens)
    validation_bytes = decoder.validation_bytes(validated, length, width)
    gaps = 0.4 * max(activation_bytes, validation_bytes)
    if chunk_tokens:  # what chunks leave free is too small for the scores of a validation
        gaps += min(activation_bytes, validation_bytes)
    return Cost(
        context_length=length,
        parameters_by_role={str(role): count for role, count in decoder.num_parameters_by_role().items()},
        active_parameters=decoder.num_active_parameters(),
        forward_flops_per_token=decoder.flops_per_token(length),
        training_flops_per_token=decoder.training_flops_per_token(length),
        needed_flops_per_token=decoder.needed_training_flops_per_token(length),
        cache_bytes=decoder.cache_bytes(length),
        activation_bytes=activation_bytes,
        validation_bytes=validation_bytes,
        host_bytes=int(state_bytes + gaps) if device.type == "cpu" else 0,
        optimizer_bytes=optimizer_bytes,
        steps=steps,
        tokens=None if steps is None else steps * trainer["batch_size"] * length,
    )


@dataclass(frozen=True)
class Rate:
    """How fast this machine is, in FLOP/s."""

    flops_per_second: float  # at best
    origin: str  # how that is known ("measured by training here", say)
    # Of FLOPs a token, the rate of the slowest run here that has about as many; None where none has.
    reached: Callable[[float], float | None] = lambda flops_per_token: None

    def seconds(self, cost: Cost) -> tuple[float, float | None]:
        """Seconds of the steps of a run, at best and at the rate of the slowest of like runs; of a budget in tokens."""
        reached = self.reached(cost.training_flops_per_token)
        return cost.flops / self.flops_per_second, cost.flops / reached if reached else None


def machine_rate(values: dict[str, Any]) -> Rate:
    """Return the best rate of matrix products that training here saw, or the rate of this processor now."""
    import torch  # --help is answered without it

    from atomiclm.config.load import cache_dir
    from atomiclm.training.runtime import Runtime, read_machine

    machine = read_machine(cache_dir(values))
    device, precision = values["runtime"]["device"], values["trainer"]["precision"]
    num_threads = values["runtime"]["num_threads"]
    known = machine.rate(
        kind=None if device == "auto" else device, dtype=None if precision == "auto" else precision, threads=num_threads
    )
    if known is not None:
        threads = f", {known.threads} threads" if known.threads else ""
        origin = f"the best matrix products in {known.dtype} on {known.device}{threads}"
        return Rate(known.flops_per_second, origin, partial(machine.reached, known))
    now = Runtime(device="cpu").matmul_rate(torch.float32)
    num_threads = num_threads or now.threads
    origin = f"float32 products measured now, for {num_threads} threads; a training run here will measure its own"
    return Rate(now.flops_per_second / now.threads * num_threads, origin)


@dataclass(frozen=True)
class Match:
    """A demand on a configuration, None for none: that `quantity` equals its baseline's.

    `baseline` are overrides that turn the configuration into its baseline, `free` is the path of the whole number to be
    solved for, a multiple of `multiple_of`; `tolerance` is a fraction of the baseline's figure.
    """

    quantity: Quantity | None
    baseline: Sequence[str] = ()
    free: str | None = None
    multiple_of: int = 1
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of={self.multiple_of} is not positive; give 1 for any whole number")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance={self.tolerance} is not in [0, 1); 0.02 accepts two per cent")
        if self.quantity and not self.baseline:
            raise ValueError(
                "baseline is empty; list the overrides that make the configuration to match, as in "
                "match.baseline=['model.attention.num_kv_heads=4']"
            )
        if self.quantity and not self.free:
            raise ValueError("free is not given; name the size to solve for: match.free=model.feedforward.hidden_dim")


@dataclass(frozen=True)
class Matched:
    """What a match came to: `match.free` was set to `value`, `residuals` are the differences to the baseline."""

    match: Match
    value: int
    residuals: dict[Quantity, float]

    @property
    def solution(self) -> str:
        return f"{str(self.match.free).rpartition('.')[2]}={self.value}"

    def __str__(self) -> str:
        others = ", ".join(f"{quantity} {share:+.2%}" for quantity, share in self.residuals.items())
        return f"{self.solution} matches {self.match.quantity} of {' '.join(self.match.baseline)}: {others}"


class Unmatched(ValueError):
    """No value of the free size comes within the tolerance."""


_LARGEST = 2**40
_PLATEAU = 2**22  # what is the same up to here does not depend on the size; tokens are rounded up to steps of fewer
_NO_INFLUENCE = "it does not depend on this size, or too little (choose another match.free)"


def solve(measure: Callable[[int], float], target: float, multiple_of: int = 1) -> int:
    """Return the positive multiple of `multiple_of` at which an increasing `measure` comes nearest to `target`.

    False position on the whole numbers (most quantities are linear in the size, so it takes about four calls), with
    halving whenever that would not shrink the interval by much. Unmatched: `measure` is above `target` at the smallest
    size already, or does not reach it.
    """

    @cache
    def at(units: int) -> float:
        return measure(units * multiple_of)

    low, high = 1, 64
    if at(low) > target:
        if at(low) == at(high):
            raise Unmatched(f"{_NO_INFLUENCE}: it is {at(low):,.6g} at any, more than the baseline's {target:,.6g}")
        raise Unmatched(f"even {multiple_of} gives {at(low):,.6g}, more than the baseline's {target:,.6g}")
    while at(high) < target:
        if high * multiple_of > _LARGEST or (high >= _PLATEAU and at(high) == at(1)):
            raise Unmatched(f"{_NO_INFLUENCE}: {high * multiple_of} still gives {at(high):,.6g}")
        slope = (at(high) - at(low)) / (high - low)
        low, high = high, high + max(1, math.ceil((target - at(high)) / slope)) if slope > 0 else 4 * high
    while high - low > 1 and at(high) != target:
        share = (target - at(low)) / (at(high) - at(low)) if at(high) > at(low) else 0.5
        guess = low + round(share * (high - low))
        # Both neighbours of a linear solution are asked for, so that the interval closes at once.
        for units in (guess, guess + 1, guess - 1, (low + high) // 2):
            if low < units < high:
                low, high = (units, high) if at(units) <= target else (low, units)
    return min((low, high), key=lambda units: (abs(at(units) - target), units)) * multiple_of


def apply_match(config: DictConfig, overrides: Sequence[str]) -> Matched | None:
    """Set the free size in `config` so that it matches its baseline, and say what came of it; None if nothing is asked,
    or nothing needs to change.

    The baseline is what is composed from `overrides`, as `config` was, and then `match.baseline`.
    """
    given = resolved(config)
    if _countable(given).faults:
        return None  # validation, which follows, reports these faults with all others
    check = Check()
    match: Match = check.node("match", given["match"])
    check.end()
    quantity, free, baseline = match.quantity, str(match.free), " ".join(match.baseline)
    assert quantity is not None
    if not isinstance(OmegaConf.select(config, free, default="absent"), int | None):
        raise ConfigError([Fault("match.free", f"'{free}' is no whole number of this configuration")])
    seedless = [one for one in overrides if override_key(one) != "seed"]  # of all seeds of an arm once
    target = _baseline_cost(tuple(overridden(seedless, [*match.baseline, "match=none"])))
    if cost_of(given).quantity(quantity) == target.quantity(quantity):
        return None  # the baseline itself, or its equal: it stays the run that it is without a match

    def cost_at(value: int) -> Cost:
        OmegaConf.update(config, free, value)  # in the composed configuration, so that what refers to it follows
        return cost_of(resolved(config))

    try:
        value = solve(lambda value: cost_at(value).quantity(quantity), target.quantity(quantity), match.multiple_of)
        found = residuals(cost_at(value), target)
    except Unmatched as error:
        raise ConfigError([Fault("match", f"no {free} gives the {quantity} of {baseline}: {error}")]) from error
    except UserError as error:
        raise ConfigError([Fault("match", f"while looking for {free}: {error}")]) from error
    if abs(found[quantity]) > match.tolerance:
        rule = f"the nearest {free}={value} misses the {quantity} of {baseline} by {found[quantity]:+.2%}, more than "
        fix = f"choose a finer match.multiple_of than {match.multiple_of}, another match.free, or a larger tolerance"
        raise ConfigError([Fault("match", f"{rule}match.tolerance={match.tolerance}; {fix}")])
    return Matched(match, value, found)


def _countable(values: dict[str, Any]) -> Check:
    """Check the groups that decide a cost; their numbers become what their arguments are annotated with."""
    check = Check()
    for group in ("model", "optim", "trainer"):
        if isinstance(values.get(group), dict):
            check.node(group, values[group])
        else:
            check.refuse(group, "is missing")
    return check


@lru_cache(maxsize=64)
def _baseline_cost(overrides: tuple[str, ...]) -> Cost:
    """Compose a baseline and count it: the arms of a study share it."""
    from atomiclm.config.run import complete

    try:
        config = compose(overrides)
        complete(config, overrides)
        values = resolved(config)
    except Exception as error:
        raise ConfigError([Fault("match.baseline", f"does not compose: {str(error).splitlines()[0]}")]) from error
    if faults := _countable(values).faults:
        raise ConfigError([Fault("match.baseline", f"cannot be counted: {faults[0]}")])
    return cost_of(values)
