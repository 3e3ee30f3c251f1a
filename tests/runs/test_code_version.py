"""The code version changes with what the numeric files that a run imports do, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from paperzoo.config import compose
from paperzoo.runs import code_version as module
from paperzoo.runs.code_version import code_version, import_closure, numeric_files, what_it_does
from paperzoo.runs.identity import code_of


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "paperzoo"
    for folder in ("papers/a", "papers/b", "tasks", "networks", "data"):
        (package / folder).mkdir(parents=True)
    files = {
        "__init__.py": "",
        "papers/__init__.py": "",
        "papers/a/__init__.py": "from .block import Block\n",
        "papers/a/block.py": "def late():\n    import paperzoo.networks.shared\n",
        "papers/a/module.py": (
            "from paperzoo.papers.a import Block\nfrom ...networks import helper\nimport paperzoo.display\n"
        ),
        "papers/a/pictures.py": "",
        "papers/b/__init__.py": "",
        "networks/__init__.py": "",
        "networks/shared.py": "import torch\n",
        "networks/helper.py": '"""Says."""\n\nX = 1  # one\n',
        "networks/unused.py": "",
        "display.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.setattr(module, "SOURCE", tmp_path)
    monkeypatch.setattr(module, "ALWAYS", ())
    return package


def version(tree: Path) -> str:
    module._digest.cache_clear()
    module._imports.cache_clear()
    return code_version(numeric_files(["paperzoo.papers.a.module.Module"]))


def test_closure_follows_relative_late_and_package_imports_of_numeric_files(tree):
    names = {path.relative_to(tree).as_posix() for path in import_closure(["paperzoo.papers.a.module.Module"])}
    assert names == {
        "papers/__init__.py", "papers/a/__init__.py", "papers/a/block.py", "papers/a/module.py",
        "networks/__init__.py", "networks/shared.py", "networks/helper.py",
    }  # fmt: skip


@pytest.mark.parametrize(("file", "counts"), [
    ("networks/shared.py", True), ("papers/a/block.py", True), ("networks/unused.py", False),
    ("papers/b/__init__.py", False), ("papers/a/pictures.py", False), ("display.py", False),
])  # fmt: skip
def test_editing_a_file_counts_if_it_is_numeric_and_imported(tree, file, counts):
    before = version(tree)
    with (tree / file).open("a") as handle:
        handle.write("Y = 2\n")
    assert (version(tree) != before) == counts


@pytest.mark.parametrize(("text", "counts"), [
    ('"""Says more.\n\nAnd more."""\n\n\n\nX = 1\n', False),
    ('"""Says."""\n# a comment\nX = 1\n', False),
    ('"""Says."""\n\nX = 2  # one\n', True),
    ('"""Says."""\n\nX = "1 # one"\n', True),
    ('"""Says."""\nif True:\n    X = 1\n', True),
])  # fmt: skip
def test_comments_docstrings_and_blank_lines_do_not_count(tree, text, counts):
    before = version(tree)
    (tree / "networks/helper.py").write_text(text)
    assert (version(tree) != before) == counts


def test_what_it_does_keeps_strings_that_look_like_comments():
    assert what_it_does('def f():\n    """Doc."""\n    return "# no comment"  # comment\n') == (
        'def f():\n    return "# no comment"'
    )


def test_the_place_of_the_tree_does_not_count(tree, tmp_path, monkeypatch):
    before = version(tree)
    copy = tmp_path / "elsewhere"
    shutil.copytree(tree, copy / "paperzoo")
    monkeypatch.setattr(module, "SOURCE", copy)
    assert version(tree) == before


def test_a_run_counts_its_paper_its_task_and_the_data_and_no_other_paper():
    names = set(code_of(compose("train", ["model=scnet", "norm=group"])))
    assert {
        "paperzoo/papers/scnet/scconv.py", "paperzoo/tasks/classification.py", "paperzoo/tasks/task.py",
        "paperzoo/data/order.py", "paperzoo/data/samplers.py", "paperzoo/data/images/augment.py",
        "paperzoo/tasks/schedules.py", "paperzoo/papers/group_norm/group_norm.py", "paperzoo/procedures/fit.py",
        "paperzoo/machine.py", "paperzoo/norms/convert.py",
    } <= names  # fmt: skip
    papers = {name.split("/")[2] for name in names if name.startswith("paperzoo/papers/") and name.count("/") > 2}
    assert papers == {"scnet", "group_norm", "resnet"}  # Group Norm's paper builds on ResNet
    assert not any("display" in name or "pictures" in name or "schema" in name or "/runs/" in name for name in names)
