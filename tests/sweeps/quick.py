"""A program that behaves as train.py does towards an agent, without training: a record, epochs, SIGTERM, resume.

    python tests/sweeps/quick.py optimizer.lr=0.1 seed=0 trainer.max_epochs=3 resume=auto repeat=false

``val/top1`` after an epoch is the epoch's number times ``optimizer.lr``. A rate above 1 fails, one above 10 without a
record.
"""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from paperzoo.runs import folders, record
from paperzoo.runs.record import Cost, DataRecord, Determinism, Failure, Provenance, Record, Result

EPOCH = 0.2  # seconds


def main() -> int:
    """Train, so to speak."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    rate, epochs = float(given["optimizer.lr"]), int(given["trainer.max_epochs"])
    if rate > 10:
        print("error: no record was made")
        return 1
    identity = hashlib.sha256(f"{rate} {given['seed']} {epochs}".encode()).hexdigest()[:10]
    parent = Path(os.environ["RUNS_DIR"]) / "resnet" / identity
    done = folders.latest_finished(parent)
    if done:
        tell(done)
        return 0
    old = [parent / str(number) for number in folders.attempts(parent)]
    folder = old[-1] if old else folders.create(Path(os.environ["RUNS_DIR"]), "resnet", identity)[0]
    entry = record.read(folder) if old else first(identity, folder, int(given["seed"]))
    entry.segments.append(record.new_segment(len(entry.epochs)))
    entry.status = "running"

    def interrupted(*_: object) -> None:
        entry.status = "interrupted"
        record.write(folder, entry)
        sys.exit(143)

    signal.signal(signal.SIGTERM, interrupted)
    record.write(folder, entry)
    tell(folder)
    for epoch in range(len(entry.epochs) + 1, epochs + 1):
        time.sleep(EPOCH)
        if rate > 1:
            entry.status, entry.failure = "failed", Failure(kind="NonFiniteLoss", message="the loss became nan")
            record.write(folder, entry)
            return 1
        entry.epochs.append({"epoch": epoch, "step": epoch, "val/top1": epoch * rate})
        record.write(folder, entry)
    entry.results = {"last": Result(epoch=epochs, step=epochs, metrics={"val/top1": epochs * rate, "test/top1": rate})}
    entry.status = "finished"
    record.write(folder, entry)
    return 0


def tell(folder: Path) -> None:
    """Where this run is."""
    Path(os.environ["PAPERZOO_TELL"]).write_text(str(folder))


def first(identity: str, folder: Path, seed: int) -> Record:
    """A record of nothing yet."""
    return Record(
        id=f"{identity}-{folder.name}",
        identity=identity,
        attempt=int(folder.name),
        status="running",
        command=sys.argv,
        config={},
        seed=seed,
        ranks=1,
        batch_size=1,
        global_batch_size=1,
        data=DataRecord(name="none", fingerprint="", description="", sizes={}, skipped={}),
        provenance=Provenance(
            code_version="", git_commit=None, git_dirty=None, lock_hash=None, versions={}, hardware={}
        ),
        determinism=Determinism(algorithms=True, cudnn_benchmark=False, cublas_workspace=None, threads=1),
        cost=Cost(parameters=0, macs=0),
        segments=[],
    )


if __name__ == "__main__":
    sys.exit(main())
