"""A command in a fork of the test's process, where everything is imported already: half a second instead of ten.

Where there are GPUs nothing can be forked, and it is a process like any other.
"""

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch


class Forked:
    """What of ``subprocess.Popen`` tests need; what it prints goes to one file, or to two."""

    def __init__(
        self,
        argv: list[str],
        out: Path,
        err: Path | None,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        source: Path | None = None,
    ) -> None:
        import paperzoo.training  # noqa: F401  imported before the fork, else each fork imports it

        self.argv, self.out, self.returncode = argv, out, None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _child(argv, (out, err or out), dict(os.environ if env is None else env), cwd, source)

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """Wait for the exit code; what takes longer is killed."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise subprocess.TimeoutExpired(self.argv, timeout)
            time.sleep(0.02)
        return code

    def communicate(self, timeout: float = 120) -> tuple[str, None]:
        """Wait, and what it has printed."""
        self.wait(timeout)
        return self.out.read_text(errors="replace"), None

    def terminate(self) -> None:
        """SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


def run(
    program: Path,
    *words: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
    source: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """What ``python <program> <words>`` does, as ``subprocess.run`` with captured text gives it.

    With ``source`` it is the Paperzoo of that folder, of which nothing is imported yet.
    """
    argv = [str(program), *map(str, words)]
    if source is not None:
        env = {**(os.environ if env is None else env), "PYTHONPATH": str(source)}
    if torch.cuda.is_available():
        command = [sys.executable, *argv]
        return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        code = Forked(argv, out, err, env, cwd, source).wait(timeout)
        return subprocess.CompletedProcess(argv, code, *(file.read_text(errors="replace") for file in (out, err)))


def in_place_of_a_process(
    command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120, **_: Any
) -> "subprocess.CompletedProcess[str]":
    """For ``subprocess.run(..., capture_output=True, text=True)`` of a Python program."""
    program, *words = (str(word) for word in command[1:] if word != "-P")
    return run(Path(program), *words, env=env, cwd=cwd, timeout=timeout)


def start(
    program: Path, *words: object, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Any:
    """Begin a command; what it prints goes to a file. A ``subprocess.Popen``, or what of it tests need."""
    argv = [str(program), *map(str, words)]
    if torch.cuda.is_available():
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *argv], env=env, cwd=cwd, start_new_session=True, **pipes)
    return Forked(argv, log, None, env, cwd)


def start_ranks(program: Path, *words: object, ranks: int, logs: Path) -> list[Any]:
    """Begin a command on several ranks, as torchrun does."""
    logs.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(program, *words, log=logs / f"{rank}.log", env=os.environ | torchrun(rank, ranks, port))
        for rank in range(ranks)
    ]


def torchrun(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The variables that torchrun sets."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests",
    }  # fmt: skip


def _child(
    argv: list[str], files: tuple[Path, Path], environment: dict[str, str], cwd: Path | None, source: Path | None
) -> NoReturn:
    code: object = 1
    try:
        os.setsid()
        for number, file in zip((1, 2), files, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd or Path.cwd())
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        sys.argv = argv
        if source is not None:
            for name in [name for name in sys.modules if name.partition(".")[0] == "paperzoo"]:
                del sys.modules[name]
            sys.path.insert(0, str(source))
        try:
            runpy.run_path(argv[0], run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
