"""The tutorial's files, as they stand in it: they train, and their test passes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from paperzoo.runs import folders, record

ROOT = Path(__file__).resolve().parents[1]
FILE = re.compile(r"^`(?P<path>[\w/.]+)`\n\n```\w+\n(?P<content>.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "tests" / "contract", root / "tests" / "contract")
    shutil.copytree(ROOT / "tests" / "helpers", root / "tests" / "helpers")
    for found in FILE.finditer((ROOT / "docs" / "tutorial.md").read_text()):
        path = root / found["path"]
        assert not path.exists(), f"{path}: a tutorial edits nothing"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found["content"])
    return root


def python(root, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root / "src"), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, *words], check=False, cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.full
def test_the_tutorials_paper_trains(tree):
    small = ["data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50", "trainer=cpu"]
    python(tree, "src/train.py", "model=eca", *small, "trainer.max_epochs=1", "logger=none", "paths.runs_dir=made")
    (folder,) = folders.all_folders(tree / "made")
    entry = record.read(folder)
    card = yaml.safe_load((tree / "src/paperzoo/papers/eca/card.yaml").read_text())
    (network,) = card["networks"]
    assert (entry.status, entry.cost.parameters, entry.cost.macs) == (
        "finished",
        network["parameters"],
        network["macs"],
    )
    assert "channels" in python(tree, "src/zoo.py", "eca")


@pytest.mark.full
def test_the_tutorials_tests_pass(tree):
    plain = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "-c", os.devnull, "--rootdir=.")
    assert "6 passed" in python(tree, *plain, "tests/papers/test_eca.py")
    python(tree, "tests/contract/golden.py", "eca")
    contract = yaml.safe_load((tree / "src/paperzoo/papers/eca/contract.yaml").read_text())
    assert len(contract["golden"]) == 3
