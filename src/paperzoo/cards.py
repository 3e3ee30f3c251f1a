"""A paper's card: what it claims, what was measured, what deviates, and which options its module takes."""

from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paperzoo.errors import UserError

PAPERS = Path(__file__).resolve().parent / "papers"
TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
Verdict = Literal["reproduced", "direction holds (scaled down)", "not supported (scaled down)", "failed", "not attempted"]
Kind = Literal["backbone", "normalisation", "recipe", "loss", "detector", "segmentation", "ensemble", "search", "compression"]


class Part(BaseModel):
    """A part of a card: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Part):
    """A variant, by its name in timm's registry, with its counts and the paper's figure."""

    name: str
    parameters: int = Field(ge=1)
    macs: float = Field(gt=0)  # of Conv and Linear layers, one multiply-add is one
    input_size: tuple[int, int, int]  # (C, H, W)
    reported: str | None = None  # the paper's or the official README's figure, with its unit
    source: str | None = None  # where that figure stands


class Option(Part):
    """An option of the module: a flag is a row of the paper's ablation tables."""

    name: str
    type: Literal["int", "float", "bool", "str"]
    values: list[Any] | None = None
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False
    only_for: str | None = None  # the networks that take it, a glob
    what: str
    source: str | None = None

    def demand(self, value: Any) -> str | None:
        """What a value would have to be, or None if it is."""
        if value is None:
            return None if self.nullable else self._phrase()
        kind = TYPES[self.type]
        right = type(value) is kind or (kind is float and type(value) is int)
        if not right or (self.values is not None and value not in self.values):
            return self._phrase()
        low = self.minimum is not None and value < self.minimum
        high = self.maximum is not None and value > self.maximum
        return self._phrase() if low or high else None

    def _phrase(self) -> str:
        if self.values is not None:
            return f"one of {', '.join(map(str, self.values))}"
        words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}[self.type]
        bounds = [f"at least {self.minimum:g}"] if self.minimum is not None else []
        bounds += [f"at most {self.maximum:g}"] if self.maximum is not None else []
        return " ".join([words, " and ".join(bounds)]).strip() + (" or null" if self.nullable else "")

    def applies_to(self, network: str) -> bool:
        """Whether a network takes this option."""
        return self.only_for is None or fnmatch(network, self.only_for)


class Claim(Part):
    """A statement of the paper that a pair of overrides tests."""

    id: str
    statement: str
    table: str
    metric: str
    baseline: str | None = None  # reported
    result: str | None = None  # reported
    baseline_overrides: str
    overrides: str


class Deviation(Part):
    """Where this implementation or its default experiment leaves the paper."""

    what: str
    why: str
    undo: str | None = None  # the override that undoes it


class Measured(Part):
    """What a report measured."""

    claim: str
    runs: list[str]
    n: int = Field(ge=1)
    mean: float
    interval: tuple[float, float]
    scale: str
    verdict: Verdict


class Card(Part):
    """All of a card."""

    slug: str
    title: str
    authors: list[str]
    venue: str
    year: int
    arxiv: str | None
    kinds: list[Kind] = Field(min_length=1)
    adds: str
    networks: list[Network] = Field(min_length=1)
    options: list[Option] = []
    claims: list[Claim] = Field(min_length=1)
    deviations: list[Deviation] = []
    measured: list[Measured] = []

    @property
    def status(self) -> str:
        """The verdicts that reports reached, or that none was."""
        return ", ".join(dict.fromkeys(entry.verdict for entry in self.measured)) or "not attempted"

    def network(self, name: str) -> Network | None:
        """The variant with a name."""
        return next((network for network in self.networks if network.name == name), None)


def slugs() -> list[str]:
    """The papers there are."""
    return sorted(path.parent.name for path in PAPERS.glob("*/card.yaml"))


@lru_cache
def load(slug: str) -> Card:
    """A paper's card.

    Raises:
        UserError: there is none, or it has a mistake; the line names the file and the field.
    """
    path = PAPERS / slug / "card.yaml"
    try:
        content = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        card = Card.model_validate(content)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such card; papers: {', '.join(slugs())}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if card.slug != slug:
        raise UserError(f"{path}: slug is {card.slug}, its folder is {slug}")
    return card
