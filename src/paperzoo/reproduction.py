"""``reproduce.py``: run a record again and compare every metric, or say what two records differ in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paperzoo.config import checks, load_config
from paperzoo.config.schema import Config, Paths
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.runs import compare, folders, record
from paperzoo.runs.record import Record

ONE_DEVICE = {"devices": 1, "num_nodes": 1, "strategy": "auto", "backend": None}  # of a trainer
SHOWN = 6  # changed files that are named
BIT_BY_BIT = ("torch", "numpy", "torchvision", "timm", "pytorch-lightning", "pillow", "python")


def run(
    name: str,
    row: str | None,
    seed: str | None,
    diff: str | None,
    root: str | None,
    *,
    runs_dir: str,
    data_dir: str,
    tolerance: float | None,
) -> int:
    """What ``reproduce.py`` does with a run.

    Raises:
        UserError: there is no such run, or the options are a report's.
    """
    if "/" in name and not Path(name).exists():
        raise UserError(f"{name}: there is no such folder, of a run or of a report{_reports(Path(name).parent)}")
    if row is not None or seed is not None:
        raise UserError(f"{name}: row= and seed= go with a report's folder, such as reports/<name>")
    if diff == "":
        raise UserError("diff=: which other run? python src/reproduce.py <id> diff=<id>")
    if diff:
        return differences(name, diff, runs_dir)
    return reproduce(name, runs_dir=runs_dir, data_dir=data_dir, tolerance=tolerance, root=root)


def _reports(folder: Path) -> str:
    """The reports that a folder has."""
    names = sorted(path.parent.name for path in folder.glob("*/runs.jsonl"))
    return f"; reports in {folder}: {', '.join(names)}" if names else ""


def reproduce(run: str, runs_dir: str, data_dir: str, tolerance: float | None, root: str | None = None) -> int:
    """Run a recorded run again; 0 if every metric is equal, or within a tolerance that was named, else 1."""
    expected = record.read(folders.find(Path(runs_dir), run))
    return again(expected, Paths(runs_dir=runs_dir, data_dir=data_dir), tolerance, root)


def again(expected: Record, paths: Paths, tolerance: float | None, root: str | None = None) -> int:
    """Run a record again and compare bit for bit; only ``tolerance`` (relative) loosens that, and it is said.

    Args:
        expected: the record.
        paths: of this machine.
        tolerance: of the comparison; None: none.
        root: where the folder of its images lies now, if it has been moved.

    Returns:
        0 if every metric is equal, or within the tolerance, else 1.
    """
    if expected.status != "finished":
        raise UserError(f"{expected.id}: it is {expected.observed_status()}; only a finished run can be reproduced")
    from paperzoo.runs.provenance import hardware, versions
    from paperzoo.training import train

    display = Display()
    display.line(f"reproducing {expected.id}: {' '.join(expected.command)}")
    got = train(as_recorded(expected, paths, **({"data": {"root": root}} if root else {})))
    if got is None:  # a rank other than 0
        return 0
    differences = list(_circumstances(expected, versions(), hardware(), got))
    for line in differences:
        display.line(f"note: {line}")
    code, line = _judged(expected, got, tolerance, why=bool(differences))
    display.line(line)
    return code


def _judged(expected: Record, got: Record, tolerance: float | None, *, why: bool) -> tuple[int, str]:
    """The exit code, and the line that says which comparison held."""
    count = sum(1 for _ in compare.metrics(expected))
    difference = compare.first_difference(expected, got)
    if difference is None:
        return 0, f"reproduced bit for bit: all {count} metrics of {expected.id} equal those of {got.id}"
    if tolerance is None:
        advice = "; tolerance=0.02 compares within 2 % (relative)" if why else ""
        return 1, f"NOT reproduced bit for bit: {difference}{advice}"
    beyond = compare.first_difference(expected, got, tolerance)
    if beyond:
        return 1, f"NOT reproduced, neither bit for bit nor within {tolerance:g} (relative): {beyond}"
    return 0, (
        f"reproduced within {tolerance:g} (relative), not bit for bit: all {count} metrics of {expected.id} are near "
        f"those of {got.id}; the first that differs: {difference}"
    )


def as_recorded(entry: Record, paths: Paths, **changes: dict[str, Any]) -> Config:
    """The configuration of a record with this machine's paths, the recorded threads, and no W&B.

    Args:
        entry: the record.
        paths: of this machine.
        changes: of groups; evaluation takes one device.
    """
    plain = dict(entry.config)
    plain |= {"paths": paths.model_dump(), "logger": {"name": "none"}, "resume": None, "repeat": True}
    threads = min(entry.determinism.threads, checks.most_threads())
    plain["trainer"] = {**plain["trainer"], "threads": threads}
    for group, change in changes.items():
        plain[group] = {**plain[group], **change}
    return load_config(plain)


def _circumstances(expected: Record, versions: dict[str, str], hardware: dict[str, Any], got: Record) -> Iterator[str]:
    """What differs between then and now and may move the last bits."""
    for package in BIT_BY_BIT:
        then, now = expected.provenance.versions.get(package), versions.get(package)
        if then != now:
            yield f"{package} was {then}, now it is {now}"
    for key in ("processor", "cpu_capability", "gpus"):
        then, now = expected.provenance.hardware.get(key), hardware.get(key)
        if then != now:
            yield f"{key} was {then}, now it is {now}"
    if expected.determinism.threads != got.determinism.threads:
        yield f"threads were {expected.determinism.threads}, now there are {got.determinism.threads}"
    if expected.provenance.code_version != got.provenance.code_version:
        yield _changed_code(expected, got)
    if expected.data.fingerprint != got.data.fingerprint:
        yield "the data has changed since"


def _changed_code(expected: Record, got: Record) -> str:
    """Which numeric files have changed; a record from before they were listed names the commit."""
    then, now = expected.provenance.code_files, got.provenance.code_files
    if not then:
        return f"the code has changed since commit {expected.provenance.git_commit} (its record lists no files)"
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"numeric code has changed since: {', '.join(changed[:SHOWN])}{more}"


def differences(run: str, other: str, runs_dir: str) -> int:
    """Print what differs between two records' configurations, code, data, versions and results; 1 if anything does."""
    left, right = (record.read(folders.find(Path(runs_dir), name)) for name in (run, other))
    display = Display()
    lines = list(_differences(left, right))
    display.line(f"{left.id} | {right.id}")
    for line in lines or ["no difference in configuration, code, data, versions and results"]:
        display.line(line)
    return 1 if lines else 0


def _differences(left: Record, right: Record) -> Iterator[str]:
    parts = (
        ("config", left.config, right.config),
        ("code", left.provenance.code_version[:12], right.provenance.code_version[:12]),
        ("ranks", left.ranks, right.ranks),
        ("data", left.data.model_dump(), right.data.model_dump()),
        ("versions", left.provenance.versions, right.provenance.versions),
        ("determinism", left.determinism.model_dump(), right.determinism.model_dump()),
        ("hardware", left.provenance.hardware, right.provenance.hardware),
        ("results", dict(compare.metrics(left)), dict(compare.metrics(right))),
    )
    for name, a, b in parts:
        yield from _tree(name, a, b)


def _tree(place: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from _tree(f"{place}.{key}", a.get(key), b.get(key))
    elif a != b:
        yield f"{place}: {a!r} | {b!r}"
