"""Published state dicts of detectors: their names turned into ours."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.networks.official import load_exactly, unwrap

Rules = Iterable[tuple[str, str]]

TRUNK: Rules = (  # mmdetection's trunk, pyramid and proposals; the layers of its trunk have timm's names
    (r"backbone\.", "backbone.body."),
    (r"neck\.lateral_convs\.(\d+)\.conv\.", r"pyramid.laterals.\1."),
    (r"neck\.fpn_convs\.(\d+)\.conv\.", r"pyramid.outputs.\1."),
    (r"rpn_head\.rpn_conv\.", "rpn_head.shared."),
    (r"rpn_head\.rpn_cls\.", "rpn_head.objectness."),
    (r"rpn_head\.rpn_reg\.", "rpn_head.deltas."),
)


def renamed(state_dict: Mapping[str, Any], rules: Rules) -> dict[str, Tensor]:
    """The tensors under our names: the first rule that fits the start of a name replaces it.

    Raises:
        UserError: two names become one, or what is given is no state dict.
    """
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    found: dict[str, Tensor] = {}
    for key, value in unwrap(state_dict).items():
        name = key
        for pattern, new in compiled:
            if pattern.match(key):
                name = pattern.sub(new, key, count=1)
                break
        if name in found:
            raise UserError(f"the weights name {name} twice, the second time as {key}")
        found[name] = value
    return found


def load_renamed(network: nn.Module, state_dict: Mapping[str, Any], rules: Rules) -> None:
    """Load a published state dict whose every key must be ours under ``rules`` (``networks.official``)."""
    load_exactly(network, renamed(state_dict, rules))
