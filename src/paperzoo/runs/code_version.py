"""The version of the code that a run rests on: a hash of the source files that it imports.

The import closure is computed statically, before training, so that editing a README (or a paper that the run
does not use) changes nothing, and a function that imports late is counted all the same.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]  # src/
PACKAGE = "paperzoo"


def code_version(modules: Iterable[str]) -> str:
    """Hash of the files that ``modules`` (dotted names within paperzoo) import, directly or not: 64 hex digits."""
    digest = hashlib.sha256()
    for path in import_closure(modules):
        digest.update(f"{path.relative_to(SOURCE).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def import_closure(modules: Iterable[str]) -> list[Path]:
    """The source files below ``src/`` that importing ``modules`` may load, sorted."""
    seen: set[Path] = set()
    waiting = [path for module in modules for path in _files(module)]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(file for name in _imports(path) for file in _files(name))
    return sorted(seen)


def _files(name: str) -> Iterator[Path]:
    """The files that importing ``name`` runs: the module's (or its parent's, for an attribute) and each package's."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    for length in range(1, len(parts) + 1):
        place = SOURCE.joinpath(*parts[:length])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield path


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it the import stands."""
    package = path.relative_to(SOURCE).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            yield from (f"{stem}.{alias.name}" for alias in node.names)
