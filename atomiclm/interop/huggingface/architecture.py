"""What one model class of transformers is, seen from here: its configuration and its tensors, in both directions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from atomiclm.interop.describe import blocks_of, window_of
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.interop.huggingface.weights import Layout, Weight, our_tensors
from atomiclm.model import Decoder

type Names = Mapping[str, str]
"""Modules or parameters of ours, and what they are called there."""


class Architecture(ABC):
    """A model class of transformers.

    Attributes:
        model_type: its name in `config.json`.
        class_name: what `AutoModelForCausalLM` builds.
        rotary_layout: how it pairs rotated features.
        outside: our modules outside the layers, and their names for them.
        stem: where its layers are.
        inside: the names in a layer, under `blocks.N` here and `stem.N` there; a parameter that has no module of its
            own is named whole.
    """

    model_type: ClassVar[str]
    class_name: ClassVar[str]
    rotary_layout: ClassVar[Layout] = "half"
    outside: ClassVar[Names]
    inside: ClassVar[Names]
    stem: ClassVar[str]

    @abstractmethod
    def read(self, config: ConfigJson) -> dict[str, Any]:
        """Keyword arguments of `Decoder`. Raises UserError where the configuration asks for something unsupported."""

    @abstractmethod
    def write(self, model: Decoder) -> dict[str, Any]:
        """The configuration nearest to a decoder. Whether it is the decoder's own, a comparison has to tell."""

    def limits(self, model: Decoder) -> Iterator[str]:
        """What transformers does not compute although its configuration can say it; each begins with the setting."""
        if 1 in windows_of(model):
            yield "model.attention.window: 1, which it does not compute with its cache as without; give at least 2"

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        """Tensors of a layer that are more than renamed, such as queries, keys and values fused; names are whole."""
        return []

    def weights(self, model: Decoder) -> list[Weight]:
        """Every tensor of the decoder, once."""
        found = [weight for layer in range(model.num_layers) for weight in self.special_weights(model, layer)]
        done = {name for weight in found for name in weight.ours}
        found += [Weight((name,), (self._renamed(name),)) for name in our_tensors(model) if name not in done]
        return found

    def with_prefix(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a file, under whole names: some files leave out the first part, such as "transformer."."""
        embedding = f"{self.outside['embedding']}.weight"
        prefix, _, rest = embedding.partition(".")
        if embedding in tensors or rest not in tensors:
            return tensors
        head = f"{self.outside['head']}."
        return {name if name.startswith(head) else f"{prefix}.{name}": tensor for name, tensor in tensors.items()}

    def is_redundant(self, name: str, tensors: Mapping[str, Tensor], model: Decoder) -> bool:
        """Whether a tensor of a file that has no place in the decoder repeats what the file says elsewhere."""
        if name.endswith("rotary_emb.inv_freq"):
            return True
        embedding = tensors.get(f"{self.outside['embedding']}.weight")
        is_head = name == f"{self.outside['head']}.weight" and model.head.weight is None
        return is_head and embedding is not None and torch.equal(tensors[name], embedding)

    def _renamed(self, name: str) -> str:
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            return f"{self.stem}.{layer}.{_lookup(self.inside, rest)}"
        return _lookup(self.outside, name)


def windows_of(model: Decoder) -> list[int | None]:
    """The window of each layer."""
    return [window_of(block.attention) for block in blocks_of(model)]


def _lookup(names: Names, name: str) -> str:
    """The other name of a parameter: by its own, or by its module's."""
    if name in names:
        return names[name]
    module, _, parameter = name.rpartition(".")
    assert module in names, f"{name} has no name in {sorted(names)}"
    return f"{names[module]}.{parameter}"
