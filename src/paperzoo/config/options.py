"""The keys of a choice, typed where the choice is implemented: nowhere is there a list of all.

For ``_target_``
- in a paper's folder: its ``card.yaml``, the options that are ``of`` the group;
- elsewhere in paperzoo: ``schema.py`` of the target's package, whose ``SCHEMAS`` has a class by the target's name;
- of another library: ``config/foreign/<target>.yaml``, where there is one: ``options`` as in a card, and ``part``, one
  of a card's ``parts``.
A target without any of these takes what its configuration gives it.
"""

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import ConfigDict, Field, create_model

from paperzoo import cards
from paperzoo.cards import Option, Part
from paperzoo.config.schema import Choice, Config

SOURCE = Path(__file__).resolve().parents[2]
FOREIGN = Path(__file__).resolve().parent / "foreign"
PAPER = "paperzoo.papers."
PYTHON: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "list": list[Any]}


def schema_of(plain: Mapping[str, Any]) -> type[Config]:
    """The class of a whole configuration, each of its groups with the keys that its target takes."""
    groups = {}
    for name, field in Config.model_fields.items():
        kind: Any = next((part for part in get_args(field.annotation) if part is not type(None)), field.annotation)
        chosen = plain.get(name)
        if name != "model" and isinstance(kind, type) and issubclass(kind, Choice) and isinstance(chosen, Mapping):
            groups[name] = typed(name, kind, chosen)
    return _config(tuple(groups.items()))


@lru_cache(maxsize=64)
def _config(groups: tuple[tuple[str, type[Choice]], ...]) -> type[Config]:
    fields: Any = {name: (kind, ...) for name, kind in groups}
    return create_model("Config", __base__=Config, **fields)


def typed(group: str, base: type[Choice], chosen: Mapping[str, Any]) -> type[Choice]:
    """The class of a group's choice."""
    target = chosen.get("_target_")
    if target is None:
        return _closed(base, group, ())
    if not isinstance(target, str):
        return base
    if target.startswith(PAPER):
        slug, name = target.split(".")[2], target.rpartition(".")[2]
        if slug not in cards.slugs():
            return base
        card = cards.load(slug)
        return _closed(base, group, tuple(card.options_of(group, name)), card.part(group, name))
    if target.startswith("paperzoo."):
        package, _, name = target.removeprefix("paperzoo.").rpartition(".")
        found = beside(package).get(name)
        if found is None:
            return base
        return found if isinstance(found, type) else found(chosen)
    found = foreign(target)
    return base if found is None else _closed(base, group, *found)


@lru_cache
def foreign(target: str) -> tuple[tuple[Option, ...], Part | None] | None:
    """The options of another library's target, and what it needs of the rest, where they are written down."""
    path = FOREIGN / f"{target}.yaml"
    if not path.is_file():
        return None
    content = yaml.safe_load(path.read_bytes()) or {}
    options = tuple(Option.model_validate(entry) for entry in content.get("options", ()))
    return options, Part.model_validate(content["part"]) if "part" in content else None


@lru_cache
def beside(package: str) -> dict[str, Any]:
    """``SCHEMAS`` of the ``schema.py`` that stands beside a target; loaded by path, since packages may import torch."""
    parts = package.split(".")
    for length in range(len(parts), -1, -1):
        path = SOURCE.joinpath("paperzoo", *parts[:length], "schema.py")
        if path.is_file():
            name = ".".join(["paperzoo", *parts[:length], "schema"])
            return _load(name, path).SCHEMAS
    return {}


def _load(name: str, path: Path) -> Any:
    """A module by its path, once: its classes must be the same wherever they are used."""
    import sys

    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@lru_cache
def _closed(base: type[Choice], group: str, options: tuple[Option, ...], part: Part | None = None) -> type[Choice]:
    """``base`` with these keys and no others, and what it needs of the rest."""
    fields: Any = {option.name: (_annotation(option), None) for option in options}
    own: dict[str, Any] = {"model_config": ConfigDict(extra="forbid"), "__module__": base.__module__}
    if part is not None:
        own |= {"tasks": part.tasks, "why": part.why, "labels": part.labels}
    parent = type(base.__name__, (base,), own)
    return create_model(base.__name__, __base__=parent, **fields)


def _annotation(option: Option) -> Any:
    """An option's type for pydantic; null leaves the choice to the target."""
    kind: Any = Literal[tuple(option.values)] if option.values else PYTHON[option.type]
    bounds = {"ge": option.minimum, "le": option.maximum, "gt": option.above, "lt": option.below}
    given: Any = {name: bound for name, bound in bounds.items() if bound is not None}
    if option.type == "list":
        return Annotated[list[Annotated[float, Field(**given)]], Field(**_length(option))] | None
    return Annotated[kind, Field(**given)] | None if given else kind | None


def _length(option: Option) -> Any:
    return {} if option.length is None else {"min_length": option.length, "max_length": option.length}
