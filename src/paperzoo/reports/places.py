"""Where a report and its sweep file stand, so that the commands that it prints are those that work."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from paperzoo.errors import UserError
from paperzoo.runs.record import write_atomically

FILE = "places.json"  # in a report's folder; missing where everything stands where it usually does


@dataclass(frozen=True)
class Places:
    """As they were given to ``src/report.py``, seen from the working folder."""

    sweep: str  # the sweep file
    folder: str  # of the report
    runs_dir: str = "runs"

    @classmethod
    def usual(cls, name: str) -> "Places":
        """Of the report ``name`` of a sweep file in ``sweeps/``."""
        return cls(f"sweeps/{name}.yaml", f"reports/{name}")

    @property
    def run(self) -> str:
        """The command that runs the sweep."""
        return shlex.join(["python", "src/sweep.py", self.sweep, *self._runs()])

    @property
    def write(self) -> str:
        """The command that writes the report from the runs."""
        out = str(Path(self.folder).parent)
        more = [f"out={out}"] if out != "reports" else []
        return shlex.join(["python", "src/report.py", self.sweep, *more, *self._runs()])

    @property
    def derive(self) -> str:
        """The command that derives the report from its own records."""
        return shlex.join(["python", "src/reproduce.py", self.folder])

    @property
    def on_wandb(self) -> str:
        """The command that registers the sweep on W&B."""
        return shlex.join(["wandb", "sweep", self.sweep])

    def _runs(self) -> list[str]:
        return [f"runs_dir={self.runs_dir}"] if self.runs_dir != "runs" else []


def read(folder: Path) -> Places:
    """The places of the report in a folder.

    Raises:
        UserError: their file is damaged.
    """
    path = folder / FILE
    name = folder.resolve().name
    try:
        return Places(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Places.usual(name)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it, and write the report again") from None


def save(places: Places, folder: Path) -> None:
    """Keep the places beside a report's records, if they are not the usual ones."""
    if places == Places.usual(folder.name):
        (folder / FILE).unlink(missing_ok=True)
    else:
        write_atomically(folder / FILE, json.dumps(asdict(places), indent=1).encode() + b"\n")
