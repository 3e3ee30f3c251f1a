"""What README and docs say is so: the table of results, links, commands."""

import re
from pathlib import Path

import pytest

from paperzoo.config import compose
from paperzoo.pages import results

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_results_is_that_of_the_cards():
    text = (ROOT / "README.md").read_text()
    table = text.partition(results.START)[2].partition(results.END)[0]
    assert table == results.table() + "\n", "write it again: python -m paperzoo.pages.results"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_training_commands_compose(path, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    text = path.read_text().replace("\\\n", " ")
    commands = re.findall(r"^(?:srun.*?|torchrun.*?|python) +src/train\.py (.*)$", text, flags=re.MULTILINE)
    for command in commands:
        words = [word for word in command.split("#")[0].split() if "hydra" not in word and word != "-m"]
        if "--help" in words or "..." in words or any("<" in word or "=foo" in word for word in words):
            continue
        words = [re.sub(r"=([^,\[]*),.*", r"=\1", word) for word in words]
        assert compose("train", words).model.name


def test_python_examples_run():
    text = (ROOT / "docs" / "python.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(example, "docs/python.md", "exec"), {})
