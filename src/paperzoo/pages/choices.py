"""What goes with what: every pair of a model, norm, mix, loss, scheduler, optimizer and sampler, as they compose.

``python -m paperzoo.pages.choices`` writes it to ``docs/choices.md``. A pair goes together if some run with both
composes; what composes trains, which ``tests/test_choices.py`` shows by a covering array that has every pair. Nothing
is trained here, and no torch is imported.
"""

import itertools
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from paperzoo import cards
from paperzoo.config.loading import compose_only, validate
from paperzoo.config.messages import CONF
from paperzoo.config.schema import Config
from paperzoo.errors import UserError

GROUPS = ("norm", "mix", "loss", "scheduler", "optimizer", "sampler")
# Options without which a choice is none, and epochs enough for the milestones of any schedule.
GIVEN: Mapping[str, Mapping[str, Any]] = {"sampler=weighted": {"class_weights": [1.0] * 10}}
EPOCHS = 100
DATA = {  # embedded data of a task that a model does beside that of its default data
    "segmentation": "digit_maps",
    "sequence_classification": "sequential_mnist",
    "sequence_regression": "adding_problem",
}

HEAD = """# What goes with what

A model, a norm, a mix, a loss, a scheduler, an optimizer and a sampler are one word each, and any of these go together
but for what is listed here. Every pair of words that is not refused is in a run of two training steps in
`tests/test_choices.py`; a pair that is refused is refused before anything is loaded, by one line that gives the reason.
Written by `python -m paperzoo.pages.choices`.
"""


class Model(NamedTuple):
    """A model, and the data that it is tried on where that is not its default."""

    name: str
    data: str | None = None

    def __str__(self) -> str:
        return self.name if self.data is None else f"{self.name} (data={self.data})"

    @property
    def words(self) -> list[str]:
        """As overrides."""
        return [f"model={self.name}", *([f"data={self.data}"] if self.data else [])]


def words(group: str) -> list[str]:
    """The choices of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def models() -> list[Model]:
    """Every paper's model; one that does several tasks stands once for each that has embedded data."""
    found = []
    for name in words("model"):
        first = _base(Model(name)).data.get("task", "classification")
        others = [task for task in cards.load(name).tasks if task != first and task in DATA]
        found += [Model(name), *(Model(name, DATA[task]) for task in others)]
    return found


def refusal(model: Model, chosen: Mapping[str, str]) -> str | None:
    """The line that refuses a model with a word of some groups; None: they go together."""
    try:
        composed(model, chosen)
    except UserError as error:
        return str(error)
    return None


def composed(model: Model, chosen: Mapping[str, str]) -> Config:
    """A model with a word of some groups, as Hydra composes it at many times the cost.

    Raises:
        UserError: they do not go together.
    """
    config: Config = validate(_with(model, chosen), "train")
    return config


@lru_cache
def _base(model: Model) -> DictConfig:
    return compose_only("train", [*model.words, "trainer=cpu", f"trainer.max_epochs={EPOCHS}", "logger=none"])


@lru_cache
def _read(group: str, word: str) -> Any:
    return OmegaConf.load(CONF / group / f"{word}.yaml")


def _with(model: Model, chosen: Mapping[str, str]) -> DictConfig:
    """What a model's file sets of a group goes over the word."""
    own = _read("model", model.name)
    changed = {}
    for group, word in chosen.items():
        over = own.get(group, {}) if "model" in own else {}
        changed[group] = OmegaConf.merge(_read(group, word), over, dict(GIVEN.get(f"{group}={word}", {})))
    whole = deepcopy(_base(model))
    OmegaConf.set_struct(whole, False)
    for group, node in changed.items():
        whole[group] = node
    return whole


def pairs() -> Iterator[tuple[str, str, str, str]]:
    """Every two words of two groups, the model aside: group, word, group, word."""
    for one, other in itertools.combinations(GROUPS, 2):
        for a, b in itertools.product(words(one), words(other)):
            yield one, a, other, b


def refusal_of_pair(one: str, a: str, other: str, b: str) -> str | None:
    """The line that the first model which takes both words gives: None, or why no model does."""
    lines = []
    for model in _representatives():
        line = refusal(model, {one: a, other: b})
        if line is None:
            return None
        if refusal(model, {one: a}) is None:  # then the line is about the second word
            lines.append(line)
    return lines[0] if lines else "no model takes both"


@lru_cache
def _representatives() -> list[Model]:
    """One model of each task; the pairs of other choices do not depend on more."""
    found: dict[str, Model] = {}
    for model in models():
        if cards.load(model.name).normalises:
            found.setdefault(_base(model).data.get("task", "classification"), model)
    for model in models():
        found.setdefault(_base(model).data.get("task", "classification"), model)
    return list(found.values())


class Notes:
    """Reasons, numbered as they come: each stands once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, line: str) -> str:
        """The number of a line's reason: what follows the words that it names."""
        reason = line.partition(": ")[2] or line
        return f"[{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"

    def text(self) -> str:
        """All of them."""
        return "\n".join(f"{number}. {reason}" for reason, number in self.numbers.items())


def page() -> str:
    """The page in Markdown."""
    notes = Notes()
    rows: dict[tuple[str, ...], list[str]] = {}
    for model in models():
        rows.setdefault(tuple(_cell(model, group, notes) for group in GROUPS), []).append(str(model))
    parts = [HEAD, "## Words\n", *(f"- {group}: {', '.join(words(group))}" for group in GROUPS), "\n## Models\n"]
    parts += [f"| model | {' | '.join(GROUPS)} |", "|---|" + "---|" * len(GROUPS)]
    parts += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in rows.items()]
    refused = [(one, a, other, b, line) for one, a, other, b in pairs() if (line := refusal_of_pair(one, a, other, b))]
    parts += [
        "\n## Other pairs\n",
        f"Of the {sum(1 for _ in pairs())} pairs of two other words, all go together but:\n",
    ]
    parts += [f"- {one}={a} with {other}={b} {notes.mark(line)}" for one, a, other, b, line in refused] or ["- none"]
    return "\n".join([*parts, "\n## Reasons\n", notes.text(), ""])


def _cell(model: Model, group: str, notes: Notes) -> str:
    """The words of a group that a model takes: all, all but some, or only some; with the reasons of the others."""
    lines = {word: line for word in words(group) if (line := refusal(model, {group: word}))}
    if not lines:
        return "all"
    marks = dict.fromkeys(notes.mark(line) for line in lines.values())
    taken = [word for word in words(group) if word not in lines]
    shown = f"only {', '.join(taken)}" if len(taken) < len(lines) else f"all but {', '.join(lines)}"
    return f"{shown} {' '.join(marks)}"


def write(docs: Path) -> None:
    """Put the page into docs/."""
    (docs / "choices.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(cards.PAPERS.parents[2] / "docs")
