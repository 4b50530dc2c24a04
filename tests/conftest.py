"""Two tiers: what says that the code is right, and long proofs (`-m slow`)."""

from collections import Counter

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with `@pytest.mark.one_in(n)`, every n-th case is in the default tier; the others are slow."""
    seen: Counter[str] = Counter()
    for item in items:
        if (mark := item.get_closest_marker("one_in")) is not None:
            test = item.nodeid.partition("[")[0]
            if seen[test] % mark.args[0]:
                item.add_marker("slow")
            seen[test] += 1
