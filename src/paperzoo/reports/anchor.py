"""Show that this code gives the numbers of a report's records, and write that down: an anchor.

    python -m paperzoo.reports.anchor reports/<name>              golden.yaml of a new report
    python -m paperzoo.reports.anchor reports/<name> <checkout>   after a change of the code

The checkout is of the commit that the records are from, or were anchored at last. Two processors round otherwise, so
that records from another machine cannot be repeated bit for bit here. Two versions of the code can be compared on one
machine: for each variant both train its first seed for two epochs of a part of its data (a warm-up ends after one), and
every metric must be equal bit for bit; or, where a kernel was rewritten and rounds otherwise since, to 1e-6 in float64,
which the anchor says. The records then get the identity and the code version that this code gives them, so that a sweep
takes them for finished; ``provenance.anchored`` keeps what they had, and the comparisons that found another rounding.
``golden.yaml`` is written again. Stopped, it goes on with the variants that it has not compared. Options: data_dir=data
(or the variable DATA_DIR), epochs=2 of the comparisons, where a variant cannot do with so few.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paperzoo import cards
from paperzoo.config.schema import Paths
from paperzoo.errors import UserError
from paperzoo.places import COMMANDS
from paperzoo.reports import golden_row, measured, record_sources, write
from paperzoo.reports.facts import counted
from paperzoo.reports.model import Report
from paperzoo.reports.page import write_index
from paperzoo.reproduction import as_recorded
from paperzoo.runs import compare, record
from paperzoo.runs.code_version import SOURCE, code_version
from paperzoo.runs.identity import code_of, identity
from paperzoo.runs.provenance import hardware
from paperzoo.runs.record import Anchor, Record, write_atomically
from paperzoo.sweeps.warm import Warm, possible

BUILD = SOURCE.parent / "build" / "anchors"  # what has been compared, by the two commits
MOST, CHARACTERS = 320, 20_000  # training images of a comparison, and of a text
TESTED = 200  # images
SHORT = ("logger=none", "repeat=true")
ROUNDING = 1e-6  # relative, in float64: over 160 steps with two images each, 1e-16 had grown to 2e-9
OTHERWISE = "it rounds otherwise since"
EPOCHS = "2"
LEFT_OUT = ("logger=", "logger.", "paths.", "resume=", "repeat=", "tags=")


def main(path: str = "", checkout: str = "", *, data_dir: str, epochs: str = EPOCHS) -> None:
    """Anchor a report's records where a checkout is given, and write its golden row."""
    folder = record_sources.report_folder(path)
    report = write.load(folder)
    if checkout:
        anchor(folder, report, Path(checkout).resolve(), data_dir, epochs)
    golden_row.write(folder, *golden_row.cheapest(report), data_dir)


def anchor(folder: Path, report: Report, checkout: Path, data_dir: str, epochs: str) -> None:
    """Compare, write the anchors into a report's records, and derive its pages from them.

    Raises:
        UserError: the two codes differ, or the data has changed.
    """
    first = {v.name: min(v.runs, key=lambda entry: entry.seed) for v in report.variants if v.runs}
    kept = BUILD / f"{folder.name}-{_commit(checkout)}-{_commit(SOURCE.parent)}.json"
    done: dict[str, list[int]] = json.loads(kept.read_text()) if kept.is_file() else {}
    short = (f"trainer.max_epochs={epochs}", *SHORT, f"paths.data_dir={data_dir}")
    with codes(checkout) as versions:
        for entry in first.values():
            if entry.id not in done:
                done[entry.id] = [*_compare(entry, versions, short)]
                if "dirty" not in kept.name:  # comparisons go on where they were stopped
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(kept, json.dumps(done).encode())
            how = "equal" if done[entry.id][1] else "equal to rounding"
            print(f"{folder.name}: {' '.join(entry.command[2:])}: {how}", flush=True)
    shown = _sentence({name: done[entry.id] for name, entry in first.items()}, checkout)
    records = [_anchored(entry, shown, data_dir) for entry in record_sources.of_report(folder).records]
    write_atomically(folder / record_sources.RECORDS, "".join(record_sources.written(records)).encode())
    derived = write.derive(folder, folder).report
    if folder.resolve().parent == cards.REPORTS:
        measured.fill(derived)
    write_index(folder.parent)


def _sentence(outcomes: dict[str, list[int]], checkout: Path) -> str:
    """What was compared: of each variant how many metrics, and whether they are equal bit for bit."""
    machine = hardware()
    exact = [count for count, is_exact in outcomes.values() if is_exact]
    rounded = [name for name, (_, is_exact) in outcomes.items() if not is_exact]
    sentence = (
        f"commits {_commit(checkout)} and {_commit(SOURCE.parent)} gave the same {sum(exact)} metrics, bit for bit, in "
        f"short runs of {'' if rounded else 'all '}{counted(len(exact), 'variant')} on {machine['processor']} "
        f"({machine['cpu_capability']})"
    )
    if rounded:
        names = ", ".join(rounded)
        sentence += f"; {names}: {OTHERWISE}, and the metrics agree to {ROUNDING:g} in float64"
    return sentence


class Code:
    """A version of the code, whose runs are forked from one process that has imported it, where that is possible.

    Args:
        source: its folder ``src``.
        folder: for what runs print.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.log = source, folder / "log.txt"
        self.environment = {**os.environ, "PYTHONPATH": str(source), "PICTURES": "false"}
        self.server: Warm | None = None
        if possible(str(COMMANDS / "train.py")):
            self.server = Warm(self.environment, folder / "warm.log", source=source)

    def train(self, words: Sequence[str]) -> None:
        """Train a run.

        Raises:
            UserError: it failed.
        """
        argv = [str(self.source / "train.py"), *words]
        self.log.unlink(missing_ok=True)
        if (code := self._forked(argv)) is None:
            with self.log.open("w") as log:
                command = [sys.executable, *argv]
                code = subprocess.run(command, env=self.environment, stdout=log, stderr=log, check=False).returncode
        if code:
            raise UserError(f"{' '.join(argv)}: ended with {code}: {self.log.read_text()[-500:]}")

    def _forked(self, argv: list[str]) -> int | None:
        """The exit code of a fork; None where there can be none."""
        if self.server is None:
            return None
        self.server.ready.wait()
        run = self.server.start(argv, self.environment, self.log)
        while run is not None and run.poll() is None:
            time.sleep(0.02)
        return None if run is None else run.returncode

    def close(self) -> None:
        """End the process."""
        if self.server is not None:
            self.server.close()


@contextlib.contextmanager
def codes(checkout: Path) -> Iterator[tuple[Code, Code]]:
    """The checkout's, and this one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        found: list[Code] = []
        for source in (checkout / "src", SOURCE):
            place = Path(folder, str(len(found)))
            place.mkdir()
            found.append(Code(source, place))
            stack.callback(found[-1].close)
        yield found[0], found[1]


def _compare(entry: Record, versions: Sequence[Code], short: Sequence[str]) -> tuple[int, bool]:
    """How many metrics are equal, and whether bit for bit; else to rounding.

    Raises:
        UserError: one differs by more.
    """
    then, now = (_short_run(code, entry, short) for code in versions)
    exact = compare.first_difference(then, now, may_have_more=True) is None
    if not exact:
        wide = (*short, "trainer.precision=64-true")
        then, now = (_short_run(code, entry, wide) for code in versions)
        if difference := compare.first_difference(then, now, ROUNDING, may_have_more=True):
            places = " and ".join(str(code.source.parent) for code in versions)
            raise UserError(f"{' '.join(entry.command)}: {places} differ in float64: {difference}")
    return sum(1 for _ in compare.metrics(then)), exact


def _short_run(code: Code, entry: Record, short: Sequence[str]) -> Record:
    words = [word for word in entry.command[2:] if not word.startswith(LEFT_OUT)]
    with tempfile.TemporaryDirectory() as runs:
        code.train([*words, *short, *_fewer(entry.config["data"]), f"paths.runs_dir={runs}"])
        (file,) = Path(runs).glob("*/*/*/run.json")
        return record.read(file.parent)


def _fewer(data: Mapping[str, Any]) -> list[str]:
    """Words for a part of a run's data. Of a text validation and test are shares, which stay, as all of objects do."""
    most = CHARACTERS if golden_row.is_text(data) else MOST
    tested = golden_row.fewer_tests(data, TESTED)
    options: dict[str, Any] = {"limit_train": min(int(data.get("limit_train") or most), most)}
    options |= {"validation": TESTED, **tested} if tested else {}
    return [f"data.{key}={value!r}" for key, value in options.items()]


def _anchored(entry: Record, shown: str, data_dir: str) -> Record:
    """The record as this code would name it."""
    config = as_recorded(entry, Paths(runs_dir="runs", data_dir=data_dir))
    code = code_of(config)
    key = identity(config, ranks=entry.ranks, data_fingerprint=_fingerprint(config, entry), code=code_version(code))
    provenance = entry.provenance
    known = provenance.anchored
    origin = Anchor(
        id=known.id if known else entry.id,
        code_version=known.code_version if known else provenance.code_version,
        shown_by=shown,
        rounded=_rounded(known) if known else (),
    )
    new = provenance.model_copy(update={"code_version": code_version(code), "code_files": code, "anchored": origin})
    return entry.model_copy(update={"id": f"{key}-{entry.attempt}", "identity": key, "provenance": new})


def _rounded(known: Anchor) -> tuple[str, ...]:
    """The comparisons that later ones do not stand for: a kernel rounds otherwise since."""
    return (*known.rounded, known.shown_by) if OTHERWISE in known.shown_by else known.rounded


_FINGERPRINTS: dict[str, str] = {}


def _fingerprint(config: Any, entry: Record) -> str:
    """Of the data as it lies here.

    Raises:
        UserError: it is not what the record saw.
    """
    from paperzoo.data.interface import make_data

    key = entry.data.fingerprint
    if key not in _FINGERPRINTS:
        _FINGERPRINTS[key] = make_data(config).fingerprint
    if _FINGERPRINTS[key] != key:
        raise UserError(f"{entry.id}: its data was {key[:12]}, here it is {_FINGERPRINTS[key][:12]}")
    return key


def _commit(place: Path) -> str:
    """The commit of a checkout, marked where its code has changed since; records and cards are none."""
    head, changes = (
        subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True, check=True).stdout
        for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", "*.py", "conf"])
    )
    return head.strip() + ("-dirty" if changes else "")


if __name__ == "__main__":
    from paperzoo import verbs

    verbs.run(main, __doc__, positional=2, defaults={"data_dir": os.environ.get("DATA_DIR", "data"), "epochs": EPOCHS})
