"""What a run says of itself in the terminal, at its start and at its end."""

from pytorch_lightning.utilities.model_summary import ModelSummary
from rich.markup import escape

from paperzoo.config.schema import Config
from paperzoo.data.interface import RunData
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.runs import checkpoints, compare, folders, members, record
from paperzoo.runs.record import Record
from paperzoo.runs.session import SKIPPED, Session
from paperzoo.tasks.task import Task


def announce(display: Display, config: Config, data: RunData, session: Session, new_head: str | None = None) -> None:
    """What is trained on what, and where it goes; ``new_head`` is what begins with drawn weights all the same."""
    if session.record is None:
        return
    counted = session.record.cost
    macs = f", {counted.macs / 1e6:,.1f} M MACs" if counted.macs is not None else ""
    display.line(
        f"[bold]{config.model.name}[/bold] ({config.model.network}, {counted.parameters:,} parameters{macs}) on "
        f"{data.description}"
    )
    for parent in session.record.parents:
        what = "exact state" if parent.weights == "state" else f"{parent.weights} weights"
        display.line(f"begins with the {what} of run {parent.id}")
    for run in members.strangers(config, data.fingerprint):
        display.line(f"note: member {run} was trained on other data; it may have seen what this run holds out")
    if new_head:
        display.line(f"new weights, drawn at random: {new_head}")
    if config.model.freeze:
        display.line(escape(f"frozen: {', '.join(config.model.freeze)}"))
    if limits := config.trainer.limits():
        display.line(f"only a part of the data, in batches: {', '.join(f'{k} {v:g}' for k, v in limits.items())}")
    verb = f"goes on from step {session.record.segments[-1].from_step:,}" if session.state else "begins"
    display.line(f"run {session.record.id} {verb} in {session.folder}")


def layers(module: Task, depth: int) -> str:
    """Lightning's table of layers, but for its last column and line: FLOPs, of which it counts 0 without an example."""
    lines = str(ModelSummary(module, max_depth=depth)).splitlines()
    return "\n".join(line.rpartition(" |")[0].rstrip() or line for line in lines if not line.endswith("Total Flops"))


def what_is_left(session: Session) -> str:
    """Of an interrupted run."""
    if session.record and session.record.status == "finished":
        return "the run has finished, its results are on record"
    saved = "the exact state is saved" if checkpoints.newest_state(session.folder) else "no state was saved yet"
    return f"{saved}, go on with the same command and resume=auto"


def show(display: Display, session: Session, entry: Record) -> None:
    """The end of a run: what was measured, what it took, where it is, how to get it again."""
    tests = {
        name: (result.epoch, {key: value for key, value in result.metrics.items() if key.startswith("test/")})
        for name, result in entry.results.items()
    }
    display.results(tests, entry.task_metrics)
    memory = (entry.cost.peak_memory_bytes or 0) / 2**20
    place = folders.option(session.folder.parents[2])
    sample = "an" if entry.unit[0] in "aeiou" else "a"
    facts = {"parameters": f"{entry.cost.parameters:,}"}
    facts |= {"MACs": f"{entry.cost.macs:,} {sample} {entry.unit}"} if entry.cost.macs is not None else {}
    display.facts(
        facts
        | {
            "time": f"{entry.wall_seconds:.1f} s",
            "throughput": f"{entry.cost.units_per_second or 0:,.0f} {entry.unit}s/s in training",
            "peak memory": f"{memory:,.0f} MiB",
            "run": entry.id,
            "folder": str(session.folder),
            "evaluate": f"python src/evaluate.py run={entry.id}{place}",
            "reproduce": f"python src/reproduce.py {entry.id}{place}",
        }
    )
    if kept := [name for name in entry.checkpoints if name.startswith("step_")]:
        display.line(f"kept besides: {', '.join(kept)} (weights={kept[-1]})")
    skipped = ", ".join(f"{count:,} of {split}" for split, count in entry.data.skipped.items() if count)
    if skipped:
        display.line(f"skipped what is corrupt: {skipped} (data.on_error=skip); {session.folder / SKIPPED} names them")
    _compare_with_first(display, session, entry)


def _compare_with_first(display: Display, session: Session, entry: Record) -> None:
    """Say whether a repeated run has the results of the first finished attempt."""
    for attempt in folders.attempts(session.folder.parent):
        try:
            first = record.read(session.folder.parent / str(attempt))
        except UserError:
            continue
        if first.status == "finished" and first.attempt < entry.attempt:
            difference = compare.first_difference(first, entry)
            why = f" ({compare.machines(first, entry)})" if difference and compare.machines(first, entry) else ""
            verdict = f"differs from it{why}: {difference}" if difference else "every metric is equal, bit for bit"
            display.line(f"[bold]repeats[/bold]    {first.id}: {verdict}")
            return
