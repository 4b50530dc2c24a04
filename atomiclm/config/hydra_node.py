"""The `hydra` node of a configuration: Hydra acts on it before any task of ours is called, so it is judged before that.

An experiment file or a file of `--config-dir` can set it like any other: a callback is made and called as soon as
anything is composed, a handler of a log is any callable, a launcher or sweeper any class of a plugin, a line of a Slurm
script a command, `run.dir` a folder to make, `job.env_set` a variable of the environment of every cell. Here only
what atomiclm's own configuration says of Hydra is accepted; and, from files, another launcher that is installed, with
settings that are numbers or words; and whatever the user types, but for what would run code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra.conf
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import OmegaConf

from atomiclm.config.allowed import TRUST, is_trusted
from atomiclm.config.errors import Fault
from atomiclm.config.paths import CONF

_WRITTEN_BY_HYDRA = {
    "runtime": None,
    "overrides": None,
    "job": ("config_name", "override_dirname", "id", "num"),
}
"""What Hydra fills in while it composes: a whole node, or these settings of it."""

_PLUGINS = ("launcher", "sweeper")
_LOGS = ("hydra_logging", "job_logging")

_PLAIN = (
    "n_jobs", "verbose", "timeout", "batch_size", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node",
    "mem_gb", "nodes", "name", "stderr_to_stdout", "partition", "qos", "comment", "constraint", "exclude", "gres",
    "cpus_per_gpu", "gpus_per_task", "mem_per_gpu", "mem_per_cpu", "account", "signal_delay_s", "max_num_timeout",
    "array_parallelism",
)  # fmt: skip
"""Settings of the launchers that a file may change: how much, how long, in which queue. Not among them are commands
(`setup`), folders, and expressions that the launcher evaluates (`pre_dispatch`)."""
_WORD = re.compile(r"[\w.,:+=@%*-]*")
"""One word: a second line in a setting would be a line of the script that Slurm runs."""


def hydra_faults(node: Mapping[str, Any], typed: Sequence[str] = ()) -> list[Fault]:
    """Return what may not stand in a composed `hydra` node, interpolations unresolved.

    Args:
        typed: paths of the settings that the user typed; these may be anything that runs no code.
    """
    code = list(_code(node))
    refused = [fault.path.removesuffix("._target_") for fault in code]
    settings = [fault for fault in _settings(node, _shipped()) if not _is_below(fault.path, [*refused, *typed])]
    return [*code, *settings]


def _is_below(path: str, typed: Sequence[str]) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in typed)


def _code(node: Mapping[str, Any]) -> Iterator[Fault]:
    """Whatever names something to be called."""
    for path, target in _targets("hydra", node):
        if isinstance(target, str) and (is_trusted(target) or target in _installed().get(path.split(".")[1], {})):
            continue
        top = str(target).partition(".")[0]
        rule = f"'{target}' is no launcher or sweeper that is installed, and Hydra would run it"
        yield Fault(path, f"{rule}; if you trust the code of {top}, say so in the environment: {TRUST}={top}")
    for log in _LOGS:
        if node.get(log) not in _shipped_logs(log).values():
            rule = "is none of Hydra's own options, and the handlers of a log are called by their names"
            yield Fault(f"hydra.{log}", f"{rule}; choose hydra/{log}={', '.join(sorted(_shipped_logs(log)))}")
    if node.get("searchpath"):
        yield Fault("hydra.searchpath", "looking into a package runs it; give a folder as --config-dir instead")


def _targets(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield f"{path}._target_", value
            else:
                yield from _targets(f"{path}.{key}", value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(f"{path}[{index}]", value)


def _settings(node: Mapping[str, Any], shipped: Mapping[str, Any]) -> Iterator[Fault]:
    """Whatever differs from what is shipped, and is no plain setting of a launcher."""
    for part in _PLUGINS:
        chosen = node.get(part)
        if not isinstance(chosen, Mapping):  # an interpolation may stand for anything, and Hydra builds what it finds
            yield Fault(f"hydra.{part}", f"{chosen!r} is none of Hydra's options; choose hydra/{part}=... by its name")
            continue
        target = chosen.get("_target_")
        own = _installed()[part].get(str(target), {})
        if not is_trusted(str(target)):
            for path, value in _differences(f"hydra.{part}", chosen, own):
                if path.rpartition(".")[2] in _PLAIN and _is_plain(value):
                    continue
                if path.startswith("hydra.sweeper.params.") and isinstance(value, str) and "${" not in value:
                    continue  # refused by the sweeper, which says what to write instead; nobody acts on them before
                rule = "a file may set numbers and words of a launcher, and nothing that is run or written to"
                yield Fault(path, f"{rule}; type it on the command line if it is yours")
    judged = {key: value for key, value in node.items() if key not in (*_PLUGINS, *_LOGS, "searchpath")}
    for path, value in _differences("hydra", judged, shipped):
        if not _is_written_by_hydra(path, value) and not _is_trusted_callback(path, judged):
            yield Fault(path, "is Hydra's own, and no file may change it; type it on the command line")


def _differences(path: str, value: Any, other: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of `value` that `other` does not have, or has otherwise."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        for key, child in value.items():
            if key != "_target_":
                yield from _differences(f"{path}.{key}", child, other.get(key, _ABSENT))
    elif value != other or isinstance(value, bool) is not isinstance(other, bool):
        yield path, value


_ABSENT = object()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and bool(_WORD.fullmatch(value)))


def _is_written_by_hydra(path: str, value: Any) -> bool:
    if path == "hydra.job.name":
        return bool(value == JobRuntime.instance().get("name"))
    _, part, *rest = path.split(".")
    own = _WRITTEN_BY_HYDRA.get(part, ())
    return own is None or (bool(rest) and rest[0] in own)


def _is_trusted_callback(path: str, node: Mapping[str, Any]) -> bool:
    """A callback is the user's own code with its own settings, or `_code` has refused it."""
    _, part, *rest = path.split(".")
    callbacks = node.get("callbacks")
    if part != "callbacks" or not rest or not isinstance(callbacks, Mapping):
        return False
    own = callbacks.get(rest[0])
    return isinstance(own, Mapping) and is_trusted(str(own.get("_target_")))


@lru_cache(maxsize=1)
def _shipped() -> dict[Any, Any]:
    """The node as atomiclm's own files have it, wherever else the command looks for files."""
    path = ConfigSearchPathImpl()
    for provider, source in (("hydra", "pkg://hydra.conf"), ("main", f"file://{CONF}"), ("schema", "structured://")):
        path.append(provider, source)
    config = ConfigLoaderImpl(path).load_configuration("config", [], run_mode=RunMode.RUN)
    node = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(node, dict)
    return node


@lru_cache(maxsize=1)
def _installed() -> dict[str, dict[str, Any]]:
    """The launchers and sweepers of this environment by their class, with the settings they come with."""
    found: dict[str, dict[str, Any]] = {}
    store = ConfigStore.instance()
    for part in _PLUGINS:
        nodes: list[Any] = [store.load(f"hydra/{part}/{name}").node for name in store.list(f"hydra/{part}")]
        nodes += [OmegaConf.load(file) for file in (CONF / "hydra" / part).glob("*.yaml")]
        plain = [OmegaConf.to_container(node, resolve=False) for node in nodes]
        found[part] = {str(node["_target_"]): node for node in plain if isinstance(node, dict)}
    return found


@lru_cache(maxsize=2)
def _shipped_logs(log: str) -> dict[str, Any]:
    """Hydra's own options of a log by their name."""
    files = (Path(hydra.conf.__file__).parent / "hydra" / log).glob("*.yaml")
    return {file.stem: OmegaConf.to_container(OmegaConf.load(file), resolve=False) for file in files}
