"""Going on with a finished run for more epochs, as a new run: ``resume=<id> trainer.max_epochs=20``.

The new run begins with the exact state that the finished one ended with: weights, optimiser, rows, best weights. With a
schedule that does not depend on the length, what comes is what a run of 20 epochs from the start would have been, bit
for bit; a cosine goes on at the place that the longer one has there.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paperzoo.config.messages import show
from paperzoo.config.schema import Config
from paperzoo.errors import UserError
from paperzoo.runs import checkpoints, folders, identity, record
from paperzoo.runs.record import Parent, Record

LENGTH = ("trainer.max_epochs", "trainer.max_steps")  # what may differ
STATE = "state"  # what of the parent a run begins with, in its record


def resolved(config: Config) -> Config:
    """``resume`` of a finished run that is to be longer becomes ``extends``; anything else stays.

    Raises:
        UserError: there is no such run, or more than its length differs.
    """
    if config.resume in (None, "auto") or config.extends:
        return config
    folder = folders.find(Path(config.paths.runs_dir).resolve(), str(config.resume), f"resume={config.resume}")
    entry = record.read(folder)
    if entry.status != "finished" or not _is_longer(config, entry):
        return config
    return config.model_copy(update={"extends": entry.id, "resume": "auto"})


def parent_of(config: Config) -> tuple[Path, Record] | None:
    """The folder and the record of the run that ``config`` extends, if it does.

    Raises:
        UserError: it is not finished, more than its length differs, or its exact state is gone.
    """
    if not config.extends:
        return None
    given = f"{'resume' if config.resume else 'extends'}={config.extends}"  # as the user wrote it
    folder = folders.find(Path(config.paths.runs_dir).resolve(), config.extends, given)
    entry = record.read(folder)
    if entry.status != "finished":
        raise UserError(f"{given}: it is {entry.observed_status()}; go on with it by resume={entry.id}")
    differs = next(_differences(config, entry), None)
    if differs:
        raise UserError(
            f"{given}: {differs}; only {' and '.join(LENGTH)} may differ; else model.checkpoint=run:{entry.id}"
        )
    if not _is_longer(config, entry):
        epochs = entry.config["trainer"]["max_epochs"]
        raise UserError(f"{given}: it has {epochs} epochs already; give a larger trainer.max_epochs")
    if checkpoints.newest_state(folder) is None:
        raise UserError(
            f"{given}: its exact state is gone (checkpoint.keep_state=false, or an older run); begin with its weights: "
            f"model.checkpoint=run:{entry.id}"
        )
    return folder, entry


def parents(config: Config) -> list[Parent]:
    """For the record."""
    found = parent_of(config)
    return [Parent(id=found[1].id, identity=found[1].identity, weights=STATE)] if found else []


def bring(config: Config, folder: Path) -> Path | None:
    """Copy the parent's state, its best weights and those it kept into a new run's folder, which goes on from there."""
    found = parent_of(config)
    if found is None:
        return None
    state = checkpoints.newest_state(found[0])
    assert state is not None
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    own = found[0] / "checkpoints"
    for source in (own / checkpoints.BEST, *checkpoints.kept(own), state):
        if source.is_file():
            target = folder / "checkpoints" / (checkpoints.STATE if source == state else source.name)
            shutil.copyfile(source, target)
            shutil.copyfile(checkpoints.digest_path(source), checkpoints.digest_path(target))
    return folder / "checkpoints" / checkpoints.STATE


def _is_longer(config: Config, entry: Record) -> bool:
    then, now = entry.config["trainer"], config.trainer
    return now.max_epochs > then["max_epochs"] or (now.max_steps or 0) > (then.get("max_steps") or 0)


def _differences(config: Config, entry: Record) -> Iterator[str]:
    """What of a configuration is not as a record has it, its length aside."""
    now = dict(_leaves(identity.plain(config.model_dump(mode="json", by_alias=True))))
    then = dict(_leaves(identity.plain(entry.config)))
    for key in sorted(now.keys() | then.keys()):
        if key not in (*LENGTH, "extends") and now.get(key) != then.get(key):
            yield f"{key} is {show(now.get(key))}, there it was {show(then.get(key))}"


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
