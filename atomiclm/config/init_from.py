"""Starting a run with the weights of another model, `trainer.init_from`: a run, a checkpoint or a Hugging Face folder.

A run takes weights, the settings of the model and the tokenizer from its source. What the command, the arm or the
experiment's file sets is set after that, and what they choose whole (`model=small`, `tokenizer=bytes`) is theirs. Data,
optimizer, schedule and budget are the run's own. The weights count for the run's identity by their hash, wherever they
lie, and once there is a checkpoint the run needs its source no more.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter

from atomiclm.cli import UserError
from atomiclm.config.build import TARGET, TargetError, component, read_constructor, walk
from atomiclm.config.compose import choose_parts, chooses, parsed, resolved, unresolved
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.expand_overrides import chosen_by, experiment_of
from atomiclm.tracking import RunFolder, find_run
from atomiclm.tracking.run_folder import runs_in

if TYPE_CHECKING:
    import torch

KEY = "trainer.init_from"


@dataclass(frozen=True)
class Source:
    """A model whose weights a run starts with. environment.json of the run has it as it is here.

    name: what `trainer.init_from` calls it
    path: the checkpoint, or the Hugging Face folder
    run_id: of the run that trained it; None: of a Hugging Face folder
    sha256: of the weights
    model, tokenizer: nodes of a configuration; tokenizer None: the run chose its own
    tokenizer_sha256: digest of the source's tokenizer; None: there is none that can be read
    missing: why the source cannot be read now; "": it can. A run with a checkpoint does not need it
    """

    name: str
    path: str
    run_id: str | None
    sha256: str
    model: dict[str, Any]
    tokenizer: dict[str, Any] | None
    tokenizer_sha256: str | None = None
    missing: str = ""

    def facts(self) -> dict[str, Any]:
        """What a begun run notes, to go on when the source is gone."""
        return {key: value for key, value in asdict(self).items() if key != "missing"}

    def origin(self) -> dict[str, Any]:
        return {"path": self.path, "run_id": self.run_id, "sha256": self.sha256}

    def weights(self) -> "dict[str, torch.Tensor]":
        """Parameters and persistent buffers by name. UserError: they are gone, damaged, or not those of `sha256`."""
        from atomiclm.config.load import load_run
        from atomiclm.interop import load_huggingface
        from atomiclm.training.state import persistent_tensors

        if self.missing:
            raise UserError(f"{KEY}: {self.missing}")
        path = Path(self.path)
        try:
            if self.run_id is None:
                model = load_huggingface(path, tokenizer=False)[0]
            else:
                model = load_run(RunFolder(path.absolute().parents[1]), path).model
            found = _weights_sha256(path)
        except (OSError, UserError) as error:
            raise UserError(f"{KEY}: {error}") from error
        if found != self.sha256:
            rule = f"the weights of {path} have changed since this run was named: their sha256 is {found}"
            raise UserError(f"{KEY}: {rule}, not {self.sha256}; start the run again")
        return persistent_tensors(model)

    def changes(self, model: Mapping[str, Any]) -> dict[str, str]:
        """The settings of a `model` node that are not those of the source, each in words."""
        return {
            key: f"{key}={_word(now)} ({_word(before)} in the source)"
            for key, before, now in _differences("model", self.model, model)
            if key != "model.init" or before is not None  # a Hugging Face folder says nothing of it
        }

    def all_changes(self, values: Mapping[str, Any], tokenizer_sha256: str) -> list[str]:
        """What a run changes of the source's model and tokenizer, in words."""
        is_other = self.tokenizer_sha256 not in (None, tokenizer_sha256)
        tokenizer = [f"tokenizer={_word(values['tokenizer'])} (another than the source's)"] if is_other else []
        return [*self.changes(values["model"]).values(), *tokenizer]

    def check_fits(self, model: Mapping[str, Any]) -> None:
        """ConfigError: the weights do not fit the decoder of a `model` node; names the tensors and the settings."""
        faults = self._misfits(model)
        if not faults:
            return

        def is_at_fault(key: str) -> bool:
            """Whether fewer tensors differ with this setting as it is in the source."""
            there, mended = (OmegaConf.create({"model": {**node}}) for node in (self.model, model))
            OmegaConf.update(mended, key, OmegaConf.select(there, key), merge=False, force_add=True)
            try:
                return len(self._misfits(resolved(mended)["model"])) < len(faults)
            except (LookupError, RuntimeError, TypeError, ValueError):  # of a model that cannot be made
                return False

        changed = self.changes(model)
        named = [text for key, text in changed.items() if is_at_fault(key)] or list(changed.values())
        lines = [f"the weights of {self.path} do not fit this model:", *faults[:6]]
        lines += [f"and {len(faults) - 6} more tensors"] if len(faults) > 6 else []
        if named:
            listed = ", ".join(named[:6]) + (", ..." if len(named) > 6 else "")
            lines.append(f"caused by {listed}: remove it, or remove model=..., to use the source's value")
        raise ConfigError([Fault(KEY, "\n    ".join(lines))])

    def _misfits(self, model: Mapping[str, Any]) -> list[str]:
        from atomiclm.config.load import decoder_of_shapes
        from atomiclm.training.state import persistent_tensors

        there, here = (
            {name: list(tensor.shape) for name, tensor in persistent_tensors(decoder_of_shapes(node)).items()}
            for node in (self.model, model)
        )
        return [
            f"{name} is {there.get(name, 'missing')} in the source and {here.get(name, 'missing')} here"
            for name in {**here, **there}
            if here.get(name) != there.get(name)
        ]


def _differences(path: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs between two nodes, and how; a component of another class as a whole."""
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before.get(TARGET) == now.get(TARGET):
        for key in {**before, **now}:
            yield from _differences(f"{path}.{key}", before.get(key), now.get(key))
    elif before != now and path != "model.init.seed":
        yield path, before, now


def _word(value: Any) -> str:
    return str(value[TARGET]).rpartition(".")[2] if isinstance(value, Mapping) and TARGET in value else str(value)


def apply_init(config: DictConfig, overrides: Sequence[str]) -> Source | None:
    """Set what a run takes from its source in `config`, which was composed from `overrides`; None: it has no source.

    ConfigError: there is no such source, or no tokenizer that fits its embedding.
    """
    trainer = config.get("trainer")
    name = trainer.get("init_from") if isinstance(trainer, DictConfig) else None
    if not isinstance(name, str) or not name or trainer.get("branch_from") is not None:
        return None  # what is wrong with it, validation says
    model, tokenizer = (_Own(group, overrides) for group in ("model", "tokenizer"))
    source = _find(name, Path(str(config.output_dir)), str(config.name), not tokenizer.is_whole)
    if trainer.get("init_sha256") not in (None, source.sha256):
        rule = f"the weights of {source.path} have the sha256 {source.sha256}, not {trainer.init_sha256}"
        raise ConfigError([Fault("trainer.init_sha256", f"{rule}; give theirs, or null for any")])
    OmegaConf.update(config, "trainer.init_sha256", source.sha256, force_add=True)
    node = dict(source.model)
    if isinstance(init := node.get("init") or unresolved(config)["model"].get("init"), dict):
        node["init"] = {**init, **({"seed": "${seed}"} if "seed" in init else {})}
    model.set_after(config, node)
    if config.model.context_length != source.model["context_length"]:
        _set_trained_length(config, source.model["context_length"], {one.key_or_group for one in model.values})
    if source.tokenizer:
        tokenizer.set_after(config, source.tokenizer)
        ids = OmegaConf.select(config, "tokenizer.vocab_size")
        if not tokenizer.is_whole and ids != source.tokenizer["vocab_size"]:
            rule = f"{ids} is not {source.tokenizer['vocab_size']}, the size of the source's tokenizer"
            raise ConfigError([Fault("tokenizer.vocab_size", f"{rule}; leave tokenizer.vocab_size out")])
    rows, ids = (OmegaConf.select(config, f"{group}.vocab_size") for group in ("model", "tokenizer"))
    if not model.is_whole and isinstance(rows, int) and isinstance(ids, int) and ids > rows:
        rule = f"{ids:,} ids, <|endoftext|> among them, do not fit the {rows:,} rows of the embedding of {source.path}"
        own = "leave tokenizer out, and it is the model's own" if tokenizer.is_whole else "name one that does"
        raise ConfigError([Fault("tokenizer.vocab_size", f"{rule}; {own}")])
    return source


def _set_trained_length(config: DictConfig, length: int, typed: Collection[str]) -> None:
    """Set `original_length` of position schemes to the source's, where null would mean the run's own context length."""
    for path, target in list(walk(unresolved(config)["model"].get("position"), "model.position")):
        key = f"{path.removesuffix(TARGET)}original_length"
        if path.endswith(f".{TARGET}") and key not in typed and OmegaConf.select(config, key) is None:
            with suppress(TargetError):  # which validation reports
                if "original_length" in read_constructor(component(str(target))).arguments:
                    OmegaConf.update(config, key, length, force_add=True)


class _Own:
    """What the experiment's file, the arm and the command set of a group."""

    def __init__(self, group: str, overrides: Sequence[str]) -> None:
        file = experiment_of(overrides)
        words = parsed([one for one in [*chosen_by(file), *overrides] if re.match(rf"[+~]*{group}\b", one)])
        self.group, self.of_file = group, file.get(group) or {}
        self.options = {one.key_or_group: one for one in words if chooses(one)}
        self.values = [one for one in words if not chooses(one)]
        self.is_whole = group in self.options
        """Whether a model or tokenizer was chosen; then nothing of the source's is used."""

    def set_after(self, config: DictConfig, node: Mapping[str, Any]) -> None:
        """Put the source's node in the place of the group, and set after it what is set."""
        if self.is_whole:
            return
        OmegaConf.update(config, self.group, node, merge=False)
        choose_parts(config, list(self.options.values()))
        OmegaConf.update(config, self.group, self.of_file, merge=True, force_add=True)
        for one in self.values:
            if one.is_delete():
                raise ConfigError([Fault(one.key_or_group, f"cannot be taken away beside {KEY}; set it to null")])
            OmegaConf.update(config, one.key_or_group, one.value(), force_add=True)


def _find(name: str, output_dir: Path, study: str, with_tokenizer: bool) -> Source:
    """The source of that name; where it is gone, what a run of the same folder that began from it noted."""
    try:
        return _read(name, output_dir, with_tokenizer)
    except (OSError, UserError) as error:
        reason = " ".join(str(error).split())
        if reason.startswith("RUN: "):
            reason = f"{reason.removeprefix('RUN: ')}, or a Hugging Face folder, which has a config.json"
    begun: dict[str, Source] = {}
    for run in runs_in(output_dir / study):
        with suppress(OSError, UserError, ValueError, LookupError):  # a run that noted nothing
            noted = TypeAdapter(Source).validate_python(run.read_environments()[-1]["init"])
            if noted.name == name and (noted.tokenizer or not with_tokenizer):
                own = {**noted.tokenizer, "path": str(run.tokenizer)} if noted.tokenizer and with_tokenizer else None
                begun[noted.sha256] = replace(noted, tokenizer=own, missing=reason)
    if len(begun) != 1:
        raise ConfigError([Fault(KEY, reason)])
    return begun.popitem()[1]


def _read(name: str, output_dir: Path, with_tokenizer: bool) -> Source:
    from atomiclm.config.load import decoder_of_shapes, read_values
    from atomiclm.interop.huggingface.load import read_model_node
    from atomiclm.model import Decoder
    from atomiclm.training.checkpoint import final_checkpoint

    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        run_id, model, file = None, read_model_node(path), path / "tokenizer.json"
        if with_tokenizer and not file.exists():
            raise UserError(f"{path} has no tokenizer.json; name a tokenizer, or bring it back")
    else:
        folder, checkpoint = find_run(name, output_dir)
        path = checkpoint or final_checkpoint(folder)
        run_id, model, file = folder.run_id, read_values(folder)["model"], folder.tokenizer
    try:
        is_decoder = isinstance(decoder_of_shapes(model), Decoder)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"the model of {path} cannot be built: {error}") from error
    if not is_decoder:
        raise UserError(f"the model of {path} is a {_word(model)}, not a Decoder; name another source")
    tokenizer: dict[str, Any] = {}
    with suppress(*(() if with_tokenizer else (OSError, ValueError))):
        tokenizer = _tokenizer(_stamp(file))
    taken, digest = tokenizer if with_tokenizer else None, tokenizer.get("sha256")
    return Source(name, str(path), run_id, _weights_sha256(path), model, taken, digest)


def _weights_sha256(path: Path) -> str:
    """Of a Hugging Face folder, or a checkpoint, whose manifest vouches for it."""
    from atomiclm.interop.huggingface.load import weight_files
    from atomiclm.training.checkpoint import MODEL, read_manifest

    if (path / "config.json").is_file():
        return _sha256(tuple(map(_stamp, weight_files(path))))
    return str(read_manifest(path)["files"][MODEL]["sha256"])


type _Stamp = tuple[Path, int, int]


def _stamp(file: Path) -> _Stamp:
    """A file, by what changes with its content: of all cells of a sweep it is read once."""
    status = file.stat()
    return file, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=8)
def _sha256(files: tuple[_Stamp, ...]) -> str:
    """The sha256 of a file, or of those of its parts."""
    digests = []
    for path, _, _ in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=8)
def _tokenizer(file: _Stamp) -> dict[str, Any]:
    """The `tokenizer` node of a configuration that reads a file."""
    from atomiclm.interop import PretrainedTokenizer
    from atomiclm.interop.pretrained import read_pretrained

    path = str(file[0])
    size = read_pretrained(path).vocab_size
    found = PretrainedTokenizer(path, size)
    target = f"atomiclm.interop.{PretrainedTokenizer.__name__}"
    return {TARGET: target, "path": path, "vocab_size": size, "sha256": found.digest()}
