"""From a configuration to the corpus and the decoder of its run, and back from a run folder to its model."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm import data
from atomiclm.cli import UserError, from_user
from atomiclm.config.build import build, walk
from atomiclm.config.errors import Fault, nearest
from atomiclm.config.validate import Check
from atomiclm.data import CorpusPart, PreparedCorpus, prepare
from atomiclm.data.cache import Progress, silent
from atomiclm.machine import default_cache_dir, usable_cores
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import RunFolder

if TYPE_CHECKING:
    import altair
    import pandas
    import torch

    from atomiclm.model import Decoder
    from atomiclm.training.runtime import Device


def prepare_corpus(
    values: dict[str, Any], progress: Progress = silent, check_text: Callable[[str], None] | None = None
) -> PreparedCorpus[Any]:
    """Return the corpus as token shards, from the cache or made now; see `atomiclm.data.prepare` for `check_text`.

    ValueError: the text cannot be read, or does not fit the model's context.
    """
    source, tokenizer = build(values["data"]), build(values["tokenizer"])
    corpus = prepare(
        source, tokenizer, cache_dir(values), progress=progress, check_text=check_text, workers=_data_workers(values)
    )
    for part in corpus.parts:
        _check_context_length(part, values["model"]["context_length"])
    return corpus


def corpus_sha256(values: dict[str, Any]) -> str:
    """Return the hash of the text of a configuration, as it is now."""
    return data.corpus_sha256(build(values["data"]), cache_dir(values), _data_workers(values))


def cache_dir(values: dict[str, Any]) -> Path:
    """The folder of what is made once for all runs on this machine: shards, and how fast it is."""
    return Path(values["cache_dir"] or default_cache_dir())


def _data_workers(values: dict[str, Any]) -> int:
    return values.get("runtime", {}).get("data_workers") or usable_cores()  # runs of earlier versions do not set it


def vocabulary_note(values: dict[str, Any], corpus: PreparedCorpus[Any]) -> str | None:
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
    if part.validation.answers is None:
        return
    longest = max(part.train.longest_document(), part.validation.longest_document())  # all tokens are read for it
    if longest > context_length:
        raise UserError(
            f"model.context_length: {context_length} is too short for {text}: documents would be cut, and answers "
            f"asked for without their questions; the longest document has {longest} tokens: give at least {longest}, "
            "or shorter documents"
        )


def decoder_of_shapes(model: Mapping[str, Any]) -> "Decoder":
    """Return the decoder of a `model` node, on the meta device; the same one whatever its seed, so do not change it.

    UserError: what a constructor refused (a `PartError` says which), or a size out of bounds.
    """
    # Of a study's cells each arm is made once: a seed that is a seed changes no shape.
    return _decoder(re.sub(r'"seed": \d+', '"seed": 0', json.dumps(model)))


@lru_cache(maxsize=64)
def _decoder(model: str) -> "Decoder":
    node = json.loads(model)
    for fault in size_faults(node):
        raise UserError(str(fault))
    made: Decoder = on_shapes(lambda: build(node))
    return made


def on_shapes[T](make: Callable[[], T]) -> T:
    """Return what `make` makes, on torch's meta device: of modules their shapes."""
    import torch
    from torch.overrides import TorchFunctionMode

    class NoFills(TorchFunctionMode):
        """Leaves out random fills: of a meta tensor they change nothing, and load sympy, which takes a second."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__name__", "") in ("normal_", "uniform_", "trunc_normal_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with torch.device("meta"), NoFills():
        return make()


# How large a model may be: above everything that was published, and below what takes minutes or all memory to refuse.
_SIZE = 2**24, "a square matrix of that width has 3 x 10**14 numbers"
_TOKENS = 2**30, "the longest published contexts have 10**7 tokens"
_LIMITS: Mapping[str, tuple[float, str]] = {
    "num_layers": (1024, "the deepest published transformers have 1,000 layers (Wang et al. 2022, arXiv 2203.00555)"),
    "depth": (64, "each token ahead is a block of its own"),
    "context_length": _TOKENS,
    "original_length": _TOKENS,
    "window": _TOKENS,
    "seed": (float("inf"), ""),
}


def size_faults(model: Mapping[str, Any]) -> list[Fault]:
    """The whole numbers in a `model` node that are too large, each with its path."""
    faults = []
    for path, value in walk(model, "model"):
        limit, why = _LIMITS.get(path.rpartition(".")[2].partition("[")[0], _SIZE)
        if isinstance(value, int) and not -limit <= value <= limit:
            number = f"{float(value):.6g}" if abs(value) < 1e300 else "a number of more than 300 digits"
            faults.append(Fault(path, f"{number} is more than {limit:,}: {why}; give less"))
    return faults


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A run with the weights of one of its checkpoints: what `atomiclm.load_run` and `atomiclm.train_run` return.

    model        in eval mode
    tokenizer    that of the run
    config       the run's configuration, nested dicts with interpolations followed (`config.yaml`)
    checkpoint   the folder the weights are from
    """

    model: "Decoder"
    tokenizer: BasicTokenizer
    config: dict[str, Any]
    checkpoint: Path
    folder: RunFolder

    def __repr__(self) -> str:
        return f"TrainedRun({self.folder.path}, {self.checkpoint.name}, {self.model.num_parameters():,} parameters)"

    @property
    def summary(self) -> dict[str, Any]:
        """The final figures and how the run ended (`summary.json`)."""
        return self.folder.read_summary()

    @property
    def record(self) -> list[dict[str, Any]]:
        """What was measured, one dict an event, in order (`metrics.jsonl`): "train", "validation", "sample" ..."""
        return self.folder.read_rows()

    def frame(self, event: str | None = None) -> "pandas.DataFrame":
        """The record, or its rows of one event, as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
            UserError: the record has no such event.
        """
        import pandas

        events = {str(row["event"]) for row in self.record}
        if event is not None and event not in events:
            raise UserError(f"the record has no event {event!r}{nearest(event, events)}")
        rows = [row for row in self.record if event in (None, row["event"])]
        return pandas.DataFrame(rows).dropna(axis="columns", how="all")

    def chart(self) -> "altair.LayerChart":
        """Bits per byte over training tokens: of training batches as a line, of the validation text as points."""
        from atomiclm.comparison.line_charts import run_chart

        return run_chart(self.record)

    def generate(
        self, prompt: str = "", max_tokens: int = 200, seed: int = 1, temperature: float = 0.8, **filters: Any
    ) -> str:
        """The prompt and its continuation, as `atomiclm generate` prints them for the same settings.

        filters: top_k, top_p, min_p of `generation.Settings`
        """
        from atomiclm.generation import Settings, Writer

        settings = Settings(temperature=temperature, max_tokens=max_tokens, **filters)
        [text] = Writer(self.model, self.tokenizer).write([prompt], [seed], settings)
        return prompt + text.text


def load_run(
    folder: RunFolder, checkpoint: Path | None, device: "Device" = "cpu", values: dict[str, Any] | None = None
) -> TrainedRun:
    """Return the model of a run, at `checkpoint` or at its newest sound one, saying which newer ones are damaged.

    values: its configuration with settings of its model changed (`with_model_settings`); None: its own

    UserError: there is no such device, or no sound checkpoint; or the configuration is refused, or does not fit the
    weights, before memory for either is taken.
    """
    from atomiclm.training import Runtime
    from atomiclm.training.checkpoint import newest_sound, read_model
    from atomiclm.training.state import load_tensors

    with from_user():
        runtime = Runtime(device=device)
    path = checkpoint or newest_sound(folder, say_aloud)
    changed, values = values is not None, values or read_values(folder)
    with folder.reading(folder.tokenizer):
        tokenizer = BasicTokenizer.load(folder.tokenizer)
    try:
        load_tensors(decoder_of_shapes(values["model"]), _shapes(path / "model.safetensors"))
        model: Decoder = build(values["model"])
        load_tensors(model, read_model(path))
    except (OSError, UserError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if changed:
            fix = "only settings that leave the parameters as they are can be changed"
            raise UserError(f"--set: {reason}; {fix}") from error
        raise UserError(f"{folder.path} cannot be used: {reason}") from error
    return TrainedRun(model.to(runtime.device).eval(), tokenizer, values, path, folder)


def say_aloud(line: str) -> None:
    """Print what is no result: results may be read by a program."""
    print(line, file=sys.stderr, flush=True)


def read_values(folder: RunFolder) -> dict[str, Any]:
    """Return the configuration of a run, which a stranger may have written; UserError: the faults of its model."""
    values, check = folder.read_config(), Check()
    if isinstance(values.get("model"), dict):
        check.node("model", values["model"])
    else:
        check.refuse("model", "is no mapping, and so no component")
    if check.faults:
        raise UserError(f"{folder.path} cannot be used: {'; '.join(map(str, check.faults[:8]))}")
    return values


_MAX_HEADER_BYTES = 10_000_000  # of a safetensors file: names and shapes of some 80,000 tensors


def _shapes(weights: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a safetensors file, with shapes and no numbers."""
    import safetensors
    import torch

    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        raise UserError(f"{weights.name} is damaged: its header has {length:,} bytes, more than {_MAX_HEADER_BYTES:,}")
    try:
        with safetensors.safe_open(weights, "pt") as stored:
            names = stored.keys()
            return {name: torch.empty(stored.get_slice(name).get_shape(), device="meta") for name in names}
    except safetensors.SafetensorError as error:
        raise UserError(f"{weights.name} is damaged: {error}") from error
