"""The processes that tests of synchronised layers share."""

import pytest
from ranks import Ranks


@pytest.fixture(scope="package")
def ranks():
    pool = Ranks()
    yield pool
    pool.stop()
