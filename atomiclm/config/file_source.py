"""Hydra's reader of folders with configurations, with a look at each file's size before it is read.

`--config-dir` may be a stranger's, and YAML can say in ten lines what no memory holds.
"""

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydraSource
from hydra.plugins.config_source import ConfigResult

from atomiclm.config.errors import ConfigError, Fault
from atomiclm.tracking.config_file import read_yaml_text


class FileConfigSource(HydraSource):
    """One folder of files that are small enough to be read.

    It has the name of the class whose place it takes: a launcher's processes are given the registry as it is here and
    register Hydra's own again, which Hydra accepts of a class of the same name only, and leaves the first.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file."""
        file = Path(self.path) / self._normalize_file_name(config_path)
        if file.is_file():
            try:
                read_yaml_text(file)
            except ValueError as error:
                raise ConfigError([Fault(str(file), str(error))]) from error
        return super().load_config(config_path)
