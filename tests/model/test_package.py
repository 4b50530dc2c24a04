"""The package's public names."""

import subprocess
import sys

import pytest
import torch

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


def test_a_forward_pass_goes_through_few_files_and_functions():
    model = atomiclm.model.Decoder(vocab_size=50, dim=32, num_layers=2, context_length=16).eval()
    entered = set()

    def note(frame, event, argument):
        code = frame.f_code
        if event == "call" and "/atomiclm/model/" in code.co_filename:
            entered.add((code.co_filename, code.co_qualname))

    sys.setprofile(note)
    try:
        with torch.no_grad():
            model(torch.arange(9)[None])
    finally:
        sys.setprofile(None)
    assert len({file for file, _ in entered}) <= 10
    assert len(entered) <= 30
