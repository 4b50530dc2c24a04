"""What `${...}` may refer to, and how much may come of it: looked at before OmegaConf follows any of it.

A configuration from a stranger must not carry a secret of this machine's environment into config.yaml or to Weights &
Biases, and must not grow without end: ten lines that each refer twice to the line before are a thousand values, and
forty are more than there is memory. So each value is weighed first, by what it refers to, without making any of it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from atomiclm.config.errors import Fault

MAX_WEIGHT = 1_000_000
"""Characters and values of a configuration, interpolations followed; the longest shipped study has some 20,000."""
MAX_DEPTH = 50
"""Levels of nesting and of reference together; the shipped configurations have 8."""

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_HOLE = "\0"  # stands where an inner reference was
_SECRET = re.compile(
    r"(^|_)(API_?KEY|KEYS?|TOKENS?|AUTH|PASS|PASSPHRASE|PAT|PRIVATE|COOKIES?|CERT|DSN|SIGNATURE)(_|\d|$)"
    r"|SECRET|PASSW|CREDENTIAL|APIKEY|ACCESS_?KEY",
    re.IGNORECASE,
)
_URL_WITH_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_OF_A_KEY = ("oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated")
_OF_TEXT = ("hydra", "now", "python_version")


def interpolation_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the references of a configuration whose interpolations are not yet followed."""
    texts = list(_texts(values))
    faults = [Fault(path, rule) for path, text in texts if "${" in text for rule in _refused(text)]
    faults += [Fault(path, "holds a NUL, which ends a name or a path") for path, text in texts if "\0" in text]
    if faults:
        return faults
    try:
        weight = _Scale(values).weigh((), values, ())
    except _Unweighable as error:
        return [Fault(error.path, str(error))]
    if weight > MAX_WEIGHT:
        rule = f"comes to {weight:.3g} characters and values with all references followed; at most {MAX_WEIGHT:,} are"
        return [Fault("config", f"{rule} read: shorten it")]
    return []


type _Path = tuple[str, ...]


class _Unweighable(ValueError):
    def __init__(self, path: _Path, message: str) -> None:
        super().__init__(message)
        self.path = ".".join(path) or "config"


class _Scale:
    """Weighs values by their paths; each once."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.known: dict[_Path, int] = {}

    def weigh(self, path: _Path, node: Any, through: tuple[_Path, ...]) -> int:
        """The characters and values of `node` at `path`, reached `through` those that contain it or refer to it."""
        if path in self.known:
            return self.known[path]
        if path in through:
            cycle = " -> ".join(".".join(each) for each in (*through[through.index(path) :], path))
            raise _Unweighable(path, f"refers to itself ({cycle}); give it a value")
        if len(through) > MAX_DEPTH:
            raise _Unweighable(through[1][:4], f"is nested, or refers on, more than {MAX_DEPTH} levels deep")
        further = (*through, path)
        weight = 1
        if isinstance(node, str):
            targets = _targets(path, node) if "${" in node else ()
            weight += len(node) + sum(self.weigh(target, self._at(target), further) for target in targets)
        else:
            weight += sum(self.weigh((*path, key), child, further) for key, child in _children(node))
        self.known[path] = weight
        return weight

    def _at(self, path: _Path) -> Any:
        node: Any = self.values
        for part in path:
            node = dict(_children(node)).get(part)
        return node


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        yield from ((str(key), child) for key, child in node.items())
    elif isinstance(node, list):
        yield from ((str(index), child) for index, child in enumerate(node))


def _texts(node: Any, path: _Path = ()) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield ".".join(path), node
    elif len(path) <= MAX_DEPTH:  # weighing tells what is deeper
        for key, child in _children(node):
            yield from _texts(child, (*path, key))


def _refused(text: str) -> Iterator[str]:
    """Why references of `text` may not be followed."""
    while found := _INNERMOST.search(text):
        inner = found[1]
        text = f"{text[: found.start()]}{_HOLE}{text[found.end() :]}"
        resolver, colon, argument = (part.strip() for part in inner.partition(":"))
        if not colon:
            if _HOLE in inner:
                yield "a reference whose name is put together from others is not followed; name it outright"
        elif resolver == "oc.env":
            yield from _of_environment(argument)
        elif resolver == "oc.decode":
            if argument != _HOLE:
                yield "oc.decode reads a variable, ${oc.decode:${oc.env:NAME}}, and nothing else; write the value"
        elif resolver not in (*_OF_A_KEY, *_OF_TEXT) or _HOLE in inner:
            known = ", ".join(["oc.env", "oc.decode", *_OF_A_KEY, *_OF_TEXT])
            yield f"${{{resolver}:...}} is not followed; known are {known}, with plain arguments"
    if "${" in text:
        yield "a reference that holds braces is not followed; write the value itself"


def _of_environment(argument: str) -> Iterator[str]:
    name = argument.partition(",")[0].strip()
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        yield "a variable of the environment is named outright, ${oc.env:NAME}"
    elif _SECRET.search(name) or _URL_WITH_PASSWORD.search(os.environ.get(name, "")):
        rule = f"{name} is, by its name or its form, a secret, and a configuration is written to disk and sent to W&B"
        yield f"{rule}; leave it in the environment, where the programs that need it find it"


def _targets(path: _Path, text: str) -> Iterator[_Path]:
    """The paths that a text refers to, as far as they are written out."""
    for found in _INNERMOST.finditer(text):
        resolver, colon, argument = found[1].partition(":")
        if colon and resolver.strip() not in _OF_A_KEY:
            continue
        key = (argument.partition(",")[0] if colon else resolver).strip()
        key = re.sub(r"\[([^\]]*)\]", r".\1", key)
        dots = len(key) - len(key.lstrip("."))
        yield (*(path[:-dots] if dots else ()), *filter(None, key.split(".")))
