"""What a report says of its runs' size: samples, units, and what a sampler keeps of them."""

import pytest
from drawn_report import record

from paperzoo.reports import facts
from paperzoo.runs.record import DataRecord


def run(train, seen, batch, unit="image", info=None):
    """A run of two epochs of 2.5 seconds, the first of which was left early."""
    data = DataRecord(name="d", fingerprint="f", description="", sizes={"train": train}, skipped={})
    rows = [
        {"epoch": epoch, "seconds": 2.5, f"{unit}s_per_second": units / 2.5}
        for epoch, units in ((1, seen // 2), (2, seen))
    ]
    rows = rows if seen else [{"epoch": 1}, {"epoch": 2, "seconds": 2.5, f"{unit}s_per_second": float("nan")}]
    whole = record("x", 0, 0.5, data=data, global_batch_size=batch, unit=unit, info=info or {})
    return whole.model_copy(update={"epochs": rows})


@pytest.mark.parametrize(
    ("entry", "scale", "batch"),
    [
        (run(4000, 3968, 64), "4,000 images of d, 2 epochs", "64 images"),  # the last batch is left out
        (run(4000, 4000, 64), "4,000 images of d, 2 epochs", "64 images"),
        (run(12000, 2944, 64), "2,944 of 12,000 images of d, 2 epochs", "64 images"),  # a long tail
        (run(4000, 0, 64), "4,000 images of d, 2 epochs", "64 images"),  # a record of another program
        (run(0, 3968, 64), "3,968 images of d, 2 epochs", "64 images"),
        (
            run(3124, 199_680, 8, "character", {"length": 64}),
            "199,680 characters of d, 2 epochs",
            "8 samples of 64 characters",
        ),
    ],
)
def test_how_large_a_run_is(entry, scale, batch):
    assert facts.scale([entry]) == scale
    assert facts.of([entry], [entry])["batch"] == batch
