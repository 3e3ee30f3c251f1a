"""The list of runs, at the widths that terminals have."""

import pytest
from drawn_report import record

from paperzoo.runs import listing
from paperzoo.runs import record as records

LONG = "model.checkpoint=/somewhere/far/below/in/a/folder/with/a/long/name/weights.pth"


@pytest.mark.parametrize("width", [80, 110, 159, 160, 240])
def test_runs_can_be_told_apart_and_named_at_any_width(width, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    words = (["norm=group"], ["norm=switchable"], ["optimizer.lr=0.05", LONG])
    config = {"model": {"name": "shufflenet_v2"}, "trainer": {"max_epochs": 5}}
    entries = [
        record("x", seed, 0.5, id=f"0123456789-{seed + 1}", command=["src/train.py", *own], config=config)
        for seed, own in enumerate(words)
    ]
    for entry in entries:
        folder = tmp_path / "shufflenet_v2" / "0123456789" / entry.id[-1]
        folder.mkdir(parents=True)
        records.write(folder, entry)
    listing.show(tmp_path, model=None, status=None, limit=9)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for entry, own in zip(entries, words, strict=True):
        assert f"{entry.id}  finished" in shown
        assert own[0] in shown
    assert ("started" in shown) == (width >= listing.WIDE)


def test_a_repetition_has_the_overrides_of_the_run_that_it_repeats(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    config = {"model": {"name": "x"}, "trainer": {"max_epochs": 5}}
    commands = (["python", "src/train.py", "norm=group"], ["python", "src/reproduce.py", "0123-1", "root=elsewhere"])
    for attempt, words in enumerate(commands, 1):
        folder = tmp_path / "x" / "0123" / str(attempt)
        folder.mkdir(parents=True)
        records.write(folder, record("x", 0, 0.5, id=f"0123-{attempt}", command=words, config=config))
    listing.show(tmp_path, model=None, status=None, limit=9)
    shown = capsys.readouterr().out
    assert shown.count("norm=group") == 2
    assert "elsewhere" not in shown
