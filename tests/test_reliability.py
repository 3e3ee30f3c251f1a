"""The reliability diagram of a run: its bins are those of the logged calibration error."""

import pytest

from paperzoo import results
from paperzoo.config import compose
from paperzoo.data.interface import make_data
from paperzoo.machine import make_trainer
from paperzoo.papers.label_smoothing.report_pictures import Bins, ece
from paperzoo.reliability import Reliability, callbacks_of
from paperzoo.tasks.making import make_module
from paperzoo.training import train

SMALL = ["trainer=cpu", "trainer.max_epochs=1", "logger=none", "data.limit_train=64", "data.batch_size=16",
         "data.validation=50", "data.test=50", "data.eval_batch_size=20", "model.width=4"]  # fmt: skip


def module_and_data(*words):
    config = compose("train", [*SMALL, *words])
    data = make_data(config)
    return make_module(config, data), data, make_trainer(config)


@pytest.mark.promise
def test_any_classifier_has_a_diagram_of_its_logged_error():
    module, data, trainer = module_and_data("model=resnet")
    (callback,) = callbacks_of(module)
    trainer.callbacks.append(callback)
    measured = results.measure(trainer, module, data, "test")
    assert int(callback.bins.count.sum()) == 50
    assert callback.bins.ece == pytest.approx(measured["test/ece"], abs=1e-6)
    assert float((callback.bins.accuracy * callback.bins.count).sum()) / 50 == pytest.approx(measured["test/top1"])
    ((name, _),) = callback.figures()
    assert name == "reliability"
    assert callback.metrics() == {}


def test_what_has_no_calibration_error_has_none():
    module, data, trainer = module_and_data("model=triplet", "data.batch_size=20", "sampler.k=4")
    assert callbacks_of(module) == []
    callback = Reliability()
    trainer.callbacks.append(callback)
    results.measure(trainer, module, data, "test")
    assert (callback.bins, list(callback.figures()), callback.metrics()) == (None, [], {})


@pytest.mark.full
@pytest.mark.parametrize("loss", ["smoothing", "cross_entropy"])
def test_a_run_of_label_smoothing_records_its_bins(loss, tmp_path):
    entry = train(
        compose(
            "train", [*SMALL, "model=label_smoothing", "pictures=true", f"loss={loss}", f"paths.runs_dir={tmp_path}"]
        )
    )
    metrics = entry.results["last"].metrics
    bins: Bins = {
        int(key.split("/")[1]): tuple(
            metrics[f"calibration/{key.split('/')[1]}/{name}"] for name in ("count", "confidence", "accuracy")
        )
        for key in metrics
        if key.endswith("/count")
    }
    assert sum(count for count, _, _ in bins.values()) == 50
    assert ece(bins) == pytest.approx(metrics["test/ece"], abs=1e-6)
    (picture,) = tmp_path.glob("label_smoothing/*/1/figures/reliability.png")
    assert picture.stat().st_size > 5000
