"""The house's rules that a reader could break without noticing, held by pattern: no list of packages or papers here."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from paperzoo import cards

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "paperzoo"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST = 500  # lines of a file


@lru_cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Dotted names below paperzoo that a file imports, wherever in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("paperzoo.") for name in names if name.startswith("paperzoo."))


def part_of(path: Path) -> str:
    """The package, or module beside the packages, that a file is of; each paper is one by itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "papers" and len(parts) > 1 else parts[0]


def named_part(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] == "papers" and len(parts) > 1 and (PACKAGE / "papers" / parts[1]).is_dir():
        return ".".join(parts[:2])
    exists = (PACKAGE / parts[0]).is_dir() or (PACKAGE / f"{parts[0]}.py").is_file()
    return parts[0] if exists else None


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {part_of(path): set() for path in FILES}
    for path in FILES:
        targets = {named_part(name) for name in imported(path)}
        edges[part_of(path)] |= {target for target in targets if target and target != part_of(path)}
    return edges


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """A cycle as the parts along it, or nothing."""
    done: set[str] = set()

    def walk(part: str, path: list[str]) -> list[str]:
        if part in path:
            return [*path[path.index(part) :], part]
        if part in done:
            return []
        for target in sorted(edges.get(part, ())):
            if found := walk(target, [*path, part]):
                return found
        done.add(part)
        return []

    return next((found for part in sorted(edges) if (found := walk(part, []))), [])


def test_no_cycle_between_packages():
    assert cycle(graph()) == []


def test_a_cycle_would_be_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


def test_a_paper_imports_another_only_where_its_card_says_that_it_builds_on_it():
    for slug in cards.slugs():
        others = {
            target.removeprefix("papers.")
            for path in (PACKAGE / "papers" / slug).rglob("*.py")
            for name in imported(path)
            if (target := named_part(name)) and target.startswith("papers.") and target != f"papers.{slug}"
        }
        assert others == set(cards.load(slug).builds_on), f"papers/{slug}/card.yaml: builds_on"


def test_shared_code_imports_no_paper_and_names_none():
    """Neither in an import nor in a string; slugs that are ordinary words are looked for as dotted names only."""
    shared = [path for path in FILES if not part_of(path).startswith("papers")]
    for path in shared:
        assert not [name for name in imported(path) if name.startswith("papers.")], path
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"paperzoo[./]papers[./][a-z]\w*", node.value), f"{path}:{node.lineno}"


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_no_file_is_too_long_to_be_read(folder):
    long = {
        str(path.relative_to(ROOT)): n
        for path in (ROOT / folder).rglob("*.py")
        if (n := len(path.read_text().splitlines())) > MOST
    }
    assert long == {}


def test_nothing_that_a_run_leaves_is_committed():
    import subprocess

    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    debris = re.compile(r"(^|/)(wandb|runs|multirun)/|\.(ckpt|db|log)$")
    assert [
        name for name in done.stdout.splitlines() if debris.search(name) and not name.startswith(("src/", "tests/"))
    ] == []
