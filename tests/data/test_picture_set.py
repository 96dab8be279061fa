from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessella.data import PictureSet
from tessella.errors import ConfigError, PictureError


def make_shard(path: Path, photos: Path, *, mode: str = "w", suffix: str = ".png") -> Path:
    """Write a shard with labels between pictures, pictures in reverse order."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for i, photo in enumerate(sorted(photos.glob("*.png"), reverse=True)):
            for name, content in ((suffix, photo.read_bytes()), (".cls", b"7")):
                member = tarfile.TarInfo(f"{i:06d}{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_folder_is_searched_recursively_in_order_of_names(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for source, target in (("03.png", "z.png"), ("01.png", "b/x.PNG"), ("02.png", "a.png")):
        shutil.copy(photos / source, tmp_path / target)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    pictures = PictureSet([str(tmp_path)])
    assert len(pictures) == 3
    for i, expected in enumerate(("02.png", "01.png", "03.png")):
        assert np.array_equal(pictures[i], pixels(photos / expected))


def test_a_glob_pattern_and_a_single_picture(photos: Path) -> None:
    pictures = PictureSet([str(photos / "0[12].*"), str(photos / "05.png")])
    assert pictures.counts == (2, 1)
    assert pictures.name(2).endswith("05.png")
    assert np.array_equal(pictures[1], pixels(photos / "02.png"))


def test_a_shard_gives_the_pixels_of_its_members_in_its_order(photos: Path, tmp_path: Path) -> None:
    pictures = PictureSet([str(make_shard(tmp_path / "a.tar", photos))])
    assert len(pictures) == 6
    for i in (5, 0, 3):
        assert np.array_equal(pictures[i], pixels(photos / f"{5 - i:02d}.png"))


def test_a_folder_of_shards(photos: Path, tmp_path: Path) -> None:
    make_shard(tmp_path / "b.tar", photos)
    make_shard(tmp_path / "a.tar", photos)
    (tmp_path / "index.jsonl").write_text("{}")
    assert len(PictureSet([str(tmp_path)])) == 12


def test_damaged_shards_are_refused_when_they_are_opened(photos: Path, tmp_path: Path) -> None:
    whole = make_shard(tmp_path / "whole.tar", photos).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: len(whole) // 2])
    packed = make_shard(tmp_path / "packed.tar", photos, mode="w:gz")
    for path in (cut, packed):
        with pytest.raises(PictureError, match=path.name):
            PictureSet([str(path)])


def test_every_cut_of_a_shard_is_refused_or_gives_whole_pictures(
    photos: Path, tmp_path: Path
) -> None:
    whole = make_shard(tmp_path / "whole.tar", photos).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in range(700, len(whole), 9973):
        cut.write_bytes(whole[:length])
        try:
            pictures = PictureSet([str(cut)])
        except (PictureError, ConfigError):
            continue
        for i in range(len(pictures)):
            assert np.array_equal(pictures[i], pixels(photos / f"{5 - i:02d}.png"))


def test_pictures_are_drawn_by_the_weights_of_their_sources(photos: Path, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "a.tar", photos)
    pictures = PictureSet([str(shard), str(photos / "00.png")], weights=[1, 3])
    rng = np.random.default_rng(0)
    drawn = np.bincount([pictures.draw(rng) for _ in range(4000)], minlength=7)
    expected = 4000 * np.array([1, 1, 1, 1, 1, 1, 3]) / 9
    # 6 degrees of freedom: 22.5 is exceeded once in a thousand times
    assert ((drawn - expected) ** 2 / expected).sum() < 22.5


def test_the_cache_keeps_pictures_up_to_its_size(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        large = Image.open(photos / "00.png").resize((500, 400))  # 600 kB decoded
        large.save(tmp_path / f"{name}.png")
    pictures = PictureSet([str(tmp_path)], cache_mb=1)
    first, _ = pictures[0], pictures[1]
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").unlink()
    assert pictures[0] is first
    with pytest.raises(PictureError, match=r"b\.png"):
        pictures[1]


def test_a_damaged_picture_names_itself(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photograph")
    pictures = PictureSet([str(tmp_path)])
    with pytest.raises(PictureError, match=r"bad\.jpg"):
        pictures[0]


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        (["no/such/folder"], [], "does not exist"),
        (["{tmp}"], [], "holds no pictures"),
        (["{tmp}/*.png"], [], "holds no pictures"),
        (["{photos}"], [1, 2], "2\\] given for 1 sources"),
        (["{photos}"], [-1], "non-negative"),
    ],
)
def test_wrong_sources_say_what_is_expected(
    sources: list[str], weights: list[float], message: str, photos: Path, tmp_path: Path
) -> None:
    filled = [source.format(tmp=tmp_path, photos=photos) for source in sources]
    with pytest.raises(ConfigError, match=message):
        PictureSet(filled, weights=weights)
