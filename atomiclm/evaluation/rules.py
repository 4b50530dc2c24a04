"""What evaluation demands of its settings. Torch-free: a config is judged before torch is imported."""

from collections.abc import Iterator, Mapping
from typing import Any


def check_evaluation(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting out of range."""
    for name in ("times", "samples", "sample_times"):
        if settings.get(name, 0) < 0:
            yield name, f"{settings[name]} is negative; give 0 for none"
    for name in ("batch_size", "sample_tokens"):
        if settings.get(name, 1) < 1:
            yield name, f"{settings[name]} is not positive; give at least 1"
    if settings.get("sample_temperature", 1.0) < 0:
        yield "sample_temperature", f"{settings['sample_temperature']} is negative; give 0 for the likeliest token"
