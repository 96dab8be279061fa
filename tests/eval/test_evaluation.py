"""Evaluations from end to end on small pictures: figures, peers, resuming, errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from tiny_model import save_tiny_model

from tessella.codecs.named import codec_named
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError, PictureError
from tessella.eval.evaluation import EvalOptions, evaluate, image_set
from tessella.eval.evaluation.journal import Journal, Piece
from tessella.eval.evaluation.showing import shown_pictures
from tessella.eval.evaluation.worker import Worker
from tessella.eval.protocol import PRESETS
from tessella.eval.results import PictureRecord, Results

PIXELS = EvalOptions(metrics=("psnr", "ssim"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of unlike sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for name, picture in {"a": data.coffee(), "b": data.rocket(), "c": data.chelsea()}.items():
        part = Image.fromarray(picture[100:260, 150:390]).resize((120 + ord(name), 96))
        part.save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer with a prior."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder)
    return folder


def test_scores_are_those_of_the_files(pictures: Path, model: Path, tmp_path: Path) -> None:
    labels = [f"{model}:2", str(model), "jpeg:20"]
    results, _ = evaluate(labels, [image_set(pictures)], PIXELS, work=tmp_path, peers=["webp"])
    assert [s.label for s in results.subjects] == [
        f"{model}:2",
        str(model),
        f"webp@{model}:2",
        f"webp@{model}",
        "jpeg:20",
    ]
    assert len(results.pictures) == 5 * 3
    for label, quality in {f"{model}:2": 2, str(model): None, "jpeg:20": 20}.items():
        codec = codec_named(label.removesuffix(f":{quality}"))
        for record in (r for r in results.pictures if r.subject == label):
            path = pictures / record.picture
            file = codec.compress(path, quality)
            original = np.array(Image.open(path))
            assert (record.num_bytes, record.width) == (len(file), original.shape[1])
            expected = peak_signal_noise_ratio(original, codec.decompress(file))
            assert record.scores["psnr"] == pytest.approx(expected, abs=1e-9)
            assert record.bpp == 8 * len(file) / original[..., 0].size


def test_peers_get_the_bytes_of_each_picture(pictures: Path, model: Path, tmp_path: Path) -> None:
    results, _ = evaluate(
        [f"{model}:3"], [image_set(pictures)], PIXELS, work=tmp_path, peers=["jpeg"]
    )
    sizes = {r.picture: r.num_bytes for r in results.pictures if r.subject == f"{model}:3"}
    peer = {r.picture: r.num_bytes for r in results.pictures if r.subject == f"jpeg@{model}:3"}
    smallest = {p: len(codec_named("jpeg").compress(pictures / p, 1)) for p in sizes}
    assert peer.keys() == sizes.keys()
    assert all(peer[p] <= max(sizes[p], smallest[p]) for p in sizes)


def test_codes_are_counted(pictures: Path, model: Path, tmp_path: Path) -> None:
    results, _ = evaluate([f"{model}:2", str(model)], [image_set(pictures)], PIXELS, work=tmp_path)
    codec = TokenizerCodec.from_model(model)
    tokens = [codec.encode(path).levels[0] for path in sorted(pictures.iterdir())]
    groups = tokens[0].shape[-1]
    assert len(results.tokens) == groups
    for j, record in enumerate(results.tokens):
        assert (record.subject, record.part) == (str(model), f"group {j + 1}")
        codes = np.concatenate([t[..., j].flatten().numpy() for t in tokens])
        counts = np.bincount(codes, minlength=record.vocab_size)
        shares = counts[counts > 0] / counts.sum()
        entropy = -(shares * np.log2(shares)).sum()
        assert record.statistics["entropy"] == pytest.approx(entropy)
        assert record.statistics["usage"] == np.count_nonzero(counts) / record.vocab_size
        assert record.shares[0] == pytest.approx(counts.max() / counts.sum(), rel=1e-5)


def test_a_stopped_run_goes_on_with_the_same_numbers(
    pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, sets = [f"{model}:2", "jpeg:20"], [image_set(pictures)]
    whole, _ = evaluate(labels, sets, PIXELS, work=tmp_path / "whole")
    run, done = Worker.run, []

    def stopping(self: Worker, task: object) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(task)
        run(self, task)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(labels, sets, PIXELS, work=tmp_path / "part")
    monkeypatch.setattr(Worker, "run", run)
    written: list[str] = []
    write = Journal.write

    def counting(self: Journal, key: str, piece: Piece) -> None:
        written.append(key)
        write(self, key, piece)

    monkeypatch.setattr(Journal, "write", counting)
    resumed, _ = evaluate(labels, sets, PIXELS, work=tmp_path / "part")
    assert len(written) == 3 * 3 - 5  # originals and two contenders, less what was done
    assert _without_times(resumed.pictures) == _without_times(whole.pictures)
    written.clear()
    evaluate([*labels, "webp:50"], sets, PIXELS, work=tmp_path / "part")
    assert len(written) == 3  # one more model costs that model alone


@pytest.mark.slow
def test_several_processes_give_what_one_gives(pictures: Path, tmp_path: Path) -> None:
    sets = [image_set(pictures)]
    one, _ = evaluate(["jpeg:20"], sets, PIXELS, work=tmp_path / "one")
    two, _ = evaluate(["jpeg:20"], sets, PIXELS, work=tmp_path / "two", jobs=2)
    assert _without_times(one.pictures) == _without_times(two.pictures)


def test_results_survive_json(pictures: Path, model: Path, tmp_path: Path) -> None:
    results, _ = evaluate([str(model)], [image_set(pictures)], PIXELS, work=tmp_path / "work")
    results.save(tmp_path / "eval.json")
    assert Results.load(tmp_path / "eval.json") == results
    (tmp_path / "other.json").write_text(json.dumps({"version": 7}), encoding="utf-8")
    with pytest.raises(ConfigError, match="version 1"):
        Results.load(tmp_path / "other.json")
    (tmp_path / "other.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be read"):
        Results.load(tmp_path / "other.json")


def test_worst_and_best_pictures_are_shown(pictures: Path, tmp_path: Path) -> None:
    results, setup = evaluate(["jpeg:5"], [image_set(pictures)], PIXELS, work=tmp_path)
    shown = shown_pictures(setup, results, each=1)
    by_psnr = sorted(results.pictures, key=lambda r: r.scores["psnr"] or 0.0)
    assert [(s.why, s.picture) for s in shown] == [
        ("worst", by_psnr[0].picture),
        ("best", by_psnr[-1].picture),
    ]
    assert all(s.original[:2] == s.reconstruction[:2] == b"\xff\xd8" for s in shown)


def test_a_protocol_crops_and_rounds(pictures: Path, model: Path, tmp_path: Path) -> None:
    options = EvalOptions(metrics=("psnr",), protocol=PRESETS["adm"])
    results, _ = evaluate([str(model)], [image_set(pictures)], options, work=tmp_path)
    assert {(r.width, r.height) for r in results.pictures} == {(256, 256)}
    assert results.protocol["rounding"] == "trunc_128"


def test_pictures_too_small_for_a_metric_have_none(tmp_path: Path) -> None:
    Image.fromarray(data.coffee()[:40, :40]).save(tmp_path / "small.png")
    options = EvalOptions(metrics=("psnr", "ms_ssim"))
    results, _ = evaluate(["jpeg:20"], [image_set(tmp_path)], options, work=tmp_path / "work")
    (record,) = results.pictures
    assert record.scores["ms_ssim"] is None
    assert math.isfinite(record.scores["psnr"] or math.nan)


@pytest.mark.parametrize(
    ("labels", "peers", "options", "message"),
    [
        (["jpeg:20", "jpeg:20"], [], {}, "twice"),
        ([], [], {}, "nothing to evaluate"),
        (["jpgg"], [], {}, "no codec 'jpgg'"),
        (["jpeg:200"], [], {}, "no quality 200"),
        (["jpeg:20"], ["webp:5"], {}, "with a quality"),
        (["jpeg:20"], [], {"metrics": ("psnrr",)}, "no metric 'psnrr'"),
        (["jpeg:20"], [], {"weights": {"incept": "x"}}, "weights.incept"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(
    labels: list[str],
    peers: list[str],
    options: dict[str, object],
    message: str,
    pictures: Path,
    tmp_path: Path,
) -> None:
    work = tmp_path / "work"
    with pytest.raises(ConfigError, match=message):
        evaluate(
            labels,
            [image_set(pictures)],
            EvalOptions(**options),  # type: ignore[arg-type]
            work=work,
            peers=peers,
        )
    assert not work.exists()


def test_a_file_that_was_named_must_exist(pictures: Path, tmp_path: Path) -> None:
    options = EvalOptions(metrics=("rFID",), weights={"inception": str(tmp_path / "none.pth")})
    with pytest.raises(ConfigError, match=r"none\.pth"):
        evaluate(["jpeg:20"], [image_set(pictures)], options, work=tmp_path / "work")


def test_a_damaged_picture_is_named_and_nothing_is_lost(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "d.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    with pytest.raises(PictureError, match=r"d\.png"):
        evaluate(["jpeg:20"], [image_set(folder)], PIXELS, work=tmp_path / "work")
    (folder / "d.png").unlink()
    results, _ = evaluate(["jpeg:20"], [image_set(folder)], PIXELS, work=tmp_path / "work")
    assert len(results.pictures) == 3


def test_a_journal_removes_its_pieces_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "work")
    journal.write(journal.key({"a": 1}), Piece({"x": 1}, {}, (b"1", b"2")))
    (tmp_path / "work" / "mine.json").write_text("{}", encoding="utf-8")
    journal.remove()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["mine.json"]


def _without_times(records: tuple[PictureRecord, ...]) -> list[tuple[object, ...]]:
    return [
        (r.subject, r.dataset, r.picture, r.num_bytes, sorted(r.scores.items())) for r in records
    ]
