"""Compose a configuration with Hydra, follow its references, and take the overrides apart that it is composed from.

Inside a command Hydra is initialized with that command's search path, and what is composed there follows it; elsewhere
with the shipped one.
"""

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError
from yaml import MarkedYAMLError

from atomiclm.config.build import PARTIAL, TARGET, walk
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.plugins import APP, CONF, ExperimentsSource, SearchPath

PRESETS = ("experiments", "debug")  # groups whose options set values of other groups, and are no settings themselves


@contextmanager
def initialized(config_dir: str | None = None) -> Iterator[ConfigLoader]:
    """Hydra's loader of configurations: that of the running command, or one for as long as the context is open.

    config_dir is a folder of the user's to look for options in after the shipped ones.
    """
    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        yield hydra.config_loader()
        return
    with initialize_shipped(config_dir):
        yield hydra.config_loader()


@contextmanager
def initialize_shipped(config_dir: str | None = None) -> Iterator[None]:
    """Initialize Hydra with our search path inside; what it was initialized with before is restored."""
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError([Fault("--config-dir", f"{config_dir} is no folder")])
    SearchPath.config_dir = str(Path(config_dir).absolute()) if config_dir else None
    Plugins.instance().register(ExperimentsSource)
    Plugins.instance().register(SearchPath)
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), job_name=APP, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose(overrides: Sequence[str]) -> DictConfig:
    """Return the job configuration for `overrides`; of those that differ in their seed alone it is composed once."""
    seeds = [override for override in overrides if re.fullmatch(r"seed=\d+", override)]
    with initialized() as loader:
        config = copy.deepcopy(_composed(loader, tuple(one for one in overrides if one not in seeds)))
    if seeds:
        config.seed = int(seeds[-1].partition("=")[2])
    return config


@lru_cache(maxsize=64)
def _composed(loader: ConfigLoader, overrides: tuple[str, ...]) -> DictConfig:
    config = compose_all(overrides, RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    return config


def compose_all(overrides: Sequence[str], mode: RunMode) -> DictConfig:
    """The same with the node `hydra`, of a run or a sweep, where Hydra is initialized."""
    words = without_null(overrides)
    try:
        return GlobalHydra.instance().config_loader().load_configuration("config", words, run_mode=mode)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{Path(mark.name).name}, line {mark.line + 1}, column {mark.column + 1}" if mark else "a file"
        raise ConfigError([Fault("config", f"{where}: {error.problem}; fix its YAML")]) from error
    except (RecursionError, AssertionError, KeyError, TypeError) as error:  # what Hydra trips over in a file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError([Fault("config", f"a file of it cannot be composed ({reason[:200]})")]) from error


def unresolved(config: DictConfig) -> dict[str, Any]:
    """Return plain containers with interpolations as they are written."""
    container: Any = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in container.items()}


@lru_cache(maxsize=1)
def root_keys() -> tuple[str, ...]:
    """Return the top-level settings of the primary config; an experiment may not add any."""
    primary = unresolved(DictConfig(OmegaConf.load(CONF / "config.yaml")))
    groups = [key for entry in primary.pop("defaults") if isinstance(entry, dict) for key in entry]
    named = [key for key in groups if not key.startswith("override ") and key not in PRESETS]
    return (*named, *(key for key in primary if key != "hydra"))


# What `${...}` may refer to: other settings, and of the environment nothing that is a secret, for a configuration is
# written into config.yaml and sent to Weights & Biases, and may have come from a stranger.

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_HOLE = "\0"  # stands where an inner reference was
_SECRET = re.compile(
    r"(^|_)(API_?KEY|KEYS?|TOKENS?|AUTH|PASS|PASSPHRASE|PAT|PRIVATE|COOKIES?|CERT|DSN|SIGNATURE)(_|\d|$)"
    r"|SECRET|PASSW|CREDENTIAL|APIKEY|ACCESS_?KEY",
    re.IGNORECASE,
)
_URL_WITH_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_RESOLVERS = ("oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated", "hydra", "now", "python_version")


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return plain containers with interpolations followed; ConfigError: one that is not to be, or cannot be."""
    if faults := interpolation_faults(unresolved(config)):
        raise ConfigError(faults)
    try:
        container: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except InterpolationResolutionError as error:
        raise ConfigError([Fault(error.full_key or "config", str(error).splitlines()[0])]) from error
    return {str(key): value for key, value in container.items()}


def interpolation_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the references of a configuration whose interpolations are not yet followed."""
    texts = [(path, value) for path, value in walk(values) if isinstance(value, str)]
    faults = [Fault(path, rule) for path, text in texts for rule in _refused(text)]
    return faults + [Fault(path, "holds a NUL character; remove it") for path, text in texts if "\0" in text]


def _refused(text: str) -> Iterator[str]:
    """Why references of `text` may not be followed, from the innermost out."""
    while found := _INNERMOST.search(text):
        text = f"{text[: found.start()]}{_HOLE}{text[found.end() :]}"
        resolver, colon, argument = (part.strip() for part in found[1].partition(":"))
        name = argument.partition(",")[0].strip()
        if resolver == "oc.env" and colon:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                yield "an environment variable is given by its plain name, ${oc.env:NAME}"
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
        yield "a reference with braces in it is not followed; write the value itself"


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; they can list what `group=glob(*)` stands for."""
    with initialized() as loader:
        return OverridesParser.create(loader).parse_overrides(list(overrides))


def chooses(override: Override) -> bool:
    """Whether an override chooses an option of a group, rather than setting a value."""
    return override.package is not None or bool(options_of(override.key_or_group))


def without_null(overrides: Sequence[str]) -> list[str]:
    """Return `overrides` with `group=null` in Hydra's words, `~group`: it reads null in a list of defaults only."""
    words = []
    for override in overrides:
        group, _, option = override.partition("=")
        options = options_of(group) if option == "null" else []
        if options and not _takes_null(group):
            raise ConfigError([Fault(group, f"null is none of its options; choose one of {', '.join(options)}")])
        words.append(f"~{group}" if options else override)
    return words


def options_of(group: str) -> list[str]:
    """The options of a group; none of what is no group."""
    if "." in group:  # quickly: most overrides set a value
        return []
    with initialized() as loader:
        return _listed(loader, group)


@lru_cache(maxsize=256)
def _listed(loader: ConfigLoader, group: str) -> list[str]:
    return loader.get_group_options(group)


def _takes_null(group: str) -> bool:
    """Whether any of the shipped options that the group is a part of leaves it out by default."""
    parent, _, name = group.rpartition("/")
    texts = (file.read_text(encoding="utf-8") for file in (CONF / parent).glob("*.yaml"))
    return any(re.search(rf"^ *- {re.escape(name)}: null\b", text, re.MULTILINE) for text in texts)


def override_key(override: str) -> str:
    """The key that an override sets: model.dim of ++model.dim=64."""
    return override.partition("=")[0].lstrip("+~")


def override_value(override: str) -> str:
    """What it sets the key to: `~group` chooses none of the group's options."""
    return "null" if override.startswith("~") else override.partition("=")[2]


def key_and_value(override: str) -> tuple[str, str]:
    """The key that an override sets, and what to."""
    return override_key(override), override_value(override)


def value_of(key: str, overrides: Sequence[str]) -> str | None:
    """What the last of `overrides` that sets `key` sets it to; None for null, and where none does."""
    found = [override_value(override) for override in overrides if override_key(override) == key]
    return found[-1] if found and found[-1] not in ("null", "") else None


def overridden(overrides: Sequence[str], later: Sequence[str]) -> list[str]:
    """`later` after those of `overrides` that set other keys: Hydra refuses two choices of one group."""
    keys = {override_key(override) for override in later}
    return [*(override for override in overrides if override_key(override) not in keys), *later]


# Change parts of a trained model.


def choose_parts(config: DictConfig, choices: Sequence[Override]) -> None:
    """Put options in the place of components of `config`: `model/position=yarn`, or null for none.

    An option has its own values, but for those that the component in its place has under the same name: theta,
    rotary_fraction and layout stay as they were trained.
    """
    for one in choices:
        group, path = one.key_or_group, one.key_or_group.replace("/", ".")
        known, node = options_of(group), None
        if not one.is_delete() and one.value() is not None:
            if one.value() not in known:
                listed = f"choose one of {', '.join(known)}" if known else "model has no such part"
                raise ConfigError([Fault(group, f"{one.value()} is none of its options; {listed}")])
            node = OmegaConf.select(compose([f"{group}={one.value()}"]), path)
        if isinstance(node, DictConfig):
            own, option = OmegaConf.select(config, path), unresolved(node)
            shared = own.items() if isinstance(own, DictConfig) else ()
            node = option | {key: value for key, value in shared if key in option and key not in (TARGET, PARTIAL)}
        OmegaConf.update(config, path, node, merge=False, force_add=True)
