"""One workshop for the whole session, whichever of its processes runs a test."""

import os
from collections.abc import Iterator

import pytest
from faults.workshop import Workshop
from warm import WarmParent


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "faults"
    folder.mkdir(exist_ok=True)
    shop = Workshop(folder)
    with WarmParent(shop.environment) as shop.warm:
        yield shop
