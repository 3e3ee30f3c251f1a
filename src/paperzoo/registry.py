"""The networks of all papers in timm's registry without importing them: each is imported when it is made.

``import paperzoo`` calls ``register``; what it costs is paid when timm is imported.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

TIMM = "timm.models"
PAPERS = "paperzoo.papers."


class Registrar:
    """Finds no module by itself; Python calls it before each import.

    When timm's models have been imported, the names of all papers' networks are registered, each as a function that
    imports its paper. Before a paper is imported, its names are taken out again: its own functions take their place.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}  # of papers that are not imported yet

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if fullname.startswith(PAPERS):
            self.forget(fullname.removeprefix(PAPERS).split(".")[0])
        if fullname != TIMM:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def and_add(module: ModuleType) -> None:
                execute(module)
                self.add()

            spec.loader.exec_module = and_add  # type: ignore[method-assign]
        return spec

    def add(self) -> None:
        """Register the names of the papers' networks that timm does not have."""
        from paperzoo import cards

        known = entrypoints()
        every = {slug: cards.load(slug) for slug in cards.slugs()}
        for slug, card in every.items():
            if f"{PAPERS}{slug}" not in sys.modules:
                of_others = {name for base in card.builds_on for name in every[base].known()}
                own = [name for name in card.known() if name not in known and name not in of_others]
                known.update({name: self.maker(slug, name) for name in own})
                self.names[slug] = own

    def forget(self, slug: str) -> None:
        """Take a paper's names out."""
        for name in self.names.pop(slug, ()):
            entrypoints().pop(name, None)

    @staticmethod
    def maker(slug: str, name: str) -> Any:
        """What makes a network, importing its paper first."""

        def make(pretrained: bool = False, **options: Any) -> Any:
            importlib.import_module(f"{PAPERS}{slug}")
            return entrypoints()[name](pretrained=pretrained, **options)

        make.__name__ = name
        return make


def entrypoints() -> dict[str, Any]:
    """Timm's registry: functions that make networks, by name."""
    found: dict[str, Any] = importlib.import_module(f"{TIMM}._registry")._model_entrypoints
    return found


def register() -> None:
    """Have all networks in timm's registry, from now or from when timm is imported. A second call does nothing."""
    if any(isinstance(finder, Registrar) for finder in sys.meta_path):
        return
    registrar = Registrar()
    sys.meta_path.insert(0, registrar)
    if TIMM in sys.modules:
        registrar.add()
