"""How much text is worth a kernel: the sizes are for users, tests choose their own."""

import pytest


def kernels_from(num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use kernels for texts of `num_bytes` and more, compiled already or not."""
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer.COMPILED_FROM_BYTES", num_bytes)
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer.worth_kernels_from", lambda kernels: num_bytes)
