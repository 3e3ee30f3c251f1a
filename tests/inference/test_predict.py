"""``predict.py``: what it writes is what the network says of each photo; what cannot be read is named and left out."""

import csv
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from contract import configured
from drawn import encoded
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

import paperzoo
from paperzoo.errors import UserError
from paperzoo.inference import loading, photos, predicting
from paperzoo.runs import folders
from paperzoo.training import train

SRC = Path(__file__).resolve().parents[2] / "src"


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def predict(words, entry, runs, out, **options):
    return predicting.run([str(word) for word in words], loading.read(entry.id, runs_dir=runs), str(out), **options)


def test_a_classifier_from_the_command_line(runs, classifier, digits, tmp_path):
    folder, labels = digits
    (tmp_path / "zz_broken.png").write_bytes(b"no image")
    words = (f"run={classifier.id}", folder, tmp_path / "zz_broken.png", f"out={tmp_path / 'out'}", "top=3")
    environment = os.environ | {"RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    done = forked.run(SRC / "predict.py", *words, env=environment)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert [row["file"] for row in rows[::3]] == [f"{n:03}.png" for n in range(len(labels))]
    assert [row["place"] for row in rows[:3]] == ["1", "2", "3"]
    first = np.array([int(row["index"]) for row in rows[::3]])
    expected = classifier.results["last"].metrics["test/top1"]
    assert (first == labels).mean() == pytest.approx(expected, abs=1e-7)
    assert f"skipped {tmp_path / 'zz_broken.png'}: not an image\n" in done.stdout
    assert "60 photos predicted, 1 skipped" in done.stdout
    table = next(line for line in done.stdout.splitlines() if line.startswith("000.png"))
    assert f"{rows[0]['class']} ({100 * float(rows[0]['probability']):.1f} %)" in table

    # the probabilities, in float64 from the files
    network = paperzoo.load(folders.find(runs, classifier.id)).double()
    (mean,), (std,) = classifier.info["mean"], classifier.info["std"]
    for place in (0, 31):
        image = np.asarray(Image.open(folder / f"{place:03}.png"), dtype=np.float64)
        logits = network(torch.from_numpy((image / 255 - mean) / std)[None, None])[0]
        exponents = np.exp(logits.numpy() - logits.max().item())
        wanted = exponents / exponents.sum()
        got = {int(r["index"]): float(r["probability"]) for r in rows[3 * place : 3 * place + 3]}
        assert sorted(got, key=got.get, reverse=True) == list(np.argsort(-wanted)[:3])
        for k, value in got.items():
            assert value == pytest.approx(wanted[k], abs=1e-5)


def test_the_batch_size_changes_no_prediction(runs, classifier, digits, tmp_path):
    folder, _ = digits
    predict([folder], classifier, runs, tmp_path / "a", batch_size=7)
    predict([folder], classifier, runs, tmp_path / "b", batch_size=1)
    for one, other in zip(rows_of(tmp_path / "a"), rows_of(tmp_path / "b"), strict=True):
        assert float(one["probability"]) == pytest.approx(float(other["probability"]), abs=1e-5)


def odd_files(folder: Path) -> tuple[set[str], set[str]]:
    """Files that must be predicted, and files that must be left out, each of its own kind."""
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    grey = colour.convert("L")
    good = {
        "grey.png": grey, "colour.jpg": colour, "palette.png": colour.convert("P"), "bits.png": colour.convert("1"),
        "alpha.png": colour.convert("RGBA"), "grey_alpha.png": colour.convert("LA"),
        "print.tif": colour.convert("CMYK"),
        "video.jpg": colour.convert("YCbCr"), "sixteen.png": Image.fromarray(np.asarray(grey).astype(np.uint16) * 256),
        "float.tif": Image.fromarray(np.asarray(grey).astype(np.float32) / 255), "gif.gif": colour.convert("P"),
        "webp.webp": colour, "bmp.bmp": colour, "pixel.png": grey.resize((1, 1)), "thin.png": grey.resize((1, 500)),
        "flat.png": grey.resize((700, 2)), "ppm.ppm": colour, "UPPER.PNG": grey, "name with [red] space.png": grey,
        "ünïcode.png": grey, "jpeg2000.jp2": colour, "ico.ico": colour.resize((32, 32)), "tga.tga": colour,
    }  # fmt: skip
    for name, image in good.items():
        image.save(folder / name)
    two: dict[str, Any] = {"save_all": True, "append_images": [colour.rotate(90)]}
    print_ = colour.convert("CMYK")
    colour.save(folder / "moving.gif", **two)
    exif = colour.getexif()
    exif[0x0112] = 6
    colour.save(folder / "turned.jpg", exif=exif)
    (folder / "really_a_jpeg.png").write_bytes((folder / "colour.jpg").read_bytes())
    whole = (folder / "colour.jpg").read_bytes()
    png = (folder / "grey.png").read_bytes()
    start = png.index(b"IDAT") + 4
    bad = {
        "empty.png": b"", "text.jpg": b"hello\n", "cut.jpg": whole[: len(whole) // 2], "cut.png": png[: len(png) // 2],
        "head.png": png[:20], "zeros.bmp": bytes(1000), "html.png": b"<html><body>404</body></html>",
        "noise.jpg": random.bytes(5000), "flipped.png": png[:start] + bytes(b ^ 0xFF for b in png[start:]),
        "gzip.tif": zlib.compress(b"x" * 1000), "svg.gif": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "magic.gif": b"GIF89a", "magic.webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
        "huge.png": png[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + png[24:],
    }  # fmt: skip
    tiny = (encoded(colour.convert("P"), "GIF"), encoded(colour, "WEBP"), encoded(colour, "TIFF"))
    bad |= {f"cut.{kind}": file[: len(file) // 2] for kind, file in zip(("gif", "webp", "tif"), tiny, strict=True)}
    bad |= {
        "checksum.png": png[: start + 5] + bytes([png[start + 5] ^ 1]) + png[start + 6 :],
        "no_size.png": png[:16] + bytes(8) + png[24:], "no_pixels.png": png[: start - 8] + png[-12:],
        "film.mpg": b"\x00\x00\x01\xb3" + bytes(100), "table.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "wide.ppm": b"P6 999999999 999999999 255\n", "short.ppm": b"P6 9 9 255\n123", "words.ppm": b"P3 1 1 255\n1 2 x",
        "lab.tif": encoded(colour.convert("LAB"), "TIFF"),
        "nan.tif": encoded(Image.fromarray(np.full((4, 5), np.nan, np.float32)), "TIFF"), "two\nlines.png": b"",
    }  # fmt: skip
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    (folder / "loop.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    others = {
        "progressive.jpg": encoded(colour, "JPEG", progressive=True),
        "print.jpg": encoded(print_, "JPEG"),
        "more_behind.jpg": whole + b"more",
        "pages.tif": encoded(colour, "TIFF", **two),
        "moving.png": encoded(colour, **two),
        "moving.webp": encoded(colour, "WEBP", **two),
        "bad_tag.jpg": encoded(colour, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff"),
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(png)  # as file systems of before UTF-8 have it
    shown = {"two\nlines.png": "two\\nlines.png"}
    predicted = {*good, *others, "moving.gif", "turned.jpg", "really_a_jpeg.png", "caf\\udce9.png"}
    return predicted, {shown.get(name, name) for name in (*bad, "loop.png", "pipe.png")}


def test_odd_images_are_predicted_and_unreadable_ones_are_named(runs, classifier, tmp_path, capsys, recwarn):
    folder = tmp_path / "photos"
    folder.mkdir()
    good, bad = odd_files(folder)
    assert len(good) > 30
    assert len(bad) >= 30
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no photo")
    (folder / "folder.png").mkdir()
    skipped = predict([folder], classifier, runs, tmp_path / "out", top=1)
    assert {row["file"] for row in rows_of(tmp_path / "out")} == good
    assert skipped == len(bad)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped ")]
    assert {Path(line.removeprefix("skipped ").split(": ")[0]).name for line in lines} == bad
    assert len(lines) == len(bad)
    assert all(line.split(": ", 1)[1] for line in lines)
    assert not [warning for warning in recwarn if "EXIF" in str(warning.message)]


def test_photos_are_found_at_any_depth_and_keep_their_names_apart(tmp_path):
    for place in ("a/1.png", "a/b/2.jpg", "a/.thumbs/3.png", "c/1.png", "c/notes.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    found = photos.find([str(tmp_path / "a"), str(tmp_path / "c"), str(tmp_path / "a" / "1.png")])
    assert [photo.name for photo in found] == ["1.png", "b/2.jpg", "1_2.png"]
    assert [photo.path.relative_to(tmp_path).as_posix() for photo in found] == ["a/1.png", "a/b/2.jpg", "c/1.png"]
    for words, line in (
        ([], "which photos?"), ([str(tmp_path / "x.png")], "there is no such file or folder"),
        ([str(tmp_path / "a" / ".thumbs" / "none")], "there is no such file or folder"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=line):
            photos.find(words)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no images"):
        photos.find([str(tmp_path / "empty")])


def test_maps_are_those_of_the_network(runs, parser, digits, tmp_path):
    folder, _ = digits
    names = ["000.png", "007.png"]
    predict([folder / name for name in names], parser, runs, tmp_path)
    network = paperzoo.load(parser.id, runs_dir=runs).double()
    (mean,), (std,) = parser.info["mean"], parser.info["std"]
    rows = rows_of(tmp_path)
    for name in names:
        image = np.asarray(Image.open(folder / name), dtype=np.float64)
        logits = network(torch.from_numpy((image / 255 - mean) / std)[None, None])[0]
        best = logits.topk(2, dim=0).values
        sure = ((best[0] - best[1]) > 1e-4).numpy()  # where float32 cannot have decided otherwise
        stored = Image.open(tmp_path / "maps" / f"{name}.png")
        got = np.asarray(stored)
        assert stored.mode == "P"
        assert sure.mean() > 0.9
        assert (got == logits.argmax(0).numpy())[sure].all()
        own = [row for row in rows if row["file"] == name]
        counted = {int(k): int((got == k).sum()) / got.size for k in np.unique(got)}
        assert {int(row["index"]): float(row["share"]) for row in own} == pytest.approx(counted, abs=1e-6)
        assert [float(row["share"]) for row in own] == sorted((float(row["share"]) for row in own), reverse=True)
        assert Image.open(tmp_path / "pictures" / f"{name}.png").size[0] > 500


def test_objects_are_those_of_the_network_in_pixels_of_the_photo(runs, detector, tmp_path):
    trained = loading.read(detector.id, runs_dir=runs)
    random = np.random.default_rng(0)
    sizes = {"a.png": (64, 96), "b.png": (50, 70)}  # height, width
    (tmp_path / "photos").mkdir()
    for name, size in sizes.items():
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    trained.transform.shorter = 48  # as where the data is resized: results are in pixels of the photo all the same
    predicting.run([str(tmp_path / "photos")], trained, str(tmp_path / "out"), score=0.0)
    content = COCO(str(tmp_path / "out" / "predictions.json"))
    assert {i["file_name"]: (i["height"], i["width"]) for i in content.loadImgs(content.getImgIds())} == sizes
    assert [c["name"] for c in content.loadCats(content.getCatIds())] == detector.info["class_names"]
    total = 0
    for number, (name, size) in enumerate(sizes.items(), start=1):
        one = trained.transform(tmp_path / "photos" / name)
        ratio = size[0] / one.shape[1], size[1] / one.shape[2]
        batch = trained.transform.batch([one])
        with torch.no_grad():
            (wanted,) = trained.module.network.detect(batch, [tuple(one.shape[1:])], **trained.module.detecting)
        got = content.loadAnns(content.getAnnIds(imgIds=[number]))
        order = sorted(range(len(got)), key=lambda i: -got[i]["score"])
        scores = sorted(wanted["scores"].tolist(), reverse=True)
        assert [got[i]["score"] for i in order] == pytest.approx(scores, abs=1e-5)
        x, y, w, h = got[order[0]]["bbox"]
        best = wanted["boxes"][int(wanted["scores"].argmax())].tolist()
        corners = [best[0] * ratio[1], best[1] * ratio[0], best[2] * ratio[1], best[3] * ratio[0]]
        assert [x, y, x + w, y + h] == pytest.approx(corners, abs=1e-2)
        for annotation in got:
            assert annotation["segmentation"]["size"] == list(size)
            assert int(coco.area({**annotation["segmentation"]})) == annotation["area"]
        total += len(got)
        assert (tmp_path / "out" / "pictures" / f"{name}.png").is_file()
    assert total > 0


def test_mistakes_are_one_line(runs, classifier, digits, tmp_path):
    folder, _ = digits
    for words, options, line in (
        ([tmp_path / "none"], {}, "there is no such file or folder"),
        ([folder], {"device": "gpu"}, "device=gpu: must be cpu, cuda"),
    ):
        with pytest.raises(UserError, match=line):
            predict(words, classifier, runs, tmp_path / "out", **options)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UserError, match="none of the 1 files can be read as an image"):
        predict([tmp_path / "text.png"], classifier, runs, tmp_path / "out")
    predict([folder / "000.png"], classifier, runs, tmp_path / "out")
    with pytest.raises(UserError, match=r"holds predictions.csv already; name another folder"):
        predict([folder / "000.png"], classifier, runs, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        predict([folder / "000.png"], classifier, runs, tmp_path / "file" / "out")


@pytest.mark.parametrize(("words", "line"), [
    (["run=0"], "which photos?"),
    (["photo.png"], "which network? run=<id>, or model="),
    (["photo.png", "run=1234", "top=0"], "top=0: must be a whole number of at least 1"),
    (["photo.png", "run=1234", "score=2"], "score=2: must be a number from 0 to 1"),
    (["photo.png", "run=1234"], "run=1234: there is no such run"),
    (["photo.png", "runn=1234"], "runn=1234: there is no such option"),
    (["photo.png", "model=scnet"], "model.checkpoint must be given"),
    (["photo.png", "model=scnett", "model.checkpoint=x"], "model=scnett: there is no such model"),
    (["photo.png", "model=scnet", "model.checkpoint=x.pth"], "model.checkpoint=x.pth: there is no such file"),
])  # fmt: skip
def test_mistakes_of_the_command_are_one_line(words, line, runs, classifier, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(runs))
    monkeypatch.setattr(sys, "argv", ["predict.py", *words])
    import runpy

    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SRC / "predict.py"), run_name="__main__")
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1


def test_a_run_of_another_task_is_refused(tmp_path, digits):
    entry = train(configured("triplet", "trainer.threads=1", runs=tmp_path / "runs"))
    with pytest.raises(UserError, match=r"is of retrieval; predict.py does classification, segmentation, detection"):
        predict([digits[0]], entry, tmp_path / "runs", tmp_path / "out")


def test_published_weights_without_a_run(tmp_path):
    """Random weights of the network's own keys: the prediction is that of the network on timm's transform."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    import paperzoo.papers.shufflenet_v2  # noqa: F401 (it registers its networks)

    torch.manual_seed(0)
    network = timm.create_model("shufflenet_v2_0_5x", num_classes=7).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "w.pth")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    words = {
        "model": "shufflenet_v2",
        "model.network": "shufflenet_v2_0_5x",
        "model.checkpoint": str(tmp_path / "w.pth"),
    }
    trained = predicting.trained_of("", "last", "runs", words)
    predicting.run([str(tmp_path / "a.png")], trained, str(tmp_path / "out"), top=7)
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    with torch.no_grad():
        wanted = network.double()(transform(picture)[None].double())[0].softmax(0)
    got = {int(row["index"]): float(row["probability"]) for row in rows_of(tmp_path / "out")}
    assert got == pytest.approx(dict(enumerate(wanted.tolist())), abs=1e-5)


def test_the_names_of_a_thousand_classes_are_imagenets():
    from paperzoo.inference.published import names

    assert len(names(1000)) == 1000
    assert "tench" in names(1000)[0]
    assert names(3) == ["0", "1", "2"]
