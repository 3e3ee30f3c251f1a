"""Networks of finished runs as members: ``model.members=[run:<id>, ...]``."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from paperzoo.config import build
from paperzoo.errors import UserError
from paperzoo.networks.ensemble import Ensemble
from paperzoo.tasks.classification import Classification

OWN = (
    "member",
    "member_network",
    "members",
    "network",
    "first",
    "voting",
    "diverged",
)  # options that say nothing of a network


def ensemble_of_runs(info: dict[str, Any], options: Mapping[str, Any]) -> Ensemble:
    """The networks of runs, which vote.

    Args:
        info: of the data.
        options: of the ensemble; what would change a member must be None. ``members`` have ``run``, their name, and
            ``groups``, the configuration that their module is made of.

    Raises:
        UserError: an option would change the members, or a run's module is no plain classifier.
    """
    other = next((name for name, value in options.items() if name not in OWN and value is not None), None)
    if other is not None:
        raise UserError(f"model.{other}={options[other]}: model.members names finished runs, which are what they are")
    makes = [partial(network_of, each, info) for each in options["members"]]
    return Ensemble(makes, voting=options.get("voting", "soft"))


def network_of(member: Mapping[str, Any], info: dict[str, Any]) -> nn.Module:
    """The network of one run, its weights drawn."""
    groups = member["groups"]
    module = build(groups["model"]["_target_"], **groups, info=info)
    if not isinstance(module, Classification) or type(module).forward is not Classification.forward:
        raise UserError(f"model.members={member['run']}: {groups['model']['name']} is no classifier of one network")
    if getattr(module.network, "learners", ()):  # they are as large as what they were fitted on
        raise UserError(f"model.members={member['run']}: a stack with learners of scikit-learn cannot be a member")
    return module.network
