"""A PostgreSQL server of its own for a test, from the Debian package; it refuses to run as root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"


def tools() -> Path | None:
    """The newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """The URL of an empty database, on a socket of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = [] if os.geteuid() else ["runuser", "-u", USER, "--"]
        if run:
            shutil.chown(folder, USER)

        def call(*words: str) -> None:
            subprocess.run([*run, *words], check=True, cwd=folder, capture_output=True)

        call(str(programs / "initdb"), "-D", f"{folder}/data", "-U", USER, "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call(str(programs / "pg_ctl"), "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://{USER}@/postgres?host={folder}"
        finally:
            call(str(programs / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
