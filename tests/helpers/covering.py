"""A covering array: few runs in which every pair of words that goes together is.

What goes together is read from docs/choices.md, so that nothing is composed for that.
"""

import itertools
import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml
from contract import row
from omegaconf import DictConfig, OmegaConf

from paperzoo.config.loading import compose_only, validate
from paperzoo.config.schema import Config
from paperzoo.pages import choices
from paperzoo.pages.choices import GROUPS, Model
from paperzoo.places import CONF

PAGE = Path(__file__).resolve().parents[2] / "docs" / "choices.md"
RUN = ["trainer=cpu", "trainer.max_epochs=8", "trainer.max_steps=2", "logger=none", "procedure=fit"]
SMALL = {  # data beside a model's default
    "digit_maps": ["data.limit_train=32", "data.batch_size=16", "data.validation=50", "data.test=50"],
    "sequential_mnist": ["data.limit_train=64", "data.batch_size=16", "data.size=7"],
    "adding_problem": ["data.train=64", "data.batch_size=16", "data.length=10"],
}
TINY = {  # what a word needs where the data is tiny
    "sampler=weighted": ["sampler.class_weights=[1,1,1,1,1,1,1,1,1,1,1,1]"],
    "sampler=long_tailed": ["sampler.ratio=0.5"],
    "sampler=pk": ["sampler.k=4"],
}


class Run(NamedTuple):
    """A model with a word of each group."""

    model: Model
    chosen: dict[str, str]

    def words(self) -> list[str]:
        """As overrides, in small."""
        return [*small(self.model), *(f"{group}={word}" for group, word in self.chosen.items()), *self.needs]

    @property
    def needs(self) -> list[str]:
        """Overrides without which a word is none."""
        return [need for group, word in self.chosen.items() for need in TINY.get(f"{group}={word}", [])]

    def config(self) -> Config:
        """What Hydra composes of the words, at a fraction of the cost: a model is composed once for all of its runs."""
        whole = deepcopy(base(self.model))
        OmegaConf.set_struct(whole, False)
        own = OmegaConf.load(CONF / "model" / f"{self.model.name}.yaml")
        for group, word in self.chosen.items():
            over = own.get(group, {}) if "model" in own else {}
            whole[group] = OmegaConf.merge(OmegaConf.load(CONF / group / f"{word}.yaml"), over)
        for key, _, value in (need.partition("=") for need in self.needs):
            OmegaConf.update(whole, key, yaml.safe_load(value))
        config: Config = validate(whole, "train")
        return config


def small(model: Model) -> list[str]:
    """A model in small, as overrides."""
    of = row(model.name)
    own = [word for word in of.small if word.partition(".")[0] in ("model", "trainer")]
    own = [word for word in own if not (model.data and word.startswith("model.embedding"))]
    return [*model.words, *RUN, *(SMALL[model.data] if model.data else of.data), *own]


@lru_cache
def base(model: Model) -> DictConfig:
    """A model in small, with the words that are its defaults."""
    return compose_only("train", small(model))


def words_on_page() -> dict[str, list[str]]:
    """The words of each group, as the page lists them."""
    found = re.findall(r"^- (\w+): (.*)$", PAGE.read_text().partition("## Models")[0], flags=re.MULTILINE)
    return {group: listed.split(", ") for group, listed in found}


def allowed() -> dict[Model, dict[str, list[str]]]:
    """The words of each group that a model takes, as the page says."""
    every, found = words_on_page(), {}
    table = PAGE.read_text().partition("## Models")[2].partition("## Other pairs")[0]
    for line in table.splitlines():
        if not line.startswith("|") or line.startswith(("| model |", "|---")):
            continue
        names, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        taken = {group: _taken(cell, every[group]) for group, cell in zip(GROUPS, cells, strict=True)}
        for name, data in re.findall(r"(\w+)(?: \(data=(\w+)\))?(?:, |$)", names):
            found[Model(name, data or None)] = taken
    return found


def _taken(cell: str, every: list[str]) -> list[str]:
    listed = re.sub(r"( \[\d+\])+$", "", cell)
    if listed == "all":
        return every
    kind, names = re.fullmatch(r"(only|all but) (.*)", listed).groups()
    named = names.split(", ")
    return named if kind == "only" else [word for word in every if word not in named]


def refused_pairs() -> set[frozenset[tuple[str, str]]]:
    """Pairs of words that no model takes together, as the page says."""
    lines = re.findall(
        r"^- (\w+)=(\w+) with (\w+)=(\w+) ", PAGE.read_text().partition("## Other")[2], flags=re.MULTILINE
    )
    return {frozenset([(one, a), (other, b)]) for one, a, other, b in lines}


def array(taken: dict[Model, dict[str, list[str]]]) -> list[Run]:
    """Runs for each model until all of its words were in one, and then for the pairs that are in none yet."""
    seen: set[frozenset[tuple[str, str]]] = set()
    runs = []

    def add(model: Model, left: dict[str, set[str]], begun: dict[str, str]) -> None:
        """A run with the words that have the most new pairs, of those that are left where there are any."""
        chosen = dict(begun)
        for group in sorted(taken[model].keys() - begun.keys(), key=lambda group: (-len(left[group]), group)):
            words = sorted(left[group] or taken[model][group])
            chosen[group] = max(words, key=lambda word: _new(chosen, group, word, seen))
            left[group].discard(chosen[group])
        seen.update(pairs_of(chosen))
        runs.append(Run(model, {group: chosen[group] for group in GROUPS}))

    for model, of in taken.items():
        left = {group: set(words) for group, words in of.items()}
        while any(left.values()):
            add(model, left, {})
    for pair in sorted(map(sorted, every_pair() - refused_pairs())):
        able = (model for model, of in taken.items() if all(word in of[group] for group, word in pair))
        if frozenset(pair) not in seen and (model := next(able, None)):
            add(model, {group: set() for group in GROUPS}, dict(pair))
    return runs


def _new(chosen: dict[str, str], group: str, word: str, seen: set[frozenset[tuple[str, str]]]) -> int:
    return sum(frozenset([(group, word), other]) not in seen for other in chosen.items())


def pairs_of(chosen: dict[str, str]) -> set[frozenset[tuple[str, str]]]:
    """The pairs of words in a run."""
    return {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}


def every_pair() -> set[frozenset[tuple[str, str]]]:
    """All pairs of words, the model aside."""
    return {frozenset([(one, a), (other, b)]) for one, a, other, b in choices.pairs()}
