"""From a run's configuration to the objects of training, and back from a run folder to its model.

The folder may come from a stranger: its configuration is held against its classes, and the shapes of its weights
against the model, before memory for either is taken.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm import data
from atomiclm.cli import UserError
from atomiclm.config.build import build
from atomiclm.config.errors import Fault
from atomiclm.config.validate import node_faults
from atomiclm.data import CorpusPart, PreparedCorpus, prepare
from atomiclm.data.cache import Progress
from atomiclm.machine import default_cache_dir
from atomiclm.tokenizer import Tokenizer
from atomiclm.tracking import RunFolder

if TYPE_CHECKING:
    import torch

    from atomiclm.model import Decoder


def prepare_corpus(
    values: dict[str, Any], progress: Progress | None = None, check_text: Callable[[str], None] | None = None
) -> PreparedCorpus:
    """Return the corpus as token shards, from the cache or made now; see `atomiclm.data.prepare` for `check_text`.

    Raises:
        ValueError: the text cannot be read; or a source is too short for one window of the model's context, or has
            answers in documents that are too long for it.
    """
    source, tokenizer = build(values["data"]), build(values["tokenizer"])
    corpus = prepare(source, tokenizer, _cache_dir(values), progress=progress, check_text=check_text)
    for part in corpus.parts:
        _check_context_length(part, values["model"]["context_length"])
    return corpus


def corpus_sha256(values: dict[str, Any]) -> str:
    """Return the hash of the text of a configuration, as it is now."""
    return data.corpus_sha256(build(values["data"]), _cache_dir(values))


def _cache_dir(values: dict[str, Any]) -> Path:
    return Path(values["cache_dir"]) if values["cache_dir"] else default_cache_dir()


def vocabulary_note(values: dict[str, Any], corpus: PreparedCorpus) -> str | None:
    """What to say where the text yielded a smaller vocabulary than was asked for, which the model was sized by."""
    asked, learned = values["tokenizer"].get("vocab_size"), corpus.tokenizer.vocab_size
    rows = values["model"]["vocab_size"]
    if not asked or learned >= asked:
        return None
    return (
        f"vocabulary: {learned:,} of the {asked:,} ids of tokenizer.vocab_size were learned, and the text has no more "
        f"to merge; the model has {rows:,} rows all the same (model.vocab_size), {rows - learned:,} of them never "
        f"used: tokenizer.vocab_size={learned} is a model without them"
    )


def _check_context_length(part: CorpusPart, context_length: int) -> None:
    text = f"the source {part.name}" if part.name else "the corpus"
    available = part.train.num_tokens
    if available <= context_length:
        raise UserError(
            f"model.context_length: {context_length} is longer than {text}: its training split has {available} "
            f"tokens; give at most {available - 1}, or more text"
        )
    longest = max(part.train.longest_document(), part.validation.longest_document())
    if part.validation.answers is not None and longest > context_length:
        raise UserError(
            f"model.context_length: {context_length} is too short for {text}: answers would be asked for without the "
            f"questions at the start of their documents, the longest of which has {longest} tokens; give at least "
            f"{longest}, or shorter documents"
        )


def say_aloud(line: str) -> None:
    """Tell people something that is no result: results may be read by a program."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class TrainedModel:
    """A model with the weights of a checkpoint, and all that is needed to use it."""

    model: "Decoder"
    tokenizer: Tokenizer
    values: dict[str, Any]
    checkpoint: Path


def load_run(
    folder: RunFolder, checkpoint: Path | None, device: "torch.device", values: dict[str, Any] | None = None
) -> TrainedModel:
    """Return the model of a run, at `checkpoint` or at its newest sound one, saying which newer ones are damaged.

    values: its configuration with settings of its model changed (`with_model_settings`); None: its own

    Raises:
        UserError: the run has no checkpoint, or it is damaged; or its configuration is refused, or does not fit the
            weights: reported before memory for either is taken.
    """
    from atomiclm.tokenizer import BasicTokenizer
    from atomiclm.training.checkpoint import newest_sound, read_model
    from atomiclm.training.state import load_tensors

    path = checkpoint or newest_sound(folder, say_aloud)
    changed, values = values is not None, values or read_values(folder)
    with folder.reading(folder.tokenizer):
        tokenizer = BasicTokenizer.load(folder.tokenizer)
    try:
        check_weights_fit(values["model"], path / "model.safetensors")
        model: Decoder = build(values["model"])
        load_tensors(model, read_model(path))
    except (OSError, UserError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if changed:
            fix = "only settings that leave the parameters as they are can be changed"
            raise UserError(f"--set: {reason}; {fix}") from error
        raise UserError(f"{folder.path} cannot be used: {reason}") from error
    return TrainedModel(model.to(device).eval(), tokenizer, values, path)


def read_values(folder: RunFolder) -> dict[str, Any]:
    """Return the configuration of a run, its model held against its classes as one that was composed is.

    Raises:
        UserError: the faults of the model, each with its path.
    """
    from atomiclm.config.shapes import size_faults

    values = folder.read_config()
    model = values.get("model")
    if isinstance(model, dict):
        faults = node_faults("model", model) or size_faults(model)
    else:
        faults = [Fault("model", "is no mapping, and so no component")]
    if faults:
        raise UserError(f"{folder.path} cannot be used: {'; '.join(map(str, faults[:8]))}")
    return values


MAX_HEADER_BYTES = 10_000_000
"""Of a safetensors file: names and shapes of some 80,000 tensors. The library itself accepts ten times as much."""


def check_weights_fit(model: dict[str, Any], weights: Path) -> None:
    """Hold the shapes of a safetensors file against those of a `model`, with neither of them in memory.

    Raises:
        ValueError: names or shapes differ, or the file is damaged.
    """
    from atomiclm.config.shapes import decoder_of_shapes
    from atomiclm.training.state import load_tensors

    try:
        load_tensors(decoder_of_shapes(model), _shapes(weights))
    except UserError as error:
        raise UserError(f"model: {error}") from error


def _shapes(weights: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a safetensors file, with shapes and no numbers."""
    import safetensors
    import torch

    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise UserError(f"{weights.name} is damaged: its header has {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    try:
        with safetensors.safe_open(weights, "pt") as stored:
            names = stored.keys()
            return {name: torch.empty(stored.get_slice(name).get_shape(), device="meta") for name in names}
    except safetensors.SafetensorError as error:
        raise UserError(f"{weights.name} is damaged: {error}") from error
