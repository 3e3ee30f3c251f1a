"""The sweep's side of ``warm_server``: runs that are forked from a process that has imported everything."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from paperzoo.places import COMMANDS
from paperzoo.sweeps import tied, warm_server

# What takes long: torch and Lightning, and what runs import while they are on their way.
IMPORTED = ("paperzoo.training", "hydra._internal.utils", "hydra._internal.hydra", "wandb", "torchvision.transforms.v2")
GPU = Path("/dev/nvidiactl")
LOST = -int(signal.SIGKILL)  # the exit code of a run whose server died: nobody saw how it ended


class Started(Protocol):
    """What an agent needs of a process that it has started."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it has not ended."""

    def kill(self) -> None:
        """End it at once."""


def possible(program: str) -> bool:
    """Whether runs of a program can be forked: ``src/train.py`` on Linux without a GPU, whose driver forbids it."""
    return sys.platform.startswith("linux") and not GPU.exists() and Path(program).resolve() == COMMANDS / "train.py"


class Warm:
    """A server, from which runs are forked.

    It has to be made in a thread that lives as long as the sweep: the server gets SIGTERM when that thread ends.

    Args:
        environment: of the server; what is read while torch is imported (``OMP_NUM_THREADS``) holds for all runs.
        log: takes what the server prints.
        imported: modules.
        source: the folder of the Paperzoo that is imported; None: this one's.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        imported: Sequence[str] = IMPORTED,
        source: Path | None = None,
    ) -> None:
        own = Path(warm_server.__file__)
        program = source / own.relative_to(COMMANDS) if source else own  # it imports what lies beside it
        self.connection, other = socket.socketpair()
        with log.open("ab") as output:
            self.server = subprocess.Popen(
                [sys.executable, "-S", tied.__file__, str(os.getpid()), sys.executable, str(program),
                 str(other.fileno()), *imported],
                env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, pass_fds=[other.fileno()],
            )  # fmt: skip
        other.close()
        self.runs: dict[int, Forked] = {}
        self.ready = threading.Event()  # or gone
        self.usable = True
        self.lock = threading.Lock()
        self.started: queue.Queue[Forked | None] = queue.Queue()
        threading.Thread(target=self._listen, name="warm", daemon=True).start()

    def start(self, argv: list[str], environment: Mapping[str, str], log: Path) -> "Forked | None":
        """A run of ``argv`` (program and words), once ``ready``; None where the server cannot fork."""
        with self.lock:
            if not self.usable:
                return None
            request = {"argv": argv, "environment": dict(environment), "log": str(log)}
            try:
                self.connection.sendall(json.dumps(request).encode() + b"\n")
            except OSError:
                return None
            return self.started.get()

    def close(self) -> None:
        """End the server; runs that are left get SIGTERM."""
        self.server.terminate()
        self.server.wait()
        self.connection.close()

    def _listen(self) -> None:
        """What the server says, until it is gone."""
        with contextlib.suppress(OSError), self.connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "started" in message:
                    run = self.runs[message["started"]] = Forked(message["started"])
                    self.started.put(run)
                elif "ended" in message:
                    self.runs.pop(message["ended"]).returncode = message["code"]
                elif "ready" in message:
                    self.ready.set()
        self.usable = False
        for run in list(self.runs.values()):
            run.returncode = LOST
        self.started.put(None)
        self.ready.set()


class Forked:
    """A run that the server has forked, with what ``Popen`` has for an agent."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it has not ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and the server will say so
                os.kill(self.pid, sig)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)
