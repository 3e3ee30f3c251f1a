"""A sweep file in W&B's own format, read and checked: one file for ``wandb sweep`` and for ``src/sweep.py``."""

import difflib
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paperzoo import yamls
from paperzoo.errors import UserError

DEFAULT_COMMAND = ["${env}", "${interpreter}", "${program}", "${args}"]  # W&B's, which Hydra cannot read
SEED = "seed"
Cell = dict[str, Any]  # one run's parameters: dotted configuration keys and values, in the file's order
Distribution = Literal[
    "constant",
    "categorical",
    "int_uniform",
    "uniform",
    "q_uniform",
    "log_uniform",
    "log_uniform_values",
    "q_log_uniform",
    "q_log_uniform_values",
    "inv_log_uniform",
    "inv_log_uniform_values",
    "normal",
    "q_normal",
    "log_normal",
    "q_log_normal",
]


class SweepPart(BaseModel):
    """A part of the file: an unknown key is a mistake, which W&B would silently ignore; the text 1e-3 is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Parameter(SweepPart):
    """What a parameter may be: one ``value``, some ``values``, or a distribution over numbers."""

    value: Any = None
    values: Annotated[list[Any], Field(min_length=1)] | None = None
    probabilities: list[Annotated[float, Field(ge=0)]] | None = None
    distribution: Distribution | None = None
    min: float | int | None = None
    max: float | int | None = None
    mu: float = 0.0
    sigma: Annotated[float, Field(gt=0)] = 1.0
    q: Annotated[float | int, Field(gt=0)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = self.model_fields_set
        kinds = [kind for kind in ("value", "values", "min", "mu") if kind in given]
        if len(kinds) > 1 or not (kinds or "max" in given or self.distribution):
            raise ValueError("needs exactly one of value, values, min with max, or a distribution")
        if self.kind == "constant":
            if "value" not in given:
                raise ValueError("distribution constant needs value")
        elif self.kind == "categorical":
            if not self.values:
                raise ValueError("distribution categorical needs values")
        elif not self.kind.endswith("normal"):
            self._check_range()
        self._check_probabilities()
        self._check_unused(given - {"distribution"})
        return self

    def _check_unused(self, given: set[str]) -> None:
        """What a distribution does not take, W&B refuses."""
        ends = {"mu", "sigma"} if self.kind.endswith("normal") else {"min", "max"}
        used = {"constant": {"value"}, "categorical": {"values", "probabilities"}}.get(self.kind, ends)
        unused = given - used - ({"q"} if self.kind.startswith("q_") else set())
        if unused:
            raise ValueError(f"distribution {self.kind} takes no {min(unused)}")

    def _check_range(self) -> None:
        if self.min is None or self.max is None or not self.min < self.max:
            raise ValueError(f"distribution {self.kind} needs min below max, got {self.min} and {self.max}")
        if self.kind == "int_uniform" and not (isinstance(self.min, int) and isinstance(self.max, int)):
            raise ValueError("distribution int_uniform needs whole numbers as min and max")
        if self.kind.endswith("_values") and self.min <= 0:
            raise ValueError(f"distribution {self.kind} needs min above 0, got {self.min}")

    def _check_probabilities(self) -> None:
        if self.probabilities is None:
            return
        if len(self.probabilities) != len(self.values or []):
            raise ValueError(f"{len(self.probabilities)} probabilities for {len(self.values or [])} values")
        if not math.isclose(sum(self.probabilities), 1):
            raise ValueError(f"probabilities must sum to 1, got {sum(self.probabilities):g}")

    @property
    def kind(self) -> Distribution:
        """The distribution, as W&B infers it where none is named."""
        if self.distribution:
            return self.distribution
        if self.values is not None:
            return "categorical"
        if self.min is None and self.max is None:
            return "normal" if "mu" in self.model_fields_set else "constant"
        whole = isinstance(self.min, int) and isinstance(self.max, int)
        return "int_uniform" if whole else "uniform"

    @property
    def choices(self) -> list[Any] | None:
        """The values, one or some; None for numbers from a distribution."""
        if self.kind == "constant":
            return [self.value]
        return self.values


class Metric(SweepPart):
    """What is looked at."""

    name: str
    goal: Literal["minimize", "maximize"] = "minimize"
    target: float | None = None


class EarlyTerminate(SweepPart):
    """Hyperband: at each bracket the worse runs stop."""

    type: Literal["hyperband"]
    min_iter: Annotated[int, Field(ge=1)] | None = None
    max_iter: Annotated[int, Field(ge=1)] | None = None
    s: Annotated[int, Field(ge=1)] | None = None
    eta: Annotated[float, Field(gt=1)] = 3
    strict: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.min_iter is None) == (self.max_iter is None or self.s is None):
            raise ValueError("hyperband needs min_iter, or max_iter with s")
        if self.max_iter is not None and self.first_bracket > self.max_iter:
            raise ValueError(f"hyperband needs min_iter of at most max_iter, got {self.min_iter} and {self.max_iter}")
        return self

    @property
    def first_bracket(self) -> int:
        """Epochs before a run can be stopped."""
        if self.min_iter is not None:
            return self.min_iter
        assert self.max_iter is not None
        assert self.s is not None
        return max(1, int(self.max_iter / self.eta**self.s))


class Sweep(SweepPart):
    """The file, whole."""

    program: str
    method: Literal["grid", "random", "bayes"]
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    metric: Metric | None = None
    name: str = ""
    description: str = ""
    project: str | None = None
    entity: str | None = None
    command: Sequence[str | int | float] = DEFAULT_COMMAND
    early_terminate: EarlyTerminate | None = None
    run_cap: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "grid":
            free = [key for key, parameter in self.parameters.items() if parameter.choices is None]
            if free:
                raise ValueError(f"parameters.{free[0]}: method grid needs value or values, not a distribution")
        if self.method == "bayes" and self.metric is None:
            raise ValueError("method bayes needs metric: {name: ..., goal: ...}")
        if self.early_terminate and self.metric is None:
            raise ValueError("early_terminate needs metric: {name: ..., goal: ...}")
        return self

    def cells(self) -> list[Cell]:
        """All combinations of a grid, the last parameter fastest; at most ``run_cap``."""
        choices = [parameter.choices or [] for parameter in self.parameters.values()]
        combinations = itertools.islice(itertools.product(*choices), self.run_cap)
        return [dict(zip(self.parameters, values, strict=True)) for values in combinations]

    @property
    def varying(self) -> list[str]:
        """The parameters that differ between runs, the seed aside."""
        return [key for key, parameter in self.parameters.items() if _varies(parameter) and key != SEED]

    def variant(self, cell: Cell) -> Cell:
        """What tells the run's variant from the others: its varying parameters without the seed."""
        return {key: cell[key] for key in self.varying}


def _varies(parameter: Parameter) -> bool:
    return parameter.choices is None or len(parameter.choices) > 1


def read(path: str | Path) -> Sweep:
    """The sweep of a file.

    Raises:
        UserError: it is not there, or not a sweep, in one line.
    """
    path = Path(path)
    try:
        plain = yamls.read(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); sweeps are in sweeps/{_there_are()}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path}: a sweep has keys such as program, method and parameters, this file has none")
    try:
        sweep = Sweep.model_validate(plain)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None
    sweep.name = sweep.name or path.stem
    return sweep


def _there_are() -> str:
    names = sorted(path.name for path in Path("sweeps").glob("*.yaml"))
    return f": {', '.join(names)}" if names else ""


def _explain(error: ValidationError) -> str:
    """The first mistake: where, what is allowed, the nearest."""
    first = error.errors()[0]
    if "[key]" in first["loc"]:  # on, 3 or null without quotes
        return f"{'.'.join(map(str, first['loc'][:-2]))}: the key {first['input']!r} is no text; write it in quotes"
    *parents, last = ("", *(str(part) for part in first["loc"] if part not in ("int", "float", "str")))
    place = ".".join(part for part in (*parents, last) if part)
    if first["type"] == "extra_forbidden":
        if parents[1:2] == ["parameters"] and last == "parameters":
            return f"{place}: nested parameters do not reach Hydra; write dotted keys, such as optimizer.lr"
        models: dict[str, type[SweepPart]] = {
            "parameters": Parameter,
            "metric": Metric,
            "early_terminate": EarlyTerminate,
        }
        model = models.get(parents[1] if len(parents) > 1 else "", Sweep)
        near = difflib.get_close_matches(last, model.model_fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{place}: there is no such key, there are {', '.join(model.model_fields)}{hint}"
    if first["type"] == "missing":
        return f"{place}: is missing"
    given = f", got {first['input']!r}" if first["type"] not in ("value_error", "model_type") else ""
    return f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}{given}"
