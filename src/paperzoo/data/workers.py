"""Data workers end with the process that started them, and with nothing else.

A terminal's Ctrl-C, ``kill -- -<group>`` and a cluster that stops a job send their signal to every process. The
training process then saves its state, for which it needs its workers; they end when it tells them to, or when it dies.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block ``SIGNALS`` for processes started in this context; this process gets them when it ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tie(_worker: int) -> None:
    """End this worker, started within ``signals_blocked``, with its parent; DataLoader's ``worker_init_fn``."""
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return  # torch's worker looks for its parent every five seconds
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent.pid != os.getppid():  # it died before that
        os._exit(1)
    threading.Thread(target=_hear, args=(parent.pid,), daemon=True).start()


def _hear(parent: int) -> None:
    """End when the parent says so: torch terminates a worker that does not end by itself."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
