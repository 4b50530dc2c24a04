"""What a run costs: parameters, FLOPs, bytes, asked of its decoder before anything is allocated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from atomiclm.config.allowed import component

if TYPE_CHECKING:
    from atomiclm.model import Decoder

Quantity = Literal["parameters", "non_embedding_parameters", "flops", "cache_bytes"]

_FLOAT32_BYTES = 4
_BYTES = {"float32": 4, "bfloat16": 2}
_WIDEST_BYTES = 4  # for precision=auto: which it is depends on the machine that trains

CACHE_DTYPE = "bfloat16"
"""What bytes of the cache are counted in, whatever a run's precision is: its arms' figures then meet everywhere."""


@dataclass(frozen=True)
class Cost:
    """The figures of one configuration.

    Attributes:
        parameters_by_role: number of parameters of each role (`atomiclm.model.components`).
        active_parameters: those that take part in the prediction of one token: all, less the experts not chosen.
        forward_flops_per_token: of matrix products, for one token of a full context, as executed (the whole rectangle
            of attention scores, PaLM's convention).
        training_flops_per_token: the same with the backward pass, and with what only training computes.
        needed_flops_per_token: training, with no attention score counted that a mask throws away.
        cache_bytes: of one sequence of context_length tokens, in CACHE_DTYPE.
        activation_bytes: kept for the backward pass of one micro-batch, estimated.
        optimizer_bytes: state of the optimizer in float32; None when its class does not say.
        steps, tokens: of the whole run; None when its budget is in seconds.
    """

    context_length: int
    parameters_by_role: dict[str, int]
    active_parameters: int
    forward_flops_per_token: int
    training_flops_per_token: int
    needed_flops_per_token: float
    cache_bytes: int
    activation_bytes: int
    optimizer_bytes: int | None
    steps: int | None
    tokens: int | None

    @property
    def parameters(self) -> int:
        """All parameters; a tied head has none of its own."""
        return sum(self.parameters_by_role.values())

    @property
    def non_embedding_parameters(self) -> int:
        """All but the token and position tables and an untied head."""
        return self.parameters - self.parameters_by_role["embedding"] - self.parameters_by_role["head"]

    @property
    def weight_bytes(self) -> int:
        """Of the weights in float32."""
        return _FLOAT32_BYTES * self.parameters

    @property
    def memory_bytes(self) -> int:
        """At the peak of a training step, estimated: weights, their gradients, optimizer state and activations."""
        return 2 * self.weight_bytes + (self.optimizer_bytes or 0) + self.activation_bytes

    @property
    def flops(self) -> int:
        """Training FLOPs of the whole run, or of one token where the budget is in seconds."""
        return self.training_flops_per_token * (self.tokens or 1)

    @property
    def cache_bytes_per_token(self) -> int:
        """Averaged over a full context, of which windowed layers do not keep all; rounded down."""
        return self.cache_bytes // self.context_length

    def quantity(self, name: Quantity) -> int:
        """The figure that a match compares."""
        figure: int = getattr(self, name)
        return figure


COUNTED: tuple[Quantity, ...] = ("parameters", "non_embedding_parameters", "flops", "cache_bytes")


def residuals(cost: Cost, baseline: Cost) -> dict[Quantity, float]:
    """By how much each counted quantity differs from the baseline's, as a fraction of it: 0.01 is one per cent more."""
    found: dict[Quantity, float] = {}
    for name in COUNTED:
        ours, theirs = cost.quantity(name), baseline.quantity(name)
        found[name] = ours / theirs - 1.0 if theirs else float(ours != theirs)
    return found


def cost_of(values: Mapping[str, Any]) -> Cost:
    """Count the run of a configuration whose interpolations are resolved.

    Raises:
        UserError: what a constructor of the model refused.
    """
    from atomiclm.config.shapes import decoder_of_shapes
    from atomiclm.training import Budget

    trainer, model = values["trainer"], values["model"]
    length: int = model["context_length"]
    decoder = decoder_of_shapes(model)
    budget = Budget(*(trainer.get(name) for name in ("max_steps", "max_tokens", "max_seconds")))
    tokens_per_step = trainer["batch_size"] * length
    steps = budget.steps(tokens_per_step)
    micro_batch_size = values["runtime"].get("micro_batch_size") or trainer["batch_size"]
    width = _BYTES.get(trainer.get("precision", "auto"), _WIDEST_BYTES)
    return Cost(
        context_length=length,
        parameters_by_role={str(role): count for role, count in decoder.num_parameters_by_role().items()},
        active_parameters=decoder.num_active_parameters(),
        forward_flops_per_token=decoder.flops_per_token(length),
        training_flops_per_token=decoder.training_flops_per_token(length),
        needed_flops_per_token=decoder.needed_training_flops_per_token(length),
        cache_bytes=decoder.cache_bytes(length),
        activation_bytes=micro_batch_size * decoder.activation_bytes(1, length, width),
        optimizer_bytes=_optimizer_bytes(decoder, values["optim"]),
        steps=steps,
        tokens=None if steps is None else steps * tokens_per_step,
    )


def _optimizer_bytes(decoder: "Decoder", optim: Mapping[str, Any]) -> int | None:
    from atomiclm.model import parameter_roles

    state_elements = getattr(component(optim["_target_"]), "state_elements", None)
    if state_elements is None:
        return None
    roles = parameter_roles(decoder)
    elements = (state_elements(tuple(each.shape), roles[name], optim) for name, each in decoder.named_parameters())
    return 4 * sum(elements)
