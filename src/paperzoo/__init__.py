"""Paperzoo: deep-learning papers, reproduced.

Importing the package imports no torch: the verbs that only read (``--help``, configuration errors,
``zoo.py``) answer at once.
"""

__version__ = "0.1.0"
