"""Res2Net: A New Multi-scale Backbone Architecture (Gao et al., TPAMI)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.res2net.network import res2net50_v1b_26w_4s, res2net101_v1b_26w_4s, res2net_small
from paperzoo.papers.res2net.res2conv import Res2Conv, multi_scale

__all__ = [
    "Res2Conv",
    "load_official",
    "multi_scale",
    "res2net50_v1b_26w_4s",
    "res2net101_v1b_26w_4s",
    "res2net_small",
]
