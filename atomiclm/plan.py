"""`python -m atomiclm.plan ...the overrides of a training...`: what a configuration costs. Nothing is trained or read.

With -m it answers for every cell of a sweep.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from atomiclm.config.app import run_app
from atomiclm.config.faults import UserError
from atomiclm.config.run import RunConfig, read_config

_ADAM_BYTES_PER_PARAMETER = 16  # float32 weight, gradient and two moments


def main() -> None:
    """Run the command."""
    run_app(plan)


def plan(config: DictConfig) -> None:
    """Print the parameters, FLOPs, cache bytes and steps of the run that `config` describes."""
    run = read_config(config)
    print(f"{run.values['name']}/{run.run_id}")
    try:
        for label, text in _lines(run):
            print(f"  {label:22} {text}")
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


def _lines(run: RunConfig) -> Iterator[tuple[str, str]]:
    import torch

    from atomiclm.config.build import build
    from atomiclm.training import Runtime, Trainer

    values: dict[str, Any] = run.values
    with torch.device("meta"):
        # Initial weights would be drawn on the CPU, for every parameter; their cost needs none of them.
        model = build({**values["model"], "init": {"_target_": "atomiclm.plan.no_initial_weights", "_partial_": True}})
    runtime: Runtime = build(values["runtime"])
    trainer: Trainer = build(values["trainer"])
    dtype = runtime.dtype(trainer.precision)
    parameters, context = model.num_parameters(), model.context_length
    yield "parameters", f"{parameters:,}"
    for role, count in model.num_parameters_by_role().items():
        yield f"  {role}", f"{count:,}  ({count / parameters:.1%})"
    yield "weights and optimizer", f"{parameters * _ADAM_BYTES_PER_PARAMETER / 2**20:,.1f} MiB in float32 with Adam"
    per_token = model.training_flops_per_token(context)
    yield "training FLOPs/token", f"{per_token:,}  (context {context}, backward twice the forward)"
    yield "cache bytes/token", f"{model.cache_bytes_per_token(dtype.itemsize):,}  ({str(dtype).removeprefix('torch.')})"
    steps = trainer.budget.steps(trainer.batch_size * context)
    if steps is None:
        yield "budget", f"{trainer.budget.max_seconds:g} seconds of training steps"
        return
    tokens = steps * trainer.batch_size * context
    limit = f", or {trainer.budget.max_seconds:g} seconds if that is less" if trainer.budget.max_seconds else ""
    yield "budget", f"{steps:,} steps of {trainer.batch_size} x {context} tokens = {tokens:,} tokens{limit}"
    peak = runtime.matmul_flops_per_second(dtype)
    yield "training FLOPs", f"{tokens * per_token:.3e}"
    yield "time", f"at least {tokens * per_token / peak:,.0f} s: this machine's matrix products reach {peak:.2e} FLOP/s"


def no_initial_weights(model: object) -> None:
    """Stand-in for the initialisation of a model that is only counted."""


if __name__ == "__main__":
    main()
