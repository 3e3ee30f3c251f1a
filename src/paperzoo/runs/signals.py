"""SIGTERM and Ctrl-C end a run in good order, wherever they arrive."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from paperzoo.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
NOTED: list[int] = []  # signals that wait for the end of a step, of the run that is under way


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals raise ``Interrupted`` wherever they arrive; while training, ``ExactState`` waits for the step's end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    NOTED.clear()
    with _handled_by(stop):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait for the end of the block."""
    received: list[int] = []
    with _handled_by(lambda number, _: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


def may_listen() -> bool:
    """Handlers may be set in the main thread alone."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    if not may_listen():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
