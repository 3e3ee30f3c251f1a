"""The code version changes with the files that a run imports, and with no other."""

import shutil
from pathlib import Path

import pytest

from paperzoo.runs import code_version as module
from paperzoo.runs.code_version import code_version, import_closure


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "paperzoo"
    (package / "papers" / "a").mkdir(parents=True)
    (package / "papers" / "b").mkdir()
    files = {
        "__init__.py": "",
        "papers/__init__.py": "",
        "papers/a/__init__.py": "from .block import Block\n",
        "papers/a/block.py": "def late():\n    import paperzoo.shared\n",
        "papers/a/module.py": "from paperzoo.papers.a import Block\nfrom ... import helper\n",
        "papers/b/__init__.py": "",
        "shared.py": "import torch\n",
        "helper.py": "",
        "unused.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.setattr(module, "SOURCE", tmp_path)
    return package


def test_closure_follows_relative_late_and_package_imports(tree):
    names = {path.relative_to(tree).as_posix() for path in import_closure(["paperzoo.papers.a.module.Module"])}
    assert names == {
        "__init__.py", "papers/__init__.py", "papers/a/__init__.py", "papers/a/block.py", "papers/a/module.py",
        "shared.py", "helper.py",
    }  # fmt: skip


@pytest.mark.parametrize(("file", "counts"), [("shared.py", True), ("papers/a/block.py", True), ("unused.py", False),
                                              ("papers/b/__init__.py", False)])  # fmt: skip
def test_editing_a_file_counts_if_it_is_imported(tree, file, counts):
    before = code_version(["paperzoo.papers.a.module"])
    with (tree / file).open("a") as handle:
        handle.write("# edited\n")
    assert (code_version(["paperzoo.papers.a.module"]) != before) == counts


def test_the_place_of_the_tree_does_not_count(tree, tmp_path, monkeypatch):
    before = code_version(["paperzoo.papers.a.module"])
    copy = tmp_path / "elsewhere"
    shutil.copytree(tree, copy / "paperzoo")
    monkeypatch.setattr(module, "SOURCE", copy)
    assert code_version(["paperzoo.papers.a.module"]) == before


def test_a_paper_does_not_count_another():
    names = {path.as_posix() for path in import_closure(["paperzoo.training", "paperzoo.papers.scnet.module"])}
    assert any(name.endswith("papers/scnet/module.py") for name in names)
    assert any(name.endswith("tasks/classification.py") for name in names)
    assert not any("papers/res2net" in name for name in names)
