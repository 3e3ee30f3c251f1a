"""When a rank dies, the others end too, and say which: a collective would wait for it, for half an hour with NCCL.

On this host a process is looked at; from other hosts a heartbeat is expected in the ranks' common store.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytorch_lightning as L
import torch.distributed as dist

from paperzoo.distributed import gather

INTERVAL = 1.0  # seconds between two looks
SILENCE = 20.0  # seconds without a heartbeat from another host
GRACE = 5.0  # seconds for this rank's own error to come up, which then tells the story
STARTER = "PAPERZOO_STARTER"  # environment variable: the process that started the ranks of this machine


class RankWatch(L.Callback):
    """A thread that looks after the other ranks: those on this machine from their start, all from when they have met.

    Args:
        on_loss: is called with the line if this rank hangs, before the process ends.
    """

    def __init__(self, on_loss: Callable[[str], None]) -> None:
        self.on_loss = on_loss
        self.peers: dict[int, tuple[str, int]] = {}  # host and process of every other rank
        self.beats: dict[int, tuple[int, float]] = {}  # of ranks on other hosts: the count, and when it changed
        self.stopped = threading.Event()
        self.launcher: Any = None  # Lightning's, with the processes that it starts

    def begin(self, trainer: L.Trainer) -> None:
        """Begin to look: at the ranks that this one is to start, or at the one that started it."""
        if trainer.world_size == 1:
            return
        trainer.callbacks.append(self)  # type: ignore[attr-defined]
        self.host, self.rank = socket.gethostname(), trainer.global_rank
        self.launcher = trainer.strategy.launcher
        if trainer.local_rank == 0:
            os.environ[STARTER] = str(os.getpid())
        elif STARTER in os.environ:
            self.peers = {self.rank - trainer.local_rank: (self.host, int(os.environ[STARTER]))}
        threading.Thread(target=self._look, name="rank watch", daemon=True).start()

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Learn where the others are."""
        places = enumerate(gather((self.host, os.getpid())))
        self.peers = {rank: place for rank, place in places if rank != self.rank}

    def stop(self) -> None:
        """Look no more: this rank is ending by itself."""
        self.stopped.set()
        os.environ.pop(STARTER, None)

    def lost(self, seconds: float = 0.0) -> str | None:
        """The line about a rank that died, waiting so long for one to be seen; None if all live."""
        until = time.monotonic() + seconds
        while others := self._started() | self.peers:
            for rank, (host, pid) in others.items():
                if self._is_dead(rank, host, pid):
                    return f"rank {rank} (process {pid} on {host}) died, so that all ranks end"
            if time.monotonic() >= until:
                break
            time.sleep(0.1)
        return None

    def _started(self) -> dict[int, tuple[str, int]]:
        """Host and process of the ranks that this one has started."""
        processes = getattr(self.launcher, "procs", ())
        return {self.rank + place: (self.host, process.pid) for place, process in enumerate(processes, start=1)}

    def _look(self) -> None:
        while not self.stopped.wait(INTERVAL):
            _take_over_from_lightning()
            line = self.lost()
            if line and not self.stopped.wait(GRACE):
                print(f"error: {line}; go on with resume=auto", file=sys.stderr, flush=True)
                self.on_loss(line)
                os._exit(1)  # the main thread waits in a collective that will not return

    def _is_dead(self, rank: int, host: str, pid: int) -> bool:
        if host == self.host:
            try:
                return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return True
        return self._is_silent(rank)

    def _is_silent(self, rank: int) -> bool:
        """Whether a rank on another host has stopped to count."""
        try:
            store = dist.distributed_c10d._get_default_store()
            store.add(f"paperzoo/alive/{self.rank}", 1)
            count = store.add(f"paperzoo/alive/{rank}", 0)
        except (RuntimeError, ValueError):  # the store lives in rank 0's process
            return rank == 0
        before, since = self.beats.get(rank, (-1, 0.0))
        if count != before:
            self.beats[rank] = (count, time.monotonic())
            return False
        return time.monotonic() - since > SILENCE


def _take_over_from_lightning() -> None:
    """Its own observer kills rank 0 without a word, before a record can say why."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._run = lambda: True  # type: ignore[attr-defined] # it has seen enough
