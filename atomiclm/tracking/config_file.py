"""Reading a run's config.yaml, or an experiment's file, which may come from a stranger."""

from pathlib import Path
from typing import Any

import yaml

from atomiclm.atomic_io import read_file
from atomiclm.cli import UserError

MAX_BYTES = 1_000_000
"""Of a file; the longest shipped configuration of a run has 6,000."""
MAX_LEVELS = 50
"""Of nesting; YAML's parser calls itself at each."""
MAX_VALUES = 100_000
"""Of a file, those that an alias repeats counted each time: ten lines of aliases can be more than there is memory."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of config.yaml: plain values, interpolations as they are written, nothing made of them.

    Raises:
        OSError: it cannot be read.
        UserError: it is no mapping in YAML, not in UTF-8, or too large or too deep.
    """
    text = read_yaml_text(path)
    try:
        values = yaml.load(text, _LOADER)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a date that is none
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path.name} is not a configuration: it is no mapping of names to values")
    return values


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file, once it is known to be small enough to be made into values.

    Raises:
        OSError: it cannot be read.
        UserError: it is not YAML in UTF-8, or too large or too deep.
    """
    content = read_file(path, MAX_BYTES)
    try:
        text = content.decode("utf-8")
        _check_size(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from error
    return text


def _check_size(text: str) -> None:
    """Count what a YAML text comes to, from the events of its parser, before anything is made."""
    counted: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # the anchor of each node around, and its values so far
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_LEVELS:
                raise UserError(f"it is nested more than {MAX_LEVELS} levels deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in counted:
                raise UserError(f"the alias *{event.anchor} stands for a part that is not ended, or not there")
            anchor, size = None, counted[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor:
            counted[anchor] = size
        around, total = open_nodes[-1]
        open_nodes[-1] = (around, total + size)
        if total + size > MAX_VALUES:
            raise UserError(f"it comes to more than {MAX_VALUES:,} values")
