"""The identity of a run: a hash of what determines its result."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paperzoo import cards
from paperzoo.config.schema import Config
from paperzoo.runs import folders, members, weights
from paperzoo.runs.code_version import numeric_files

# What a result does not depend on: where things lie, what is shown and logged, and how the work is placed. The
# number of ranks does count, and stands in the identity beside the configuration.
OUTSIDE = {
    "": {"paths", "logger", "checkpoint", "tags", "resume", "repeat", "dry_run", "debug", "pictures"},
    "data": {"path", "root", "hub", "workers", "in_memory", "eval_batch_size", "evaluator"},
    "trainer": {
        *("name", "accelerator", "devices", "num_nodes", "strategy", "backend", "threads", "log_every_n_steps"),
        *("fast_dev_run", "profiler", "summary"),  # the first stands for other keys
    },
}
LENGTH = 10  # hex digits: 40 bits, so that 10,000 runs collide with a probability of 5e-5


def identity(config: Config, *, ranks: int, data_fingerprint: str, code: str) -> str:
    """The first digits of the hash of everything that determines the result."""
    content = {"config": determining(config), "ranks": ranks, "data": data_fingerprint, "code": code}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def determining(config: Config) -> dict[str, Any]:
    """The configuration without paths, logging, device names and keys left at None; of files, what they hold."""
    whole = config.model_dump(mode="json", by_alias=True)
    if config.model.checkpoint:
        whole["model"]["checkpoint"] = weights.identity_of(config.model.checkpoint, Path(config.paths.runs_dir))
    whole["model"] |= members.identities(config)
    if file := whole["sampler"].get("file"):
        whole["sampler"]["file"] = weights.digest(Path(file).expanduser(), f"sampler.file={file}")
    if config.extends:  # its result depends on the run that it goes on with
        whole["extends"] = folders.find(Path(config.paths.runs_dir).resolve(), config.extends).parent.name
    return plain(whole)


def plain(whole: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, as plain data, without places and keys that are None."""
    return dict(without_none(without_places(whole)))


def without_none(node: Any) -> Any:
    """A configuration without the keys that are None: an option added later, and left alone, changes nothing."""
    if isinstance(node, Mapping):
        return {key: without_none(value) for key, value in node.items() if value is not None}
    return [without_none(value) for value in node] if isinstance(node, list) else node


def without_places(whole: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as plain data, without what a result does not depend on."""
    return {
        key: {k: v for k, v in value.items() if k not in OUTSIDE.get(key, ())} if isinstance(value, Mapping) else value
        for key, value in whole.items()
        if key not in OUTSIDE[""]
    }


def code_of(config: Config) -> dict[str, str]:
    """The files that can change a number of a run of ``config``, with their digests."""
    of_members = list(members.configurations(config))
    models = [config.model.model_dump(mode="json"), *(member["model"] for member in of_members)]
    papers = [f"paperzoo.papers.{slug}" for model in models for slug in _papers(model)]
    named = [name for member in of_members for name in targets(member)]
    return numeric_files([*papers, *targets(determining(config)), *named])


def _papers(given: Mapping[str, Any]) -> list[str]:
    """The paper of a model, and those that its options name."""
    name = given["name"]
    if name not in cards.slugs():
        return []
    values = [given[option.name] for option in cards.load(name).options if option.paper and given.get(option.name)]
    return [name, *(slug for value in values for slug in (value if isinstance(value, list) else [value]))]


def targets(node: Any) -> Iterator[str]:
    """Every dotted name of this package in a configuration: ``_target_``, a data source, a convolution."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, str) and node.startswith("paperzoo."):
        yield node
