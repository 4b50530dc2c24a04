"""Check a whole configuration before any file exists: every node against its class, then by making what it describes.

Hydra refuses an unknown key on the command line, but merges the same typo in silence when it comes from an experiment
file or behind a `+`. Here every node that names a `_target_` is held against that class's arguments and their
annotations, wherever the key came from, and the class is called, children first: a constructor states each of its rules
once, in a ValueError that begins with the argument's name. The decoder is made of shapes alone, on torch's meta device.
Last come the rules that tie several groups together (`rules.py`). All faults are raised at once.
"""

import copy
import functools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from atomiclm.config.build import PARTIAL, TARGET, Argument, Constructor, TargetError, component, read_constructor
from atomiclm.config.errors import ConfigError, Fault, nearest

_MISSING = "???"
_SUPPLIED_BY_DECODER = ("dim", "layer", "num_layers", "context_length", "vocab_size")
_SUPPLIED_BY_ATTENTION = ("num_heads", "head_dim")
_METHODS = {
    "tokenizer": "train_from_iterator",
    "data": "faults",
    "schedule": "multiplier",
    "trainer": "fit",
    "trainer.order": "dataset",
    "trainer.objective": "__call__",
    "trainer.bad_steps": "action",
    "trainer.spikes": "limit",
    "trainer.weight_average": "update",
    "tracking": "start",
}
"""A method by which a component of the group is known, whatever its class: one of another group lacks it."""


@dataclass(frozen=True)
class RootSettings:
    """The settings of the primary config that are no component: checked as one component's arguments are."""

    name: str | None = "runs"
    seed: int = 0
    arm: str | int | None = None
    profile: str | int | None = None
    held_out: Literal["validation", "dev"] = "validation"
    output_dir: str = "outputs"
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.name is None:
            raise ValueError("name: null is no name of a folder; give one, or leave it out")
        if not re.fullmatch(r"[\w+=-][\w.+=-]*", self.name):
            raise ValueError(f"name: {self.name!r} is not the name of one folder: letters, digits and _ . + = - only")
        # File systems take 255 bytes, and a sweep appends words of its own to the name.
        parts = [("name", self.name, 200)]
        for key, folder in (("output_dir", self.output_dir), ("cache_dir", self.cache_dir)):
            if folder == "":
                raise ValueError(f"{key}: '' is not the path of a folder")
            parts += [(key, part, 255) for part in Path(folder or ".").parts]
        for key, part, limit in parts:
            if (length := len(part.encode("utf-8", "surrogatepass"))) > limit:
                rule = f"{part[:40]!r}... has {length} bytes, more than {limit}"
                raise ValueError(f"{key}: {rule}; give a shorter one")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: {self.seed} is not a whole number from 0 to 2**63 - 1")


def validate(config: dict[str, Any], root_keys: Iterable[str]) -> dict[str, Any]:
    """Return `config` with each number an int or a float as its argument is annotated, so that 1 and 1.0 are one.

    Args:
        config: the composed configuration as plain containers, interpolations resolved, without the `hydra` node.
        root_keys: the top-level keys of the primary config; any other is a typo, and none may be missing.

    Raises:
        ConfigError: every fault found, each with its path, the rule and the nearest valid name.
    """
    from atomiclm.config.rules import broken_rules

    known, own = set(root_keys), {field.name for field in fields(RootSettings)}
    values, check = copy.deepcopy(config), Check()
    made: dict[str, Any] = {}
    for key in sorted(known - values.keys()):
        check.refuse(key, "is missing; it must not be deleted from the configuration")
    for key, value in values.items():
        if key not in known:
            check.refuse(key, f"no such setting{nearest(key, known)}")
        elif value == _MISSING:
            check.refuse(key, f"a value is required; give {key}=...")
        elif key not in own and isinstance(value, dict):
            made[key] = check.node(key, value)
        elif key not in own:
            check.refuse(key, f"{value!r} is not an option of this group; --help lists them")
    root = {key: value for key, value in values.items() if key in own and value != _MISSING}
    check.arguments("", root, read_constructor(RootSettings))
    values |= root
    if isinstance(made.get("optim"), functools.partial):
        made["optim"] = check.optimizer(values["optim"], made["optim"], made.get("model"))
    check.faults += broken_rules(values, {group: each for group, each in made.items() if each is not None})
    check.end()
    return values


def node_faults(path: str, node: dict[str, Any]) -> list[Fault]:
    """The faults of one node, held against the constructor it names without making it."""
    check = Check(makes=False)
    check.node(path, copy.deepcopy(node))
    return check.faults


class Check:
    """A pass over nodes, which are changed in place: numbers become what their arguments are annotated with.

    faults   what was found so far
    makes    whether the components are made, or only held against their constructors
    """

    def __init__(self, makes: bool = True) -> None:
        self.faults: list[Fault] = []
        self.makes = makes

    def refuse(self, path: str, rule: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(path, rule))

    def end(self) -> None:
        """Raise a ConfigError with the faults found, the first at each path."""
        if self.faults:
            raise ConfigError(list({fault.path: fault for fault in reversed(self.faults)}.values())[::-1])

    def value(self, path: str, value: Any) -> Any:
        """What a value describes: it may be a node, or hold some."""
        if isinstance(value, dict):
            if TARGET in value:
                return self.node(path, value)
            return {key: self.value(f"{path}.{key}", entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.value(f"{path}[{index}]", entry) for index, entry in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(path, f"{value} is not a finite number")
        return value

    def node(self, path: str, node: dict[str, Any]) -> Any:
        """The component that a node describes, a partial of it where it gets more arguments; None with a fault."""
        target = node.get(TARGET)
        if target is None:
            given = ", ".join(map(str, node)) or "nothing"
            self.refuse(path, f"names no component: no option of this group was chosen (it only has {given})")
        elif not isinstance(target, str):
            self.refuse(f"{path}.{TARGET}", f"{target!r} is not the dotted name of a class")
        else:
            try:
                function = component(target)
            except TargetError as error:
                self.refuse(f"{path}.{TARGET}", str(error))
            else:
                return self.arguments(path, node, read_constructor(function))
        return None

    def arguments(self, path: str, node: dict[str, Any], constructor: Constructor) -> Any:
        """The same of the arguments in a node, where the class is known."""
        is_sound, partial = True, node.get(PARTIAL, False)
        arguments: dict[str, Any] = {}
        refused = []
        for key, value in node.items():
            at = _within(path, key)
            if reason := _misplaced(path, key, value, partial is True, constructor):
                self.refuse(at, reason)
                is_sound = False
            elif key not in (TARGET, PARTIAL):
                node[key], faults = constructor.arguments.get(key, Argument(Any)).fit(at, value)
                if faults:
                    self.faults += faults
                    is_sound = False
                    continue
                before = len(self.faults)
                arguments[key] = self.value(at, node[key])
                if len(self.faults) > before:
                    refused.append(key)
                    arguments[key] = None
        for name, argument in constructor.arguments.items():
            if argument.required and name not in node and not partial:
                self.refuse(_within(path, name), f"{constructor.name} needs this argument")
                is_sound = False
        if not is_sound or not self.makes:
            return None
        if partial:
            return None if refused else functools.partial(constructor.function, **arguments)
        return self._made(path, node, constructor.function, arguments, refused)

    def optimizer(self, node: dict[str, Any], partial: functools.partial[Any], model: Any) -> Any:
        """Make the optimizer for the model's parameters; where the model was refused, for one matrix in its place."""
        import torch

        from atomiclm.model import parameter_roles

        given: tuple[Any, ...] = ([("weight", torch.nn.Parameter(torch.empty(2, 2)))], {"weight": "matrix"}, {})
        if model is not None:
            given = (list(model.named_parameters()), parameter_roles(model), model.lr_multipliers)
        return self._made("optim", node, functools.partial(partial.func, *given), partial.keywords, [])

    def _made(
        self, path: str, node: dict[str, Any], function: Callable[..., Any], given: dict[str, Any], refused: list[str]
    ) -> Any:
        """Call `function` with the arguments `given`, None in place of those that were `refused`.

        Without the arguments that it refuses it is called again, to hear of them all at once; what it then says of
        anything but an argument that the node gives may come of that, and is not reported.
        """
        from atomiclm.config.load import decoder_of_shapes, on_shapes, size_faults

        if path == "model" and (too_large := size_faults(node)):
            self.faults += too_large
            return None
        arguments, again = dict(given), bool(refused)
        if path == "runtime" and "device" in given:  # whether it is there, the machine that trains will say
            arguments["device"] = "cpu"
        while True:
            try:
                if path == "model" and not again:
                    made = decoder_of_shapes(node)
                else:
                    made = on_shapes(lambda: function(**arguments))
                break
            except (OSError, MemoryError):
                raise
            except Exception as error:
                argument, fault = _refusal(path, node, error)
                is_own = argument in arguments and argument not in refused
                if is_own or not again:
                    self.faults.append(fault)
                if not is_own:
                    return None
                del arguments[argument]
                again = True
        method = _METHODS.get(path)
        if again or method is None or callable(getattr(made, method, None)):
            return None if again else made
        rule = f"{type(made).__name__} is none of {path}'s components, which have a method {method}"
        self.refuse(f"{path}.{TARGET}", f"{rule}; choose an option of the group")
        return None


def _within(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _misplaced(path: str, key: str, value: Any, is_partial: bool, constructor: Constructor) -> str | None:
    """Why a node at `path` may not have the entry `key`, whatever its value but "???"."""
    if key == PARTIAL:
        if not isinstance(value, bool):
            return f"{value!r} is not true or false"
        is_part = path == "optim" or path.startswith("model.")
        if value and not is_part:
            return "only optim and the parts of a model get more arguments later; take it away"
    elif key != TARGET and str(key).startswith("_"):
        return "is not read: a node has _target_, _partial_ and the arguments of its class"
    elif key != TARGET and key not in constructor.arguments and not constructor.open_ended:
        suggestion = nearest(str(key), constructor.arguments)
        if "did you mean" not in suggestion:
            # Typically set by a preset or an experiment, for another option of this group than the one chosen.
            suggestion += f"; ~{_within(path, key)} takes it away"
        return f"{constructor.name} takes no such argument{suggestion}"
    elif value == _MISSING:
        return f"a value is required; give {_within(path, key)}=..."
    elif is_partial and path.startswith("model.") and key in _SUPPLIED_BY_DECODER:
        return f"the decoder supplies {key}; remove it here and set model.{key}"
    elif path == "model.position" and key in _SUPPLIED_BY_ATTENTION:
        return f"the attention supplies {key}; remove it here and set model.attention.{key}"
    return None


def _refusal(path: str, node: dict[str, Any], error: Exception) -> tuple[str, Fault]:
    """The argument that an error of a constructor begins with, as `name: ...` or `name=...`, and the fault there."""
    message = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    part, reason = getattr(error, "path", ""), getattr(error, "reason", message)  # of a part of the decoder
    for name in part.split(".") if part else ():
        node = node.get(name, {})
    path = f"{path}.{part}" if part else path
    named = re.match(r"(?P<argument>\w+)(?P<within>[\w./-]*)(?P<sign>: |=)", reason)
    if named is None or named["argument"] not in node:
        return "", Fault(path, reason)
    rest = reason[named.end() :] if named["sign"] == ": " else reason
    return "" if part else named["argument"], Fault(_within(path, named["argument"]) + named["within"], rest)
