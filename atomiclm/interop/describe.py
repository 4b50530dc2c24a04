"""A model read back as the choices that make it: two models of equal descriptions compute the same function."""

import inspect
import math
from functools import partial
from typing import Any

from torch import Tensor, nn

from atomiclm.model import Decoder

LEFT_OUT = frozenset(
    # These leave the function of a trained model as it is, or number its weights, which export and import translate.
    ("dropout", "p", "balance_weight", "router_z_weight", "bias_rate", "context_length", "num_layers", "lookahead",
     "layout",
     # The outcome of these stands elsewhere: in a size, the layer's own window, the scale of its branches, in `tied`.
     "layer", "multiple_of", "window", "num_shared_experts", "shared_hidden_dim", "residual_scale", "scale_by_depth",
     "tie_embeddings")
)  # fmt: skip
"""Arguments without which a description still decides the function of a trained model."""

Description = dict[str, Any]


def describe(component: Any) -> Description:
    """``{"class": name, argument: value, ..., submodule: description, ...}`` of a module or another component.

    A component keeps each constructor argument in an attribute of the same name, so the signature says what to read. A
    class that only fixes arguments of its parent counts as the parent: SwiGLU is a gated network with SiLU.
    """
    kind = _class(component)
    described: Description = {"class": _name(kind)}
    for name in inspect.signature(kind).parameters:
        value = getattr(component, name, inspect.Parameter.empty)
        # A submodule is described below; a parameter by whether there is one.
        if value is not inspect.Parameter.empty and not isinstance(value, nn.Module):
            described[name] = True if isinstance(value, Tensor) else _plain(value)
    children = component.named_children() if isinstance(component, nn.Module) else ()
    return described | {name: describe(child) for name, child in children}


def describe_decoder(model: Decoder) -> Description:
    """The choices that decide what a decoder computes, layer by layer.

    ``{"vocab_size", "dim", "tied", "embedding", "final_norm", "head", "layers": [{"position", "block"}, ...]}``,
    without what matters in training only.
    """
    layers = []
    for layer, (block, window) in enumerate(zip(model.layers, windows_of(model), strict=True)):
        described = _function_of(describe(block))
        described["attention"]["window"] = window
        described["residual_scale"] = getattr(block, "branch_scale", 1.0)
        layers.append({"position": _function_of(describe(model.position.of_layer(layer))), "block": described})
    return {
        "vocab_size": model.vocab_size,
        "dim": model.dim,
        "tied": model.head.weight is None,
        "embedding": _function_of(describe(model.embedding)),
        "final_norm": _function_of(describe(model.norm)),
        "head": _function_of(describe(model.head)),
        "layers": layers,
    }


def differences(ours: Description, theirs: Description) -> dict[str, str]:
    """What differs, by configuration path: ``{"model.attention.gate": "OutputGate, not None"}``."""
    found: dict[str, str] = {}
    for name in ("vocab_size", "dim", "tied", "embedding", "final_norm", "head"):
        _compare(f"model.{name}", ours[name], theirs[name], found)
    if len(ours["layers"]) != len(theirs["layers"]):
        found["model.num_layers"] = f"{len(ours['layers'])}, not {len(theirs['layers'])}"
        return found
    for layer, (own, other) in enumerate(zip(ours["layers"], theirs["layers"], strict=True)):
        in_layer: dict[str, str] = {}
        _compare("model.position", own["position"], other["position"], in_layer)
        _compare("model.block", own["block"], other["block"], in_layer)
        for path, text in in_layer.items():
            found.setdefault(path, f"{text} (layer {layer})" if layer else text)
    return found


def windows_of(model: Decoder) -> list[int | None]:
    """The window of each layer's attention, None where it sees everything."""
    return [getattr(block.attention, "layer_window", None) for block in model.layers]


_PATHS = {
    "model.tied": "model.tie_embeddings",
    "model.block.attention": "model.attention",
    "model.block.feedforward": "model.feedforward",
    "model.block.attention_norm": "model.norm",
    "model.block.feedforward_norm": "model.norm",
    "model.block.attention_output_norm": "model.norm",
    "model.block.feedforward_output_norm": "model.norm",
}
"""What the parts of a description are called in a configuration, where that is something else."""


def _compare(path: str, ours: Any, theirs: Any, found: dict[str, str]) -> None:
    path = _PATHS.get(path, path)
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.get("class") == theirs.get("class"):
        for name in {**ours, **theirs}:
            _compare(f"{path}.{name}", ours.get(name), theirs.get(name), found)
        return
    # A factor may have been written as its inverse or its square. What else differs in another class follows from it.
    both_floats = isinstance(ours, float) and isinstance(theirs, float)
    if not (math.isclose(ours, theirs, rel_tol=1e-14) if both_floats else ours == theirs):
        found.setdefault(path, f"{_short(ours)}, not {_short(theirs)}")


def _short(value: Any) -> str:
    return str(value.get("class", value)) if isinstance(value, dict) else repr(value)


def _function_of(described: Any) -> Any:
    if not isinstance(described, dict):
        return described
    return {name: _function_of(value) for name, value in described.items() if name not in LEFT_OUT}


def _class(component: Any) -> type:
    """The class that says what the component does: its own, or the parent whose arguments it merely fixes."""
    kind = type(component)
    # Of a class from elsewhere nobody knows what its constructor does.
    while (
        _is_ours(kind)
        and {name for name in vars(kind) if not name.startswith("_abc_")} <= _INERT
        and len(kind.__bases__) == 1
    ):
        parent = kind.__bases__[0]
        if parent in (object, nn.Module) or inspect.isabstract(parent):
            break
        kind = parent
    return kind


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(("atomiclm.", "torch."))


def _name(kind: type) -> str:
    """Its name; with its module if it comes from elsewhere, where another may have the name of one of ours."""
    return kind.__name__ if _is_ours(kind) else f"{kind.__module__}.{kind.__qualname__}"


_INERT = frozenset(
    ("__init__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
     "__annotations__", "__annotate__", "__abstractmethods__", "__parameters__", "__dict__", "__weakref__")
)  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, partial):
        return {"class": value.func.__name__, **{name: _plain(item) for name, item in value.keywords.items()}}
    if isinstance(value, type):
        return {"class": value.__name__}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (int, float, str, bool)):
        return value
    return describe(value)
