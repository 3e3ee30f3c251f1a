"""Paperzoo: deep-learning papers, reproduced.

Importing the package imports no torch: the verbs that only read (``--help``, configuration errors,
``zoo.py``) answer at once. The networks of all papers are in timm's registry after it
(``timm.create_model("scnet50")``), and ``paperzoo.load("runs/...")`` gives a run's network.
"""

from typing import TYPE_CHECKING, Any

from paperzoo.registry import register as _register

if TYPE_CHECKING:
    from paperzoo.inference.loading import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

_register()


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name == "load":
        from paperzoo.inference.loading import load

        return load
    raise AttributeError(f"module 'paperzoo' has no attribute {name!r}")
