"""Which run belongs to which variant: a record's settings against a sweep's cells."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from paperzoo.runs.record import Record
from paperzoo.sweeps.specification import SEED, Cell, Sweep


@dataclass
class Group:
    """A variant's runs, before anything is computed of them."""

    settings: dict[str, Any]
    cell: Cell  # one of its runs', with every parameter
    seeds: list[int] = field(default_factory=list)  # planned
    runs: dict[int, list[Record]] = field(default_factory=dict)  # by seed, one an identity, the oldest first


def groups(sweep: Sweep, records: Iterable[Record]) -> tuple[list[Group], list[Record]]:
    """The variants of a grid in the sweep's order with their runs, and the records of no variant.

    Of several attempts of an identity the latest finished counts, else the latest.
    """
    made: dict[str, Group] = {}
    for cell in sweep.cells():
        group = made.setdefault(_key(sweep.variant(cell)), Group(sweep.variant(cell), cell))
        if SEED in cell:
            group.seeds.append(int(cell[SEED]))
    strangers = []
    for entry in latest_attempts(records):
        settings = cell_of(sweep, entry)
        variant = None if settings is None else made.get(_key(sweep.variant(settings)))
        if variant is None or (variant.seeds and entry.seed not in variant.seeds):
            strangers.append(entry)
        else:
            variant.runs.setdefault(entry.seed, []).append(entry)
    return list(made.values()), strangers


def latest_attempts(records: Iterable[Record]) -> list[Record]:
    """One run of each identity, the oldest first."""
    best: dict[str, Record] = {}
    for entry in records:
        other = best.get(entry.identity)
        if other is None or _rank(entry) > _rank(other):
            best[entry.identity] = entry
    return sorted(best.values(), key=order)


def _rank(entry: Record) -> tuple[bool, int, str]:
    return entry.status == "finished", entry.attempt, entry.id


def order(entry: Record) -> tuple[str, str]:
    """The canonical order of records: as they began."""
    return (entry.started if entry.segments else "", entry.id)


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def cell_of(sweep: Sweep, entry: Record) -> Cell | None:
    """The parameters that a run had, or None if they are none of the sweep's.

    Where a parameter is a number from a distribution, the run's own value is taken.
    """
    cell: Cell = {}
    for key, parameter in sweep.parameters.items():
        if key == SEED:
            cell[key] = entry.seed
            continue
        if parameter.choices is None:
            value = setting(entry, key)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                return None
            cell[key] = value
            continue
        chosen = [choice for choice in parameter.choices if _has(entry, key, choice)]
        if not chosen:
            return None
        cell[key] = chosen[0]
    return cell


def setting(entry: Record, key: str) -> Any:
    """A dotted key's value in a run's configuration; of a group its name; None where there is none."""
    value: Any = entry.config
    for part in key.lstrip("+").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value.get("name") if isinstance(value, Mapping) else value


def _has(entry: Record, key: str, choice: Any) -> bool:
    """By its configuration, or by its command: ``experiment=...`` leaves no trace but its settings."""
    value = setting(entry, key)
    if value is None and choice not in (None, "null"):
        return f"{key}={choice}" in entry.command
    return _same(choice, value)


def _same(choice: Any, value: Any) -> bool:
    """Equal as Hydra reads the word that the choice becomes: the text 1e-3 is the number .001, null is None."""
    if isinstance(choice, str):
        try:
            choice = float(choice)
        except ValueError:
            with contextlib.suppress(yaml.YAMLError):  # @x is a word to Hydra, and no YAML
                choice = yaml.safe_load(choice)
    return bool(choice == value and isinstance(choice, bool) == isinstance(value, bool)) or str(choice) == str(value)
