"""Learning Transferable Architectures for Scalable Image Recognition (Zoph et al., CVPR 2018)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.nasnet.cell import NORMAL, REDUCTION, Cell, Genotype
from paperzoo.papers.nasnet.drop_path import ScheduledDropPath
from paperzoo.papers.nasnet.network import (
    NASNetA,
    nasnet_a_6_768,
    nasnet_a_7_2304,
    nasnet_a_large,
    nasnet_a_mobile,
    nasnet_small,
)

__all__ = [
    "NORMAL",
    "REDUCTION",
    "Cell",
    "Genotype",
    "NASNetA",
    "ScheduledDropPath",
    "load_official",
    "nasnet_a_6_768",
    "nasnet_a_7_2304",
    "nasnet_a_large",
    "nasnet_a_mobile",
    "nasnet_small",
]
