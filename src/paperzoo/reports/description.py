"""``reports/<name>/report.yaml``: what its author says about a report, all of it optional."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paperzoo import cards, yamls
from paperzoo.config.messages import nearest
from paperzoo.errors import UserError

FILE = "report.yaml"
Text = Annotated[str, Field(min_length=1)]


class DescriptionPart(BaseModel):
    """Unknown keys are refused, and no type is taken for another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClaimPair(DescriptionPart):
    """A paper's claim, and the two variants that test it."""

    paper: Text  # slug
    claim: Text  # id in its card
    baseline: Text
    result: Text


class Description(DescriptionPart):
    """The file, whole."""

    title: Text | None = None  # the sweep's description, or its name
    question: Text | None = None
    baseline: Text | Literal[False] | None = None  # the first variant; false: nothing is compared, as in a check
    # The smallest effect worth finding, in the unit of the metric's differences, stated before the runs are seen. Left
    # out: 0.5 points of a metric that is shown in %, 1 % of the baseline's mean of any other.
    worth: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    claims: list[ClaimPair] = []
    scale: list[Text] = []  # what this scale can and cannot show


def read(path: Path) -> Description:
    """The description in a file; an empty one where there is no file.

    Raises:
        UserError: it is no YAML, has an unknown key, or names a paper or a claim that there is not.
    """
    try:
        plain = yamls.read(path) or {}
        description = Description.model_validate(plain)
    except FileNotFoundError:
        return Description()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason})") from None
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None
    for tested in description.claims:
        known = {claim.id: claim for claim in cards.load(tested.paper).claims}
        if tested.claim not in known:
            raise UserError(f"{path}: claims: {tested.paper} has no claim {tested.claim}, it has {', '.join(known)}")
        if known[tested.claim].says == "other":
            raise UserError(
                f"{path}: claims: {tested.paper} {tested.claim} does not say that the result is better, not worse "
                f"or not better ({known[tested.claim].statement}), and nothing else is judged by a difference"
            )
    return description


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "report"
    if first["type"] != "extra_forbidden":
        return f"{place}: {first['msg']}"
    known = list((ClaimPair if first["loc"][0] == "claims" else Description).model_fields)
    return f"{place}: there is no such key, there are {', '.join(known)}{nearest(str(first['loc'][-1]), known)}"
