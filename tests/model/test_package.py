"""The package's public names."""

import subprocess
import sys

import pytest

import atomiclm.model


@pytest.mark.slow
def test_it_imports_neither_hydra_nor_trackers():
    program = (
        "import sys; from atomiclm.model import Decoder\n"
        "assert not {'hydra', 'omegaconf', 'wandb', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_every_public_name_is_there():
    for name in atomiclm.model.__all__:
        assert getattr(atomiclm.model, name).__name__ == name
    assert sorted(atomiclm.model.__all__) == sorted(set(atomiclm.model.__all__))
