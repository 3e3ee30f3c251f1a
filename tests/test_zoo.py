"""``python src/zoo.py``: what a reader needs is there at every width, and a mistake is one line."""

import os
import re
import subprocess
import sys

import pytest

from paperzoo import cards, zoo

PROGRAM = cards.PAPERS.parents[1] / "zoo.py"
SLUGS = cards.slugs()


def run(*words: str, columns: int = 100) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def printed(monkeypatch, capsys):
    """What the table, or a paper's card, prints at a width: in this process, since a program takes half a second."""

    def show(slug: str | None, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        zoo.show(slug) if slug else zoo.show_all()
        return capsys.readouterr().out

    return show


def test_the_program_prints_the_table_and_a_card(printed):
    for words in ([], ["scnet"]):
        done = run(*words)
        assert (done.returncode, done.stdout) == (0, printed(*(words or [None]), columns=100))


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_the_table_names_every_paper_within_the_width(columns, printed):
    text = printed(None, columns)
    assert "\x1b" not in text  # plain when piped
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    for word in ("name", "paper", "kind", "claims", *(("networks", "parameters", "MACs") if columns >= 120 else ())):
        assert word in lines[0].split()
    assert len(lines) == len(SLUGS) + 4  # a line each, the heading, and what follows
    for slug, line in zip(SLUGS, lines[1:], strict=False):
        card = cards.load(slug)
        assert line.split()[0] == slug
        assert f"{zoo._venue(card.venue)} {card.year}" in line
        claims = re.findall(r"(\d+) (reproduced|holds|undecided|unsupported|failed|untested)", line)
        assert line.rstrip().endswith(", ".join(map(" ".join, claims)))
        assert sum(int(count) for count, _ in claims) == len(card.claims)
    assert "…" not in text


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("slug", SLUGS)
def test_a_card_says_all_that_it_holds(slug, columns, printed):
    shown = printed(slug, columns)
    card = cards.load(slug)
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown
    text = "".join(shown.split())  # where a line breaks depends on the width
    wanted = [card.title, *card.authors, card.adds, card.status]
    for network in card.networks:
        wanted += [network.name, f"{network.parameters:,}", network.reported or "", network.source or ""]
    for option in card.options:
        wanted += [f"{option.of}.{option.name}", option.what, option.allowed()]
    for claim in card.claims:
        wanted += [claim.id, claim.statement, claim.metric, claim.needs or ""]
        wanted += [f"{claim.baseline or 'not stated'}→{claim.result or 'not stated'}"]
        wanted += [words for pair in (claim.test, claim.scaled_test) if pair for words in (pair.baseline, pair.result)]
    for deviation in card.deviations:
        wanted += [deviation.what, deviation.why, deviation.undo or ""]
    missing = [words for words in wanted if "".join(words.split()) not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["scnett"], "did you mean scnet?"),
        (["scnet", "resnet"], "resnet"),
        (["--al"], "--al"),
        (["page=x"], "page=x: there is no such page; pages: arithmetic, "),
        (["page=guideline"], "did you mean guidelines?"),
        (["page="], "page=: there is no such page"),
        (["scnet", "page=guidelines"], "one of the two"),
        (["pag=guidelines"], "Did you mean page=?"),
        (["../scnet"], "no such paper"),
        ([""], "no such paper"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, says):
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_a_loss_or_a_recipe_needs_no_network(monkeypatch, capsys):
    card = cards.load("scnet")
    bare = cards.Card.model_validate(card.model_dump() | {"networks": [], "options": [], "measured": []})
    monkeypatch.setattr(cards, "slugs", lambda: ["scnet"])
    monkeypatch.setattr(cards, "load", lambda slug: bare)
    zoo.show_all()
    zoo.show("scnet")
    printed = capsys.readouterr().out
    assert f"{len(card.claims)} untested" in printed
    assert "none of its own" in printed


@pytest.mark.parametrize(("name", "short"), [
    ("CVPR", "CVPR"), ("IEEE TPAMI", "IEEE TPAMI"),
    ("IEEE Transactions on Neural Networks and Learning Systems", "IEEE TNNLS"),
])  # fmt: skip
def test_a_long_venue_by_its_initials(name, short):
    assert zoo._venue(name) == short


def test_help():
    done = run("--help")
    assert done.returncode == 0
    assert "python src/zoo.py scnet" in done.stdout


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (220_538, "221 k"), (25_887_104, "25.9 M"), (3_925_286_912, "3.93 G"), (999_600, "1 M")],
)
def test_short_numbers(number, text):
    assert zoo._short(number) == text


def test_page_arithmetic_counts_a_networks_convolutions_by_the_formulas(capsys):
    import timm

    import paperzoo.papers.resnet  # noqa: F401 (registers resnet_small)
    from paperzoo.accounting import count
    from paperzoo.pages import arithmetic

    network = timm.create_model("resnet_small", in_chans=1)
    layers = arithmetic.layers(network, (1, 28, 28))
    naive = sum(
        layer.after[0] * layer.after[1] * layer.conv.weight.numel() for layer in layers
    )  # no groups: a weight meets every pixel of its map
    arithmetic.show(network="resnet_small", size="28", chans="1")
    shown = capsys.readouterr().out
    assert f"{naive:,} multiply-adds" in shown
    assert f"{count(network, (1, 28, 28)).macs:,} multiply-adds" in shown
    assert "receptive field before pooling: 11 x 11 pixels" in shown
    arithmetic.show()
    assert "115,605,504" in capsys.readouterr().out  # 56 * 56 * 9 * 64 * 64


def test_page_schedule_prints_and_draws(capsys, tmp_path):
    from paperzoo.pages import schedule

    schedule.show(scheduler="constant", epochs="2", steps="3")
    shown = capsys.readouterr().out
    assert "optimizer.lr=0.1" in shown
    schedule.show(out=str(tmp_path / "s.png"))
    assert (tmp_path / "s.png").stat().st_size > 5000


def test_page_schedule_takes_the_keys_of_a_schedule(capsys):
    """A cycle of one epoch of two steps after one epoch of warm-up: 0, half, then each cycle from the base to half."""
    from paperzoo import zoo
    from paperzoo.errors import UserError

    own = {"scheduler": "warmup_cosine", "scheduler.cycle_epochs": "1"}
    zoo.show_page("schedule", epochs="3", steps="2", **own)
    shown = capsys.readouterr().out
    assert "scheduler.cycle_epochs=1" in shown
    rates = [float(line.split()[2]) for line in shown.splitlines() if line[:1].isdigit()]
    assert rates == [0, 0.05, 0.1, 0.05, 0.1, 0.05]
    with pytest.raises(UserError, match=r"optimizer\.lr=1: page=schedule has no such option"):
        zoo.show_page("schedule", **{"optimizer.lr": "1"})


def test_a_page_names_the_options_that_it_has():
    from paperzoo import zoo
    from paperzoo.errors import UserError

    assert {"arithmetic", "guidelines", "schedule"} <= set(zoo.pages())
    with pytest.raises(UserError, match="page=schedule has no such option; options: scheduler, epochs"):
        zoo.show_page("schedule", speed="1")
