"""``runs.csv``: a row a run, for whoever computes with it."""

import csv
from pathlib import Path

from paperzoo.reports.model import Report, Variant
from paperzoo.runs.record import Record

FILE = "runs.csv"
OF_RUNS = ("run", "variant", "seed")
OF_COSTS = ("parameters", "macs", "seconds", "units_per_second", "peak_memory_bytes")


def write_table(report: Report, folder: Path) -> Path:
    """Write the runs that count: settings, metrics as they were recorded, cost."""
    settings = [f"setting:{key}" for key in report.swept]
    rows = [_row(report, variant, entry) for variant in report.variants for entry in variant.runs]
    metrics = sorted({name for _, entry in _runs(report) for name in entry.metrics})
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*OF_RUNS, *settings, *metrics, *OF_COSTS], lineterminator="\n", restval="")
        table.writeheader()
        table.writerows(rows)
    return folder / FILE


def _runs(report: Report) -> list[tuple[Variant, Record]]:
    return [(variant, entry) for variant in report.variants for entry in variant.runs]


def _row(report: Report, variant: Variant, entry: Record) -> dict[str, object]:
    cost = entry.cost
    return {
        "run": entry.id,
        "variant": _safe(variant.name),
        "seed": entry.seed,
        **{f"setting:{key}": _safe(variant.settings.get(key)) for key in report.swept},
        **entry.metrics,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "seconds": entry.wall_seconds,
        "units_per_second": cost.units_per_second,
        "peak_memory_bytes": cost.peak_memory_bytes,
    }


def _safe(value: object) -> object:
    """Text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
