"""Configuration: Hydra composes it, pydantic types it, mistakes are one line."""

from paperzoo.config.building import build
from paperzoo.config.loading import compose, dump, load_config
from paperzoo.config.program import program

__all__ = ["build", "compose", "dump", "load_config", "program"]
