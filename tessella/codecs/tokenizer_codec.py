"""A tokenizer, its entropy prior and the token file together: pictures to bytes and back.

::

    picture --tokenizer, by tiles--> Tokens --keep--> Tokens --prior, container--> bytes
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tessella.codecs.base import Codec, Prepared, Qualities
from tessella.codecs.entropy.prior import PRIOR_FILE, Prior
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.picture_limits import limits_for
from tessella.codecs.token_codec import UnpackedTokens, pack, unpack
from tessella.codecs.token_coding import DEFAULT_OPTIONS, PackOptions
from tessella.codecs.token_space import TokenSpace, resolver_for
from tessella.errors import ConfigError
from tessella.hub import load, resolve
from tessella.images import DEFAULT_MAX_PIXELS, Picture, Pixels, open_image
from tessella.tokenizers.tiling import Progress, decode_tiled, encode_tiled
from tessella.tokens import TokenLayout, Tokens

if TYPE_CHECKING:
    import torch

    from tessella.tokenizers.base import Tokenizer


_TYPICAL_SIDE = 256  # of the picture whose parts are counted


class TokenizerCodec(Codec):
    """Codes pictures with a tokenizer.

    Args:
        tokenizer: makes and decodes the tokens.
        prior: what its tokens are expected to be; None to store them raw.
        name: what to call it; the tokenizer's family by default.
        options: how to write files.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prior: Prior | None = None,
        *,
        name: str | None = None,
        options: PackOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.tokenizer = tokenizer
        self.options = options
        self._name = name or tokenizer.family
        self.space = TokenSpace(
            tokenizer.space_id, tokenizer.layout, prior, tokenizer.latent_exponent
        )

    @classmethod
    def from_model(
        cls,
        name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        name: str | None = None,
    ) -> TokenizerCodec:
        """Load a model and the prior beside it, if there is one.

        Args:
            name_or_path: a shipped name, a folder, or a hub id.
            device: where to put the model; the CPU by default.
            name: what to call the codec; the name of the model's folder by default.

        Raises:
            CheckpointError: if the model is unknown or damaged.
        """
        folder = resolve(name_or_path)
        path = folder / PRIOR_FILE
        prior = Prior.load(path) if path.is_file() else None
        return cls(load(folder, device=device), prior, name=name or folder.resolve().name)

    @property
    def name(self) -> str:
        """What the codec was called when it was made."""
        return self._name

    @property
    def settings(self) -> str:
        """The family, and the identities of token space and prior."""
        prior = self.space.prior
        coding = f"prior {prior.identity.hex()[:8]}" if prior else "no prior"
        space = f"token space {self.space.space_id[:8]}"
        return f"{self.tokenizer.family}, {space}, {coding}: keep=QUALITY"

    @property
    def qualities(self) -> Qualities:
        """How many groups, positions or levels may be kept."""
        return _qualities(self.tokenizer.layout(_TYPICAL_SIDE, _TYPICAL_SIDE))

    def encode(
        self,
        picture: Picture | Pixels,
        *,
        keep: int | None = None,
        on_progress: Progress | None = None,
    ) -> Tokens:
        """Turn a picture of any size into tokens, by tiles where it is large.

        Args:
            picture: a path, a PIL image, or uint8 ``(H, W, 3)``.
            keep: see :func:`keep_leading`; None keeps all.
            on_progress: called with the number of finished tiles and of all tiles.

        Raises:
            PictureError: if the picture cannot be read.
            ConfigError: if ``keep`` is out of range.
        """
        source = picture if isinstance(picture, np.ndarray) else open_image(picture)
        height, width = source.shape[:2] if isinstance(source, np.ndarray) else source.size[::-1]
        keep_leading_layout(self.tokenizer.layout(height, width), keep)  # fail before the work
        tokens = encode_tiled(self.tokenizer, source, on_progress=on_progress)
        return keep_leading(tokens, keep)

    def pack(self, tokens: Tokens, options: PackOptions | None = None) -> bytes:
        """Return the token file of one picture's tokens; the codec's options by default."""
        return pack(tokens, self.space, options or self.options)

    def unpack(self, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> UnpackedTokens:
        """Read a token file of this tokenizer.

        Raises:
            TokenFileError: if it is damaged, or of another token space.
        """
        return unpack(data, resolver_for([self.space]), limits=limits)

    def decode(self, tokens: Tokens, *, on_progress: Progress | None = None) -> Pixels:
        """Turn tokens into uint8 ``(H, W, 3)``, by tiles where the picture is large."""
        return decode_tiled(self.tokenizer, tokens, on_progress=on_progress)

    def prepare(self, picture: Picture | Pixels) -> Prepared:
        """Turn a picture into tokens once."""
        tokens = self.encode(picture)

        def compress(keep: int | None = None) -> bytes:
            return self.pack(keep_leading(tokens, keep))

        return Prepared(compress, _qualities(tokens.layout))

    def compress(self, picture: Picture | Pixels, quality: int | None = None) -> bytes:
        """Return the token file of a picture; ``quality`` is how many parts to keep."""
        return self.pack(self.encode(picture, keep=quality))

    def decompress(self, data: bytes, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Pixels:
        """Return the picture of a token file, uint8 ``(H, W, 3)``.

        A file that ends early gives the picture of what arrived whole, with a warning.

        Raises:
            TokenFileError: if the file is damaged, too large, or of another token space.
        """
        found = self.unpack(data, limits=limits_for(max_pixels))
        if found.is_truncated:
            message = f"the file ends early: {found.parts} of {found.all_parts} parts arrived"
            warnings.warn(message, stacklevel=2)
        return self.decode(found.tokens)


def keep_leading(tokens: Tokens, keep: int | None) -> Tokens:
    """Keep the most important parts: groups, positions of a sequence, or levels.

    Args:
        tokens: of a tokenizer whose groups, length or levels are ordered.
        keep: how many; None for all.

    Raises:
        ConfigError: if there are not so many, or nothing is ordered.
    """
    if keep is None:
        return tokens
    keep_leading_layout(tokens.layout, keep)
    axis, _ = _ordered_axis(tokens.layout)
    return tokens.truncate(**{axis: keep})


def keep_leading_layout(layout: TokenLayout, keep: int | None) -> TokenLayout:
    """Return the layout that :func:`keep_leading` leaves; raises what that raises."""
    if keep is None:
        return layout
    axis, most = _ordered_axis(layout)
    if not 1 <= keep <= most:
        raise ConfigError(f"{keep} {axis} asked for; expected 1 to {most}")
    return layout.truncate(**{axis: keep})


def _qualities(layout: TokenLayout) -> Qualities:
    axis, most = _ordered_axis(layout)
    return Qualities(1, most, most, f"how many of {most} {axis} are kept")


def _ordered_axis(layout: TokenLayout) -> tuple[str, int]:
    """Return the axis whose tail may be dropped, and its size."""
    first = layout.levels[0]
    if len(layout.levels) > 1:
        return "levels", len(layout.levels)
    if first.ordered == "groups":
        return "groups", first.groups
    if first.ordered == "length":
        return "length", first.grid[0]
    return "levels", 1


__all__ = ["TokenizerCodec", "keep_leading", "keep_leading_layout"]
