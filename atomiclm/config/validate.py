"""Check a whole configuration before any file exists: every node against its class, then by making what it describes.

Every node that names a `_target_` is held against that class's arguments and their annotations, and the class is
called, children first: a constructor states each of its rules once, in a ValueError that begins with the argument's
name. The decoder is made of shapes alone, on torch's meta device. Last come the rules that tie groups together.
"""

import copy
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from atomiclm.config.build import (
    PARTIAL,
    TARGET,
    Argument,
    Constructor,
    TargetError,
    build,
    component,
    read_constructor,
)
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
}  # a method by which a component of the group is known, whatever its class


@dataclass(frozen=True)
class RootSettings:
    """The settings of the primary config that are no component, checked as the arguments of one."""

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

    `config` has its interpolations resolved and no node `hydra`. ConfigError has every fault found.
    """
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


class Check:
    """A pass over nodes, which are changed in place: numbers become what their arguments are annotated with."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def refuse(self, path: str, rule: str) -> None:
        self.faults.append(Fault(path, rule))

    def end(self) -> None:
        """Raise the faults found, the first at each path."""
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
        partial, own = node.get(PARTIAL, False), []
        arguments: dict[str, Any] = {}
        refused = []
        for key, value in node.items():
            at = _within(path, key)
            if reason := _misplaced(path, key, value, partial is True, constructor):
                own.append(Fault(at, reason))
            elif key not in (TARGET, PARTIAL):
                node[key], faults = constructor.arguments.get(key, Argument(Any)).fit(at, value)
                own += faults
                before = len(self.faults)
                arguments[key] = None if faults else self.value(at, node[key])
                if len(self.faults) > before:
                    refused.append(key)
                    arguments[key] = None
        for name, argument in constructor.arguments.items():
            if argument.default is inspect.Parameter.empty and name not in node and not partial:
                fix = "; where the decoder supplies it, write `_partial_: true` beside `_target_`"
                fix = fix if path.startswith("model.") else ""
                own.append(Fault(_within(path, name), f"{constructor.name} needs this argument{fix}"))
        self.faults += own
        if own:
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
            return "is only for optim and the parts of a model, which get more arguments later; remove it"
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


# Rules that tie several groups together; those of one component stand in its constructor.


def broken_rules(values: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong between groups, of those components that could be made."""
    from atomiclm.data import check_separator

    if "tokenizer" in made:
        yield from _refused("tokenizer", check_separator, made["tokenizer"])
    if "data" in made:
        yield from (Fault(f"data.{argument}", message) for argument, message in made["data"].faults())
    if {"tokenizer", "model"} <= made.keys():
        needed, available = values["tokenizer"].get("vocab_size"), values["model"].get("vocab_size")
        if needed and available and available < needed:
            rule = f"{available} is less than tokenizer.vocab_size={needed}; give at least {needed}"
            yield Fault("model.vocab_size", rule)
    if {"trainer", "runtime"} <= made.keys():
        micro, batch_size = values["runtime"].get("micro_batch_size"), values["trainer"]["batch_size"]
        if micro and batch_size % micro:
            yield Fault("runtime.micro_batch_size", f"{micro} does not divide trainer.batch_size={batch_size}")
    if {"trainer", "optim"} <= made.keys():
        yield from _refused("trainer", made["trainer"].refuse_two_averages, made["optim"])
    if {"model", "optim"} <= made.keys():
        optimizer, init = ((node or {}).get(TARGET, "") for node in (values["optim"], values["model"].get("init")))
        optimizer = optimizer.rpartition(".")[2]
        if init.endswith(".MaximalUpdateInit") and optimizer not in ("AdamW", "ScheduleFreeAdamW"):
            rule = f"muP's learning rates are those of Adam (table 8 of arXiv 2203.03466) and {optimizer} needs others"
            yield Fault("model.init", f"{rule}; use optim=adamw, or another init")
    if "model" in made:
        depth, length = (values["model"].get("lookahead") or {}).get("depth"), values["model"]["context_length"]
        if isinstance(depth, int) and depth >= length:
            rule = f"{depth} tokens ahead do not fit model.context_length={length}; give fewer"
            yield Fault("model.lookahead.depth", rule)


def _refused(group: str, check: Callable[..., None], *arguments: Any) -> Iterator[Fault]:
    """What a check says in a ValueError that begins with the name of the group's setting."""
    try:
        check(*arguments)
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        yield Fault(f"{group}.{name}", message)


# What a configuration may say and its author probably did not mean: printed before the run, which goes on.


def cautions(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line for each setting that is doubtful, once for all runs, which are given by name and configuration."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, values in runs:
        for path, message in _doubts(values):
            found.setdefault(path, []).append((name, message))
    for path, doubts in found.items():
        names = list(dict.fromkeys(name for name, _ in doubts))
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        where = f"  [{len(doubts)} of {len(runs)} runs: {shown}]" if len(runs) > 1 else ""
        yield f"warning: {path}: {doubts[0][1]}{where}"


def _doubts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from atomiclm.optim import Schedule, unusual_rates
    from atomiclm.training import ExponentialAverage, SpikeDetector

    for argument, message in unusual_rates(values["optim"]):
        yield f"optim.{argument}", message
    trainer = build(values["trainer"])
    steps = trainer.budget.steps(trainer.batch_size * values["model"]["context_length"])
    if steps is None:  # a budget in seconds; how many steps that is, training will show
        return
    schedule = build(values["schedule"])
    if isinstance(schedule, Schedule):
        for argument, message in schedule.cautions(steps, values["optim"].get("lr")):
            yield f"schedule.{argument}", message
    for part in ("weight_average", "spikes"):
        if isinstance(made := getattr(trainer, part), ExponentialAverage | SpikeDetector):
            for argument, message in made.cautions(steps):
                yield f"trainer.{part}.{argument}", message
