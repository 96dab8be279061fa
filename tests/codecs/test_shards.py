"""Shards: many pictures in one file, appended, read at random, recovered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from codec_samples import LAYOUTS, SPACE_ID, sample

from tessella.codecs.container_errors import ChecksumError, LimitError, UnknownModelError
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.limits import Limits
from tessella.codecs.shard import ShardReader, ShardWriter
from tessella.codecs.shard_format import ShardHeader, write_header
from tessella.codecs.shard_tokens import TokenShardReader, TokenShardWriter
from tessella.codecs.token_coding import PackOptions
from tessella.codecs.token_space import TokenSpace, resolver_for
from tessella.errors import ConfigError, TokenFileError
from tessella.tokens import LevelLayout, TokenLayout, Tokens

HEADER = ShardHeader(b"\x01\x02\x03\x04", 256, 256)


def fill(path: Path, count: int, size: int = 48, start: int = 0) -> dict[str, bytes]:
    """Append pictures of random payloads; return them by key."""
    rng = np.random.default_rng(start)
    pictures = {f"{i:06d}": rng.bytes(size) for i in range(start, start + count)}
    with ShardWriter(path, HEADER) as writer:
        for key, payload in pictures.items():
            writer.add(key, [payload])
    return pictures


def contents(path: Path, *, recover: bool = False) -> dict[str, bytes]:
    with ShardReader.open(path, recover=recover) as reader:
        return {record.key: b"".join(reader.segments(record)) for record in reader}


@pytest.mark.parametrize("size", [0, 48, 127, 5000])
def test_a_picture_costs_at_most_8_bytes(tmp_path: Path, size: int) -> None:
    pictures = fill(tmp_path / "a.shard", 400, size)
    fixed = len(write_header(HEADER)) + 12 + 7
    keys = sum(len(key) for key in pictures)
    overhead = (tmp_path / "a.shard").stat().st_size - fixed - keys - 400 * size
    assert overhead <= 8 * 400


def test_random_access_by_number_and_key(tmp_path: Path) -> None:
    pictures = fill(tmp_path / "a.shard", 100)
    keys = list(pictures)
    with ShardReader.open(tmp_path / "a.shard") as reader:
        assert len(reader) == 100 and reader.keys() == keys
        for i in np.random.default_rng(0).permutation(100).tolist():
            assert reader.record(i).key == keys[i]
            assert reader.segments(reader.record(keys[i])) == [pictures[keys[i]]]
        for missing in (100, -1, "nobody"):
            with pytest.raises(KeyError):
                reader.record(missing)


def test_appending_keeps_records_and_refuses_second_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    pictures = fill(path, 20)
    before = path.read_bytes()
    pictures |= fill(path, 30, start=20)
    with ShardReader.open(path) as reader:
        last = reader.record(19).stop
    assert path.read_bytes()[:last] == before[:last]
    assert contents(path) == pictures
    with ShardWriter(path) as writer:
        assert "000003" in writer and len(writer) == 50
        with pytest.raises(ConfigError, match="already holds"):
            writer.add("000003", [b""])
    assert contents(path) == pictures
    with pytest.raises(ConfigError, match="another shard"):
        ShardWriter(path, ShardHeader(b"\x01\x02\x03\x04", 512, 512))
    with pytest.raises(ConfigError, match="header"):
        ShardWriter(tmp_path / "new.shard")


def test_empty_shard(tmp_path: Path) -> None:
    fill(tmp_path / "a.shard", 0)
    assert contents(tmp_path / "a.shard") == {}
    assert contents(tmp_path / "a.shard", recover=True) == {}


def test_every_cut_is_recovered_to_the_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    pictures = fill(path, 18, 9)
    data = path.read_bytes()
    with ShardReader.open(path) as reader:
        stops = [record.stop for record in reader]
    first = len(write_header(HEADER))
    for cut in range(len(data)):
        if cut < first:
            with pytest.raises(TokenFileError):
                ShardReader(data[:cut], recover=True)
            continue
        with pytest.raises(TokenFileError):
            ShardReader(data[:cut])
        whole = sum(stop <= cut for stop in stops)
        reader = ShardReader(data[:cut], recover=True)
        assert reader.keys() == list(pictures)[:whole]


def test_appending_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    pictures = fill(path, 20)
    data = path.read_bytes()
    with ShardReader.open(path) as reader:
        cut = reader.record(13).stop - 5
    path.write_bytes(data[:cut])
    kept = dict(list(pictures.items())[:13])
    assert contents(path, recover=True) == kept
    kept |= fill(path, 4, start=50)
    assert contents(path) == kept


def test_flushed_records_are_on_disk_before_closing(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    writer = ShardWriter(path, HEADER)
    writer.add("one", [b"payload"])
    writer.flush()
    assert contents(path, recover=True) == {"one": b"payload"}
    writer.close()
    writer.close()
    assert contents(path) == {"one": b"payload"}


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path, HEADER) as writer:
        writer.add("one", [b"payload"])
        writer.add("two", [b"several", b"segments"], size=(300, 200))
    data = path.read_bytes()
    for i in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[i] ^= 1 << bit
            with pytest.raises((TokenFileError, KeyError)):
                reader = ShardReader(bytes(changed))
                for key in ("one", "two"):
                    reader.segments(reader.record(key))


def test_damage_and_limits_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path, HEADER) as writer:
        writer.add("large", [b"x", b"y"], size=(60000, 2000))
    with ShardReader.open(path) as reader:
        stop = reader.record(0).stop
        with pytest.raises(LimitError, match="60000x2000"):
            ShardReader(path.read_bytes(), limits=Limits(pixels=10**8)).record(0)
    data = bytearray(path.read_bytes())
    data[stop - 1] ^= 1
    damaged = ShardReader(bytes(data))
    with pytest.raises(ChecksumError, match="segment 1 of record 'large'"):
        damaged.segments(damaged.record(0))
    for bad in (b"", b"not a shard at all", bytes(data[:8])):
        with pytest.raises(TokenFileError):
            ShardReader(bad)
    with pytest.raises(TokenFileError, match="cannot be read"):
        ShardReader.open(tmp_path / "absent.shard")


def test_random_bytes_end_in_one_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    fill(path, 40, 9)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 4):
            changed[at] = rng.integers(0, 256)
        for recover in (False, True):
            try:
                reader = ShardReader(bytes(changed), recover=recover)
                for record in reader:
                    reader.segments(record)
            except TokenFileError:
                pass


@pytest.mark.parametrize("name", ["sequence", "ordered groups", "pyramid", "latent", "grid"])
@pytest.mark.parametrize("profile", [0, 1, 2])
@pytest.mark.parametrize("knows_layout", [True, False])
def test_tokens_come_back(tmp_path: Path, name: str, profile: int, knows_layout: bool) -> None:
    pictures = {f"p{i}": sample(LAYOUTS[name], i) for i in range(5)}
    layout = pictures["p0"].layout
    prior = calibrate(list(pictures.values()), Calibration(has_bit_model=False))
    space = TokenSpace(SPACE_ID, (lambda h, w: layout) if knows_layout else None, prior)
    for split in ("single", "parts"):
        path = tmp_path / f"{split}.shard"
        options = PackOptions(profile=profile, split=split)
        with TokenShardWriter(path, layout, space, options) as writer:
            for key, tokens in pictures.items():
                writer.add(key, tokens)
        with TokenShardReader(path, resolver_for([space])) as reader:
            assert dict(reader) == pictures
            assert reader[3] == reader["p3"] == pictures["p3"]
    if profile:
        with pytest.raises(UnknownModelError):
            TokenShardReader(path)


def test_unlike_pictures_share_a_shard(tmp_path: Path) -> None:
    def layout(height: int, width: int) -> TokenLayout:
        level = LevelLayout((height // 8, width // 8), (64,) * 4, ordered="groups")
        return TokenLayout((level,), (height, width), SPACE_ID)

    def picture(height: int, width: int, seed: int) -> Tokens:
        made = layout(height, width)
        return sample(made.levels, seed, image_size=(height, width))

    pictures = {
        "default": picture(64, 64, 0),
        "fewer groups": picture(64, 64, 1).truncate(groups=2),
        "other size": picture(32, 96, 2),
        "other size, one group": picture(32, 96, 3).truncate(groups=1),
    }
    prior = calibrate([pictures["default"]], Calibration(has_bit_model=False))
    for space in (TokenSpace(SPACE_ID, layout, prior), TokenSpace(SPACE_ID, None, prior)):
        path = tmp_path / f"{space.layout is None}.shard"
        sizes = []
        with TokenShardWriter(path, layout(64, 64), space, PackOptions(profile=1)) as writer:
            for key, tokens in pictures.items():
                sizes.append(writer.add(key, tokens))
                assert key in writer
            other = Tokens(tokens.levels, TokenLayout(tokens.layout.levels, (32, 96), "ab" * 32))
            with pytest.raises(ConfigError, match="token space"):
                writer.add("another", other)
        with TokenShardReader(path, resolver_for([space])) as reader:
            assert dict(reader) == pictures


def test_32_token_pictures_stay_small(tmp_path: Path) -> None:
    layout = TokenLayout((LevelLayout((32,), (4096,), ordered="length"),), (256, 256), SPACE_ID)
    generator = torch.Generator().manual_seed(0)
    tokens = Tokens((torch.randint(0, 4096, (200, 32, 1), generator=generator),), layout)
    path = tmp_path / "a.shard"
    with TokenShardWriter(path, layout) as writer:
        total = sum(writer.add(f"{i:04d}", tokens[i]) for i in range(200))
    assert total <= 200 * (48 + 4 + 7)
    with TokenShardReader(path) as reader:
        assert torch.equal(reader[77].levels[0], tokens.levels[0][77:78])


def test_prior_of_uint32_counts(tmp_path: Path) -> None:
    prior = Prior({(0, 0): np.array([2**31 - 1, 0, 5]), (0, 1): np.array([1, 1])})
    prior.save(tmp_path / "prior.safetensors")
    loaded = Prior.load(tmp_path / "prior.safetensors")
    assert loaded.identity == prior.identity and loaded.bit_model is None
    assert loaded.histogram(0, 0, 3).tolist() == [2**31 - 1, 0, 5]
