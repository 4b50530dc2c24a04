"""The package's face: lazy, complete, and free of torch until a class is asked for."""

import subprocess
import sys

import pytest

import atomiclm.model


@pytest.mark.slow
def test_rules_and_package_do_not_import_torch():
    program = (
        "import sys, atomiclm.model, atomiclm.model.rules\n"
        "dir(atomiclm.model)\n"
        "assert 'torch' not in sys.modules\n"
        "from atomiclm.model import Decoder\n"
        "assert 'torch' in sys.modules\n"
        "assert not {'hydra', 'omegaconf', 'wandb', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.parametrize("package", [atomiclm.model])
def test_every_public_name_is_there(package):
    assert dir(package) == sorted(package.__all__)
    for name in package.__all__:
        value = getattr(package, name)
        assert value.__name__ == name
        assert value.__module__ == f"{package.__name__}.{package._MODULE_OF[name]}"
    with pytest.raises(AttributeError, match="has no attribute 'Decodr'"):
        _ = package.Decodr
