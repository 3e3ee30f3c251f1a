"""The ensemble as one network."""

from typing import Any

from timm.models import register_model

from paperzoo.networks.ensemble import Ensemble, ensemble_of


@register_model
def boosting(pretrained: bool = False, voting: str = "samme", **options: Any) -> Ensemble:
    """Members of one architecture, each with a weight in the vote: the options of ``ensemble_of``."""
    return ensemble_of(voting=voting, **options)
