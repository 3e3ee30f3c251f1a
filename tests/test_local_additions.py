"""A paper, a loss, a sampler, a norm, a schedule and a data set are added as plain files, and nothing else is edited.

In a copy of the tree, so that what is added stands where it would stand; the copy's other files stay as they are.
"""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import forked
import pytest

from paperzoo.runs import folders, record

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[1]
ADDED = {
    # the paper: a folder, its network, a loss, a norm and a schedule of its own
    "src/paperzoo/papers/tiny/__init__.py": '''
"""Tiny, 2026: one convolution."""

from paperzoo.papers.tiny.network import tiny_net

__all__ = ["tiny_net"]
''',
    "src/paperzoo/papers/tiny/network.py": '''
"""The network."""

from timm.models import register_model
from torch import nn


class Tiny(nn.Module):
    """One convolution, one normalisation, one classifier."""

    def __init__(self, num_classes, in_chans, width):
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_chans, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.bn1(self.conv1(x)).relu().mean((2, 3)))


@register_model
def tiny_net(pretrained=False, num_classes=10, in_chans=1, width=4, **options):
    """Tiny."""
    return Tiny(num_classes, in_chans, width)
''',
    "src/paperzoo/papers/tiny/parts.py": '''
"""A loss, a norm, a schedule and a sampler."""

import torch
from torch import nn

from paperzoo.norms.layers import Normalisation


class ScaledCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy times a number."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, logits, targets):
        return self.scale * super().forward(logits, targets)


class Shift2d(Normalisation):
    """x plus a learned shift of each channel."""

    def __init__(self, num_features, by=0.0):
        super().__init__()
        self.num_features = num_features
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.full((num_features,), by))

    def forward(self, x):
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def saw(*, total_steps, steps_per_epoch, teeth=2, warmup_epochs=0.0, warmup_start=0.0):
    """A saw of so many teeth."""
    return lambda step: 1.0 - (step * teeth / max(total_steps, 1)) % 1.0


def backwards(size, labels, seed, epoch, batch_size, ranks):
    """Every sample once, the last first."""
    return torch.arange(size).flip(0)


def stripes(config, data_dir):
    """Images with stripes along rows or along columns."""
    import numpy as np

    from paperzoo.data.images.stored import Arrays, Source

    chance = np.random.default_rng(0)
    labels = np.arange(200) % 2
    lines = chance.integers(0, 255, (200, 8, 1), dtype=np.uint8)
    images = np.stack([line.repeat(8, 1) if k else line.repeat(8, 1).T for line, k in zip(lines, labels)])
    return Source(["columns", "rows"], Arrays(images, labels, "stripes"))
''',
    "src/paperzoo/papers/tiny/card.yaml": """
slug: tiny
title: "Tiny"
authors: ["A. Body"]
venue: nowhere
year: 2026
arxiv: null
kinds: [backbone]
adds: One convolution. It is small.
networks:
  - {name: tiny_net, parameters: 98, macs: 24376, input_size: [1, 28, 28], num_classes: 10}
options:
  - {name: width, type: int, minimum: 1, what: channels}
  - {name: scale, of: loss, type: float, above: 0, what: factor of the loss}
  - {name: by, of: norm, type: float, what: the first shift}
  - {name: teeth, of: scheduler, type: int, minimum: 1, what: teeth of the saw}
claims:
  - {id: small, statement: It is small., table: none, metric: parameters, needs: nothing}
""",
    "conf/model/tiny.yaml": """
name: tiny
_target_: paperzoo.tasks.classification.Classifier
network: tiny_net
checkpoint: null
width: 4
""",
    "conf/loss/scaled.yaml": "name: scaled\n_target_: paperzoo.papers.tiny.parts.ScaledCrossEntropy\nscale: 2.0\n",
    "conf/norm/shift.yaml": "name: shift\n_target_: paperzoo.papers.tiny.parts.Shift2d\nby: 0.5\n",
    "conf/scheduler/saw.yaml": """
name: saw
_target_: paperzoo.papers.tiny.parts.saw
warmup_epochs: 0
warmup_start: 0.0
teeth: 2
""",
    "conf/sampler/backwards.yaml": "name: backwards\n_target_: paperzoo.papers.tiny.parts.backwards\n",
    "conf/data/stripes.yaml": """
defaults: [mnist5k, _self_]
name: stripes
source: paperzoo.papers.tiny.parts.stripes
validation: 40
test: 40
""",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return root


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(root: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return forked.run(root / "src" / program, *words, cwd=root, env=environment, source=root / "src")


def code_of(root: Path) -> str:
    """The numeric code version of another paper's run, in that tree."""
    script = (
        "from paperzoo.config import compose\nfrom paperzoo.runs.identity import code_of\nimport json\n"
        "print(json.dumps(code_of(compose('train', ['model=resnet']))))"
    )
    (root / "code_of.py").write_text(script)
    done = forked.run(root / "code_of.py", cwd=root, source=root / "src")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_added_as_files_works_and_edits_nothing(tree):
    version = code_of(tree)
    before = digests(tree)
    for name, content in ADDED.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content.lstrip("\n"))
    words = ["model=tiny", "data=stripes", "loss=scaled", "norm=shift", "scheduler=saw", "sampler=backwards"]
    small = ["trainer=cpu", "trainer.max_epochs=2", "logger=none", "trainer.threads=1", "paths.runs_dir=made"]
    done = command(tree, "train.py", *words, *small)
    assert done.returncode == 0, done.stderr
    (folder,) = folders.all_folders(tree / "made")
    entry = record.read(folder)
    assert entry.status == "finished"
    assert entry.config["sampler"]["name"] == "backwards"
    assert entry.cost.parameters == 4 * 9 + 4 + 8 + 2 * 4 + 2
    assert [row["lr"] for row in entry.epochs] == pytest.approx([0.1 * (1 - 2 / 4 * 0.5), 0.1 * 0.5], abs=0.1)
    assert {name for name in entry.provenance.code_files if "/tiny/" in name} == {
        "paperzoo/papers/tiny/__init__.py", "paperzoo/papers/tiny/network.py", "paperzoo/papers/tiny/parts.py",
    }  # fmt: skip

    for program, word, says in (("zoo.py", "tiny", "One convolution."), ("runs.py", "model=tiny", entry.id)):
        shown = command(tree, program, word, *(["runs_dir=made"] if program == "runs.py" else []))
        assert shown.returncode == 0, shown.stderr
        assert says in shown.stdout
    mistakes = {
        "model.width=0": "model.width=0: must be a whole number at least 1 (channels)",
        "loss.scale=-1": "loss.scale=-1: must be greater than 0",
        "scheduler.tooth=3": "scheduler.tooth=3: there is no such key",
    }
    for word, line in mistakes.items():
        refused = command(tree, "train.py", *words, word)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert line in refused.stderr
    assert {name: digest for name, digest in digests(tree).items() if name in before} == before
    assert json.loads(code_of(tree)) == json.loads(version)  # no other paper's run gets a new identity
