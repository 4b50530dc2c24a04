"""Everything a run is at one moment: what a checkpoint holds, and all that resuming restores."""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from atomiclm.cli import UserError
from atomiclm.training.processes import Processes, local
from atomiclm.training.step import Averaging, StepResult

Score = tuple[int, float]
"""A step, and the bits per byte of the validation text after it."""

_TRAINING = "training_weight"
_RANDOM = "random"


class OtherModel(UserError):
    """Tensors that are not those of this model or its optimizer."""


@dataclass
class Interval:
    """Sums over the training steps since the last row of metrics; `nats` and `terms` over counted targets."""

    nats: float = 0.0
    tokens: int = 0
    targets: int = 0
    seconds: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Unfinished:
    """A step whose hooks a request to stop has cut short: a resumed run goes on with the `hook`-th, else an interrupted
    validation would be missing from the record."""

    result: StepResult
    progress: float
    hook: int


@dataclass(kw_only=True)
class Progress:
    """How far a run has come: the part of its state that state.json holds as it is."""

    step: int = 0  # optimizer steps taken
    batch: int = 0  # index of the next batch; ahead of `step` by the batches that were stepped over
    skipped: list[int] = field(default_factory=list)  # batches that a rewound run steps over when it comes to them
    bad_steps: int = 0  # whatever was done about them
    recent_losses: list[float] = field(default_factory=list)  # for the detector of spikes
    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    latest: dict[str, Any] = field(default_factory=dict)  # every metric, for a run resumed after its last step
    interval: Interval = field(default_factory=Interval)  # since the last row of training metrics
    averaged_steps: int = 0  # that the running average of the parameters is over
    unfinished: Unfinished | None = None  # the last step, where its hooks were cut short
    validated: Score | None = None  # the last one
    best: Score | None = None


_PROGRESS = [each.name for each in fields(Progress)]


@dataclass
class TrainState(Progress):
    """The model, its optimizer, the running average of the parameters by name, and how far the run has come.

    Where the model is sharded, each of several `processes` has its part of all tensors; a checkpoint has them whole.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averages: dict[str, Tensor] = field(default_factory=dict)
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        # The configured learning rate of each group, which a schedule multiplies into `lr`; torch's name for it.
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def position(self) -> dict[str, float]:
        """Return the axes that every row of metrics carries."""
        return {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 3), "flops": self.flops}

    def advance(self, tokens: int, seconds: float, flops: float) -> None:
        """Count one step, and what it took."""
        self.step += 1
        self.batch += 1
        self.tokens += tokens
        self.seconds += seconds
        self.flops += flops

    def score(self, metrics: Mapping[str, float]) -> None:
        """Take note of a validation after the present step."""
        value = metrics.get("validation/bits_per_byte", math.nan)
        self.validated = (self.step, value)
        if math.isfinite(value) and (self.best is None or value <= self.best[1]):
            self.best = self.validated

    def judged_weights(self) -> dict[str, Tensor]:
        """Return the parameters the run is judged by, by name, where they are not those it trains at: the running
        average, or the point an averaging optimizer names (`Averaging`)."""
        if self.averages:
            return self.averages
        return self.optimizer.averaged_weights() if isinstance(self.optimizer, Averaging) else {}

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """While open, the model has the weights the run is judged by; afterwards its own, to the last bit."""
        judged, parameters = self.judged_weights(), dict(self.model.named_parameters())
        kept = {name: local(parameters[name].detach()).clone() for name in judged}
        _copy(judged, parameters)
        try:
            yield
        finally:
            _copy(kept, parameters)

    def scalars(self) -> dict[str, Any]:
        """Return what is not a tensor, as JSON takes it; of several processes rank 0 has it all."""
        scalar_state = {
            name: {key: value for key, value in entry.items() if not isinstance(value, Tensor)}
            for name, entry in self._optimizer_state().items()
        }
        if self.processes.owns:
            scalar_state = self.processes.gathered(scalar_state)
        numpy_name, numpy_keys, *numpy_rest = np.random.get_state(legacy=True)
        python_version, python_keys, python_gauss = random.getstate()
        return {
            **asdict(Progress(**{name: getattr(self, name) for name in _PROGRESS})),
            "optimizer": scalar_state,
            "random": {
                "python": [python_version, list(python_keys), python_gauss],
                "numpy": [str(numpy_name), np.asarray(numpy_keys).tolist(), *numpy_rest],
            },
        }

    def model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters and persistent buffers by name, as the run is judged by them; a tied parameter once.

        Whole, in every process, one after another: so many tensors that are sharded may not fit.
        """
        for name, tensor in {**persistent_tensors(self.model), **self.judged_weights()}.items():
            yield name, self.processes.whole(name, tensor.detach())

    def optimizer_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield optimizer state as `parameter name/state name`, the state of torch's random generators, and where the
        model is judged by other weights, those it trains at, as `parameter name/training_weight`; whole as well."""
        processes, owned = self.processes, dict[str, Tensor]()
        for name, entry in self._optimizer_state().items():
            for key, value in entry.items():
                if isinstance(value, Tensor) and processes.owns:
                    owned[f"{name}/{key}"] = value.cpu()
                elif isinstance(value, Tensor):
                    yield f"{name}/{key}", processes.whole(name, value)
        if processes.owns:
            yield from processes.gathered(owned).items()
        parameters = dict(self.model.named_parameters())
        for name in self.judged_weights():
            yield f"{name}/{_TRAINING}", processes.whole(name, parameters[name].detach())
        own = {f"{_RANDOM}/{name}": state for name, state in random_state(processes.rank).items()}
        yield from processes.gathered(own).items()

    def restore(self, scalars: dict[str, Any], model: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Set everything to what `scalars`, `model_tensors` and `optimizer_tensors` gave; raises OtherModel."""
        if odd := sorted(name for name, tensor in optimizer.items() if tensor.is_complex()):
            raise OtherModel(f"the optimizer state is not this model's: {', '.join(odd[:8])} is complex")
        my_part = self.processes.my_part
        load_tensors(self.model, model, my_part)
        parameters = dict(self.model.named_parameters())
        training = {
            name: my_part(name, optimizer[key], parameter)
            for name, parameter in parameters.items()
            if (key := f"{name}/{_TRAINING}") in optimizer
        }
        progress = TypeAdapter(Progress).validate_python({name: scalars[name] for name in _PROGRESS})
        for name in _PROGRESS:
            setattr(self, name, getattr(progress, name))
        averaged = training if self.averaged_steps else {}
        self.averages = {name: local(parameters[name].detach()).clone() for name in averaged}
        _copy(training, parameters)
        self._restore_optimizer(scalars["optimizer"], optimizer)
        prefix = f"{_RANDOM}/"
        random_tensors = {k.removeprefix(prefix): v for k, v in optimizer.items() if k.startswith(prefix)}
        restore_random_state(random_tensors, self.processes.rank)
        python_version, python_keys, python_gauss = scalars["random"]["python"]
        random.setstate((python_version, tuple(python_keys), python_gauss))
        np.random.set_state(tuple(scalars["random"]["numpy"]))

    def _restore_optimizer(self, scalars: dict[str, dict[str, Any]], tensors: dict[str, Tensor]) -> None:
        names = {name for name, _ in self.model.named_parameters()}
        held = {key.rpartition("/")[0] for key in tensors} - {_RANDOM} | scalars.keys()
        if unknown := sorted(held - names):
            raise OtherModel(f"the optimizer state is not this model's: {', '.join(unknown[:8])} is unknown")
        state: dict[int, dict[str, Any]] = {}
        for index, (name, parameter) in enumerate(self._named_parameters()):
            entry: dict[str, Any] = dict(scalars.get(name, {}))
            for key, value in tensors.items():
                owner, _, what = key.rpartition("/")
                if owner == name and what != _TRAINING:
                    entry[what] = self.processes.my_part(name, value, parameter).to(parameter.device)
            if entry:
                state[index] = entry
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [
            (name, parameter)
            for group in self.optimizer.param_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
        ]

    def _optimizer_state(self) -> dict[str, dict[str, Any]]:
        state = self.optimizer.state
        return {name: state[parameter] for name, parameter in self._named_parameters() if parameter in state}


def random_state(rank: int = 0) -> dict[str, Tensor]:
    """Return the state of torch's random generators, by device, and by rank beyond the first: dropout draws from it."""
    suffix = f".{rank}" if rank else ""
    state = {f"cpu{suffix}": torch.get_rng_state()}
    if torch.cuda.is_available():
        state[f"cuda{suffix}"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor], rank: int = 0) -> None:
    """Set the generators to what `random_state` gave; one of a device, or a process, that is not here is left out."""
    suffix = f".{rank}" if rank else ""
    if (of_cpu := state.get(f"cpu{suffix}")) is not None:
        torch.set_rng_state(of_cpu)
    if (of_cuda := state.get(f"cuda{suffix}")) is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(of_cuda)


def persistent_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers by name; a tied parameter once."""
    persistent = set(model.state_dict())
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    for name, tensor in tensors.items():
        local(parameters[name]).copy_(tensor)


@torch.no_grad()
def load_tensors(
    model: nn.Module, tensors: dict[str, Tensor], my_part: Callable[[str, Tensor, Tensor], Tensor] | None = None
) -> None:
    """Copy `tensors`, or `my_part` of each, into the parameters and persistent buffers of `model`, all of them, or
    none: OtherModel says which names or shapes differ."""
    targets = persistent_tensors(model)
    problems = [f"{name} is missing" for name in targets.keys() - tensors.keys()]
    problems += [f"{name} is unknown" for name in tensors.keys() - targets.keys()]
    problems += [
        f"{name} is {list(tensors[name].shape)}, the model has {list(target.shape)}"
        for name, target in targets.items()
        if name in tensors and tensors[name].shape != target.shape
    ]
    problems += [f"{name} is complex" for name, tensor in tensors.items() if tensor.is_complex()]
    if problems:
        raise OtherModel(f"the weights are not this model's: {'; '.join(sorted(problems)[:8])}")
    for name, target in targets.items():
        local(target).copy_(tensors[name] if my_part is None else my_part(name, tensors[name], target))
