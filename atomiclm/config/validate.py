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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from atomiclm.config.allowed import UnknownTarget, Untrusted
from atomiclm.config.build import PARTIAL, TARGET
from atomiclm.config.constructor import ANYTHING, Constructor, read_constructor
from atomiclm.config.errors import ConfigError, Fault, nearest

_SUPPLIED_BY_DECODER = ("dim", "layer", "num_layers", "context_length", "vocab_size")
_SUPPLIED_BY_ATTENTION = ("num_heads", "head_dim")
_MISSING = "???"
_MOST_BYTES = 255
MAX_NAME_BYTES = 200
"""Of a name: a sweep appends words of its own to it, and file systems take 255 bytes."""


def validate(config: dict[str, Any], root_keys: Iterable[str]) -> dict[str, Any]:
    """Return `config` with each number an int or a float as its argument is annotated, so that 1 and 1.0 are one.

    Args:
        config: the composed configuration as plain containers, interpolations resolved, without the `hydra` node.
        root_keys: the top-level keys of the primary config; any other is a typo, and none may be missing.

    Raises:
        ConfigError: every fault found, each with its path, the rule and the nearest valid name.
    """
    from atomiclm.config.rules import broken_rules

    known = set(root_keys)
    values, check = copy.deepcopy(config), Check()
    for key in sorted(known - values.keys()):
        check.refuse(key, "is missing; it must not be deleted from the configuration")
    made = {str(key): _root_setting(str(key), value, known, check) for key, value in values.items()}
    if callable(made.get("optim")):
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
        constructor = self._constructor(path, node)
        if constructor is None:
            return None
        own = list(_argument_faults(path, node, constructor))
        self.faults += own
        arguments, refused = {}, []
        for key, value in node.items():
            argument = constructor.arguments.get(key, ANYTHING if constructor.open_ended else None)
            is_wrong = any(f"{fault.path}.".startswith((f"{path}.{key}.", f"{path}.{key}[")) for fault in own)
            if argument is None or is_wrong or key in (TARGET, PARTIAL):
                continue
            before = len(self.faults)
            node[key] = argument.number(value)
            arguments[key] = self.value(f"{path}.{key}", node[key])
            if len(self.faults) > before:
                refused.append(key)
                arguments[key] = None
        if own or not self.makes:
            return None
        if node.get(PARTIAL):
            return None if refused else functools.partial(constructor.function, **arguments)
        return self._component(path, node, constructor.function, arguments, refused)

    def optimizer(self, node: dict[str, Any], partial: Callable[..., Any], model: Any) -> Any:
        """Make the optimizer for the model's parameters; where the model was refused, for one matrix in its place."""
        import torch

        from atomiclm.model import parameter_roles

        given: tuple[Any, ...] = ([("weight", torch.nn.Parameter(torch.empty(2, 2)))], {"weight": "matrix"}, {})
        if model is not None:
            given = (list(model.named_parameters()), parameter_roles(model), model.lr_multipliers)
        assert isinstance(partial, functools.partial)
        return self._component("optim", node, functools.partial(partial.func, *given), partial.keywords, [])

    def _constructor(self, path: str, node: dict[str, Any]) -> Constructor | None:
        target = node.get(TARGET)
        if target is None:
            given = ", ".join(map(str, node)) or "nothing"
            self.refuse(path, f"names no component: no option of this group was chosen (it only has {given})")
        elif not isinstance(target, str):
            self.refuse(f"{path}.{TARGET}", f"{target!r} is not the dotted name of a class")
        else:
            try:
                return read_constructor(target)
            except UnknownTarget as error:
                suggestion = nearest(target.rpartition(".")[2], error.known) if error.known else ""
                self.refuse(f"{path}.{TARGET}", f"{error}{suggestion}")
            except Untrusted as error:
                self.refuse(f"{path}.{TARGET}", str(error))
        return None

    def _component(
        self, path: str, node: dict[str, Any], function: Callable[..., Any], given: dict[str, Any], refused: list[str]
    ) -> Any:
        """Call `function` with the arguments `given`, None in place of those that were `refused`.

        Without the arguments that it refuses it is called again, to hear of them all at once; what it then says of
        anything but an argument that the node gives may come of that, and is not reported.
        """
        from atomiclm.config.shapes import decoder_of_shapes, on_shapes, size_faults

        if path == "model" and (too_large := size_faults(node)):
            self.faults += too_large
            return None
        if path == "runtime" and "device" in given:  # whether it is there, the machine that trains will say
            given = {**given, "device": "cpu"}
        arguments, again = dict(given), bool(refused)
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
                if again and (argument not in arguments or argument in refused):
                    return None
                self.faults.append(fault)
                if argument not in arguments:
                    return None
                del arguments[argument]
                again = True
        if again:
            return None
        method = _METHODS.get(path)
        if method and not callable(getattr(made, method, None)):
            rule = f"{type(made).__name__} is none of {path}'s components, which have a method {method}"
            self.refuse(f"{path}.{TARGET}", f"{rule}; choose an option of the group")
            return None
        return made


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
    return "" if part else named["argument"], Fault(f"{path}.{named['argument']}{named['within']}", rest)


def _argument_faults(path: str, node: dict[str, Any], constructor: Constructor) -> Iterator[Fault]:
    partial = node.get(PARTIAL, False)
    if not isinstance(partial, bool):
        yield Fault(f"{path}.{PARTIAL}", f"{partial!r} is not true or false")
    elif partial and path != "optim" and not path.startswith("model."):
        yield Fault(f"{path}.{PARTIAL}", "only optim and the parts of a model get more arguments later; take it away")
    for key, value in node.items():
        argument, key_path = constructor.arguments.get(key), f"{path}.{key}"
        if key in (TARGET, PARTIAL):
            continue
        if str(key).startswith("_"):
            yield Fault(key_path, "is not read: a node has _target_, _partial_ and the arguments of its class")
        elif argument is None and not constructor.open_ended:
            suggestion = nearest(str(key), constructor.arguments)
            if "did you mean" not in suggestion:
                # Typically set by a preset or an experiment, for another option of this group than the one chosen.
                suggestion += f"; ~{key_path} takes it away"
            yield Fault(key_path, f"{constructor.name} takes no such argument{suggestion}")
        elif value == _MISSING:
            yield Fault(key_path, f"a value is required; give {key_path}=...")
        elif partial and path.startswith("model.") and key in _SUPPLIED_BY_DECODER:
            yield Fault(key_path, f"the decoder supplies {key}; remove it here and set model.{key}")
        elif path == "model.position" and key in _SUPPLIED_BY_ATTENTION:
            yield Fault(key_path, f"the attention supplies {key}; remove it here and set model.attention.{key}")
        elif argument is not None:
            yield from argument.faults(key_path, value)
    if not partial:
        for name, argument in constructor.arguments.items():
            if argument.required and name not in node:
                yield Fault(f"{path}.{name}", f"{constructor.name} needs this argument")


# ---------------------------------------------------------------------------------------------------------------------
# Settings of the primary config that are no component.


def _root_setting(key: str, value: Any, known: Iterable[str], check: Check) -> Any:
    """Check one top-level setting, and return the component that it describes, if it describes one."""
    if key not in known:
        check.refuse(key, f"no such setting{nearest(key, known)}")
    elif value == _MISSING:
        check.refuse(key, f"a value is required; give {key}=...")
    elif key in _ROOT_RULES:
        if reason := _ROOT_RULES[key](value):
            check.refuse(key, reason)
    elif isinstance(value, dict):
        return check.node(key, value)
    else:
        check.refuse(key, f"{value!r} is not an option of this group; --help lists them")
    return None


def _name_rule(value: Any) -> str | None:
    if value is None:
        return "null is no name of a folder; give one, or leave it out"
    if not isinstance(value, str):  # from a file: those of a command are quoted for it
        return f"{value!r} is not text; put it in quotes"
    if not re.fullmatch(r"[\w+=-][\w.+=-]*", value):
        return f"{value!r} is not the name of one folder: letters, digits and _ . + = - only"
    return _length_fault(value, MAX_NAME_BYTES)


def _length_fault(part: str, limit: int) -> str | None:
    """What is wrong with a part of a path that file systems, which take 255 bytes, would refuse."""
    length = len(part.encode("utf-8", "surrogatepass"))
    return f"{part[:40]!r}... has {length} bytes, more than {limit}; give a shorter one" if length > limit else None


def _seed_rule(value: Any) -> str | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return None if is_whole and 0 <= value < 2**63 else f"{value!r} is not a whole number from 0 to 2**63 - 1"


def _label_rule(value: Any) -> str | None:
    return None if value is None or isinstance(value, str | int) else f"{value!r} is not a name"


def _held_out_rule(value: Any) -> str | None:
    return None if value in ("validation", "dev") else f"{value!r} is not one of: validation, dev"


def _folder_rule(value: Any) -> str | None:
    if not isinstance(value, str) or not value or "\0" in value:
        return f"{value!r} is not the path of a folder"
    return next(filter(None, (_length_fault(part, _MOST_BYTES) for part in Path(value).parts)), None)


_ROOT_RULES: dict[str, Callable[[Any], str | None]] = {
    "name": _name_rule,
    "seed": _seed_rule,
    "arm": _label_rule,
    "profile": _label_rule,
    "held_out": _held_out_rule,
    "output_dir": _folder_rule,
    "cache_dir": lambda value: None if value is None else _folder_rule(value),
}
