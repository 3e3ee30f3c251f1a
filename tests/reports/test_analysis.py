"""From records to a report: variants, pairs, attempts, claims, and one line for whatever is wrong."""

import math
import random

import pytest
from synthetic import record, records, sweep

from paperzoo.errors import UserError
from paperzoo.reports import statistics
from paperzoo.reports.analysis import analyse
from paperzoo.reports.description import ClaimPair, Description, read
from paperzoo.reports.places import Places
from paperzoo.runs.record import Measure

CLAIM = ClaimPair(paper="scnet", claim="imagenet", baseline="resnet", result="scnet")


def scores(report, name):
    (variant,) = [variant for variant in report.variants if variant.name == name]
    return {run.seed: score for run, score in zip(variant.runs, variant.scores, strict=True)}


def test_arms_are_paired_by_seed_whatever_the_order():
    given = records()
    random.Random(0).shuffle(given)
    got = analyse(given, sweep())
    assert got == analyse(records(), sweep())
    assert [(variant.name, variant.baseline) for variant in got.variants] == [("resnet", True), ("scnet", False)]
    assert scores(got, "scnet") == {r.seed: 100 * r.metrics["test/top1"] for r in records(("scnet",))}
    (line,) = got.comparisons
    expected = statistics.compare("scnet", scores(got, "scnet"), scores(got, "resnet"), "maximize", 0.5)
    assert line == expected
    assert (line.n, line.verdict) == (6, "better")
    assert got.answer.startswith("scnet is better than resnet by ")
    assert (got.unit, got.problems) == ("%", ())


def test_the_description_chooses_the_baseline_and_says_what_is_asked():
    said = Description(title="T", question="Q?", baseline="scnet", scale=["small"])
    got = analyse(records(), sweep(), said)
    assert (got.title, got.question, got.scale) == ("T", "Q?", ("small",))
    assert [(line.variant, line.verdict) for line in got.comparisons] == [("resnet", "worse")]
    with pytest.raises(
        UserError, match=r"report.yaml: baseline: there is no variant scnt, there are resnet, scnet. Did"
    ):
        analyse(records(), sweep(), Description(baseline="scnt"))


def test_a_metric_to_be_minimised():
    got = analyse(records(), sweep(metric={"name": "test/loss", "goal": "minimize"}))
    assert (got.unit, got.variants[0].score.mean) == ("", 0.5)
    assert got.comparisons[0].verdict == "no difference"  # all losses are equal
    assert got.worth == pytest.approx(0.005)  # 1 % of the baseline's mean
    said = "In test/loss, scnet shows no difference from resnet larger than 0.005 (+0.00, +0.00 to +0.00)."
    assert got.answer == said


def test_a_check_compares_nothing():
    got = analyse(records(), sweep(), Description(baseline=False))
    assert (got.comparisons, [variant.baseline for variant in got.variants]) == ((), [False, False])
    assert got.answer.startswith("test/top1: resnet ")
    one = analyse([entry for entry in records() if entry.seed == 0], sweep(), Description(baseline=False))
    assert "one seed" not in " ".join(one.problems)  # a check may have no more


def test_costs_and_facts():
    got = analyse(records(), sweep())
    cost = got.variants[1].cost
    assert cost["parameters"].mean == 127_578
    assert cost["peak_memory_mib"].mean == 900
    assert got.facts["runs"] == "12 finished"
    assert got.facts["versions"] == "python 3.11.2, torch 2.14.1"
    assert got.variants[1].command == "python src/train.py model=scnet seed=0 trainer.max_epochs=2"


def test_attempts_of_an_identity_are_one_run():
    again = record("scnet", 0, 0.5, attempt=2)
    failed = record("scnet", 0, attempt=3, status="failed")
    got = analyse([*records(), again, failed], sweep())
    assert scores(got, "scnet")[0] == 50
    assert got.variants[1].counts == {"finished": 6}
    assert got.problems == ()


def test_two_runs_of_a_seed_are_explained_and_the_latest_counts():
    newer = record("scnet", 0, 0.5, code="other", minute=30)
    got = analyse([newer, *records()], sweep())
    assert scores(got, "scnet")[0] == 50
    (line,) = got.problems
    assert line.startswith("scnet, seed 0: 2 finished runs that differ in code, data or configuration")
    assert line.endswith("the latest counts")


def test_a_run_of_no_variant_is_left_out_with_a_line():
    strangers = [record("res2net"), record("scnet", seed=9), record("scnet", epochs=3)]
    got = analyse([*records(), *strangers], sweep())
    (line,) = got.problems
    assert line.startswith("3 runs of no variant left out: ")
    assert got.comparisons == analyse(records(), sweep()).comparisons


@pytest.mark.parametrize(("bad", "line"), [
    (record("scnet", 3, status="failed"), "scnet, seed 3: failed: the loss became nan in epoch 2 (%s)"),
    (record("scnet", 3, status="interrupted"), "scnet, seed 3: interrupted in epoch 2 (%s)"),
    (record("scnet", 3, math.nan), "scnet, seed 3: test/top1 is nan, so that it is left out (%s)"),
    (record("scnet", 3, math.inf), "scnet, seed 3: test/top1 is inf, so that it is left out (%s)"),
    (record("scnet", 3).model_copy(update={"results": {}, "epochs": []}),
     "scnet, seed 3: has no test/top1, so that it is left out (%s)"),
])  # fmt: skip
def test_a_run_without_a_score_is_one_line_and_the_rest_stands(bad, line):
    others = [entry for entry in records() if entry.identity != bad.identity]
    got = analyse([*others, bad], sweep())
    assert got.problems == (line % bad.id,)
    assert scores(got, "scnet").keys() == {0, 1, 2, 4, 5}
    assert got.comparisons[0].n == 5
    assert sum(got.variants[1].counts.values()) == 6


def test_what_is_not_run_yet_is_named():
    given = [entry for entry in records() if entry.seed < 4 or entry.config["model"]["name"] == "resnet"]
    got = analyse(given, sweep())
    assert got.problems == ("scnet: not run yet: seed 4, 5",)
    assert got.comparisons[0].verdict == "looks better"


def test_a_variant_with_one_seed():
    got = analyse([*records(("resnet",)), record("scnet", 2)], sweep())
    assert "scnet: one seed has a result, so that there is no interval" in got.problems
    assert got.variants[1].score.low is None
    assert got.comparisons[0].verdict == "undecided"
    assert got.answer == "Undecided: there are too few seeds to compare scnet with resnet (1 pair)."


def test_arms_without_a_common_seed():
    got = analyse([record("resnet", 0), record("scnet", 2)], sweep())
    assert "scnet: no seed in common with resnet, so that nothing is compared" in got.problems
    assert got.comparisons[0].difference is None


@pytest.mark.parametrize("method", ["grid", "random"])
def test_an_empty_sweep_is_one_line(method):
    got = analyse([], sweep(method))
    assert got.problems == ("no run of this sweep was found; `python src/sweep.py sweeps/x.yaml` makes them",)
    assert got.answer == "No result yet."


def test_the_answer_about_many_variants_is_two_sentences():
    models = ("resnet", "scnet", "senet", "nasnet", "resnext", "res2net")
    tops = {"resnet": 0.5, "scnet": 0.6, "senet": 0.4, "nasnet": 0.5, "resnext": 0.7, "res2net": 0.501}
    noise = {"resnet": 0.0, "scnet": 0.001, "senet": 0.001, "nasnet": 0.02, "resnext": 0.001, "res2net": 0.002}
    given = [record(model, seed, tops[model] + (-1) ** seed * noise[model])
             for model in models for seed in range(4 if model == "resnext" else 6)]  # fmt: skip
    got = analyse(given, sweep(parameters={"model": {"values": list(models)}, "seed": {"values": [*range(6)]}}))
    assert got.answer == (
        "scnet is better than resnet by 10.00 points (9.82 to 10.18); senet is worse than resnet by 10.00 points (9.83 "
        "to 10.17); with 4 seeds, resnext looks better than resnet by 20.00 points (19.72 to 20.28); res2net shows no "
        "difference from resnet larger than 0.50 points (+0.10, \N{MINUS SIGN}0.18 to +0.38). Undecided: with 6 seeds, "
        "nasnet lies between 2.83 points worse and 2.83 points better than resnet."
    )


def test_other_data_are_told():
    other = record("scnet", 0)
    other.data.fingerprint = "beef"
    got = analyse([*records()[:6], other], sweep())
    assert any("2 different sets of data" in line for line in got.problems)


def test_runs_of_several_kinds_of_machine_are_told():
    whole = records()
    assert not any("kinds of machine" in line for line in analyse(whole, sweep()).problems)
    other = whole[0].model_copy(deep=True)
    other.determinism.threads = 2
    (line,) = (line for line in analyse([other, *whole[1:]], sweep()).problems if "kinds of machine" in line)
    assert line.startswith("the runs are of 2 kinds of machine, which round otherwise: ")
    assert "1 thread" in line
    assert "2 threads" in line


def test_groups_options_and_experiments_tell_arms():
    words = {"norm": {"values": ["paper", "group"]}, "experiment": {"values": ["a/x", "b/y"]}, "optimizer.lr":
             {"values": ["1e-1", 0.2]}, "trainer.max_steps": {"value": "null"}, "note": {"value": "@x"}}  # fmt: skip
    given = [
        record(lr=lr, config={"norm": {"name": norm}, "note": "@x"}, code=f"{norm}{experiment}",
               command=["python", "src/train.py", f"experiment={experiment}"])
        for norm in ("paper", "group") for experiment in ("a/x", "b/y") for lr in (0.1, 0.2)
    ]  # fmt: skip
    got = analyse(given, sweep(parameters=words))
    assert [len(variant.runs) for variant in got.variants] == [1] * 8
    assert got.variants[5].name == "norm=group, experiment=a/x, optimizer.lr=0.2"
    run = got.variants[5].runs[0]
    assert (run.config["norm"]["name"], run.config["optimizer"]["lr"], run.command[2]) == (
        "group",
        0.2,
        "experiment=a/x",
    )


def test_a_claim_at_reduced_scale_is_never_reproduced():
    (line,) = analyse(records(), sweep(), Description(claims=[CLAIM])).claims
    assert line.verdict == "direction holds (scaled down)"
    assert "22.19 (SCNet-50)" in line.reported
    swapped = CLAIM.model_copy(update={"baseline": "scnet", "result": "resnet"})
    (line,) = analyse(records(), sweep(), Description(claims=[swapped])).claims
    assert line.verdict == "not supported (scaled down)"  # a gain of half a point is ruled out
    (line,) = analyse(records(), sweep(), Description(claims=[swapped], worth=20.0)).claims
    assert line.verdict == "not supported (scaled down)"
    (line,) = analyse(records(seeds=2), sweep(), Description(claims=[CLAIM])).claims
    assert line.verdict == "not attempted"


@pytest.mark.parametrize(("extra", "top1", "seeds", "verdict"), [
    ([], None, 6, "reproduced"), ([], 0.5, 6, "failed"), ([], None, 5, "undecided"),
    (["data.limit_train=64"], None, 6, "direction holds (scaled down)"),
])  # fmt: skip
def test_the_papers_own_experiment_can_be_reproduced(extra, top1, seeds, verdict):
    def at_scale(model, seed):
        network = model.replace("net", "net50")
        words = [f"model={model}", f"model.network={network}", "data=imagenet", f"seed={seed}", "trainer=gpu", *extra]
        score = top1 and top1 + seed / 100
        return record(model, seed, score, command=["python", "src/train.py", *words])

    given = [at_scale(model, seed) for model in ("resnet", "scnet") for seed in range(seeds)]
    (line,) = analyse(given, sweep(), Description(claims=[CLAIM])).claims
    assert line.verdict == verdict


def test_claims_are_adjusted_together_where_the_report_does_not_compare_them():
    three = sweep(parameters={"model": {"values": ["resnext", "resnet", "scnet"]}, "seed": {"values": [*range(6)]}})
    given = [record(model, seed, 0.8 + gain + seed * (0.003 if model == "scnet" else 0.001))
             for model, gain in (("resnext", 0.0), ("resnet", 0.1), ("scnet", 0.095)) for seed in range(6)]  # fmt: skip
    got = analyse(given, three, Description(claims=[CLAIM]))
    assert "n = 6" in got.claims[0].measured
    assert got.claims[0].verdict == "not supported (scaled down)"  # a gain of half a point is ruled out
    got = analyse(given, three, Description(claims=[CLAIM], worth=0.3))
    assert got.claims[0].verdict == "undecided (scaled down)"


def searched(count=24):
    rng = random.Random(0)
    drawn = [(rng.choice(["resnet", "scnet"]), 10 ** rng.uniform(-3, 0)) for _ in range(count)]
    return [record(model, 0, 0.9 - 0.1 * abs(math.log10(lr) + 1), lr=lr, minute=i) for i, (model, lr) in
            enumerate(drawn)]  # fmt: skip


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_has_a_variant_a_run_importance_and_no_comparison(method):
    got = analyse(searched(), sweep(method))
    assert got == analyse(searched()[::-1], sweep(method))
    assert len({variant.name for variant in got.variants}) == 24
    assert got.comparisons == ()
    assert sum(got.importance.values()) == pytest.approx(1)
    assert max(got.importance, key=got.importance.get) == "optimizer.lr"
    best = max(got.variants, key=lambda variant: variant.scores[0])
    assert f"with {best.name} (one seed). optimizer.lr mattered most" in got.answer
    assert f"optimizer.lr={best.settings['optimizer.lr']!r}" in best.command


def test_a_searchs_unfinished_runs_are_counted():
    cut = searched(3)[0].model_copy(update={"status": "interrupted"})
    got = analyse([cut, *searched(3)[1:]], sweep("random"))
    assert len(got.variants) == 2
    assert got.facts["runs"] == "2 finished, 1 interrupted"
    assert got.problems == (f"run {cut.id}: interrupted in epoch 3 ({cut.id})",)


@pytest.mark.parametrize(("text", "line"), [
    ("titel: x", "titel: there is no such key, there are title, question, baseline, worth, claims, scale. Did"),
    ("scale: 3", "scale: Input should be a valid list"),
    ("claims: [{paper: scnet, claim: x, baseline: a, result: b}]", "claims: scnet has no claim x, it has imagenet, "),
    ("claims: [{paper: scnt, claim: x, baseline: a, result: b}]", "scnt: there is no such paper; "),
    ("claims: [{paper: group_norm, claim: batch_independence, baseline: a, result: b}]",
     "claims: group_norm batch_independence does not say that the result is better, not worse or not better (its "),
    ("title: a\ntitle: b", "the key title is there twice"),
    ("a: [", "cannot be read (while parsing"),
])  # fmt: skip
def test_a_mistake_in_the_description_is_one_line(text, line, tmp_path):
    path = tmp_path / "report.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read(path)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert read(tmp_path / "none.yaml") == Description()


def test_a_variant_of_one_number_is_called_by_its_key():
    scales = {"model.scale": {"values": [8, 4]}, "seed": {"values": [0]}}
    given = [record("res2net", 0, config={"model": {"name": "res2net", "scale": scale}}, code=str(scale))
             for scale in (8, 4)]  # fmt: skip
    assert [variant.name for variant in analyse(given, sweep(parameters=scales)).variants] == [
        "model.scale=8",
        "model.scale=4",
    ]


def measured(name, goal="max", *, percent=False, unit="image"):
    """Records of a task that measures something else."""
    measure = Measure(name=name, goal=goal, percent=percent, label=f"the {name}")
    rename = {"test/top1": f"test/{name}", "val/top1": f"val/{name}"}
    given = []
    for entry in records():
        metrics = {rename.get(key, key): value for key, value in entry.results["last"].metrics.items()}
        results = {"last": entry.results["last"].model_copy(update={"metrics": metrics})}
        given.append(entry.model_copy(update={"measures": [measure], "unit": unit, "results": results}))
    return given


def test_the_metric_is_what_the_records_say():
    got = analyse(measured("miou", percent=True), sweep(metric={"name": "test/miou", "goal": "maximize"}))
    assert (got.unit, got.points, got.label, got.goal) == ("%", "points", "the miou", "maximize")
    assert got.variants[1].score.mean == pytest.approx(85, abs=2)
    got = analyse(measured("bpc", "min", unit="character"), sweep(metric=None))
    assert (got.metric, got.unit, got.goal, got.sample) == ("test/bpc", "", "minimize", "character")
    assert got.comparisons[0].verdict == "worse"
    assert got.problems == ()
    wrong = analyse(measured("bpc", "min"), sweep(metric={"name": "test/bpc", "goal": "maximize"}))
    assert wrong.goal == "minimize"
    assert wrong.problems == (
        "metric.goal: the sweep says maximize, but lower is better of test/bpc; the report says minimize",)  # fmt: skip


def test_the_commands_are_those_of_where_the_files_are():
    places = Places("my sweeps/x.yaml", "out/x", runs_dir="/data/runs")
    got = analyse(records(), sweep(), name="x", places=places)
    assert got.commands["run the sweep here"] == "python src/sweep.py 'my sweeps/x.yaml' runs_dir=/data/runs"
    assert got.commands["write this report from the runs"] == (
        "python src/report.py 'my sweeps/x.yaml' out=out runs_dir=/data/runs")  # fmt: skip
    assert got.commands["run scnet again and compare"] == "python src/reproduce.py out/x row=scnet"
    assert got.commands["run it on W&B"] == "wandb sweep 'my sweeps/x.yaml'"
    usual = analyse(records(), sweep(), name="x")
    assert usual.commands["write this report from the runs"] == usual.made_by == "python src/report.py sweeps/x.yaml"


def test_each_seed_may_have_data_of_its_own():
    given = records()
    for entry in given:
        entry.config = {**entry.config, "data": {"split_seed": entry.seed}}
        entry.data.fingerprint = f"beef{entry.seed}"
    assert not any("different sets of data" in line for line in analyse(given, sweep()).problems)
    given[0].data.fingerprint = "of another split"
    assert any("different sets of data" in line for line in analyse(given, sweep()).problems)
