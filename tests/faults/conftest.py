"""One workshop for the whole session, whichever of its processes runs a test."""

import os
from collections.abc import Iterator

import pytest
from faults.warm import WarmParent
from faults.workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "faults"
    folder.mkdir(exist_ok=True)
    shop = Workshop(folder)
    # The second is what torch imports when an optimizer is first made.
    with WarmParent(shop.environment, ("atomiclm.run", "torch._inductor.config")) as shop.warm:
        yield shop
