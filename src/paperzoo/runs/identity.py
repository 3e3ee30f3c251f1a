"""The identity of a run: a hash of what determines its result."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paperzoo.config.schema import Config
from paperzoo.runs.code_version import code_version

# What a result does not depend on: where things lie, what is shown and logged, and how the work is placed. The
# number of ranks does count, and stands in the identity beside the configuration.
OUTSIDE = {
    "": {"paths", "logger", "checkpoint", "tags", "resume", "repeat", "dry_run", "debug"},
    "data": {"path", "root", "hub", "workers", "in_memory", "eval_batch_size"},
    "trainer": {"name", "accelerator", "devices", "num_nodes", "strategy", "backend", "threads", "log_every_n_steps"},
}
LENGTH = 10  # hex digits: 40 bits, so that 10,000 runs collide with a probability of 5e-5


def identity(config: Config, *, ranks: int, data_fingerprint: str, code: str) -> str:
    """The first digits of the hash of everything that determines the result."""
    content = {"config": determining(config), "ranks": ranks, "data": data_fingerprint, "code": code}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def determining(config: Config) -> dict[str, Any]:
    """The configuration without paths, logging and device names; of published weights, what the file holds."""
    whole = config.model_dump(mode="json", by_alias=True)
    published = config.model.checkpoint
    if published and Path(published).is_file():
        with Path(published).open("rb") as file:
            whole["model"]["checkpoint"] = hashlib.file_digest(file, "sha256").hexdigest()
    return without_places(whole)


def without_places(whole: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as plain data, without what a result does not depend on."""
    return {
        key: {k: v for k, v in value.items() if k not in OUTSIDE.get(key, ())} if isinstance(value, Mapping) else value
        for key, value in whole.items()
        if key not in OUTSIDE[""]
    }


def code_of(config: Config) -> str:
    """The version of the code that a run of ``config`` imports."""
    return code_version(["paperzoo.training", *targets(determining(config))])


def targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a configuration."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_" and isinstance(value, str):
                yield value
            else:
                yield from targets(value)
