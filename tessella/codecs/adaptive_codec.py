"""A tokenizer whose groups are ordered, with as many groups at each place as pay there.

::

    picture --tokenizer--> Tokens --decode with 1..G groups--> squared error of each position
                                  --prior--> bits of each token
    error, bits --allocation, a budget--> counts --Tokens.keep_groups--> token file
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tessella.codecs.allocation import Allocation
from tessella.codecs.base import Codec, Prepared, Qualities
from tessella.codecs.code_lengths import code_lengths
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError
from tessella.images import DEFAULT_MAX_PIXELS, Picture, Pixels, decode_rgb
from tessella.tokens import Tokens

DEFAULT_GROUP_TILE = 2  # positions; smaller tiles fit better, but saying their counts costs more

_STEPS = 1000


class AdaptiveCodec(Codec):
    """Codes pictures with a tokenizer that decodes positions of unlike numbers of groups.

    Quality q spends, as far as the prior can tell, ``q / 1000`` of the bits between one group
    everywhere and all groups that save anything. Preparing a picture decodes it once for each
    number of groups.

    Args:
        codec: the tokenizer and its prior.
        tile: side in positions of the tiles that share a number of groups.

    Raises:
        ConfigError: if the tokenizer decodes the same number of groups everywhere only.
    """

    def __init__(self, codec: TokenizerCodec, *, tile: int = DEFAULT_GROUP_TILE) -> None:
        if not codec.tokenizer.decodes_ragged:
            raise ConfigError(
                f"{codec.name} decodes the same number of tokens everywhere; expected a tokenizer "
                "that decodes as many groups at each place as it keeps: choose one rate for all"
            )
        self._codec = codec
        self._tile = tile

    @property
    def name(self) -> str:
        """The name of the tokenizer's codec, marked."""
        return f"{self._codec.name}+adaptive"

    @property
    def settings(self) -> str:
        """Those of the tokenizer's codec, and the tile."""
        return f"{self._codec.settings}, tiles of {self._tile}x{self._tile} positions"

    @property
    def qualities(self) -> Qualities:
        """Thousandths of the bits that may be spent."""
        meaning = "thousandths of the bits from one group everywhere to all of them"
        return Qualities(0, _STEPS, _STEPS, meaning, is_even=True)

    def prepare(self, picture: Picture | Pixels) -> Prepared:
        """Turn a picture into tokens and find the order in which they pay."""
        pixels = picture if isinstance(picture, np.ndarray) else decode_rgb(picture)
        tokens = self._codec.encode(pixels)
        allocation = Allocation(
            self._distortions(tokens, pixels),
            code_lengths(tokens, self._codec.space.prior),
            tile=self._tile,
        )

        def compress(quality: int | None = None) -> bytes:
            quality = self.check_quality(quality)
            least, most = allocation.least_bits, allocation.most_bits
            counts = allocation.counts(least + (most - least) * quality / _STEPS)
            kept = torch.from_numpy(counts.reshape(tokens.layout.levels[0].grid))
            return self._codec.pack(tokens.keep_groups(kept))

        return Prepared(compress, self.qualities)

    def decompress(self, data: bytes, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Pixels:
        """Return the picture of a token file; see :meth:`TokenizerCodec.decompress`."""
        return self._codec.decompress(data, max_pixels=max_pixels)

    def _distortions(self, tokens: Tokens, pixels: Pixels) -> NDArray[np.float64]:
        """Return the squared error ``(h, w, G)`` of each position with 1 to G groups everywhere."""
        level = tokens.layout.levels[0]
        stride = self._codec.tokenizer.stride
        errors = []
        for groups in range(1, level.groups + 1):
            decoded = self._codec.decode(tokens.truncate(groups=groups))
            error = (decoded.astype(np.float32) - pixels) ** 2
            rows, columns = (np.arange(0, side, stride) for side in error.shape[:2])
            sums = np.add.reduceat(error.sum(axis=2), rows, axis=0, dtype=np.float64)
            errors.append(np.add.reduceat(sums, columns, axis=1))
        return np.stack(errors, axis=-1)


__all__ = ["DEFAULT_GROUP_TILE", "AdaptiveCodec"]
