"""The version of the code that can change a run's numbers: a hash of the source files that it imports.

The import closure is computed statically, before training, and stays within what can change a number: the paper's
folder, its task, its procedure, networks, norms, data order and transforms, losses, optimisers. Displays, messages,
cards, pictures and reports are left out, and of each file its comments, docstrings and blank lines: writing about a
run, or adding another paper, gives no run a new identity.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]  # src/
PACKAGE = "paperzoo"
NUMERIC = (  # of the package: what can change a number
    "papers", "tasks", "procedures", "networks", "norms", "data", "detection", "metrics",
    "machine", "distributed", "randomness", "random_state",
)  # fmt: skip
NOT_NUMERIC = ("pictures.py", "report_pictures.py", "schema.py")  # within these: drawings, and which options there are
ALWAYS = ("paperzoo.tasks.making", "paperzoo.machine", "paperzoo.random_state", "paperzoo.data.order")
DIGITS = 16  # of a file's digest


def code_version(files: Mapping[str, str]) -> str:
    """One hash of files and their digests: 64 hex digits."""
    text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def numeric_files(modules: Iterable[str]) -> dict[str, str]:
    """The files (below ``src/``) that can change a number of a run that uses ``modules``, each with its digest."""
    return {path.relative_to(SOURCE).as_posix(): file_digest(path) for path in import_closure([*ALWAYS, *modules])}


def file_digest(path: Path) -> str:
    """Of what a source file does: without comments, docstrings and blank lines."""
    return _digest(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _digest(path: Path, changed: int) -> str:
    return hashlib.sha256(what_it_does(path.read_text()).encode()).hexdigest()[:DIGITS]


def what_it_does(source: str) -> str:
    """Source code without comments, docstrings, blank lines and trailing white space."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline) if "#" in source else ():
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for first, last in _docstrings(ast.parse(source)):
        lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """First and last line of each docstring."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            head = node.body[0]
            if (
                isinstance(head, ast.Expr)
                and isinstance(head.value, ast.Constant)
                and isinstance(head.value.value, str)
            ):
                yield head.lineno, head.end_lineno or head.lineno


def import_closure(modules: Iterable[str]) -> list[Path]:
    """The numeric source files below ``src/`` that importing ``modules`` may load, sorted."""
    seen: set[Path] = set()
    waiting = [path for module in modules for path in _files(module)]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(file for name in _imports(path, path.stat().st_mtime_ns) for file in _files(name))
    return sorted(seen)


def _files(name: str) -> Iterator[Path]:
    """The files that importing ``name`` runs: the module's (or its parent's, for an attribute) and each package's."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) < 2 or parts[1] not in NUMERIC:
        return
    for length in range(2, len(parts) + 1):
        place = SOURCE.joinpath(*parts[:length])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file() and path.name not in NOT_NUMERIC:
                yield path


@lru_cache(maxsize=512)
def _imports(path: Path, changed: int) -> list[str]:
    """Dotted names that a file, as it was last changed, imports, wherever in it the import stands."""
    names: list[str] = []
    package = path.relative_to(SOURCE).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            names += [f"{stem}.{alias.name}" for alias in node.names]
    return names
