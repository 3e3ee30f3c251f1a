"""The ensemble as one network."""

from typing import Any

from timm.models import register_model

from paperzoo.networks.ensemble import Ensemble, ensemble_of


@register_model
def bagging(pretrained: bool = False, **options: Any) -> Ensemble:
    """Members of one architecture that vote alike: the options of ``ensemble_of``."""
    return ensemble_of(**options)
