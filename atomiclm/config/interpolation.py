"""What `${...}` of a configuration may refer to: other settings, and of the environment nothing that is a secret.

A configuration is written into config.yaml and sent to Weights & Biases, and may have come from a stranger.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from atomiclm.config.errors import Fault

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_HOLE = "\0"  # stands where an inner reference was
_SECRET = re.compile(
    r"(^|_)(API_?KEY|KEYS?|TOKENS?|AUTH|PASS|PASSPHRASE|PAT|PRIVATE|COOKIES?|CERT|DSN|SIGNATURE)(_|\d|$)"
    r"|SECRET|PASSW|CREDENTIAL|APIKEY|ACCESS_?KEY",
    re.IGNORECASE,
)
_URL_WITH_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_RESOLVERS = ("oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated", "hydra", "now", "python_version")


def interpolation_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the references of a configuration whose interpolations are not yet followed."""
    faults = []
    for path, text in _texts(values):
        faults += [Fault(path, rule) for rule in _refused(text)]
        if "\0" in text:
            faults.append(Fault(path, "holds a NUL, which ends a name or a path"))
    return faults


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path.lstrip("."), node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from _texts(child, f"{path}.{key}")


def _refused(text: str) -> Iterator[str]:
    """Why references of `text` may not be followed, from the innermost out."""
    while found := _INNERMOST.search(text):
        text = f"{text[: found.start()]}{_HOLE}{text[found.end() :]}"
        resolver, colon, argument = (part.strip() for part in found[1].partition(":"))
        name = argument.partition(",")[0].strip()
        if resolver == "oc.env" and colon:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                yield "a variable of the environment is named outright, ${oc.env:NAME}"
            elif _SECRET.search(name) or _URL_WITH_PASSWORD.search(os.environ.get(name, "")):
                rule = f"{name} is, by its name or its form, a secret, and a configuration is written to disk and sent"
                yield f"{rule} to W&B; leave it in the environment, where the programs that need it find it"
        elif resolver == "oc.decode" and colon:
            if argument != _HOLE:
                yield "oc.decode reads a variable, ${oc.decode:${oc.env:NAME}}, and nothing else; write the value"
        elif _HOLE in found[1] or (colon and resolver not in _RESOLVERS):
            known = ", ".join(["oc.env", "oc.decode", *_RESOLVERS])
            yield f"${{{found[1].replace(_HOLE, '...')}}} is not followed; known are other settings and {known}"
    if "${" in text:
        yield "a reference that holds braces is not followed; write the value itself"
