"""ShuffleNet V2's guidelines: arms of equal multiply-adds, accesses by the paper's formulas; speeds are not tested."""

import statistics

import pytest
import torch

from paperzoo.accounting import convolution, count, speed
from paperzoo.papers.shufflenet_v2 import guidelines
from paperzoo.papers.shufflenet_v2.guidelines import GUIDELINES, SIZE, Row, verdict

PIXELS = SIZE**2
FORMULAS = {  # accesses of convolutions, and of other operations, by hand
    "G1": {
        (c1, c2): (20 * (PIXELS * (c1 + c2) + c1 * c2), 0) for c1, c2 in ((96, 96), (48, 192), (32, 288), (24, 384))
    },
    "G2": {(c, g): (20 * (PIXELS * 2 * c + c * c // g), 0) for c, g in ((96, 1), (192, 4), (288, 9), (384, 16))},
    "G3": {
        (c, n, kind): (
            20 * n * (PIXELS * 2 * c + c * c),
            20 * (n - 1) * 3 * PIXELS * c * (kind == "parallel"),  # sums: two read, one written
        )
        for c, n, kind in ((96, 1, ""), (48, 4, "series"), (48, 4, "parallel"), (32, 9, "series"), (32, 9, "parallel"))
    },
    "G4": {
        (relu, shortcut): (
            10 * (PIXELS * (2 * (128 + 32) + 2 * 32) + 2 * 128 * 32 + 9 * 32 * 32),
            10 * PIXELS * (relu * 2 * (32 + 32 + 128) + shortcut * 3 * 128),
        )
        for relu, shortcut in ((False, False), (True, False), (False, True), (True, True))
    },
}


@pytest.mark.parametrize("name", GUIDELINES)
def test_arms_cost_the_same_and_access_what_the_formulas_say(name):
    with torch.device("meta"):
        counted = [count(arm.build(), (arm.chans, SIZE, SIZE)) for arm in GUIDELINES[name].arms.values()]
    assert len({each.macs for each in counted}) == 1
    assert [(each.accesses, each.other_accesses) for each in counted] == list(FORMULAS[name].values())
    costs = [each.accesses + each.other_accesses for each in counted]
    assert costs[0] < min(costs[1:])


@pytest.mark.parametrize("name", GUIDELINES)
def test_no_arm_is_slow_for_its_numbers(name):
    """Arithmetic with subnormal numbers takes many times as long."""
    torch.manual_seed(0)
    for label, arm in GUIDELINES[name].arms.items():
        with torch.no_grad():
            largest = float(arm.build()(torch.rand(1, arm.chans, 2, 2)).abs().max())
        assert 1e-12 < largest < 1e12, label


def test_the_first_arm_of_g1_accesses_the_least_there_can_be():
    arm = GUIDELINES["G1"].arms["c1:c2 = 1:1 (96, 96)"]
    counted = count(arm.build(), (96, SIZE, SIZE))
    assert counted.accesses == pytest.approx(20 * convolution.least_accesses(counted.macs // 20, SIZE), rel=1e-12)


@pytest.mark.parametrize(("fragments", "kind"), [(4, "parallel"), (9, "parallel")])
def test_branches_are_summed(fragments, kind):
    torch.manual_seed(0)
    block = guidelines.Branches(6, fragments)
    x = torch.randn(2, 6, 3, 3)
    before = x.clone()
    torch.testing.assert_close(block(x), sum(branch(x) for branch in block.branches))
    assert torch.equal(x, before)


def rows(**speeds: list[float]) -> dict[str, Row]:
    return {name: Row(count(torch.nn.Identity(), (1,)), 1.0, values) for name, values in speeds.items()}


@pytest.mark.parametrize(
    ("speeds", "says"),
    [
        ({"b": [0.5] * 8, "c": [0.9] * 8}, "Holds here: a is the fastest."),
        ({"b": [0.5] * 8, "c": [0.9, 1.1] * 4}, "Not certain here: no difference is seen between a and c."),
        ({"b": [1.5] * 8, "c": [0.9] * 8}, "Does not hold here: faster than a is b."),
    ],
)
def test_the_verdict_is_what_the_intervals_tell(speeds, says):
    assert verdict(rows(a=[1.0] * 8, **speeds)) == says


def test_the_page(monkeypatch, capsys):
    """Every arm with its figures; the speed is that of the same round."""

    def fixed(calls, rounds, **options):
        assert all(call().shape[0] == guidelines.BATCH for call in calls.values())
        return {name: [0.5, 0.5, 0.5] if "1:4" in name else [0.25, 0.25, 0.25] for name in calls}

    monkeypatch.setattr(guidelines, "interleaved", fixed)
    monkeypatch.setattr(guidelines, "SIZE", 7)  # 20 (49 (48 + 192) + 48 * 192) accesses
    monkeypatch.setenv("COLUMNS", "100")
    guidelines.show()
    lines = capsys.readouterr().out.splitlines()
    for guideline in GUIDELINES.values():
        for label in guideline.arms:
            assert any(line.startswith(label) for line in lines)
    (row,) = (line for line in lines if line.startswith("1:4 "))
    assert row.split()[3:] == ["9", "M", "0.4", "M", "0.0", "M", "8", "0.50", "[0.50,", "0.50]"]
    assert max(map(len, lines)) <= 100


def test_images_per_second_and_speed_do_not_contradict_each_other():
    """A machine that gets slower: the other arm is faster in every round but one, and slower by the medians."""
    first, *others = GUIDELINES["G1"].arms
    times = {f"G1 {first}": [1.0, 2.0, 3.0, 9.0, 9.0], f"G1 {others[0]}": [0.9, 1.9, 3.5, 8.0, 8.0]}
    assert statistics.median(times[f"G1 {others[0]}"]) > statistics.median(times[f"G1 {first}"])
    counted = count(torch.nn.Identity(), (1,))
    base, row = (guidelines._row(counted, times, "G1", label) for label in (first, others[0]))
    assert statistics.median(row.speed) > 1
    assert row.per_second > base.per_second
    assert row.per_second / base.per_second == pytest.approx(statistics.median(row.speed))


def test_rounds_take_each_arm_once_in_turn():
    """A clock that each arm moves by its own seconds; the first round is not counted."""
    now, calls = [0.0], []

    def arm(name: str, seconds: float):
        def call() -> None:
            calls.append(name)
            now[0] += seconds

        return call

    arms = {"a": arm("a", 1.0), "b": arm("b", 2.0), "c": arm("c", 4.0)}
    times = speed.interleaved(arms, 8, clock=lambda: now[0])
    assert times == {"a": [1.0] * 8, "b": [2.0] * 8, "c": [4.0] * 8}
    rounds = [tuple(calls[i : i + 3]) for i in range(0, 27, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 3
    assert speed.ratios(times["c"], times["b"]) == [2.0] * 8
    short = speed.interleaved(arms, 100, clock=lambda: now[0], budget=0.0)
    assert len(short["a"]) == speed.LEAST


def test_the_interval_holds_the_median_and_widens_with_the_spread():
    narrow, wide = [1.0, 1.01, 0.99] * 4, [1.0, 1.5, 0.5] * 4
    for values in (narrow, wide):
        low, high = speed.interval(values)
        assert low <= statistics.median(values) <= high
    assert speed.interval(wide) == (0.5, 1.5)
    assert speed.interval([2.0] * 9) == (2.0, 2.0)
