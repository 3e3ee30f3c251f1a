"""The file: written, read, and evaluated without the network."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet
from rich.markup import escape
from torch import Tensor

from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.metric import Metric
from paperzoo.predictions.classes import Classes
from paperzoo.predictions.kind import Kind, Rows
from paperzoo.predictions.maps import Maps
from paperzoo.predictions.objects import Objects

ABOUT = b"paperzoo"
SUFFIX = ".parquet"
KINDS: dict[str, Kind] = {"classification": Classes(), "segmentation": Maps(), "detection": Objects()}
ROUNDING = 1e-9  # of a mean over all pixels in another order


def write(path: Path, batches: Sequence[Rows], about: Mapping[str, Any]) -> None:
    """Write a split's predictions.

    Args:
        path: of the file; its folder is made.
        batches: of rows, in the order of the evaluation.
        about: plain data: ``run`` (None for published weights, which have ``network`` and ``checkpoint``), ``weights``,
            ``task``, ``split``, ``epoch``, ``class_names``, ``metrics``, ``measures``.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = [pa.table({name: _column(values) for name, values in batch.items()}) for batch in batches]
        schema = tables[0].schema.with_metadata({ABOUT: json.dumps(about)})
        with parquet.ParquetWriter(temporary, schema) as writer:
            for table in tables:
                writer.write_table(table.cast(schema))
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _column(values: Tensor | list[str]) -> Any:
    if isinstance(values, list):
        return pa.array(values, pa.string())
    flat = pa.array(values.flatten().numpy())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1]) if values.dim() > 1 else flat


def read(path: Path) -> tuple[list[Rows], dict[str, Any]]:
    """The batches of a file, and what they are of.

    Raises:
        UserError: there is no such file, or it is none of predictions.
    """
    if not path.is_file():
        raise UserError(f"run={path}: there is no such file")
    try:
        file = parquet.ParquetFile(path)
        about = {"task": "classification", **json.loads(file.schema_arrow.metadata[ABOUT])}  # once the only one
        columns = ["index", *KINDS[about["task"]].columns]
        classes = len(about["class_names"])
        groups = [file.read_row_group(k, columns=columns) for k in range(file.num_row_groups)]
        return [{name: _values(group[name], classes) for name in columns} for group in groups], about
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise UserError(f"run={path}: is no file of predictions, as evaluate.py predictions=true writes it") from None


def _values(column: Any, classes: int) -> Tensor | list[str]:
    whole = column.combine_chunks()
    if pa.types.is_string(whole.type):
        return whole.to_pylist()
    if pa.types.is_fixed_size_list(whole.type):
        return torch.from_numpy(np.array(whole.flatten())).reshape(-1, classes)
    return torch.from_numpy(np.array(whole))


def evaluate(path: Path) -> dict[str, float]:
    """The metrics that a file of predictions gives, shown beside those of the evaluation that wrote it.

    Raises:
        UserError: see ``read``.
    """
    batches, about = read(path)
    kind, split = KINDS[about["task"]], about["split"]
    own = kind.metrics_of(batches, len(about["class_names"]))
    metrics = {f"{split}/{name}": value for name, value in own.items()}
    then = {name: about["metrics"][name] for name in metrics if name in about["metrics"]}
    display = Display()
    samples = sum(len(batch["index"]) for batch in batches)
    display.line(escape(f"{source(about)}, {samples:,} predictions in {path}"))
    measured = [Metric(**metric) for metric in about["measures"]]
    display.results({"now": (about["epoch"], metrics), "when written": (about["epoch"], then)}, measured)
    rounded = {f"{split}/{name}" for name in kind.rounded}
    equal = all(_same(metrics[name], value, name in rounded) for name, value in then.items())
    display.line(f"\n{'every metric equals' if equal else 'some metrics differ from'} that of the network")
    kind.show(display, batches, about["class_names"])
    return metrics


def _same(value: float, other: float, is_rounded: bool) -> bool:
    return value == other or (is_rounded and math.isclose(value, other, rel_tol=ROUNDING))


def source(about: Mapping[str, Any]) -> str:
    """Whose predictions they are."""
    if about["run"] is None:
        return f"{about['network']} with {about['checkpoint']}"
    return f"run {about['run']}, {about['weights']} weights"
