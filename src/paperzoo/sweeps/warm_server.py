"""A process that has imported torch and Lightning, and forks for each run of a sweep: a program of its own.

    python warm_server.py <file descriptor of a socket> <module to import> ...

It has one thread and has used no GPU, so that a fork is as good as a new interpreter: NumPy's and SciPy's OpenBLAS end
their threads before a fork and begin them again when they are needed; with any other thread it refuses. A request is a
line of JSON: ``argv``, ``environment`` and ``log``; the answer is ``{"started": pid}``, and ``{"ended": pid, "code":
code}`` later. A run gets SIGTERM when this process is gone, as this process does when the sweep is gone.
"""

import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the process that was forked for it; None when the sweep is gone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = b""
    while True:
        ready, _, _ = select.select([connection.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid, code in _ended():
                _say(connection, ended=pid, code=code)
        if connection.fileno() not in ready:
            continue
        received = connection.recv(65536)
        if not received:
            return None
        *whole, lines = (lines + received).split(b"\n")
        for line in whole:
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for descriptor in (woken, wake):
                    os.close(descriptor)
                connection.close()
                return dict(json.loads(line), parent=parent)
            _say(connection, started=pid)


def _ended() -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def _say(connection: socket.socket, **message: int) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def become(request: dict[str, Any]) -> None:
    """Make this process what the command's own would be: session, signals, streams, environment, arguments."""
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != request["parent"]:  # it died before
        os._exit(1)
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    ):
        handle = os.open(path, flags, 0o644)
        os.dup2(handle, descriptor)
        os.close(handle)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)


def threads() -> int:
    """How many threads there are after a fork, before which libraries that know about forks end theirs."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return len(list(Path("/proc/self/task").iterdir()))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, whose modules have common names
    for name in sys.argv[2:]:
        importlib.import_module(name)
    channel = socket.socket(fileno=int(sys.argv[1]))
    count = threads()
    if count > 1:
        print(f"{count} threads after importing everything: no run is forked, each is a new interpreter", flush=True)
        sys.exit(0)
    _say(channel, ready=os.getpid())
    wanted = serve(channel)
    if wanted is not None:
        become(wanted)
        runpy.run_path(sys.argv[0], run_name="__main__")
