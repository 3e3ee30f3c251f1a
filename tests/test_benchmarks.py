"""The benchmarks that the documentation cites run: what they import moves, and nothing else calls them."""

import importlib.util
from pathlib import Path

import forked
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.full
@pytest.mark.parametrize(
    "words",
    [
        "input.py 1 256",
        "checkpoint.py model.depth=11 model.width=4 data.limit_train=640 data.validation=50 data.test=50",
        "startup.py 1",
        "startup.py first_step",
        "report_scale.py 20",
        "detectors.py rounds=1 height=64 width=96 backbone=resnet18 threads=1 proposals=32 regions=16 detections=4",
    ],
)
def test_a_benchmark_ends_with_its_figures(words):
    name, *rest = words.split()
    done = forked.run(FOLDER / name, *rest, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stdout
    assert any(letter.isdigit() for letter in done.stdout)


@pytest.mark.full
def test_the_overhead_of_training_is_measured(capsys):
    spec = importlib.util.spec_from_file_location("train_overhead", FOLDER / "train_overhead.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.measure("tiny", [*module.TINY, "data.limit_train=64"], 1)
    assert "ms a step" in capsys.readouterr().out
