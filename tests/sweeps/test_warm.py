"""Runs that are forked from a process that has imported everything: as good as a process of their own."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from paperzoo.sweeps import warm
from paperzoo.sweeps.warm import LOST, Warm, possible

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
print("argv", sys.argv[1:], "main", __name__, "path", sys.path[0], "word", os.environ.get("WORD"), flush=True)
print("session", os.getsid(0) == os.getpid(), "stdin", sys.stdin.read() == "", flush=True)
print("stdlib", "json" in sys.modules, "handler", signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True)
if sys.argv[1] == "wait":
    def saved(*_):
        Path(sys.argv[2]).write_text("saved")
        sys.exit(143)
    signal.signal(signal.SIGTERM, saved)
    Path(sys.argv[2]).write_text("waiting")
    time.sleep(60)
if sys.argv[1] == "raise":
    raise ValueError("no")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def program(tmp_path):
    """A program that says what it finds."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture
def server(tmp_path):
    """With nothing imported, so that it is quick."""
    made = Warm(os.environ, tmp_path / "warm.log", imported=("json",))
    assert made.ready.wait(60)
    yield made
    made.close()


def ended(run, seconds=30):
    until = time.monotonic() + seconds
    while run.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return run.returncode


def wait_for(path, text):
    until = time.monotonic() + 30
    while not (path.is_file() and path.read_text() == text):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_forked_run_is_what_its_command_would_be(server, program, tmp_path):
    logs = {code: tmp_path / f"log{code}" for code in (0, 3)}  # of their own: what both print at once would be mixed
    words = os.environ | {"WORD": "x"}
    runs = [server.start([program, str(code), "a=b c"], words, log) for code, log in logs.items()]
    assert [ended(run) for run in runs] == [0, 3]
    for code, log in logs.items():
        assert log.read_text().splitlines() == [
            f"argv ['{code}', 'a=b c'] main __main__ path {Path(program).parent} word x",
            "session True stdin True",
            "stdlib True handler True",
        ]
    failed = server.start([program, "raise"], os.environ, logs[0])
    assert ended(failed) == 1
    assert "ValueError: no" in logs[0].read_text()


def test_signals_reach_it_and_its_code_comes_back(server, program, tmp_path):
    state = tmp_path / "state"
    run = server.start([program, "wait", str(state)], os.environ, tmp_path / "log")
    wait_for(state, "waiting")
    run.send_signal(signal.SIGTERM)
    assert ended(run) == 143
    assert state.read_text() == "saved"
    other = server.start([program, "wait", str(state)], os.environ, tmp_path / "log")
    wait_for(state, "waiting")
    other.kill()
    assert ended(other) == -signal.SIGKILL
    other.send_signal(signal.SIGTERM)  # nothing: it has ended


def test_a_server_that_is_killed_takes_its_runs_with_it(server, program, tmp_path):
    state = tmp_path / "state"
    run = server.start([program, "wait", str(state)], os.environ, tmp_path / "log")
    wait_for(state, "waiting")
    server.server.kill()
    wait_for(state, "saved")
    assert ended(run) == LOST
    assert server.start([program, "0"], os.environ, tmp_path / "log") is None


def test_with_another_thread_nothing_is_forked(tmp_path, program):
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
    )
    made = Warm(os.environ | {"PYTHONPATH": str(tmp_path)}, tmp_path / "warm.log", imported=("threaded",))
    assert made.ready.wait(60)
    assert made.start([program, "0"], os.environ, tmp_path / "log") is None
    made.close()
    assert "2 threads after importing everything" in (tmp_path / "warm.log").read_text()


def test_openblas_is_no_other_thread(tmp_path, program):
    made = Warm(os.environ, tmp_path / "warm.log", imported=("numpy", "scipy.linalg"))
    assert made.ready.wait(60)
    run = made.start([program, "0"], os.environ, tmp_path / "log")
    assert run is not None
    assert ended(run) == 0
    made.close()


def test_what_can_be_forked(monkeypatch):
    assert possible("src/train.py") == sys.platform.startswith("linux")
    assert not possible("tests/sweeps/quick.py")
    monkeypatch.setattr(warm, "GPU", Path("/"))
    assert not possible("src/train.py")
