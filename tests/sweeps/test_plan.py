"""The plan in Optuna's storage: every run once, whoever dies, however many take part."""

import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import postgres
import pytest

from paperzoo.errors import UserError
from paperzoo.sweeps import local
from paperzoo.sweeps.specification import Sweep
from paperzoo.sweeps.storage import Plan, runs_of

COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]


def sweep(method: str = "grid", **changes: Any) -> Sweep:
    """A sweep of six runs, or of as many as wanted."""
    parameters: dict[str, Any] = {"width": {"values": [1, 2]}, "seed": {"values": [0, 1, 2]}}
    if method != "grid":
        parameters = {"width": {"values": [1, 2]}, "lr": {"min": 0.0, "max": 1.0}}
    plain = {"program": "x.py", "method": method, "metric": {"name": "val/top1", "goal": "maximize"}}
    return Sweep.model_validate({**plain, "parameters": parameters, "command": COMMAND, **changes})


def url(folder: Path) -> str:
    """SQLite in a file."""
    return f"sqlite:///{folder / 'plan.db'}"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL server."""
    programs = postgres.tools()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres.server(programs) as address:
        yield address


def die(plan: Plan) -> None:
    """What other agents see of a dead one."""
    plan.me["pid"] = 2**22 + 1


@pytest.mark.parametrize("workers", [1, 4])
def test_every_run_of_a_grid_is_claimed_once(tmp_path: Path, workers: int) -> None:
    claims_once([Plan(sweep(), "x", url(tmp_path)) for _ in range(workers)])


def test_every_run_is_claimed_once_on_postgresql(database: str) -> None:
    claims_once([Plan(sweep(), "x", database) for _ in range(4)])


def claims_once(plans: list[Plan]) -> None:
    """Agents at the same plan: none takes what another has."""
    claimed: list[str] = []

    def work(plan: Plan) -> None:
        plan.settle()
        while claim := plan.claim():
            claimed.append(claim.key)
            plan.complete(claim, f"run{len(claimed)}", 0.5)

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(claimed) == dict.fromkeys(plans[0].cells, 1)
    assert {trial.state.name for trial in plans[0].counted().values()} == {"COMPLETE"}
    assert [cell for cell, _ in runs_of(plans[0])] == sweep().cells()


def test_the_run_of_a_dead_agent_is_taken_over(tmp_path: Path) -> None:
    dead, alive = Plan(sweep(), "x", url(tmp_path)), Plan(sweep(), "x", url(tmp_path))
    dead.settle()
    die(dead)
    lost = dead.claim()
    assert lost
    assert alive.settle() == [lost.key]
    keys = []
    while claim := alive.claim():
        keys.append(claim.key)
    assert sorted(keys) == sorted(alive.cells)
    dead.complete(lost, "late", 1.0)  # it was not dead, only silent: its word comes too late
    assert alive.counted()[lost.key].state.name == "RUNNING"


def test_the_run_of_a_dead_agent_is_taken_over_on_postgresql(database: str) -> None:
    there, here = Plan(sweep(), "y", database), Plan(sweep(), "y", database)
    there.me["host"] = "elsewhere"
    there.settle()
    claim = there.claim()
    assert claim
    claim.trial.set_user_attr("beat", 0.0)
    assert here.settle() == [claim.key]


def test_the_run_of_a_live_agent_is_left(tmp_path: Path) -> None:
    one, other = Plan(sweep(), "x", url(tmp_path)), Plan(sweep(), "x", url(tmp_path))
    one.settle()
    assert one.claim()
    assert other.settle() == []


def test_an_agent_on_another_host_is_dead_when_it_has_been_silent(tmp_path: Path) -> None:
    there, here = Plan(sweep(), "x", url(tmp_path)), Plan(sweep(), "x", url(tmp_path))
    there.me["host"] = "elsewhere"
    there.settle()
    claim = there.claim()
    assert claim
    assert here.settle() == []
    claim.trial.set_user_attr("beat", 0.0)
    assert here.settle() == [claim.key]


def test_a_key_that_two_enqueue_at_once_is_done_once(tmp_path: Path) -> None:
    plan = Plan(sweep(), "x", url(tmp_path))
    for key in list(plan.cells) * 2:
        plan._enqueue(key, None)
    keys = []
    while claim := plan.claim():
        keys.append(claim.key)
        plan.complete(claim, "x", 0.5)
    assert sorted(keys) == sorted(plan.cells)


def test_a_grid_that_grew_runs_what_is_new_and_leaves_what_was_dropped(tmp_path: Path) -> None:
    small = Plan(sweep(), "x", url(tmp_path))
    small.settle()
    while claim := small.claim():
        small.complete(claim, "x", 0.5)
    changed = sweep(parameters={"width": {"values": [1, 3]}, "seed": {"values": [0, 1, 2]}})
    grown = Plan(changed, "x", url(tmp_path))
    grown.settle()
    cells = []
    while claim := grown.claim():
        cells.append(claim.cell)
        grown.complete(claim, "x", 0.5)
    assert cells == [{"width": 3, "seed": seed} for seed in (0, 1, 2)]
    assert len(grown.counted()) == 6


def test_a_grid_may_be_edited_before_it_is_done(tmp_path: Path) -> None:
    few = Plan(sweep(), "x", url(tmp_path))
    few.settle()
    done = few.claim()
    assert done
    few.complete(done, "x", 0.5)
    parameters = {"width": {"values": [1, 3]}, "seed": {"values": [0, 1, 2, 3, 4, 5]}}  # width 2 was waiting
    more = Plan(sweep(parameters=parameters), "x", url(tmp_path))
    more.settle()
    cells = [done.cell]
    while claim := more.claim():
        cells.append(claim.cell)
        more.complete(claim, "x", 0.5)
    assert sorted(map(str, cells)) == sorted(map(str, more.cells.values()))
    again = Plan(sweep(), "x", url(tmp_path))
    again.settle()
    assert [trial.state.name for trial in again.counted().values()].count("WAITING") == 3  # width 2 is back


def test_a_failed_run_stays_failed_until_it_is_asked_for(tmp_path: Path) -> None:
    plan = Plan(sweep(run_cap=1), "x", url(tmp_path))
    plan.settle()
    claim = plan.claim()
    assert claim
    plan.fail(claim, "it diverged", "run1")
    plan.settle()
    assert plan.claim() is None
    (trial,) = plan.counted().values()
    assert trial.user_attrs["reason"] == "it diverged"
    assert plan.retry_failed() == 1
    again = plan.claim()
    assert again
    assert again.key == claim.key


def test_a_sweep_of_failed_runs_says_again_why_and_how_they_are_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(sweep(run_cap=1), "x", url(tmp_path))
    plan.settle()
    claim = plan.claim()
    assert claim
    plan.fail(claim, "it diverged", "run1")
    monkeypatch.setattr(local.lint, "check", lambda path: sweep(run_cap=1))
    code = local.run("x.yaml", agents=1, storage=url(tmp_path), runs_dir=str(tmp_path), max_failures=5,
                     retry_failed=False, warm=False)  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    assert code == 1
    assert said[0] == "0 of 1 done, 1 failed"
    assert said[1].startswith("failed ")
    assert "it diverged" in said[1]
    assert "retry_failed=true runs what failed again" in said[2]


def test_a_run_without_the_metric_is_a_failed_one(tmp_path: Path) -> None:
    plan = Plan(sweep(run_cap=2), "x", url(tmp_path))
    plan.settle()
    for value in (None, float("nan")):
        claim = plan.claim()
        assert claim
        plan.complete(claim, "run1", value)
        assert plan.counted()[claim.key].user_attrs["reason"] == "run1 has no val/top1"


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_ends_at_its_cap_whoever_takes_part(tmp_path: Path, method: str) -> None:
    plans = [Plan(sweep(method, run_cap=12), "x", url(tmp_path)) for _ in range(3)]
    claimed: list[Any] = []

    def work(plan: Plan) -> None:
        while claim := plan.claim():
            claimed.append(claim)
            plan.complete(claim, f"run{claim.key}", claim.cell["lr"])

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 12
    assert len(plans[0].counted()) == 12
    assert all(0 <= claim.cell["lr"] <= 1 and claim.cell["width"] in (1, 2) for claim in claimed)


def test_a_lost_run_of_a_search_is_taken_over_with_its_values(tmp_path: Path) -> None:
    plan = Plan(sweep("random", run_cap=1), "x", url(tmp_path))
    claim = plan.claim()
    assert claim
    plan.release(claim)
    plan.settle()
    again = plan.claim()
    assert again
    assert (again.key, again.cell) == (claim.key, claim.cell)
    assert plan.claim() is None


def test_bayes_goes_where_it_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = partial(optuna.samplers.TPESampler, seed=0)  # agents draw by chance: one search of many fails
    monkeypatch.setattr(optuna.samplers, "TPESampler", seeded)
    plan = Plan(sweep("bayes", run_cap=30), "x", url(tmp_path))
    found = []
    while claim := plan.claim():
        found.append(claim.cell["lr"])
        plan.complete(claim, "x", 1 - abs(claim.cell["lr"] - 0.3))
    late, early = found[20:], found[:10]
    distance = [sum(abs(value - 0.3) for value in part) / len(part) for part in (late, early)]
    assert distance[0] < distance[1]


def test_hyperband_stops_the_worse_runs(tmp_path: Path) -> None:
    plan = Plan(sweep(early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2}), "x", url(tmp_path))
    plan.settle()
    pruned = []
    for index in range(6):
        claim = plan.claim()
        assert claim
        for epoch in range(1, 9):
            claim.trial.report(-float(index), epoch)  # each worse than the one before
            if claim.trial.should_prune():
                pruned.append(index)
                plan.prune(claim, f"run{index}")
                break
        else:
            plan.complete(claim, f"run{index}", -float(index))
    assert pruned
    assert 0 not in pruned


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ("nonsense", "must be sqlite:///<file> or postgresql://"),
        ("postgresql://nobody@127.0.0.1:1/x", "cannot be reached"),
        ("oracle://x", ""),
    ],
)
def test_a_storage_that_is_not_there_is_one_line(wrong: str, part: str) -> None:
    with pytest.raises(UserError, match=f"storage={wrong}: .*{part}") as caught:
        Plan(sweep(), "x", wrong)
    assert "\n" not in str(caught.value)
