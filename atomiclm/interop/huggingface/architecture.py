"""What one model class of transformers is, seen from here: tables of its configuration and of its tensors' names."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomiclm.interop.describe import windows_of
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.interop.huggingface.fields import Fields, Settings, read_fields, write_fields
from atomiclm.interop.huggingface.weights import Layout, Weight, our_tensors
from atomiclm.model import Decoder, LayerPattern

type Names = Mapping[str, str]
"""Modules or parameters of ours, and what they are called there."""


@dataclass(frozen=True)
class Architecture:
    """A model class of transformers; `variant` makes another of it by what differs.

    Attributes:
        model_type, class_name: its name in `config.json`, and what `AutoModelForCausalLM` builds.
        parts: the settings that all its models share, above all the class of each component (see `fields.py`).
            "experts" and "dense" are the feed-forward networks of layers with experts and without.
        keys: of `config.json`, in the order in which they are read.
        outside: our modules outside the layers, and their names for them.
        stem: where its layers are.
        inside: the names in a layer, under `blocks.N` here and `stem.N` there. Parts of one name lie in one tensor
            there; a `*` stands for the number of each slice of ours, which is a tensor there. A parameter that has no
            module of its own is named whole.
        inside_squeezed: names that differ where queries are expanded from a latent.
        transposed: whether matrices in layers are (inputs, outputs).
        interleaved: whether queries, keys and values lie head by head in their one tensor, or end to end.
        rotary_layout: how it pairs rotated features.
        other_names: that tensors have in some files.
        redundant: how the names of tensors end that say nothing.
        layers_beyond: whether files have more layers than are counted, for the prediction of further tokens.
        rules: what this class, beyond windows of one, does not compute although its configuration can say it; each
            returns a message that begins with the setting, or None. A variant has its own.
    """

    model_type: str
    class_name: str
    parts: Mapping[str, Any]
    keys: Fields
    outside: Names
    stem: str
    inside: Names
    inside_squeezed: Names = field(default_factory=dict)
    transposed: bool = False
    interleaved: bool = False
    rotary_layout: Layout = "half"
    other_names: Names = field(default_factory=dict)
    redundant: tuple[str, ...] = ("rotary_emb.inv_freq",)
    layers_beyond: bool = False
    rules: tuple[Callable[[Decoder], str | None], ...] = ()

    def variant(self, model_type: str, class_name: str, **changes: Any) -> "Architecture":
        """Another architecture: tables are added to those of this one, everything else replaces it."""
        merged: dict[str, Any] = {
            name: {**getattr(self, name), **value} if isinstance(value, dict) else value
            for name, value in {"rules": (), **changes}.items()
        }
        return dataclasses.replace(self, model_type=model_type, class_name=class_name, **merged)

    def read(self, config: ConfigJson) -> dict[str, Any]:
        """Keyword arguments of `Decoder`. Raises UserError where the configuration asks for something unsupported."""
        settings: Settings = dict(self.parts)
        read_fields(self.keys, config, settings)
        arguments = _arguments(settings, "")
        if experts := arguments.pop("experts", None):
            pattern = ["dense" if dense else "experts" for dense in arguments.pop("is_dense", [False])]
            networks = {"experts": experts, "dense": arguments.pop("dense", None)}
            arguments["feedforward"] = LayerPattern(networks, pattern) if "dense" in pattern else experts
        return arguments

    def write(self, model: Decoder) -> dict[str, Any]:
        """The configuration nearest to a decoder. Whether it is the decoder's own, a comparison has to tell."""
        return write_fields(self.keys, model)

    def limits(self, model: Decoder) -> Iterator[str]:
        if 1 in windows_of(model):
            rule = "with its cache transformers computes something else than without"
            yield f"model.attention.window=1: {rule}; give at least 2"
        yield from filter(None, (rule(model) for rule in self.rules))

    def weights(self, model: Decoder) -> list[Weight]:
        """Every tensor of the decoder, once."""
        tensors = our_tensors(model)
        squeezed = "blocks.0.attention.query_squeeze.weight" in tensors
        inside = {**self.inside, **(self.inside_squeezed if squeezed else {})}
        ours_of: dict[str, list[str]] = {}
        for name in tensors:
            if name.startswith("blocks."):
                _, layer, rest = name.split(".", 2)
                theirs = f"{self.stem}.{layer}.{_lookup(inside, rest)}"
            else:
                theirs = _lookup(self.outside, name)
            ours_of.setdefault(theirs, []).append(name)
        heads = model.layers[0].attention.num_heads if self.interleaved else None
        return [
            Weight(
                tuple(ours),
                tuple(theirs.replace("*", str(n)) for n in range(len(tensors[ours[0]]) if "*" in theirs else 1)),
                self.transposed and ours[0].startswith("blocks."),
                heads,
                stacked="*" in theirs,
            )
            for theirs, ours in ours_of.items()
        ]

    def with_whole_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a file by their usual names: some have others, or leave out the first part, such as
        "transformer.".
        """
        tensors = {self.other_names.get(name, name): tensor for name, tensor in tensors.items()}
        embedding = f"{self.outside['embedding']}.weight"
        prefix, _, rest = embedding.partition(".")
        if embedding in tensors or rest not in tensors:
            return tensors
        head = f"{self.outside['head']}."
        return {name if name.startswith(head) else f"{prefix}.{name}": tensor for name, tensor in tensors.items()}

    def is_redundant(self, name: str, tensors: Mapping[str, Tensor], model: Decoder) -> bool:
        """Whether a tensor of a file that has no place in the decoder repeats what the file says elsewhere."""
        if name.endswith(self.redundant):
            return True
        if self.layers_beyond and name.startswith(f"{self.stem}."):
            return int(name.removeprefix(f"{self.stem}.").split(".")[0]) >= model.num_layers
        embedding = tensors.get(f"{self.outside['embedding']}.weight")
        is_head = name == f"{self.outside['head']}.weight" and model.head.weight is None
        return is_head and embedding is not None and torch.equal(tensors[name], embedding)


def _arguments(settings: Settings, prefix: str) -> dict[str, Any]:
    """The settings under a prefix as keyword arguments: a class becomes a partial of it with the settings under it."""
    found = {}
    for path, value in settings.items():
        name = path.removeprefix(prefix)
        if path.startswith(prefix) and "." not in name:
            found[name] = partial(value, **_arguments(settings, f"{path}.")) if isinstance(value, type) else value
    return found


def _lookup(names: Names, name: str) -> str:
    """The other name of a parameter: by its own, or by its module's."""
    if name in names:
        return names[name]
    module, _, parameter = name.rpartition(".")
    return f"{names[module]}.{parameter}"
