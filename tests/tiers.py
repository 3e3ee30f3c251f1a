"""Which tests `make test` leaves out: those that took over a third of a second of processor time, but for promises.

    python tests/tiers.py [paths ...]      run tests (all), and put their times' verdict into tests/slow.txt

Tests that were not run keep theirs. A test marked ``promise`` stays in `make test` however long it takes: it is the one
that shows a promise of the README, or of a paper. Processor time, of the test and of processes that it has waited for,
hardly depends on what else the machine does.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("slow.txt")
MOST = 0.35  # seconds
INTO = "PAPERZOO_TEST_TIMES"  # environment variable: the file that times are added to


def slow() -> set[str]:
    """The tests in the file."""
    return set(FILE.read_text().splitlines()) if FILE.is_file() else set()


def mark(items: list[pytest.Item]) -> None:
    """Put slow tests into the full tier."""
    known = slow()
    for item in items:
        if item.nodeid in known and item.get_closest_marker("promise") is None:
            item.add_marker(pytest.mark.full)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Time a test, where it is asked for (this file as a plugin)."""
    before = _seconds()
    result = yield
    with Path(os.environ[INTO]).open("a") as file:
        file.write(f"{_seconds() - before:.3f} {item.nodeid}\n")
    return result


def _seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def decide(times: list[str]) -> None:
    """Write the file from lines of seconds and names."""
    taken = {name: float(seconds) for seconds, _, name in (line.partition(" ") for line in times)}
    chosen = {name for name in slow() if name not in taken} | {name for name, s in taken.items() if s > MOST}
    FILE.write_text("".join(f"{name}\n" for name in sorted(chosen)))
    print(f"{len(chosen)} tests are slow; the other {len(taken) - len(chosen & taken.keys())} took "
          f"{sum(s for name, s in taken.items() if name not in chosen):.0f} s")  # fmt: skip


def main(paths: list[str]) -> int:
    """Run, and decide."""
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-p", "tiers", *paths]
        environment = {**os.environ, INTO: file.name, "PYTHONPATH": str(FILE.parent)}
        code = subprocess.run(command, env=environment, cwd=FILE.parents[1], check=False).returncode
        decide(Path(file.name).read_text().splitlines())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
