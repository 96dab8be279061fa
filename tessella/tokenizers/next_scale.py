"""Tokenizers whose tokens are pyramids, and what next-scale generators need of them.

::

    image --encoder--> features (B, D, h, w) --scales--> levels (B, h_k, w_k, G), coarse to fine
    first levels --sum of lifted codes--> features (B, D, h, w) --decoder--> image

Levels are ordered by importance: any number of first levels decodes, from the sum of the scales
that are given. A generator (VAR, arXiv 2404.02905; Infinity, arXiv 2412.04431) writes level k + 1
after reading the running sum of levels 0..k, resampled to its grid:

* training: :meth:`NextScaleTokenizer.scale_inputs`, from all levels at once;
* sampling: :meth:`NextScaleTokenizer.next_scale`, one level after the other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers.resampling import Grid
from tessella.tokenizers.quantizers.multiscale import MultiScaleQuantizer
from tessella.tokens import LevelLayout, TokenLayout, Tokens


class ScaleStep(NamedTuple):
    """What a scale adds.

    Args:
        total: running sum ``(B, D, h, w)`` with the scale.
        inputs: what a generator reads for the next scale, ``(B, h', w', C)``; after the last
            scale, the sum on the last grid.
    """

    total: Tensor
    inputs: Tensor


class NextScaleTokenizer(Tokenizer):
    """A tokenizer with a convolutional network around a multi-scale quantizer.

    Subclasses set ``encoder``, ``decoder`` and ``quantizer``. Where they merge neighbouring
    positions of the feature map into one token (``patch`` of 2), grids are still those of tokens;
    features, codes and sums live on grids ``patch`` times as fine.
    """

    encoder: nn.Module
    decoder: nn.Module
    quantizer: MultiScaleQuantizer

    @property
    def patch(self) -> int:
        """Positions of the feature map along a token's side."""
        return 1

    @abstractmethod
    def schedule(self, grid: Grid) -> tuple[Grid, ...]:
        """Return the token grids of all scales, of which ``grid`` is the last."""

    def grids(self, height: int, width: int) -> tuple[Grid, ...]:
        """Return the token grids of a picture of that size, coarse to fine."""
        return self.schedule((-(-height // self.stride), -(-width // self.stride)))

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one level a scale, most important first."""
        sizes = self.quantizer.vocab_sizes * self.patch**2
        levels = tuple(LevelLayout(grid, sizes) for grid in self.grids(height, width))
        return TokenLayout(levels, (height, width), self.space_id)

    # ---- networks --------------------------------------------------------------------------

    def images_to_features(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to unquantized features ``(B, D, h, w)``."""
        return cast(Tensor, self.encoder(images))

    def features_to_images(self, features: Tensor) -> Tensor:
        """Map features ``(B, D, h, w)`` to images ``(B, 3, H, W)``, not clamped."""
        return cast(Tensor, self.decoder(features.to(self.dtype)))

    def features_to_levels(self, features: Tensor, grids: Sequence[Grid]) -> tuple[Tensor, ...]:
        """Quantize features into levels ``(B, h_k, w_k, G)``, without side effects."""
        was_training = self.quantizer.training
        self.quantizer.eval()
        try:
            found = self.quantizer(features, self.fine(grids))
        finally:
            self.quantizer.train(was_training)
        return tuple(self.merged(level) for level in found.indices)

    def levels_to_features(self, levels: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        """Sum all or the first levels into float32 features ``(B, D, h, w)``.

        Args:
            levels: ``(B, h_k, w_k, G)`` indices.
            grids: token grids of all scales.
        """
        return self.quantizer.indices_to_sum([self.split(x) for x in levels], self.fine(grids))

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the quantizer's losses."""
        layout = self.layout(*images.shape[-2:])
        grids = [cast(Grid, level.grid) for level in layout.levels]
        found = self.quantizer(self.images_to_features(images), self.fine(grids))
        tokens = Tokens((self.merged(level) for level in found.indices), layout)
        outputs = self.features_to_images(found.z_q)
        return TokenizerOutput(outputs, tokens, found.losses, found.stats)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        grids = self.grids(*images.shape[-2:])
        return self.features_to_levels(self.images_to_features(images), grids)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        grids = self.grids(*tokens.layout.image_size)
        return self.features_to_images(self.levels_to_features(tokens.levels, grids))

    # ---- generators ------------------------------------------------------------------------

    @property
    def input_channels(self) -> int:
        """Width ``C`` of what a generator reads: ``D`` times the positions of a token."""
        return self.quantizer.dim * self.patch**2

    def scale_inputs(self, levels: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        """Return the teacher-forcing inputs of scales 1..S-1 for the true levels.

        Args:
            levels: ``(B, h_k, w_k, G)`` indices of all scales; those of the last are not read.
            grids: token grids of all scales.

        Returns:
            ``(B, N, C)`` float32, scale after scale in raster order, without the first scale,
            which a generator writes from its condition alone.
        """
        total = self.empty_total(levels[0].shape[0], grids)
        inputs = []
        for scale, level in enumerate(levels[: len(grids) - 1]):
            total, following = self.next_scale(total, level, scale, grids)
            inputs.append(following.flatten(1, 2))
        if not inputs:  # a single scale: the generator reads nothing
            return total.new_zeros(total.shape[0], 0, self.input_channels)
        return torch.cat(inputs, dim=1)

    def empty_total(self, batch: int, grids: Sequence[Grid]) -> Tensor:
        """Return the running sum before the first scale: zeros ``(B, D, h, w)``."""
        return self.quantizer.empty_sum(batch, self.fine(grids), self.device)

    def next_scale(
        self, total: Tensor, level: Tensor, scale: int, grids: Sequence[Grid]
    ) -> ScaleStep:
        """Add a scale that was written, and return what the next one reads.

        Args:
            total: running sum ``(B, D, h, w)`` of the scales before; left alone.
            level: indices ``(B, h_k, w_k, G)`` of the scale.
            scale: its number ``k``, from 0.
            grids: token grids of all scales.
        """
        codes = self.quantizer.indices_to_codes(self.split(level))
        return self.add_codes(total, codes, scale, grids)

    def add_codes(
        self, total: Tensor, codes: Tensor, scale: int, grids: Sequence[Grid]
    ) -> ScaleStep:
        """Do as :meth:`next_scale` with vectors, such as mixtures of codes, in place of indices.

        Args:
            total: running sum ``(B, D, h, w)`` of the scales before; left alone.
            codes: ``(B, h_k, w_k, D)`` on the grid of the scale, ``patch`` times as fine.
            scale: its number ``k``, from 0.
            grids: token grids of all scales.
        """
        fine = self.fine(grids)
        if not 0 <= scale < len(fine) or tuple(codes.shape[1:3]) != fine[scale]:
            raise ShapeError(
                f"codes {tuple(codes.shape)} of scale {scale} given; expected one of "
                f"{len(fine)} scales with the grids {fine}"
            )
        total = total + self.quantizer.lift(codes, scale, fine)
        return ScaleStep(total, self.read(total, grids[min(scale + 1, len(grids) - 1)]))

    def read(self, total: Tensor, grid: Grid) -> Tensor:
        """Return what a generator reads of a running sum on a token grid, ``(B, h', w', C)``."""
        features = self.quantizer.next_input(total, self.fine([grid])[0])
        return self.merged(features.permute(0, 2, 3, 1))

    # ---- tokens of several positions -------------------------------------------------------

    def fine(self, grids: Sequence[Grid]) -> tuple[Grid, ...]:
        """Return the grids of the feature map for token grids."""
        return tuple((height * self.patch, width * self.patch) for height, width in grids)

    def merged(self, fine: Tensor) -> Tensor:
        """Merge positions into tokens, ``(B, p h, p w, D) -> (B, h, w, D p p)``, like unshuffling.

        Channel ``c p^2 + p dy + dx`` is channel ``c`` of the position ``(dy, dx)`` of a token.
        """
        if self.patch == 1:
            return fine
        batch, height, width, channels = fine.shape
        p = self.patch
        cells = fine.reshape(batch, height // p, p, width // p, p, channels)
        return cells.permute(0, 1, 3, 5, 2, 4).flatten(3)

    def split(self, merged: Tensor) -> Tensor:
        """Undo :meth:`merged`."""
        if self.patch == 1:
            return merged
        batch, height, width, channels = merged.shape
        p = self.patch
        cells = merged.reshape(batch, height, width, channels // p**2, p, p)
        cells = cells.permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(batch, height * p, width * p, channels // p**2)


__all__ = ["NextScaleTokenizer", "ScaleStep"]
