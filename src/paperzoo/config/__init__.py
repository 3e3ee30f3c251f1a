"""Configuration: Hydra composes it, pydantic types it, mistakes are one line."""

import importlib
from typing import TYPE_CHECKING, Any

from paperzoo.config.program import program

if TYPE_CHECKING:
    from paperzoo.config.building import build
    from paperzoo.config.loading import compose, dump, load_config

__all__ = ["build", "compose", "dump", "load_config", "program"]
_HOMES = {"build": "building", "compose": "loading", "dump": "loading", "load_config": "loading"}


def __getattr__(name: str) -> Any:
    """What needs Hydra and pydantic is imported when it is asked for: ``--help`` needs neither."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"paperzoo.config.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'paperzoo.config' has no attribute {name!r}")
