"""``import paperzoo`` is light, and has every network in timm's registry."""

import subprocess
import sys

import pytest

from paperzoo import cards

IMPORT = """
import sys
import paperzoo
heavy = {"torch", "timm", "torchvision", "numpy", "pydantic", "yaml", "hydra", "pytorch_lightning"} & set(sys.modules)
assert not heavy, heavy
assert len([name for name in sys.modules if name.startswith("paperzoo")]) < 5
"""
MAKE = """
import importlib, sys, warnings
import paperzoo
warnings.filterwarnings("error", message="Overwriting")
import timm
from paperzoo import cards
assert not [name for name in sys.modules if name.startswith("paperzoo.papers.")]
known = {name for slug in cards.slugs() for name in cards.load(slug).known()}
assert known <= set(timm.list_models()), known - set(timm.list_models())
network = timm.create_model("scnet_small", num_classes=3, in_chans=1)
assert sum(p.numel() for p in network.parameters()) == 127578 - 7 * 257, sum(p.numel() for p in network.parameters())
assert [name for name in sys.modules if name.startswith("paperzoo.papers.") and name.count(".") == 2] == [
    "paperzoo.papers.scnet"]
for slug in cards.slugs():
    importlib.import_module(f"paperzoo.papers.{slug}")
registry = timm.models._registry._model_entrypoints
stubs = [name for name in known if registry[name].__module__ == "paperzoo.registry"]
assert not stubs, stubs
assert known <= set(timm.list_models())
"""
TIMM_FIRST = """
import timm
assert not timm.is_model("shufflenet_v1_g3_1_0x")
import paperzoo
import paperzoo.registry
paperzoo.registry.register()
network = timm.create_model("shufflenet_v1_g3_1_0x", num_classes=0)
assert type(network).__module__ == "paperzoo.papers.shufflenet_v1.network", type(network)
"""


def runs(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_heavy():
    runs(IMPORT)


def test_every_network_is_in_timms_registry_and_its_paper_is_imported_when_it_is_made():
    assert cards.slugs()
    runs(MAKE)


@pytest.mark.full
def test_it_does_not_matter_which_is_imported_first():
    runs(TIMM_FIRST)
