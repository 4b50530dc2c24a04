"""A W&B server of our own, which hears out the real client."""

import fake_wandb
import pytest


@pytest.fixture
def server():
    """Whatever a test does, the client must have asked for nothing that the server does not know."""
    with fake_wandb.serving() as fake:
        yield fake
        assert fake.unknown == []
