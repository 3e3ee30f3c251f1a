"""``publish=wandb``: the report as a W&B Report, beside panels of its runs that one can play with.

``wandb-workspaces`` is in public preview, so it is optional: ``pip install 'paperzoo[publish]'``.
"""

from typing import Any

from paperzoo.errors import UserError, first_line
from paperzoo.reports import markdown
from paperzoo.reports.model import Report
from paperzoo.tracking import STEP

TITLE = 128  # letters that W&B takes


def check(project: str | None) -> None:
    """Find out before the report is written whether it can be published.

    Raises:
        UserError: no project is named, or the package is not installed.
    """
    if not project or project.count("/") != 1:
        raise UserError(f"project={project or ''}: publish=wandb needs project=<entity>/<project>")
    _package()


def publish(report: Report, project: str) -> str:
    """Save the report on W&B; its address.

    Raises:
        UserError: W&B does not let this machine in, or cannot be reached.
    """
    try:
        made = build(report, project)
        made.save()
    except UserError:
        raise
    except Exception as error:  # wandb-workspaces raises just that, where nobody is logged in say
        raise UserError(
            f"publish=wandb: W&B does not take the report ({first_line(error)}); `wandb login` lets this machine in"
        ) from None
    return str(made.url)


def build(report: Report, project: str) -> Any:
    """The report in W&B's blocks: the text of ``report.md``, and panels of the runs."""
    blocks = _package()
    entity, _, name = project.partition("/")
    runs = blocks.Runset(entity=entity, project=name, name=report.name, filters=_filter(report))
    return blocks.Report(
        entity=entity,
        project=name,
        title=report.title[:TITLE],
        description=report.question,
        blocks=[
            blocks.MarkdownBlock(text=markdown.text(report)),
            blocks.PanelGrid(runsets=[runs], panels=_panels(report, blocks)),
        ],
        width="fluid",
    )


def _panels(report: Report, blocks: Any) -> list[Any]:
    metric = report.metric.removeprefix("best/")
    panels = [
        blocks.LinePlot(x=STEP, y=[metric.replace("test/", "val/")]),
        blocks.LinePlot(x=STEP, y=["lr"]),
        blocks.BarPlot(metrics=[metric]),
    ]
    if report.importance:
        columns = [blocks.ParallelCoordinatesPlotColumn(metric=blocks.Config(key)) for key in report.importance]
        columns.append(blocks.ParallelCoordinatesPlotColumn(metric=blocks.SummaryMetric(metric)))
        panels += [
            blocks.ParallelCoordinatesPlot(columns=columns),
            blocks.ParameterImportancePlot(with_respect_to=metric),
        ]
    return panels


def _filter(report: Report) -> str:
    """The report's runs alone; a run's name on W&B is its id."""
    ids = [repr(run.id) for variant in report.variants for run in variant.runs]
    return f"Name in [{', '.join(ids)}]" if ids else ""


def _package() -> Any:
    try:
        import wandb_workspaces.reports.v2 as blocks
    except ModuleNotFoundError:
        raise UserError("publish=wandb: wandb-workspaces is not installed; pip install 'paperzoo[publish]'") from None
    return blocks
