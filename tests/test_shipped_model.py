"""The main job with the weights that ship: rates, quality, and the same pixels however computed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tessella
from tessella.codecs.files import codec_of
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.images import from_pixels, to_pixels
from tessella.tokenizers.tiling import decode_tiled, encode_tiled

NAME = "progressive-gq-f8"
EXAMPLE = Path(__file__).parent.parent / "examples" / "parrots.png"
# of 8-bit levels; one more than rounding alone can make
WITHIN = 1


@pytest.fixture(scope="module")
def codec() -> TokenizerCodec:
    return codec_of(NAME)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    with Image.open(EXAMPLE) as image:
        return np.asarray(image.convert("RGB"))


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def _largest(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_every_group_adds_bytes_and_quality(codec: TokenizerCodec, pixels: np.ndarray) -> None:
    tokens = codec.encode(pixels)
    sizes, quality = [], []
    for groups in range(1, 9):
        data = codec.pack(tokens.truncate(groups=groups))
        back = codec.unpack(data)
        assert back.tokens == tokens.truncate(groups=groups)
        sizes.append(len(data))
        quality.append(_psnr(codec.decode(back.tokens), pixels))
    assert sizes == sorted(sizes)
    assert all(b > a for a, b in pairwise(quality))
    # entropy coding must save something over eight bits a group
    assert sizes[-1] < 0.95 * 64 * 96 * 8
    assert quality[-1] > 29


def test_a_cut_file_decodes_to_its_whole_groups(codec: TokenizerCodec, pixels: np.ndarray) -> None:
    tokens = codec.encode(pixels)
    data = codec.pack(tokens)
    found = codec.unpack(data[: len(data) // 2])
    assert found.is_truncated
    assert 1 <= found.parts < 8
    assert found.tokens == tokens.truncate(groups=found.parts)


def test_pixels_do_not_depend_on_threads_batch_or_memory_layout(
    codec: TokenizerCodec, pixels: np.ndarray
) -> None:
    model = codec.tokenizer
    tokens = model.encode(from_pixels(pixels[:256, :384]), deterministic=True)
    whole = to_pixels(model.decode(tokens))
    three = tokens[[0, 0, 0]]
    decoded = model.decode(three)
    assert _largest(to_pixels(decoded[2]), whole) <= WITHIN
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert _largest(to_pixels(model.decode(tokens)), whole) <= WITHIN
            assert codec.unpack(codec.pack(tokens)).tokens == tokens
    finally:
        torch.set_num_threads(threads)
    last = TokenizerCodec.from_model(NAME).tokenizer.to(memory_format=torch.channels_last)
    assert _largest(to_pixels(last.decode(tokens)), whole) <= WITHIN


@pytest.mark.slow
def test_tiles_equal_the_whole_picture(codec: TokenizerCodec, pixels: np.ndarray) -> None:
    large = np.asarray(Image.fromarray(pixels).resize((1650, 1100), Image.Resampling.BICUBIC))
    large = large[:, :1500]
    model = codec.tokenizer
    whole = model.encode(from_pixels(large))
    tiled = encode_tiled(model, large, tile=512)
    same = (whole.levels[0] == tiled.levels[0]).all(dim=-1).float().mean()
    assert float(same) >= 0.9999
    decoded = to_pixels(model.decode(whole))
    assert _largest(decode_tiled(model, whole, tile=512), decoded) <= WITHIN


def test_the_front_door_does_the_main_job(tmp_path: Path) -> None:
    tokens = tessella.encode(EXAMPLE)
    path = tmp_path / "picture.tsl"
    size = tessella.write(path, tokens)
    assert size == path.stat().st_size
    small = tessella.read(path).truncate(groups=2)
    assert small == tokens.truncate(groups=2)
    picture = tessella.decode(small)
    assert picture.shape == (1, 3, 512, 768)
    tessella.save(tmp_path / "back.png", picture)
    with Image.open(tmp_path / "back.png") as back:
        assert back.size == (768, 512)
