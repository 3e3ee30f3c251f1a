"""All figures of a report as SVG, which follows the light or dark preference of the reader, and as PNG."""

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.figure import Figure

from paperzoo.cards import PAPERS
from paperzoo.reports import wording
from paperzoo.reports.figures.comparisons import draw_differences, draw_variants
from paperzoo.reports.figures.cost import draw_cost
from paperzoo.reports.figures.curves import draw_curves
from paperzoo.reports.figures.searches import draw_importance, draw_parallel
from paperzoo.reports.figures.style import DARK, RC, Sketch
from paperzoo.reports.model import Report


@dataclass(frozen=True)
class Drawing:
    """A figure, ready to be written."""

    name: str  # of its files
    title: str
    alt: str  # what it shows, in words
    svg: str
    png: bytes


def write_figures(report: Report, folder: Path, drawings: Sequence[Drawing] | None = None) -> list[Path]:
    """Write every figure of a report as ``<name>.svg`` and ``<name>.png``; the same report gives the same bytes.

    Args:
        report: what to draw.
        folder: is made where it is missing.
        drawings: of this report, where ``draw`` has been called already.

    Returns:
        The files, in the order of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for drawing in draw(report) if drawings is None else drawings:
        paths += [folder / f"{drawing.name}.svg", folder / f"{drawing.name}.png"]
        paths[-2].write_text(drawing.svg, encoding="utf-8")
        paths[-1].write_bytes(drawing.png)
    return paths


def draw(report: Report) -> list[Drawing]:
    """Every figure that the report has the figures for, in the order of the page."""
    defaults: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context(defaults | RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # a name in letters DejaVu lacks
        return [_render(sketch) for sketch in sketches(report)]


def sketches(report: Report) -> Iterator[Sketch]:
    """Every figure that the report has the numbers for, before it is rendered."""
    makers: tuple[Callable[[Report], Sketch | None], ...] = (
        (draw_variants, draw_differences, draw_curves, draw_cost)
        if report.method == "grid"
        else (draw_variants, draw_parallel, draw_importance, draw_curves, draw_cost)
    )
    yield from filter(None, (maker(report) for maker in makers))
    for name, figure in pictures_of_papers(report):
        title = figure.get_suptitle() or name
        yield Sketch(name, title, f"{title}: a picture of the paper's own", figure)


def pictures_of_papers(report: Report) -> Iterator[tuple[str, Figure]]:
    """What ``figures(report)`` of each ``papers/<paper>/report_pictures.py`` adds; {} where it has nothing to say.

    The file is loaded by its path: importing its paper would load torch, which no report needs.
    """
    for path in sorted(PAPERS.glob("*/report_pictures.py")):
        spec = importlib.util.spec_from_file_location(f"_pictures_of_{path.parent.name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield from module.figures(report).items()


def _render(sketch: Sketch) -> Drawing:
    title, alt = wording.printable(sketch.title), wording.printable(sketch.alt)
    picture, text = io.BytesIO(), io.StringIO()
    sketch.figure.savefig(picture, format="png", dpi=144, metadata={"Software": None})
    sketch.figure.set_layout_engine("none")  # it stays as it was laid out
    with matplotlib.rc_context({"svg.hashsalt": sketch.name}):  # the same ids each time, and others in each figure
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        sketch.figure.savefig(text, format="svg", metadata=nothing)
    return Drawing(sketch.name, title, alt, _adaptive(text.getvalue(), f"{title}. {alt}"), picture.getvalue())


def _adaptive(svg: str, label: str) -> str:
    """Matplotlib's SVG without what only other programs read, named, and with colours for the dark."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    return svg.replace(">", f' role="img" aria-label={quoteattr(label)}><style>{dark_colours()}</style>', 1)


def dark_colours() -> str:
    """CSS that turns a figure's ink and paper around where the reader prefers dark."""
    rules = "".join(
        f'svg [style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    return f"@media screen and (prefers-color-scheme:dark){{{rules}}}"
