"""``paperzoo.config.compose``, each command line once in a process: composing takes longer than a small training.

A configuration cannot be changed, so that tests may share one. For tests of what is composed, it is not.
"""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from paperzoo import config

READ = ("DATA_DIR", "RUNS_DIR", "PICTURES")  # what conf/ reads of the environment
PLACE = "paths.runs_dir="  # another one for each test


def compose(config_name: str, overrides: Sequence[str]) -> Any:
    """What ``paperzoo.config.compose`` gives."""
    words = tuple(word for word in overrides if not word.startswith(PLACE))
    made = _composed(config_name, words, tuple(os.environ.get(name) for name in READ))
    places = [word.removeprefix(PLACE) for word in overrides if word.startswith(PLACE)]
    if not places:
        return made
    return made.model_copy(update={"paths": made.paths.model_copy(update={"runs_dir": places[-1]})})


@cache
def _composed(config_name: str, words: tuple[str, ...], _: tuple[str | None, ...]) -> Any:
    return config.compose(config_name, words)
