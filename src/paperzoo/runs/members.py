"""Finished runs as members of another: ``model.members=[run:<id>, ...]``, ``run:<id>:best`` for their best weights.

An option that takes them says so in its paper's card (``runs: true``). Before a run begins, each name becomes what the
member's network is made of, ``{"run": "run:<id>:<weights>", "groups": {...}}``: record and checkpoint then hold all
that the network is built from, and their runs are needed only while it is made. The network has ``members`` in this
order.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from paperzoo import cards
from paperzoo.config import older
from paperzoo.config.schema import Config
from paperzoo.errors import UserError
from paperzoo.runs import folders, record, weights
from paperzoo.runs.record import Parent, Record
from paperzoo.runs.weights import RUN

SAME = ("num_classes", "class_names", "in_chans", "image_size", "mean", "std")  # of their data


class Member(NamedTuple):
    """A run, and which of its weights."""

    given: str  # the option, and this name in it
    path: Path  # of the weights
    parent: Parent
    entry: Record


def option_of(model: Mapping[str, Any]) -> str | None:
    """The option of a model's configuration that names runs, if it does."""
    if model.get("name") not in cards.slugs():
        return None
    names = (option.name for option in cards.load(model["name"]).options if option.runs)
    return next((name for name in names if isinstance(model.get(name), list)), None)


def members_of(config: Config) -> list[Member]:
    """The runs that a configuration names as members.

    Raises:
        UserError: one is not there, not finished, or has no such weights.
    """
    model = config.model.model_dump(mode="json")
    option = option_of(model)
    runs_dir = Path(config.paths.runs_dir)
    return [_found(f"model.{option}", name_of(value), runs_dir) for value in model[option]] if option else []


def name_of(value: Any) -> str:
    """``run:<id>`` of a member, as it was given or as a record has it."""
    return str(value["run"] if isinstance(value, Mapping) else value)


def _found(option: str, name: str, runs_dir: Path) -> Member:
    given = f"{option}={name}"
    found = weights.find(name, runs_dir, option)
    assert found.parent is not None
    entry = record.read(folders.find(runs_dir.resolve(), found.parent.id))
    if entry.status != "finished":
        raise UserError(f"{given}: run {entry.id} is {entry.observed_status()}; train it to the end")
    return Member(given, found.path, found.parent, entry)


def resolved(config: Config) -> Config:
    """A configuration whose members are what their networks are made of; any other stays as it is.

    Raises:
        UserError: as ``members_of``, or a member was trained for another kind of task, or more than its members is set.
    """
    found = members_of(config)
    if not found:
        return config
    option = option_of(config.model.model_dump(mode="json"))
    assert option is not None
    if config.model.checkpoint:
        raise UserError(f"model.checkpoint={config.model.checkpoint}: model.{option} names runs, which have weights")
    if config.norm.target:
        raise UserError(f"norm={config.norm.name}: model.{option} names runs, which have norms of their own")
    for member in found:
        task = member.entry.config["data"].get("task", "classification")
        if task != config.data.task:
            raise UserError(
                f"{member.given}: run {member.entry.id} does {task}, data={config.data.name} is for {config.data.task}"
            )
    return config.model_copy(update={"model": config.model.model_copy(update={option: [_described(m) for m in found]})})


def _described(member: Member) -> dict[str, Any]:
    from paperzoo.tasks import making

    plain = older.upgraded(member.entry.config)
    groups = {name: dict(plain[name]) for name in ("model", *making.GROUPS)}
    groups["model"] |= {"checkpoint": None}
    return {"run": f"{RUN}{member.parent.id}:{member.parent.weights}", "groups": groups}


def check(config: Config, info: Mapping[str, Any]) -> None:
    """Demand that members were trained on data of the same classes, shape and preparation.

    Raises:
        UserError: one was not; the line says what differs.
    """
    for member in members_of(config):
        theirs = member.entry.info
        for name in SAME:
            if name in theirs and name in info and theirs[name] != info[name]:
                raise UserError(
                    f"{member.given}: {name} of its data is {_short(theirs[name])}, of data={config.data.name} "
                    f"{_short(info[name])}; members must have been trained on such data"
                )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def load(config: Config, network: Any) -> None:
    """Give the network's members the weights of their runs.

    Raises:
        UserError: some do not fit.
    """
    from paperzoo.networks import official  # with torch: reports take identities from records without it
    from paperzoo.runs import checkpoints
    from paperzoo.tasks import making

    for number, member in enumerate(members_of(config)):
        own = making.of_run(checkpoints.read_plain(member.path)) or {}
        try:
            official.load_exactly(network.members[number], own)
        except UserError as error:
            raise UserError(f"{member.given}: {error}") from None


def parents(config: Config) -> list[Parent]:
    """For the record."""
    return [member.parent for member in members_of(config)]


def strangers(config: Config, fingerprint: str) -> list[str]:
    """Runs that have seen other data, or another part of it: what is held out here they may have been trained on."""
    return [m.parent.id for m in members_of(config) if m.entry.data.fingerprint != fingerprint]


def identities(config: Config) -> dict[str, list[str]]:
    """What of members is part of a run's identity, by option: the identities of the runs that made them."""
    option = option_of(config.model.model_dump(mode="json"))
    found = [f"{RUN}{m.parent.identity}:{m.parent.weights}" for m in members_of(config)]
    return {option: found} if option else {}


def configurations(config: Config) -> Iterator[dict[str, Any]]:
    """Those of the members, whose code counts, too."""
    for member in members_of(config):
        yield _described(member)["groups"]
