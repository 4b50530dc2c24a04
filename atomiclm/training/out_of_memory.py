"""What to change when memory runs out: said once, with the run's own numbers, instead of an allocator's traceback."""

import errno

import torch

SIGNS = (
    "DefaultCPUAllocator",  # of torch's allocator for the CPU, which raises a plain RuntimeError
    "out of memory",  # of CUDA's libraries and of MPS, some of which raise one too
    "ALLOC_FAILED",  # of cuBLAS and cuDNN, whose workspaces come from the same memory
    "could not create a memory",  # of oneDNN
)
"""What the messages of those RuntimeErrors say that are about memory and do not have a class of their own."""


def advice(
    error: BaseException,
    *,
    batch_size: int,
    micro_batch_size: int | None,
    checkpoint_activations: bool,
    device: str,
) -> str | None:
    """What to tell of a run that ended with `error`; None where memory was not what ran out.

    Args:
        error: what was raised.
        batch_size: sequences in a batch, `trainer.batch_size`.
        micro_batch_size: sequences in one forward pass, `runtime.micro_batch_size`; None: the whole batch.
        checkpoint_activations: whether the inside of blocks is recomputed already.
        device: where the tensors are, "cuda:0" or "cpu", say.
    """
    if not is_out_of_memory(error):
        return None
    size = micro_batch_size or batch_size
    smaller = [divisor for divisor in range(size // 2, 0, -1) if batch_size % divisor == 0]
    pieces = "at once" if size == batch_size else f"in pieces of {size}"
    said = _first_line(error)
    lines = [f"out of memory on {device}, where batches of {batch_size} sequences are computed {pieces}: {said}"]
    if smaller:
        others = f", or {', '.join(str(divisor) for divisor in smaller[1:4])}" if smaller[1:] else ""
        lines.append(f"  runtime.micro_batch_size={smaller[0]}{others}: the same batch in smaller pieces")
    if not checkpoint_activations:
        lines.append("  runtime.checkpoint_activations=true: blocks are computed once more in the backward pass")
    lines.append("  evaluation.batch_size: smaller, if it was an evaluation that ran out")
    lines.append(
        "The same command with any of these is the same run, up to the order of sums and the random numbers of "
        "dropout, and goes on from its newest checkpoint. A smaller trainer.batch_size, model.context_length or model "
        "makes it another run."
    )
    return "\n".join(lines)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the device's, or this machine's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def _first_line(error: BaseException) -> str:
    """The kind of the error and what it says first; allocators go on for a page."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
