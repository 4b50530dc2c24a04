"""One run in several processes, one for each device, as torchrun starts them: data parallel, whole or sharded.

Each process takes an equal part of every batch, and the gradient of the batch is the sum of theirs, so the run is the
one that a single process would train, but for the order of floating-point sums and what dropout draws. With `ddp` every
process keeps the whole model (torch's DistributedDataParallel). With `fsdp` weights, gradients and the optimizer's
state are sharded by rows, and a block's weights are whole only while it is computed (torch's `fully_shard`); where
`shard` is less than the number of processes, each group of so many keeps one copy of the model (hybrid sharding).

An optimizer sees ordinary tensors. One that is `elementwise` gets the shards that are here. For any other, whose
update of a number depends on the rest of its matrix, each parameter has an owner, which is sent gradients and weights
whole and sends the new weights back: so Muon, SOAP and a user's optimizer take the step that they take in one process.

Rank 0 records, saves and speaks. What a process would decide by itself, because of a signal, its clock or its disk, is
agreed on first.

Source: Rajbhandari et al. (2019), arXiv:1910.02054 (ZeRO); Zhao et al. (2023), arXiv:2304.11277 (FSDP).
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from atomiclm.cli import UserError
from atomiclm.data import Batch
from atomiclm.model import Decoder, Loss
from atomiclm.model.block import Block
from atomiclm.training.processes import Processes, local

_PATIENCE = timedelta(days=1)
"""How long processes wait for the others to prepare the text, which may take hours."""


@contextmanager
def joined(device: str, timeout_seconds: float) -> Iterator["Distributed"]:
    """While open, the processes that torchrun has started are joined.

    Raises:
        UserError: they were not started by torchrun, or there are more than GPUs.
    """
    size = os.environ["WORLD_SIZE"]
    if missing := {"RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} - os.environ.keys():
        rule = f"WORLD_SIZE={size} without {', '.join(sorted(missing))}: several processes are started by torchrun"
        raise UserError(f"{rule} --nproc-per-node {size} -m atomiclm.train ...; for one process unset WORLD_SIZE")
    backend = "gloo"
    if device in ("auto", "cuda") and torch.cuda.is_available():
        index, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if index >= gpus:
            raise UserError(f"torchrun has started more processes here than there are GPUs: {gpus}")
        torch.cuda.set_device(index)
        backend = "cpu:gloo,cuda:nccl"
    timeout = timedelta(seconds=timeout_seconds)
    store, rank, count = next(dist.rendezvous("env://", timeout=timeout))  # type: ignore[attr-defined]
    # torchrun keeps its store when it starts processes again, and with it the addresses of those that are gone.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"start {start}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    yield Distributed(timeout)
    dist.destroy_process_group()  # not after a failure: it may wait for a process that is gone


class Distributed(Processes):
    """Several processes, joined: see `Processes` for what each method is for."""

    def __init__(self, timeout: timedelta) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._timeout = timeout  # a group that is not given one waits for half an hour
        # What is agreed on is on the CPU: to read it from an accelerator would be to wait for that.
        self._agreeing: Any = dist.new_group(backend="gloo", timeout=timeout)
        self._patient: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self._strategy = "ddp"
        self._replicated: DistributedDataParallel | None = None
        self._root: Any = None  # of the sharded model
        self._sharded: dict[str, DTensor] = {}  # its parameters, by name
        self._here: dict[str, nn.Parameter] = {}  # those that the optimizer here is made of
        self._owners: dict[str, int] = {}  # by name, the rank in the group of those that share a copy of the model
        self._copies = 1  # of the model

    def describe(self) -> str:
        if self._strategy == "ddp":
            return "each with the whole model (ddp)"
        copies = f"{self._copies} copies of the model, each " if self._copies > 1 else "the model "
        return f"{copies}sharded over {self.size // self._copies} of them (fsdp)"

    def conditions(self) -> dict[str, Any]:
        return {"world_size": self.size, "distributed": self._strategy, "copies": self._copies}

    # Agreement.

    def any(self, here: bool) -> bool:
        return bool(self.greatest(float(here)))

    def greatest(self, here: float) -> float:
        value = torch.tensor(here, dtype=torch.float64)
        dist.all_reduce(value, dist.ReduceOp.MAX, self._agreeing)
        return float(value)

    def from_first[T](self, here: T) -> T:
        objects = [here]
        dist.broadcast_object_list(objects, src=0, group=self._agreeing)
        return objects[0]

    def gathered[V](self, here: dict[str, V]) -> dict[str, V]:
        found: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(here, found, dst=0, group=self._agreeing)
        return {name: value for entries in found or [] for name, value in entries.items()}

    def together[T](self, act: Callable[[], T]) -> T:
        failure: UserError | None = None
        try:
            result = act()
        except UserError as error:
            failure = error
        failures: list[Any] = [None] * self.size
        dist.all_gather_object(failures, None if failure is None else str(failure), group=self._patient)
        if failure is not None:
            raise failure
        for rank, message in enumerate(failures):
            if message is not None:
                raise UserError(f"process {rank}: {message}")
        return result

    def add_up(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            dist.all_reduce(tensor)

    def loss_of_one(self, error: BaseException) -> str | None:
        text = str(error)
        if not isinstance(error, dist.DistError) and not any(name in text for name in ("gloo", "NCCL", "Gloo")):
            return None
        return f"another process of the run has ended or is not heard of ({text.strip().splitlines()[0][:200]})"

    # The batch, and what is computed with it.

    def part(self, batch: Batch) -> Batch:
        rows = len(batch.inputs) // self.size  # config.validate holds the batch size to a multiple
        return batch.rows(slice(self.rank * rows, (self.rank + 1) * rows))

    def scored(self, batch: Batch, score: Callable[[Batch], Tensor]) -> Tensor:
        count = len(batch.inputs)
        each = -(-count // self.size)
        # As many rows in each process, so that all take the same passes; those that are too many are left out again.
        mine = (np.arange(each) + self.rank * each) % count
        found = score(batch.rows(mine)).contiguous()
        parts = [torch.empty_like(found) for _ in range(self.size)]
        dist.all_gather(parts, found)
        return torch.cat(parts)[:count]

    def enter[R](self, compute: Callable[[], R]) -> R:
        if self._root is None:
            return compute()
        found: R = self._root(compute)
        self._root.reshard()  # the weights of now, which the next step changes
        return found

    def training[**P, R](self, model: nn.Module, function: Callable[P, R]) -> Callable[P, R]:
        entry: nn.Module | None = self._root
        if entry is None:
            with warnings.catch_warnings():
                # torch 2.15 has another name for broadcast_buffers, which 2.11 does not know.
                warnings.simplefilter("ignore", FutureWarning)
                entry = self._replicated = DistributedDataParallel(
                    _Entry(model), broadcast_buffers=False, gradient_as_bucket_view=True
                )

        def training(*args: P.args, **kwargs: P.kwargs) -> R:
            found: R = entry(partial(function, *args, **kwargs))[0]
            return found

        return training

    def accumulate(self, is_last: bool) -> None:
        if self._replicated is not None:
            self._replicated.require_backward_grad_sync = is_last

    # Parameters, gradients and the optimizer.

    def shard(self, model: Decoder, size: int | None, gather: torch.dtype, reshard: bool) -> None:
        """Shard the model over groups of `size` processes (None: all).

        Args:
            gather: dtype in which weights are sent and computed with; gradients are sent in float32.
            reshard: free a block's weights after its forward pass, and gather them again for its backward pass.

        Raises:
            UserError: the size does not divide the number of processes.
        """
        size = size or self.size
        if self.size % size:
            raise UserError(f"runtime.shard: {size} does not divide the {self.size} processes")
        kind = "cuda" if dist.get_backend() != "gloo" else "cpu"
        group: Any = dist.group.WORLD
        ranks = torch.arange(self.size).view(-1, size)
        if len(ranks) == 1:
            mesh = DeviceMesh.from_group(group, kind, mesh_dim_names=("shard",))
        else:
            lines = (ranks.T.tolist(), ranks.tolist())
            group = [dist.new_subgroups_by_enumeration(each, timeout=self._timeout)[0] for each in lines]
            mesh = DeviceMesh.from_group(group, kind, ranks, mesh_dim_names=("copy", "shard"))
        sent = None if gather == torch.float32 else gather
        precision = MixedPrecisionPolicy(param_dtype=sent, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in [module for module in model.modules() if isinstance(module, Block)]:
            fully_shard(block, mesh=mesh, mp_policy=precision, reshard_after_forward=reshard)
        self._root = fully_shard(_Entry(model), mesh=mesh, mp_policy=precision, reshard_after_forward=reshard)
        self._sharded = {name: each for name, each in model.named_parameters() if isinstance(each, DTensor)}
        self._group, self._place = mesh.get_group("shard"), mesh.get_local_rank("shard")
        self._strategy, self._copies = "fsdp", self.size // size

    def optimized(self, model: Decoder, is_elementwise: bool) -> dict[str, nn.Parameter]:
        if self._root is None:
            return dict(model.named_parameters())
        self.owns = not is_elementwise
        if is_elementwise:
            self._here = {name: nn.Parameter(local(each.detach())) for name, each in self._sharded.items()}
            return self._here
        loads = [0] * dist.get_world_size(self._group)
        for name, each in sorted(self._sharded.items(), key=lambda item: -item[1].numel()):
            owner = self._owners[name] = loads.index(min(loads))
            loads[owner] += each.numel()
        if min(loads) == 0:
            raise UserError(f"runtime.shard: the model has fewer parameters than there are processes, {len(loads)}")
        self._here = {
            name: nn.Parameter(torch.empty(each.shape, dtype=each.dtype, device=each.device))
            for name, each in self._sharded.items()
            if self._owners[name] == self._place
        }
        return self._here

    @torch.no_grad()
    def collect_gradients(self, model: nn.Module) -> list[Tensor]:
        if self._root is None:
            return super().collect_gradients(model)
        gradients = {name: local(each.grad) for name, each in self._sharded.items() if each.grad is not None}
        if self.owns:
            weights = {name: local(self._sharded[name]) for name in gradients}
            for name, weight in self._to_owners(weights).items():
                self._here[name].copy_(weight)
            gradients = self._to_owners(gradients)
        for name, gradient in gradients.items():
            self._here[name].grad = gradient
        return list(gradients.values())

    @torch.no_grad()
    def publish(self, model: nn.Module) -> None:
        if self._root is None:
            return
        if self.owns:
            moved = [name for name, each in self._sharded.items() if each.grad is not None]
            self._from_owners(moved)
        for each in self._sharded.values():
            each.grad = None

    def joint_norm(self, norms: Tensor) -> Tensor:
        squares = norms.square().sum()
        if self._root is not None:
            dist.all_reduce(squares, group=self._group)
        return squares.sqrt()

    def bad_gradients(self, model: nn.Module) -> list[str]:
        bad = set(super().bad_gradients(model))
        return [name for name, _ in model.named_parameters() if self.any(name in bad)]

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        sharded = self._sharded.get(name)
        if sharded is None:
            return tensor
        if not isinstance(tensor, DTensor):
            if tensor.shape != local(sharded).shape:
                return tensor
            tensor = DTensor.from_local(
                tensor, sharded.device_mesh, sharded.placements, shape=sharded.shape, stride=sharded.stride()
            )
        found: Tensor = tensor.full_tensor()
        return found

    def my_part(self, name: str, whole: Tensor, here: Tensor) -> Tensor:
        sharded = self._sharded.get(name)
        if sharded is None or whole.shape != sharded.shape or (self.owns and not isinstance(here, DTensor)):
            return whole
        return whole[_rows(sharded, self._place)]

    def _to_owners(self, shards: dict[str, Tensor]) -> dict[str, Tensor]:
        """Send what is here of each to its owner; what this process owns of them, whole."""
        count = dist.get_world_size(self._group)
        owned_by = [[name for name in shards if self._owners[name] == place] for place in range(count)]
        mine = owned_by[self._place]
        shapes = [[self._shape(name, place) for name in mine] for place in range(count)]
        received = self._exchange([[shards[name] for name in names] for names in owned_by], shapes)
        return {name: torch.cat([parts[index] for parts in received]) for index, name in enumerate(mine)}

    def _from_owners(self, names: Sequence[str]) -> None:
        """Send the weights that this process owns to where their rows are."""
        count = dist.get_world_size(self._group)
        mine = [name for name in names if self._owners[name] == self._place]
        sent = [[self._here[name][_rows(self._sharded[name], place)] for name in mine] for place in range(count)]
        owned_by = [[name for name in names if self._owners[name] == place] for place in range(count)]
        received = self._exchange(sent, [[self._shape(name, self._place) for name in each] for each in owned_by])
        for names_of_one, parts in zip(owned_by, received, strict=True):
            for name, part in zip(names_of_one, parts, strict=True):
                local(self._sharded[name]).copy_(part)

    def _exchange(self, sent: list[list[Tensor]], shapes: list[list[tuple[int, ...]]]) -> list[list[Tensor]]:
        """Send a list of tensors to each process of the group; what came from each, of the `shapes` given."""
        like = next(iter(self._sharded.values()))
        counts = [[int(np.prod(shape)) for shape in each] for each in shapes]
        flat = [tensor.reshape(-1) for tensors in sent for tensor in tensors]
        output = torch.empty(sum(map(sum, counts)), dtype=like.dtype, device=like.device)
        source = torch.cat(flat) if flat else output.new_empty(0)
        dist.all_to_all_single(
            output, source, list(map(sum, counts)), [sum(t.numel() for t in each) for each in sent], group=self._group
        )
        parts = iter(output.split([count for each in counts for count in each]))
        return [[next(parts).view(shape) for shape in each] for each in shapes]

    def _shape(self, name: str, place: int) -> tuple[int, ...]:
        sharded = self._sharded[name]
        first, last, _ = _rows(sharded, place).indices(sharded.shape[0])
        return (max(0, last - first), *sharded.shape[1:])


class _Entry(nn.Module):
    """The model as torch's wrappers want it: one forward pass for whatever is computed with it.

    A loss is returned with its tensors beside it, where the wrappers look for them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        found = compute()
        return (found, found.total, *found.auxiliary.values()) if isinstance(found, Loss) else found


def _rows(sharded: DTensor, place: int) -> slice:
    """The rows that a place in the group has, as torch shards them."""
    each = -(-sharded.shape[0] // sharded.device_mesh.size(sharded.device_mesh.ndim - 1))
    return slice(place * each, (place + 1) * each)
