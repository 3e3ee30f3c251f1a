"""The figures of a report: they draw, and compute nothing but the drawing."""

from paperzoo.reports.figures.drawing import Drawing, draw, write_figures
from paperzoo.reports.figures.style import best_first

__all__ = ["Drawing", "best_first", "draw", "write_figures"]
