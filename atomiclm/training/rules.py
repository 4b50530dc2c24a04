"""What the trainer and the runtime demand of their settings; torch-free, so that a config is judged without torch."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from atomiclm.training.budget import Budget


def check_trainer(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting of the trainer's own out of range; its parts speak for themselves."""
    limits = {name: settings.get(name) for name in ("max_steps", "max_tokens", "max_seconds")}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    for name, limit in given.items():
        if not limit > 0:
            yield name, f"{limit} is not a positive budget; give a positive number, or null for no limit"
    if not given:
        try:
            Budget(**limits)
        except ValueError as error:
            yield "max_tokens", str(error).removeprefix("max_tokens: ")
    if settings["batch_size"] < 1:
        yield "batch_size", f"{settings['batch_size']} is not positive; give at least 1 sequence a step"
    clip = settings.get("gradient_clip")
    if clip is not None and not clip > 0:
        yield "gradient_clip", f"{clip} is not positive; give a norm such as 1.0, or null for no clipping"
    if settings.get("branch_from") == "":
        yield "branch_from", "empty; give a run or a checkpoint in one, or null for a run from the start"


def check_average(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting of an average of the weights out of range."""
    decay = settings.get("decay")
    if decay is not None and not 0.0 <= decay < 1.0:
        yield "decay", f"{decay} is not in [0, 1); 0.999 looks back over about 1000 steps"


def check_bad_steps(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting of a policy for bad steps out of range."""
    for name, unit in (("limit", "bad step"), ("every_steps", "step")):
        value = settings.get(name)
        if value is not None and value < 1:
            yield name, f"{value} is not positive; give at least 1 {unit}"


def check_spikes(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting of the detector of spikes out of range."""
    deviations, window = settings.get("deviations"), settings.get("window")
    if deviations is not None and not deviations > 0:
        yield "deviations", f"{deviations} is not positive; 6 is far beyond the noise of a batch"
    if window is not None and window < 2:
        yield "window", f"{window} steps have no standard deviation; give at least 2"


def too_short_for(settings: Mapping[str, Any], steps: int) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting of the trainer that a run of `steps` steps is too short for."""
    average, spikes = settings.get("weight_average"), settings.get("spikes")
    decay = average.get("decay") if isinstance(average, Mapping) else None
    if decay is not None and 1.0 / (1.0 - decay) > steps:
        yield (
            "weight_average.decay",
            f"{decay:g} looks back over about {1.0 / (1.0 - decay):,.0f} steps and the run has {steps:,}, so it is "
            f"judged by the mean of all its weights, the first included; {max(0.0, 1.0 - 10.0 / steps):.3g} looks back "
            "over a tenth of it",
        )
    if isinstance(spikes, Mapping) and spikes.get("is_bad") and spikes.get("window", 0) >= steps:
        yield (
            "spikes.window",
            f"the first {spikes['window']:,} steps are not judged and the run has {steps:,}, so no spike is found; "
            "give fewer",
        )


def check_runtime(settings: Mapping[str, Any], batch_size: int) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting of the runtime out of range."""
    for name in ("num_threads", "micro_batch_size", "log_every_steps", "keep_checkpoints"):
        value = settings.get(name)
        if value is not None and value < 1:
            yield name, f"{value} is not positive; give at least 1"
    threads, cores = settings.get("num_threads"), os.cpu_count() or 1
    if threads is not None and threads > cores:
        yield "num_threads", f"{threads} is more than this machine's {cores} cores"
    micro = settings.get("micro_batch_size")
    if micro is not None and micro >= 1 and batch_size % micro:
        yield "micro_batch_size", f"{micro} does not divide trainer.batch_size={batch_size}"
    interval = settings.get("checkpoint_every_seconds")
    if interval is not None and interval < 0:
        yield "checkpoint_every_seconds", f"{interval} is negative; give 0 to save after every step"
