"""Data workers hear no signal but their own process's, and do not outlive it."""

import os
import signal
import time
from collections.abc import Callable

import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from paperzoo.data.workers import signals_blocked, tie


class Numbers(Dataset[int]):
    """0 to 39, slowly."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        time.sleep(0.005)
        return index


def started():
    """Two workers, as ``DecodingLoader`` starts them."""
    with signals_blocked():
        return iter(DataLoader(Numbers(), batch_size=4, num_workers=2, worker_init_fn=tie, persistent_workers=True))


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true before torch's workers would look for their parent."""
    until = time.monotonic() + 3
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_signal_to_all_processes_leaves_them_at_work():
    iterator = started()
    got = [next(iterator)]
    pids = [worker.pid for worker in iterator._workers]
    sender = os.fork()  # what a worker's own process sends, it takes
    if sender == 0:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        os._exit(0)
    os.waitpid(sender, 0)
    got += list(iterator)
    assert torch.equal(torch.cat(got), torch.arange(40))
    assert all(map(lives, pids))


def test_they_end_when_they_are_told_to_and_when_their_process_is_killed():
    iterator = started()
    next(iterator)
    (first, _) = iterator._workers
    first.terminate()
    assert soon(lambda: not lives(first.pid))
    end, told = os.pipe()
    trainer = os.fork()
    if trainer == 0:
        other = started()
        next(other)
        os.write(told, " ".join(str(worker.pid) for worker in other._workers).encode())
        time.sleep(60)
        os._exit(1)
    pids = [int(pid) for pid in os.read(end, 100).split()]
    assert all(map(lives, pids))
    os.kill(trainer, signal.SIGKILL)
    os.waitpid(trainer, 0)
    assert soon(lambda: not any(map(lives, pids)))
