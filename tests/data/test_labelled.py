"""Labelled pictures: class folders, shards with labels, squares, token shards."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessella.data.crops import StepSampler, make_loader
from tessella.data.labelled import (
    LabelledSet,
    ViewDataset,
    ViewSettings,
    collate_labelled,
    view,
)
from tessella.data.token_sets import read_token_shard, write_token_shard
from tessella.errors import ConfigError, PictureError
from tessella.images import from_pixels
from tessella.tokenizers import Tokenizer
from tessella.tokenizers.registry import all_presets


def _png(colour: int, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, 0, 255 - colour)).save(buffer, "PNG")
    return buffer.getvalue()


def _shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    members = {f"{i:03d}.png": _png(20 * i) for i in range(6)}
    labels = {f"{i:03d}.cls": str(i % 3).encode() for i in range(5)}  # the last has none
    _shard(tmp_path / "a.tar", members | labels)
    return tmp_path / "a.tar"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    family, preset = all_presets()["multiscale-vq-tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return family.model_class(preset.config).eval()


def test_labels_of_shards(shard: Path) -> None:
    pictures = LabelledSet([str(shard)])
    assert (len(pictures), pictures.classes, pictures.labels) == (5, 3, [0, 1, 2, 0, 1])
    pixels, label = pictures[4]
    assert (pixels[0, 0].tolist(), label) == ([80, 0, 175], 1)


def test_labels_of_folders(tmp_path: Path) -> None:
    for name in ("zebra", "apple"):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.png").write_bytes(_png(100))
    pictures = LabelledSet([str(tmp_path)])
    assert pictures.labels == [0, 0, 1, 1]  # apple, zebra
    assert pictures.names == ("apple", "zebra")


def test_a_class_has_one_number_in_all_folders(tmp_path: Path) -> None:
    for source, classes in (("a", ("apple", "zebra")), ("b", ("zebra",)), ("val", ("zebra",))):
        for name in classes:
            (tmp_path / source / name).mkdir(parents=True)
            (tmp_path / source / name / "0.png").write_bytes(_png(100))
    train = LabelledSet([str(tmp_path / "a"), str(tmp_path / "b")])
    assert (train.labels, train.classes) == ([0, 1, 1], 2)
    assert LabelledSet([str(tmp_path / "val")], names=train.names).labels == [1]
    with pytest.raises(ConfigError, match="has the class 'zebra'"):
        LabelledSet([str(tmp_path / "val")], names=("apple",))


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    _shard(tmp_path / "none.tar", {"0.png": _png(1)})
    with pytest.raises(ConfigError, match="no picture has a label"):
        LabelledSet([str(tmp_path / "none.tar")])
    _shard(tmp_path / "bad.tar", {"0.png": _png(1), "0.cls": b"dog"})
    with pytest.raises(PictureError, match=r"0.cls holds b'dog'; expected a class number"):
        LabelledSet([str(tmp_path / "bad.tar")])


def test_squares() -> None:
    ramp = np.broadcast_to(np.arange(80, dtype=np.uint8)[None, :, None], (40, 80, 3)).copy()
    middle = view(ramp, ViewSettings(20), None)
    assert middle.shape == (20, 20, 3)
    assert middle[0, 0, 0] == pytest.approx(20, abs=2)  # 80 wide becomes 40: the middle 20 of it
    assert middle[0, -1, 0] == pytest.approx(60, abs=2)
    settings = ViewSettings(20, enlarge=1.5, flip=True)
    cuts = [view(ramp, settings, np.random.default_rng(i)) for i in range(40)]
    rising = [bool(cut[0, -1, 0] > cut[0, 0, 0]) for cut in cuts]
    assert 8 <= sum(rising) <= 32  # about half are mirrored
    again = view(ramp, settings, np.random.default_rng(7))
    assert np.array_equal(again, cuts[7])


def test_batches_depend_on_seed_and_step_only(shard: Path) -> None:
    dataset = ViewDataset(LabelledSet([str(shard)]), ViewSettings(16), seed=(3,))
    whole = list(make_loader(dataset, StepSampler(0, 4, 4), collate_fn=collate_labelled))
    resumed = list(make_loader(dataset, StepSampler(2, 4, 4), collate_fn=collate_labelled))
    assert torch.equal(whole[2].images, resumed[0].images)
    assert torch.equal(whole[3].labels, resumed[1].labels)
    assert not torch.equal(whole[0].images, whole[1].images)


def test_token_shards(shard: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    pictures, path = LabelledSet([str(shard)]), tmp_path / "tokens.tsls"
    progress: list[tuple[int, int]] = []
    settings = ViewSettings(32, enlarge=1.0)
    write_token_shard(
        path, pictures, tokenizer, views=settings, count=2,
        on_progress=lambda done, total: progress.append((done, total)),
    )  # fmt: skip
    assert progress[-1] == (10, 10)
    found = read_token_shard(path, tokenizer, 32)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]
    batch = found.batch(torch.tensor([4, 5]))
    rng = np.random.default_rng((0, 2, 0))
    square = from_pixels(view(pictures[2][0], settings, rng).copy())
    assert batch.tokens[0] == tokenizer.encode(square)
    content = path.read_bytes()
    write_token_shard(path, pictures, tokenizer, views=settings, count=2)  # nothing to do
    assert path.read_bytes() == content
    with pytest.raises(ConfigError, match="tokenize the pictures again"):
        read_token_shard(path, tokenizer, 64)


def test_an_interrupted_token_shard_is_finished(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    pictures, settings = LabelledSet([str(shard)]), ViewSettings(32)
    write_token_shard(tmp_path / "whole", pictures, tokenizer, views=settings, count=3)
    write_token_shard(tmp_path / "part", pictures, tokenizer, views=settings, count=1)
    write_token_shard(tmp_path / "part", pictures, tokenizer, views=settings, count=3)
    whole, part = (read_token_shard(tmp_path / name, tokenizer, 32) for name in ("whole", "part"))
    assert torch.equal(whole.flat.sort(dim=0).values, part.flat.sort(dim=0).values)
    assert sorted(whole.labels.tolist()) == sorted(part.labels.tolist())
