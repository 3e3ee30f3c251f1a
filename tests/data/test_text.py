"""Texts: what is in which split, which chunk comes when, and that evaluation sees every character once."""

import hashlib
import re

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from paperzoo.config import compose
from paperzoo.data.interface import make_data
from paperzoo.data.text import grammar
from paperzoo.data.text.streams import PADDING, EvaluationLoader, streams
from paperzoo.errors import UserError

TEXT = "".join(chr(97 + (7 * i + i // 26) % 26) for i in range(2000))


def from_file(folder, *words, text=TEXT, rank=0, ranks=1):
    (folder / "tiny_shakespeare").mkdir(exist_ok=True)
    (folder / "tiny_shakespeare" / "input.txt").write_text(text, encoding="utf-8")
    options = ["model=lstm", "data=tiny_shakespeare", f"paths.data_dir={folder}", "data.length=7", "data.batch_size=4"]
    config = compose("train", [*options, *words])
    return make_data(config, rank=rank, ranks=ranks)


def letters(data, codes):
    return "".join(data.vocabulary[code] for code in codes.tolist())


def test_splits_are_the_first_ninety_percent_the_next_five_and_the_last_five(tmp_path):
    data = from_file(tmp_path)
    assert [letters(data, data.parts[name]) for name in ("train", "val", "test")] == [
        TEXT[:1800], TEXT[1800:1900], TEXT[1900:]
    ]  # fmt: skip
    assert data.vocabulary == "abcdefghijklmnopqrstuvwxyz"
    assert data.info == {"vocabulary": data.vocabulary, "length": 7}
    limited = from_file(tmp_path, "data.limit_train=500")
    assert letters(limited, limited.parts["train"]) == TEXT[:500]
    assert limited.fingerprint != data.fingerprint
    assert letters(limited, limited.parts["test"]) == TEXT[1900:]


def test_the_fingerprint_is_of_the_text_wherever_it_lies(tmp_path):
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    first, again = (from_file(place) for place in places)
    other = from_file(tmp_path / "a", text="z" + TEXT[1:])
    assert first.fingerprint == again.fingerprint
    assert len(first.fingerprint) == 64
    assert other.fingerprint != first.fingerprint


def test_letters_beyond_ascii_and_line_ends(tmp_path):
    text = "Mönche.\n日本\U0001f600\n" * 90
    data = from_file(tmp_path, text=text)
    assert set(data.vocabulary) == set(text)
    assert letters(data, torch.cat([data.parts[name] for name in ("train", "val", "test")])) == text


@pytest.mark.parametrize("ranks", [1, 2])
def test_rows_of_training_batches_go_on_where_they_ended(tmp_path, ranks):
    rows = {}
    for rank in range(ranks):
        data = from_file(tmp_path, rank=rank, ranks=ranks)
        before = None
        for characters, following, chunk in data.train_dataloader():
            for row in range(4):
                start = int(chunk[row]) * 7
                assert letters(data, characters[row]) == TEXT[start : start + 7]
                assert letters(data, following[row]) == TEXT[start + 1 : start + 8]
            assert before is None or torch.equal(chunk, before + 1)
            before = chunk
            rows.setdefault(rank, []).append(chunk)
    seen = torch.cat([torch.stack(each).flatten() for each in rows.values()])
    assert len(seen.unique()) == len(seen) == 256  # of (1800 - 1) // 7 = 257 chunks


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 3), st.integers(0, 5))
def test_streams_are_a_function_of_seed_and_epoch_with_every_chunk_at_most_once(size, batch, ranks, epoch):
    order = streams(size, None, 3, epoch, batch, ranks)
    together = batch * ranks
    assert len(order) == size // together * together
    assert len(order.unique()) == len(order)
    assert not len(order) or 0 <= int(order.min()) <= int(order.max()) < size
    assert torch.equal(order, streams(size, None, 3, epoch, batch, ranks))
    table = order.view(-1, together)
    assert torch.equal(table[1:], table[:-1] + 1)
    # two ranks with b rows see what one with 2b sees
    assert torch.equal(order, streams(size, None, 3, epoch, together, 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 150), st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))
def test_evaluation_predicts_every_character_once_whatever_the_batches(size, length, count, together, ranks):
    count = min(count, size - 1)
    text = torch.arange(size)
    found = []
    for rank in range(ranks):
        loader = EvaluationLoader(text, length, count, together, rank, ranks)
        batches = list(loader)
        assert len(batches) == len(loader)
        ends = {}
        for inputs, targets, chunk in batches:
            within = targets != PADDING
            assert torch.equal(targets[within], inputs[within] + 1)
            found += targets[within].tolist()
            for row in range(len(chunk)):  # a chunk that follows another of its stream begins where that ended
                if within[row].any():
                    first = int(inputs[row, 0])
                    assert ends.get(int(chunk[row]) - 1, first) == first
                    ends[int(chunk[row])] = int(targets[row][within[row]][-1])
    assert sorted(found) == list(range(1, size))


def test_the_embedded_text_is_the_same_everywhere_and_follows_its_grammar():
    text, bits = grammar.text(240_000)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGEST
    assert 0.5 < bits < 0.8
    for line in text.split("\n")[:-1]:
        assert line.count('"') % 2 == 0
        assert line.count("(") == line.count(")")
        for singular, plural in (*grammar.VERBS, *grammar.SPEAK):
            assert not re.search(rf"\b(two|many|three) \w+s {singular}\b", line)
            assert not re.search(rf"\b(one|every|this) (fox|hen|lamb) {plural}\b", line)


DIGEST = "6f60692417a502e9"


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*input\.txt"):
        make_data(compose("train", ["model=lstm", "data=tiny_shakespeare", f"paths.data_dir={tmp_path}"]))
    with pytest.raises(UserError, match=r"lower data\.batch_size or data\.length"):
        from_file(tmp_path, "data.length=900")
    with pytest.raises(UserError, match=r"data\.eval_streams=500"):
        from_file(tmp_path, "data.eval_streams=500")
    with pytest.raises(UserError, match="sampler=pk: this data has no class"):
        from_file(tmp_path, "sampler=pk")
    for word, message in (
        ("mix=mixup", "mixes images; use mix=none"),
        ("data.validation=0.96", "leave no text to train on"),
        ("data.characters=null", r"data\.characters must be given"),
        ("data.length=0", r"data\.length=0"),
        ("data.augment.flip=0.5", r"augment"),
    ):
        with pytest.raises(UserError, match=message):
            compose("train", ["model=lstm", word])
    (tmp_path / "tiny_shakespeare" / "input.txt").write_bytes(b"\xff\xfe\x00abc")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        make_data(compose("train", ["model=lstm", "data=tiny_shakespeare", f"paths.data_dir={tmp_path}"]))
