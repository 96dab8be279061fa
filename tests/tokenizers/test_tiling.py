"""Tiles give what the whole picture gives, or blend smoothly where that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import photograph, save_tiny_model, tiny_tokenizer
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import PictureError, ShapeError
from tessella.images import from_pixels, to_pixels
from tessella.tokenizers import Tokenizer, TokenizerOutput
from tessella.tokenizers.tiling import decode_tiled, encode_tiled
from tessella.tokens import LevelLayout, TokenLayout, Tokens

STEPS = 16


@dataclass(frozen=True)
class AveragesConfig:
    is_sequence: bool = False
    global_share: float = 0.0


class Averages(Tokenizer):
    """Means of 4x4 and 8x8 patches in 16 steps; it does not promise that it is local."""

    config: AveragesConfig

    def __init__(self, config: AveragesConfig) -> None:
        super().__init__(config)
        self.gain = torch.nn.Parameter(torch.ones(()))

    @property
    def stride(self) -> int:
        return 8

    def layout(self, height: int, width: int) -> TokenLayout:
        h, w = -(-height // 8), -(-width // 8)
        grids = [(4 * h * w,)] if self.config.is_sequence else [(h, w), (2 * h, 2 * w)]
        levels = tuple(LevelLayout(grid, (STEPS,) * 3) for grid in grids)
        return TokenLayout(levels, (height, width))

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        images = images - self.config.global_share * images.mean(dim=(2, 3), keepdim=True)
        maps = [F.avg_pool2d(images, size).permute(0, 2, 3, 1) for size in (8, 4)]
        indices = [((m + 1) / 2 * STEPS).long().clamp(0, STEPS - 1) for m in maps]
        return (indices[1].flatten(1, 2),) if self.config.is_sequence else tuple(indices)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        height, width = (-(-side // 8) * 8 for side in tokens.layout.image_size)
        indices = tokens.levels[-1].reshape(1, height // 4, width // 4, 3)
        values = (indices.permute(0, 3, 1, 2) + 0.5) / STEPS * 2 - 1
        values = values * self.gain
        values = values + self.config.global_share * values.mean(dim=(2, 3), keepdim=True)
        return F.interpolate(values, scale_factor=4)

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        raise NotImplementedError


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.mark.parametrize("size", [(333, 427), (512, 70), (65, 500), (120, 120)])
@pytest.mark.parametrize("groups", [1, 3])
def test_tiled_equals_whole(tokenizer: Tokenizer, size: tuple[int, int], groups: int) -> None:
    pixels = np.ascontiguousarray(photograph()[: size[0], : size[1]])
    tile = 2 * (tokenizer.halo or 0) + 56
    whole = tokenizer.encode(from_pixels(pixels))
    tiled = encode_tiled(tokenizer, pixels, tile=tile)
    assert tiled.layout == whole.layout
    same = (tiled.levels[0] == whole.levels[0]).float().mean()
    assert same >= 0.9999
    kept = whole.truncate(groups=groups)
    expected = to_pixels(tokenizer.decode(kept)).astype(int)
    assert np.abs(decode_tiled(tokenizer, kept, tile=tile) - expected).max() <= 1


def test_halo_is_not_larger_than_it_must_be(tokenizer: Tokenizer) -> None:
    """A pixel just within the halo can matter, one beyond it cannot."""
    halo = tokenizer.halo
    assert halo is not None
    pixels = np.ascontiguousarray(photograph()[:512, :512])
    changed = pixels.copy()
    changed[:, 256 + halo :] = 255 - changed[:, 256 + halo :]
    left = [tokenizer.encode(from_pixels(p)).levels[0][:, :, : 256 // 8] for p in (pixels, changed)]
    assert torch.equal(*left)


def test_pictures_paths_and_arrays_are_alike(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pixels = np.ascontiguousarray(photograph()[:150, :260])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tile = 2 * (tokenizer.halo or 0) + 40
    results = [
        encode_tiled(tokenizer, picture, tile=tile)
        for picture in (pixels, Image.fromarray(pixels), tmp_path / "a.png")
    ]
    assert results[0] == results[1] == results[2]
    with pytest.raises(PictureError, match="does not exist"):
        encode_tiled(tokenizer, tmp_path / "b.png")


def test_progress_counts_tiles(tokenizer: Tokenizer) -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    tile = 2 * (tokenizer.halo or 0) + 64
    seen: list[tuple[int, int]] = []
    tokens = encode_tiled(
        tokenizer, pixels, tile=tile, on_progress=lambda done, total: seen.append((done, total))
    )
    total = seen[0][1]
    assert total > 1
    assert seen == [(i + 1, total) for i in range(total)]
    seen.clear()
    decode_tiled(tokenizer, tokens, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


def test_levels_of_unlike_maps_are_cut_alike() -> None:
    tokenizer = Averages(AveragesConfig())
    pixels = np.ascontiguousarray(photograph()[:203, :310])
    whole = tokenizer.encode(from_pixels(pixels))
    assert encode_tiled(tokenizer, pixels, tile=64) == whole
    expected = to_pixels(tokenizer.decode(whole)).astype(int)
    assert np.abs(decode_tiled(tokenizer, whole, tile=64) - expected).max() <= 1


def test_global_tokenizers_are_blended() -> None:
    """The difference between tiles fades over the overlap instead of jumping at a seam."""
    tokenizer = Averages(AveragesConfig(global_share=0.3))
    height, width = 64, 512
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    tokens = tokenizer.encode(from_pixels(pixels))
    tiled = decode_tiled(tokenizer, tokens, tile=128).astype(int)
    whole = to_pixels(tokenizer.decode(tokens)).astype(int)
    jumps = np.abs(np.diff(tiled[32, :, 0]))
    steps = np.abs(np.diff(whole[32, :, 0]))
    assert (tiled != whole).any()  # tiles of a global tokenizer do differ
    assert jumps.max() <= steps.max() + 3


def test_sequences_cannot_be_tiled() -> None:
    tokenizer = Averages(AveragesConfig(is_sequence=True))
    pixels = np.ascontiguousarray(photograph()[:96, :96])
    tokens = encode_tiled(tokenizer, pixels, tile=96)
    assert decode_tiled(tokenizer, tokens, tile=96).shape == (96, 96, 3)
    for call in (
        lambda: encode_tiled(tokenizer, pixels, tile=64),
        lambda: decode_tiled(tokenizer, tokens, tile=64),
    ):
        with pytest.raises(ShapeError, match=r"grid \(576,\); tiles need maps"):
            call()


def test_batches_and_small_tiles_are_refused(tokenizer: Tokenizer) -> None:
    two = tokenizer.encode(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ShapeError, match="2 pictures given"):
        decode_tiled(tokenizer, two)
    with pytest.raises(ShapeError, match="more than two halos"):
        encode_tiled(tokenizer, np.zeros((64, 64, 3), np.uint8), tile=16)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_memory_of_96_megapixels(verb: str, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "models" / "tiny")
    row = np.linspace(0, 255, 12000).astype(np.uint8)
    column = np.arange(8000, dtype=np.uint8)[:, None]
    Image.fromarray(np.stack(np.broadcast_arrays(row, column, row ^ column), -1)).save(
        tmp_path / "a.png", compress_level=1
    )
    code = (
        "import resource, sys\n"
        "from typer.testing import CliRunner\n"
        "from tessella.cli import app\n"
        "for arguments in (a.split() for a in sys.argv[1:]):\n"
        "    result = CliRunner().invoke(app, arguments)\n"
        "    assert result.exit_code == 0, result.output\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    environment = {**os.environ, "TESSELLA_MODELS": str(tmp_path / "models")}
    folder = Path(__file__).parent.parent.parent

    def peak(*commands: str) -> int:
        command = [sys.executable, "-c", code, *commands]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=folder
        )
        return int(done.stdout.splitlines()[-1]) * 1024

    encoding = peak(f"encode {tmp_path}/a.png -m tiny")
    if verb == "encode":
        assert encoding <= 2.5e9
    else:
        assert peak(f"decode {tmp_path}/a.tsl -o {tmp_path}/b.png") <= 2.5e9
