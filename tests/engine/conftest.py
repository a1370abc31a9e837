"""What the engine computes is compared to the bit, as users compile it."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _full(full_compiles):
    """No program here is another than the user's."""
