"""Where configurations are found, and what Hydra is taught of them."""

from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins

from atomiclm.config.experiments import ExperimentsSearchPath, ExperimentsSource
from atomiclm.config.file_source import FileConfigSource
from atomiclm.config.paths import CONF

type Sources = tuple[tuple[str | None, str | None], ...]
"""Where configurations are found: part of the key of whatever is remembered of them."""


def register_plugins() -> Plugins:
    """Teach Hydra to read configs, `experiments/` among them. Safe to call again."""
    plugins = Plugins.instance()
    plugins.register(ExperimentsSource)
    plugins.register(ExperimentsSearchPath)
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
    return plugins


def groups() -> IConfigRepository:
    """What knows the groups and their options."""
    return ConfigLoaderImpl(search_path()).repository


def sources() -> Sources:
    """The search path of the running command."""
    return tuple((entry.provider, entry.path) for entry in search_path().get_path())


_also_in: list[str] = []


def search_also_in(config_dir: str) -> None:
    """Let configurations be found in the command's `--config-dir` before Hydra itself has been told of it."""
    _also_in[:] = [str(Path(config_dir).absolute())]


def search_path() -> ConfigSearchPath:
    """Return the running command's own sources (it may have been given --config-dir), or the shipped ones."""
    path = ConfigSearchPathImpl()
    if HydraConfig.initialized():
        for source in HydraConfig.get().runtime.config_sources:
            path.append(source.provider, f"{source.schema}://{source.path}")
        return path
    path.append("hydra", "pkg://hydra.conf")
    path.append("main", f"file://{CONF}")
    for folder in _also_in:
        path.append("command-line", f"file://{folder}")
    ExperimentsSearchPath().manipulate_search_path(path)
    path.append("schema", "structured://")
    return path
