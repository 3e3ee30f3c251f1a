"""What all tests share."""

import os
from functools import cache

import omegaconf.base
import pytest
import tiers
import torch

os.environ.pop("DATA_DIR", None)  # tests run on data that a dependency brings or that they draw
os.environ.pop("RUNS_DIR", None)
os.environ["WANDB_MODE"] = "offline"
os.environ["PICTURES"] = "false"  # half of the time of a small run; a test that looks at one asks for it
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))  # tests run side by side
# A hundred texts such as ${optimizer.lr} are parsed in thousands of compositions; what a text means never changes.
omegaconf.base.parse = cache(omegaconf.base.parse)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Slow tests are in the full tier."""
    tiers.mark(items)


@pytest.fixture(scope="session")
def ranks():
    """The processes that tests of collectives share."""
    from ranks import Ranks

    pool = Ranks()
    yield pool
    pool.stop()


@pytest.fixture(autouse=True)
def _as_it_was():
    """Global state that a run sets."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    variable = os.environ.get("OMP_NUM_THREADS")
    yield
    os.environ.pop("OMP_NUM_THREADS", None)
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
