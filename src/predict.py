"""Apply a trained network to photos: python src/predict.py run=<id> photos/ [more files and folders ...].

    run=<id>          a run of classification, segmentation or detection; weights=best takes the best on validation
    model=scnet model.network=scnet50 model.checkpoint=<file>     instead of run=: published weights
    out=predictions top=5 (classes that are listed) score=0.5 (from which on a detection is drawn)
    batch_size=32 device=cpu runs_dir=runs

Classifiers write predictions.csv (file, place, class, index, probability); segmentation maps/, pictures/ and shares of
classes; detectors predictions.json in COCO's form and pictures/. A file that cannot be read is named and left out.
"""

import os
from pathlib import Path
from typing import Any

from paperzoo import verbs
from paperzoo.errors import UserError
from paperzoo.runs import folders


def main(*photos: str, run: str, weights: str, out: str, top: str, score: str, **given: Any) -> None:
    """Predict as configured."""
    numbers: Any = {"top": verbs.whole_number("top", top, 1), "score": verbs.fraction("score", score)}
    numbers |= {"batch_size": verbs.whole_number("batch_size", given.pop("batch_size"), 1)}
    if not photos:
        raise UserError("which photos? python src/predict.py run=<id> photos/")
    device, runs_dir = given.pop("device"), given.pop("runs_dir")
    if run and not Path(run).is_file():
        folders.find(Path(runs_dir), run)  # a mistake is said before torch is imported
    from paperzoo.inference import predicting

    published = {key: value for key, value in given.items() if value is not None}
    predicting.run(photos, predicting.trained_of(run, weights, runs_dir, published), out, device=device, **numbers)


if __name__ == "__main__":
    given = {"run": "", "model": None, "weights": "last", "out": "predictions", "top": "5", "score": "0.5"}
    places = {"batch_size": "32", "device": "cpu", "runs_dir": os.environ.get("RUNS_DIR", "runs")}
    verbs.run(main, __doc__, positional=10**6, defaults={**given, **places}, more_with="model")
