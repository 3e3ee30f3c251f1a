"""Configurations of older versions, from records and from files of one's own, as this version writes them."""

from collections.abc import Mapping
from typing import Any

import yaml

from paperzoo.places import CONF, PACKAGE

IMAGES = "paperzoo.data.images."
MOVED = {"paperzoo.data.sources.": f"{IMAGES}sources.", "paperzoo.data.maps.": f"{IMAGES}maps."}
UNIONS = ("data", "norm", "mix", "loss", "optimizer", "scheduler", "logger")  # groups that had every option's keys
OF_HUB = {"train_split": "train", "streaming": False}  # defaults that every data set's record held


def upgraded(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose targets stand where they stand now, without keys of other options.

    Until sampler and procedure were groups, a group held the keys of all of its options, None where the chosen one
    has none; a data set named the function that reads its images; and each paper had a module of its own.
    """
    new = {name: dict(value) if isinstance(value, Mapping) else value for name, value in plain.items()}
    _data(new.get("data"))
    _model(new.get("model"))
    if "sampler" in plain:
        return new
    for group in UNIONS:
        if isinstance(new.get(group), dict):
            new[group] = {key: value for key, value in new[group].items() if value is not None}
    if isinstance(new.get("data"), dict) and not new["data"].get("source", "").endswith(".huggingface"):
        new["data"] = {key: value for key, value in new["data"].items() if OF_HUB.get(key, key) != value}
    return new | {"sampler": {"name": "shuffled"}, "procedure": {"name": "fit"}}


def _data(data: Any) -> None:
    target = data.get("_target_") if isinstance(data, dict) else None
    if not isinstance(target, str):
        return
    for before, now in MOVED.items():
        if target.startswith(before):
            data |= {"_target_": f"{IMAGES}module.ImageData", "source": now + target.removeprefix(before)}


def _model(model: Any) -> None:
    """A module of its own that a paper no longer has: what its configuration names now."""
    target = model.get("_target_") if isinstance(model, dict) else None
    if not isinstance(target, str) or not target.startswith("paperzoo.papers."):
        return
    slug = target.split(".")[2]
    if (PACKAGE / "papers" / slug / "module.py").is_file():
        return
    file = CONF / "model" / f"{slug}.yaml"
    if file.is_file():
        content = yaml.safe_load(file.read_bytes())
        model["_target_"] = content.get("model", content).get("_target_", target)
