"""Product (multi-codebook) quantization: parts of the channels, each with its own quantizer.

With M codebooks of K codes a token has K^M values at the cost of M K (UniTok, arXiv 2502.20321).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Quantized, Quantizer


class ProductQuantizer(Quantizer):
    """Independent quantizers of consecutive channels; their indices stand side by side.

    Losses are averaged with the parts' widths as weights, which makes a mean over elements the
    mean over all elements.

    Args:
        parts: one quantizer a part, first channels first; modules must be distinct.
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        if len({id(part) for part in parts}) != len(parts) or not parts:
            raise ConfigError(
                f"{len(parts)} parts given, some of them the same module or none; expected "
                "distinct quantizers (SharedProductQuantizer applies one to all parts)"
            )
        super().__init__(
            sum(part.dim for part in parts), tuple(v for part in parts for v in part.vocab_sizes)
        )
        self.parts = nn.ModuleList(parts)

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        pieces = torch.split(z, [part.dim for part in self._parts()], dim=-1)
        outs: list[Quantized] = [
            part(piece, generator=generator)
            for part, piece in zip(self._parts(), pieces, strict=True)
        ]
        z_q = torch.cat([out.z_q for out in outs], dim=-1)
        indices = torch.cat([out.indices for out in outs], dim=-1)
        losses = self._averaged([out.losses for out in outs])
        return Quantized(z_q, indices, losses, self._averaged([out.stats for out in outs]))

    def _averaged(self, dicts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for part, values in zip(self._parts(), dicts, strict=True):
            for name, value in values.items():
                share = value * (part.dim / self.dim)
                total[name] = total[name] + share if name in total else share
        return total

    def _parts(self) -> list[Quantizer]:
        return [part for part in self.parts if isinstance(part, Quantizer)]

    def _decode(self, indices: Tensor) -> Tensor:
        pieces = torch.split(indices, [part.groups for part in self._parts()], dim=-1)
        pairs = zip(self._parts(), pieces, strict=True)
        return torch.cat([part.indices_to_codes(piece) for part, piece in pairs], dim=-1)

    def _index(self, codes: Tensor) -> Tensor:
        pieces = torch.split(codes, [part.dim for part in self._parts()], dim=-1)
        pairs = zip(self._parts(), pieces, strict=True)
        return torch.cat([part.codes_to_indices(piece) for part, piece in pairs], dim=-1)


class SharedProductQuantizer(Quantizer):
    """One quantizer for all parts of the channels: parts become tokens of a single call.

    Args:
        part: the quantizer of every part.
        count: number ``M`` of parts; ``D = M part.dim``.
    """

    def __init__(self, part: Quantizer, count: int) -> None:
        if count < 1:
            raise ConfigError(f"count={count} given; expected at least 1")
        super().__init__(count * part.dim, part.vocab_sizes * count)
        self.part = part
        self.count = count

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        out: Quantized = self.part(self._split(z, self.part.dim), generator=generator)
        return out._replace(z_q=out.z_q.flatten(-2), indices=out.indices.flatten(-2))

    def _split(self, values: Tensor, width: int) -> Tensor:
        return values.reshape(*values.shape[:-1], self.count, width)

    def _decode(self, indices: Tensor) -> Tensor:
        return self.part.indices_to_codes(self._split(indices, self.part.groups)).flatten(-2)

    def _index(self, codes: Tensor) -> Tensor:
        return self.part.codes_to_indices(self._split(codes, self.part.dim)).flatten(-2)


__all__ = ["ProductQuantizer", "SharedProductQuantizer"]
