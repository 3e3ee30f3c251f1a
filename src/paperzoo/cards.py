"""A paper's card: what it claims, what was measured, what deviates, and which options its module takes.

Importing this imports no torch: the zoo and configuration errors answer at once.
"""

import difflib
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paperzoo.errors import UserError

PAPERS = Path(__file__).resolve().parent / "papers"
REPORTS = PAPERS.parents[2] / "reports"  # the published ones, which fill ``measured``
TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "list": list}
# What a report found about a claim, best first. ``not supported`` and ``failed`` need evidence of absence: an interval
# that excludes the smallest effect worth finding. ``undecided`` is everything that the seeds could not decide; without
# "(scaled down)" it is about the paper's own experiment, as ``reproduced`` and ``failed`` are.
Says = Literal["better", "not_worse", "not_better", "other"]
Verdict = Literal[
    "reproduced",
    "direction holds (scaled down)",
    "undecided",
    "undecided (scaled down)",
    "not supported (scaled down)",
    "failed",
    "not attempted",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Kind = Literal[
    "backbone", "norm", "recipe", "loss", "detector", "segmentation", "ensemble", "search", "compression",
    "sequence", "retrieval",
]  # fmt: skip


Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class CardPart(BaseModel):
    """A part of a card: unknown keys are refused, and no type is taken for another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Network(CardPart):
    """A variant, by its name in timm's registry, with its counts at a resolution and the published figure."""

    name: Text
    parameters: Positive
    macs: Positive  # of convolutions and matrix products, one multiply-add is one
    input_size: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]  # (C, H, W) of both counts, or (T,)
    num_classes: Positive = 1000  # likewise
    reported: Text | None = None  # the paper's or the official README's figure, with its unit
    source: Text | None = None  # where that figure stands

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        return _demand(
            self, (self.reported is None) == (self.source is None), "reported and source stand together or not at all"
        )


class Option(CardPart):
    """An option of the module: a flag is a row of the paper's ablation tables."""

    name: str
    of: str = "model"  # the config group that it belongs to: model, or norm, loss, mix, ... where the paper offers one
    type: Literal["int", "float", "bool", "str", "list"]
    values: Annotated[tuple[Any, ...], Field(strict=False)] | None = None  # hashable, as the whole option is
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    length: int | None = None  # of a list
    paper: bool = False  # its value is a paper's slug, or a list of slugs, whose code the module then uses
    runs: bool = False  # its value may also be a list of finished runs, run:<id> (paperzoo.runs.members)
    nullable: bool = False
    only_for: str | None = None  # the networks that take it, a glob
    what: str
    source: str | None = None

    def demand(self, value: Any) -> str | None:
        """What a value would have to be, or None if it is."""
        if value is None:
            return None if self.nullable else self.allowed()
        if self.runs and isinstance(value, list):
            return None if value and all(_is_run(each) for each in value) else self.allowed()
        kind = TYPES[self.type]
        right = type(value) is kind or (kind is float and type(value) is int)
        if not right or (self.values is not None and value not in self.values):
            return self.allowed()
        if kind is list:
            return None
        low = (self.minimum is not None and value < self.minimum) or (self.above is not None and value <= self.above)
        high = (self.maximum is not None and value > self.maximum) or (self.below is not None and value >= self.below)
        return self.allowed() if low or high else None

    def allowed(self) -> str:
        """The allowed values in words."""
        null = " or null" if self.nullable else ""
        null = f", or a list of finished runs, [run:<id>, ...]{null}" if self.runs else null
        if self.values is not None:
            return f"one of {', '.join(map(str, self.values))}{null}"
        words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}.get(
            self.type, "a list"
        )
        bounds = [f"at least {self.minimum:g}"] if self.minimum is not None else []
        bounds += [f"at most {self.maximum:g}"] if self.maximum is not None else []
        bounds += [f"above {self.above:g}"] if self.above is not None else []
        bounds += [f"below {self.below:g}"] if self.below is not None else []
        return " ".join([words, " and ".join(bounds)]).strip() + null

    def applies_to(self, network: str) -> bool:
        """Whether a network takes this option."""
        return self.only_for is None or fnmatch(network, self.only_for)


def _is_run(value: Any) -> bool:
    """``run:<id>``, or what became of it in a record."""
    return str(value.get("run") if isinstance(value, dict) else value).startswith("run:")


class Part(CardPart):
    """What a loss, sampler, mix, norm or schedule that a paper offers needs of the rest of a run."""

    of: Text  # the config group
    name: Text  # the class or function
    tasks: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = None  # of the data; null: any
    labels: bool = False  # needs one class for each training sample
    why: Text | None = None  # of the tasks, after "it"

    @model_validator(mode="after")
    def _explained(self) -> Self:
        return _demand(self, (self.tasks is None) == (self.why is None), "tasks and why stand together or not at all")


class Pair(CardPart):
    """Two experiments that differ in the claim: ``python src/train.py`` with the one and with the other."""

    baseline: Text
    result: Text


class Claim(CardPart):
    """A statement of the paper that a pair of experiments tests."""

    id: Text
    statement: Text
    says: Says = "better"  # what it says of the result beside the baseline; of "other" a difference is no test
    table: Text  # where the figures stand
    metric: Text
    baseline: Text | None = None  # reported
    result: Text | None = None  # reported
    test: Pair | None = None  # at the paper's scale
    scaled_test: Pair | None = None  # on the embedded data, in minutes
    needs: Text | None = None  # what is not here yet and a test would need

    @model_validator(mode="after")
    def _testable(self) -> Self:
        return _demand(
            self, (self.test is None) == (self.needs is not None), "a claim has a test, or says what one needs"
        )


class Deviation(CardPart):
    """Where this implementation or its default experiment leaves the paper."""

    what: Text
    why: Text
    undo: Text | None = None  # the override that undoes it


class PublishedInput(CardPart):
    """How the weights that the authors published want their images, where it is not ImageNet's usual way."""

    networks: Text  # of them, with * and ?
    channels: Literal["rgb", "bgr"]
    white: Annotated[float, Field(gt=0)]  # what a pixel of full brightness is; black is 0, nothing is subtracted
    source: Text


class Measured(CardPart):
    """What a report measured."""

    claim: Text
    report: Text  # its folder in reports/
    what: Text  # scnet less resnet, points of test/top1
    runs: Annotated[list[Text], Field(min_length=1)]
    n: Positive
    mean: float
    interval: Annotated[tuple[float, float], Field(strict=False)]  # adjusted over the report's variants
    worth: Annotated[float, Field(gt=0)] | None = None  # the smallest effect worth finding, as the report states it
    scale: Text
    verdict: Verdict

    @model_validator(mode="after")
    def _around_the_mean(self) -> Self:
        low, high = self.interval
        return _demand(self, low <= self.mean <= high, "the interval must hold the mean")

    @property
    def strength(self) -> tuple[bool, int, float]:
        """How much a measurement weighs: the paper's own scale first, then the number of pairs, then the interval."""
        low, high = self.interval
        return "(scaled down)" not in self.verdict, self.n, low - high


class Card(CardPart):
    """All of a card."""

    slug: Text
    title: Text
    authors: Annotated[list[Text], Field(min_length=1)]
    venue: Text
    year: Annotated[int, Field(ge=1950, le=2100)]
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")] | None
    kinds: Annotated[list[Kind], Field(min_length=1)]
    adds: Text  # in two sentences
    statistics: Literal["batch", "sample", "ranks"] = "batch"  # what its normalisation averages over
    builds_on: list[Text] = []  # slugs of the papers whose code its own imports
    tasks: Annotated[list[Text], Field(min_length=1)] = ["classification"]  # what its module can be trained on
    normalises: bool = True  # whether its networks have normalisation layers, which norm= replaces
    parts: list[Part] = []  # what it offers that does not go with every run
    networks: list[Network] = []  # a loss or a recipe has none of its own
    published_input: PublishedInput | None = None  # None: as the network's timm configuration says
    options: list[Option] = []
    claims: Annotated[list[Claim], Field(min_length=1)]
    deviations: list[Deviation] = []
    measured: list[Measured] = []
    pages: list[Text] = []  # modules of its folder whose show() prints a page: python src/zoo.py page=<name>

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        entries: tuple[tuple[str, list[tuple[Any, ...]]], ...] = (
            ("networks", [(network.name, network.input_size) for network in self.networks]),
            ("options", [(option.of, option.name) for option in self.options]),
            ("claims", [(claim.id,) for claim in self.claims]),
        )
        for what, keys in entries:
            twice = sorted({str(key[-1] if what == "options" else key[0]) for key in keys if keys.count(key) > 1})
            _demand(self, not twice, f"{what}: {', '.join(twice)} stands twice")
        claims = {claim.id for claim in self.claims}
        for entry in self.measured:
            _demand(self, entry.claim in claims, f"measured: there is no claim {entry.claim}")
        for option in self.options:
            _demand(
                self,
                option.of != "model" or any(map(option.applies_to, self.known())),
                f"options: {option.name} is for no network of the card",
            )
        return self

    def options_of(self, group: str, target: str) -> list[Option]:
        """The options of the paper's class or function ``target`` as a choice of a config group."""
        return [option for option in self.options if option.of == group and option.applies_to(target)]

    def part(self, group: str, target: str) -> Part | None:
        """What the paper's class or function ``target`` needs as a choice of a config group, where it says so."""
        return next((part for part in self.parts if (part.of, part.name) == (group, target)), None)

    def known(self) -> list[str]:
        """The names of the networks; one that is counted at several resolutions stands once."""
        return list(dict.fromkeys(network.name for network in self.networks))

    def verdicts(self, claim: str) -> list[Measured]:
        """What was measured of a claim, the strongest report first."""
        entries = [entry for entry in self.measured if entry.claim == claim]
        return sorted(entries, key=lambda entry: entry.strength, reverse=True)

    def status_of(self, claim: str) -> Verdict:
        """The one status of a claim: the verdict of the strongest report."""
        entries = self.verdicts(claim)
        return entries[0].verdict if entries else "not attempted"

    @property
    def statuses(self) -> dict[Verdict, int]:
        """How many claims have which status, the best first."""
        found = [self.status_of(claim.id) for claim in self.claims]
        return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}

    @property
    def status(self) -> str:
        """The statuses of all claims in words: ``1 direction holds (scaled down), 2 not attempted``."""
        counts = self.statuses
        return next(iter(counts)) if len(self.claims) == 1 else ", ".join(f"{n} {word}" for word, n in counts.items())

    def network(self, name: str) -> Network | None:
        """The first entry of a name."""
        return next((network for network in self.networks if network.name == name), None)


def _demand(part: Any, holds: bool, what: str) -> Any:
    if not holds:
        raise ValueError(what)
    return part


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
    if slug not in slugs():
        nearest = difflib.get_close_matches(slug, slugs(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UserError(f"{slug}: there is no such paper; papers: {', '.join(slugs())}{hint}")
    try:
        content = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        card = Card.model_validate(content)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "card"
        raise UserError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    if card.slug != slug:
        raise UserError(f"{path}: slug: {card.slug}, but its folder is {slug}")
    return card
