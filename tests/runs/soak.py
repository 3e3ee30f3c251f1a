"""The kill test: SIGKILL a run at random steps, several times in a row, resume, and compare with a run left alone.

    python tests/runs/soak.py [trials=200] [ranks=1] [seed=0] [norm=paper] [stages=0] [steps=36] [key=value ...]

With ``stages=1`` a run trains, searches, prunes and fine-tunes (tests/helpers/pruning.py), and is killed at any moment,
within its stages and between them. Other words are overrides of the runs: ``average=moving average.decay=0.5``, or
``model.checkpoint=run:<folder of a finished run> model.freeze=[conv1]``; ``pictures=false`` saves a second each. With
``model=...`` among them the runs are that model's, with what the words say, and of ``steps`` optimiser steps:

    python tests/runs/soak.py trials=30 steps=18 model=mask_rcnn data.images=48 data.batch_size=4 data.image_size=64 \
        "data.digit_size=[18,40]" data.flip=0.5 model.channels=8 model.hidden=16 model.regions=8 model.proposals=20

With ``stages=1`` too, such a run is killed at any moment of the stages that it has of its own: ``model=boosting``.

A server process imports everything and forks each run, so that a trial takes seconds. The runs have shuffling,
random crops, mixup, dropout, gradient accumulation and a learning-rate schedule. After the last resume the weights,
every metric, the CSV tables and the record (times, host, process and number of segments aside) must be equal, bit for
bit.
"""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from paperzoo.config import compose
from paperzoo.runs import checkpoints, compare, record
from paperzoo.training import train

ALWAYS = [
    "logger=none", "trainer=cpu", "trainer.max_epochs=3", "trainer.accumulate_grad_batches=2", "trainer.threads=1",
    "trainer.log_every_n_steps=7", "checkpoint.every_seconds=null",
]  # fmt: skip
OWN = [
    "model=resnet", "model.depth=11", "model.width=4", "model._target_=soak.Dropping", "mix=mixup", "optimizer.lr=0.02",
    "data.limit_train=355", "data.batch_size=16", "data.image_size=12", "data.validation=100", "data.test=100",
    "data.augment.flip=0.5", "data.drop_last=false",
]  # fmt: skip
STEPS = 36  # 23 batches an epoch, the last of 3 images (2 and 1 on two ranks), two a step, three epochs


def _module() -> Any:
    from paperzoo.tasks.classification import ResidualClassifier

    class Dropping(ResidualClassifier):
        """ResNet with dropout before the classifier: random numbers from the global generator in every step."""

        def build_network(self, **options: Any) -> nn.Module:
            network = super().build_network(**options)
            network.fc = nn.Sequential(nn.Dropout(0.3), network.fc)
            return network

    return Dropping


Dropping = _module()


def _other_model(words: Sequence[str]) -> bool:
    return any(word.startswith("model=") for word in words)


def overrides(runs: Path, ranks: int, norm: str, every_steps: int, stages: int, more: Sequence[str]) -> list[str]:
    """The command line of a run on ``ranks`` ranks."""
    words = [
        *([] if _other_model(more) else OWN),
        *ALWAYS,
        f"norm={norm}",
        f"paths.runs_dir={runs}",
        f"checkpoint.every_steps={every_steps}",
        "resume=auto",
    ]
    if stages and not _other_model(more):
        words.append("procedure._target_=pruning.TrainPruneTune")
    if ranks > 1:
        words += [
            "trainer=ddp_cpu",
            f"trainer.devices={ranks}",
            "trainer.max_epochs=3",
        ]
        words += [
            "trainer.max_epochs=3",
            "trainer.accumulate_grad_batches=2",
            "trainer.threads=1",
            "trainer.log_every_n_steps=7",
        ]
        words.remove("trainer=cpu")
        if not _other_model(more):
            words.append(f"data.batch_size={16 // ranks}")
    return [*words, *more]


def die_at(step: int, delay: float) -> None:
    """SIGKILL this process ``delay`` seconds after an optimiser step, or after now: at any moment of what follows."""
    count = 0
    if not step:
        threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        return

    def after_step(*_: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    register_optimizer_step_post_hook(after_step)


def run(words: list[str], log: Path, *, ranks: int, port: int, kill: tuple[int, int, float] | None) -> bool:
    """Fork the ranks of one run; whether all ended well (else one was killed). ``kill`` is (rank, step, delay)."""
    config, pids = configured(tuple(words)), []
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            _child(config, log, rank, ranks, port, kill)
        pids.append(pid)
    codes = []
    while pids:
        pid, status = os.wait()
        codes.append(os.waitstatus_to_exitcode(status))
        pids.remove(pid)
        if codes[-1] != 0:  # as torchrun does: a rank that dies ends the others
            for other in pids:
                os.kill(other, signal.SIGKILL)
    assert all(code == 0 for code in codes) or -signal.SIGKILL in codes, log.read_text()[-3000:]
    return all(code == 0 for code in codes)


@cache
def configured(words: tuple[str, ...]) -> Any:
    """Composed before the fork, once for all ranks and kills of a trial."""
    return compose("train", words)


def _child(config: Any, log: Path, rank: int, ranks: int, port: int, kill: tuple[int, int, float] | None) -> None:
    code = 1
    try:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if ranks > 1:  # as torchrun sets it
            from forked import torchrun

            os.environ |= torchrun(rank, ranks, port)
        if kill and kill[0] == rank:
            die_at(kill[1], kill[2])
        train(config)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def outcome(runs: Path) -> tuple[record.Record, dict[str, bytes]]:
    """The one finished record below ``runs``, and what must be equal byte for byte."""
    folders = list(runs.glob("*/*/*/run.json"))
    assert len(folders) == 1, f"{len(folders)} run folders where one was expected: {folders}"
    folder = folders[0].parent
    entry = record.read(folder)
    content = {}
    for kind, file in entry.checkpoints.items():  # an ensemble in stages has no best one
        weights = checkpoints.load(folder / file)["state_dict"]
        content |= {f"{kind} {name}": tensor.numpy().tobytes() for name, tensor in weights.items()}
    content["steps.csv"] = (folder / "steps.csv").read_bytes()
    content["record"] = comparable(entry)
    return entry, content


def comparable(entry: record.Record) -> bytes:
    """A record without what may differ: times, host, process, number of segments, folder, command."""
    plain = entry.model_copy(deep=True)
    plain.segments, plain.command = [], []
    plain.cost.units_per_second = plain.cost.peak_memory_bytes = None
    plain.epochs = [{name: value for name, value in row.items() if not compare.is_time(name)} for row in plain.epochs]
    plain.stages = [stage.model_copy(update={"seconds": 0}) for stage in plain.stages]
    plain.config["paths"] = plain.config["resume"] = plain.config["checkpoint"] = None
    return plain.model_dump_json().encode()


def places(a: Any, b: Any, at: str = "") -> list[str]:
    """Where two plain values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [place for key in {**a, **b} for place in places(a.get(key), b.get(key), f"{at}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [place for n, pair in enumerate(zip(a, b, strict=True)) for place in places(*pair, f"{at}[{n}]")]
    return [] if a == b else [f"{at}: {a} != {b}"]


def soak(
    trials: int, ranks: int, seed: int, norm: str, stages: int, steps: int = STEPS, more: Sequence[str] = ()
) -> int:
    """Run the trials, print the counts, return how many were not equal."""
    chance = random.Random(seed)
    kills = equal = lost = 0
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        port = 20000 + os.getpid() % 20000
        log = root / "log"
        alone = time.monotonic()
        assert run(
            overrides(root / "alone", ranks, norm, 1000, stages, more), log, ranks=ranks, port=port, kill=None
        ), log.read_text()
        alone = time.monotonic() - alone
        _, expected = outcome(root / "alone")
        for trial in range(trials):
            runs, log = root / f"{trial}", root / f"{trial}.log"
            words = overrides(runs, ranks, norm, chance.choice([1, 2, 3, 5, 8]), stages, more)
            finished = False
            for _ in range(chance.randint(1, 4)):
                port += 1
                delay = chance.choice([0, chance.uniform(0, 0.2)])
                kill = (chance.randrange(ranks), chance.randint(1, steps), delay)
                if stages:
                    kill = (chance.randrange(ranks), 0, chance.uniform(0.1, 1) * alone)
                finished = run(words, log, ranks=ranks, port=port, kill=kill)
                kills += not finished
                if finished:
                    break
            port += 1
            finished = finished or run(words, log, ranks=ranks, port=port, kill=None)
            try:
                assert finished, "did not finish"
                entry, got = outcome(runs)
                wrong = [name for name in expected if got.get(name) != expected[name]]
                where = places(*(json.loads(content["record"]) for content in (expected, got)))
                told = f"{wrong[:5]}; in the record: {where}; segments {[s.from_step for s in entry.segments]}"
                assert not wrong, f"{len(wrong)} differ: {told}"
                equal += 1
            except AssertionError as error:
                lost += 1
                print(f"trial {trial}: {error}\n{log.read_text()[-3000:]}", flush=True)
            if sys.stdout.isatty() or (trial + 1) % 25 == 0:
                print(f"{trial + 1}/{trials}: kills {kills}, equal {equal}, lost {lost}", flush=True)
    seconds = time.monotonic() - begun
    print(
        f"{trials} trials on {ranks} rank(s), norm={norm}, stages={stages}{''.join(f', {w}' for w in more)}: ", end=""
    )
    print(f"kills {kills}, equal {equal}, lost {lost} ({seconds:.0f} s)")
    return lost


if __name__ == "__main__":
    sys.modules["soak"] = sys.modules["__main__"]
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))  # pruning.py, forked.py
    options: dict[str, Any] = {"trials": 200, "ranks": 1, "seed": 0, "norm": "paper", "stages": 0, "steps": STEPS}
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    more = [f"{key}={value}" for key, value in given.items() if key not in options]
    options |= {key: value if key == "norm" else int(value) for key, value in given.items() if key in options}
    sys.exit(min(soak(**options, more=more), 100))
