"""Export a run's network to a file, checked against it in a fresh process: python src/export.py run=<id> format=...

    format=torch_export   a program that torch.export.load reads, for any number of images (.pt2)
    format=onnx           for ONNX Runtime; needs the packages onnx, onnxscript and onnxruntime
    format=safetensors    the weights and what they are of; paperzoo.load makes the network of it
    out=<file>            must not be there yet; else it is named after the run
    member=2 of an ensemble, from 0: its network alone
    weights=last (or best) images=500 (of the run's test split, for the check) photos=<folder> (instead of them)
    runs_dir=runs data_dir=data (or the variables RUNS_DIR and DATA_DIR)

A file takes normalised images; how they are prepared stands in it as JSON (paperzoo.json, metadata under paperzoo).
"""

import os
from pathlib import Path
from typing import Any

from paperzoo import verbs
from paperzoo.errors import UserError
from paperzoo.runs import folders


def main(run: str = "", *, out: str | None, images: str, member: str | None, **given: Any) -> None:
    """Export as the command line asks."""
    if not run or not given["format"]:
        raise UserError("which run, and how? python src/export.py run=<id> format=onnx|torch_export|safetensors")
    count = verbs.whole_number("images", images, 1)
    if out and Path(out).exists():
        raise UserError(f"out={out}: is there already; name another file, or remove it")
    if not Path(run).is_file():
        folders.find(Path(given["runs_dir"]), run)  # a mistake is said before torch is imported
    of = None if member is None else verbs.whole_number("member", member)
    from paperzoo.inference import exporting

    exporting.run(run, out, images=count, member=of, **given)


if __name__ == "__main__":
    places = {"runs_dir": os.environ.get("RUNS_DIR", "runs"), "data_dir": os.environ.get("DATA_DIR", "data")}
    others = dict.fromkeys(("out", "member", "photos", "format")) | {"weights": "last", "images": "500"}
    verbs.run(main, __doc__, positional=1, defaults={**others, **places}, of_run=True)
