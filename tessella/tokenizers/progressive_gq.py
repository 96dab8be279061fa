"""ProgressiveGQ: one convolutional tokenizer for every rate, by tail drop along the group axis.

::

    image --patch 8x8 linear (+) conv encoder--> latent (h, w, D)
          --successive signs--> G groups of 8 bits, most important first
          --first q groups--> state (h, w, D) --patch linear (+) conv decoder(q)--> image

A position of the f8 grid holds ``G`` indices of 256. Tail drop (One-D-Piece, arXiv 2501.10064) is
applied to groups rather than to positions: in training every picture keeps a random number ``q`` of
groups, so that they order themselves by importance and ``q`` sets the rate: 0.125 bits per pixel a
group before entropy coding. Codes are group-wise and lookup-free (WeTok, arXiv 2508.05599), each
bit the sign of what earlier bits left over (see
:mod:`~tessella.tokenizers.quantizers.successive`).

Why it looks like this:

* a linear map of the 8x8 patch runs beside both networks and starts as the principal components of
  natural patches, the quantizer as reverse water-filling over them: step 0 is a transform codec,
  and the convolutions learn what it lacks;
* pixel-unshuffle by 4, then 8: no convolution runs at full resolution;
* no normalisation and nothing global: a tile with a margin equals the whole picture;
* the decoder knows ``q``: every block scales and shifts its channels by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers import ResidualBlock
from tessella.tokenizers.layers.conv import SLOPE
from tessella.tokenizers.quantizers.successive import SuccessiveGQ
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import LevelLayout, TokenLayout, Tokens

_STRIDE = 8
_STEM = 4
_FREE_IMPORTANCE = 1e-4  # of channels that the patch transform leaves free


@dataclass(frozen=True, slots=True)
class ProgressiveGQConfig:
    """Sizes of a ProgressiveGQ tokenizer.

    Args:
        groups: number ``G`` of ordered groups.
        group_bits: bits of a group.
        latent_dim: width ``D`` of the latent.
        components: channels of it that start as principal components; the others are free.
        step_hidden: width of the network that adapts quantization steps.
        stem_width: channels at 1/4 resolution in the encoder.
        stem_blocks: residual blocks there.
        encoder_width: channels at 1/8 resolution in the encoder.
        encoder_blocks: residual blocks there.
        decoder_width: channels at 1/8 resolution in the decoder.
        decoder_blocks: residual blocks there.
        head_width: channels at 1/4 resolution in the decoder.
        head_blocks: residual blocks there.
        keep_weights: relative frequency of keeping 1..G groups in training; empty for equal.
        commitment_weight: factor of the term that keeps latents within the quantizer's range.
    """

    groups: int = 8
    group_bits: int = 8
    latent_dim: int = 96
    components: int = 64
    step_hidden: int = 48
    stem_width: int = 48
    stem_blocks: int = 1
    encoder_width: int = 128
    encoder_blocks: int = 2
    decoder_width: int = 160
    decoder_blocks: int = 3
    head_width: int = 48
    head_blocks: int = 1
    keep_weights: tuple[float, ...] = ()
    commitment_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.keep_weights and (
            len(self.keep_weights) != self.groups or min(self.keep_weights) < 0
        ):
            raise ConfigError(
                f"keep_weights of {len(self.keep_weights)} values given; expected "
                f"{self.groups} non-negative ones, one a number of groups"
            )
        if not 1 <= self.components <= min(self.latent_dim, 3 * _STRIDE**2):
            raise ConfigError(
                f"components={self.components} given; expected 1 to "
                f"{min(self.latent_dim, 3 * _STRIDE**2)}: at most latent_dim, and at most the "
                "number of values of an 8x8 patch"
            )


class _Encoder(nn.Module):
    def __init__(self, config: ProgressiveGQConfig) -> None:
        super().__init__()
        stem, width = config.stem_width, config.encoder_width
        self.patch = nn.Linear(3 * _STRIDE**2, config.latent_dim)
        self.conv_in = nn.Conv2d(3 * _STEM**2, stem, 3, padding=1)
        self.stem = nn.ModuleList(ResidualBlock(stem) for _ in range(config.stem_blocks))
        self.down = nn.Conv2d(4 * stem, width, 1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(config.encoder_blocks))
        self.out = nn.Conv2d(width, config.latent_dim, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, h, w, D)``."""
        cells = F.pixel_unshuffle(images, _STEM)
        x = self.conv_in(cells)
        for block in self.stem:
            x = block(x)
        # unshuffling and mixing is one convolution of stride 2, which need not copy
        x = F.conv2d(x, self.down.weight.view(-1, x.shape[1], 2, 2), self.down.bias, stride=2)
        for block in self.blocks:
            x = block(x)
        learnt: Tensor = self.out(F.leaky_relu(x, SLOPE))
        coarse = F.conv2d(cells, self._patch_of_cells(), self.patch.bias, stride=2)
        return (coarse + learnt).permute(0, 2, 3, 1)

    def _patch_of_cells(self) -> Tensor:
        """Return the patch transform as a kernel over unshuffled cells, ``(D, 48, 2, 2)``."""
        weight = self.patch.weight.view(-1, 3, 2, _STEM, 2, _STEM)
        return weight.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


class _Decoder(nn.Module):
    def __init__(self, config: ProgressiveGQConfig) -> None:
        super().__init__()
        width, head, groups = config.decoder_width, config.head_width, config.groups
        self.patch = nn.Linear(config.latent_dim, 3 * _STRIDE**2)
        self.conv_in = nn.Conv2d(config.latent_dim, width, 3, padding=1)
        self.kept = nn.Embedding(groups, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, conditions=groups) for _ in range(config.decoder_blocks)
        )
        self.up = nn.Conv2d(width, 4 * head, 1)
        self.head = nn.ModuleList(
            ResidualBlock(head, conditions=groups) for _ in range(config.head_blocks)
        )
        self.out = nn.Conv2d(head, 3 * _STEM**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, state: Tensor, kept: Tensor) -> Tensor:
        """Map states ``(B, h, w, D)`` of ``kept + 1`` groups ``(B,)`` to images."""
        x = self.conv_in(state.permute(0, 3, 1, 2)) + self.kept(kept)[:, :, None, None]
        for block in self.blocks:
            x = block(x, kept)
        x = F.pixel_shuffle(self.up(F.leaky_relu(x, SLOPE)), 2)
        for block in self.head:
            x = block(x, kept)
        fine = F.pixel_shuffle(self.out(F.leaky_relu(x, SLOPE)), _STEM)
        coarse = F.pixel_shuffle(self.patch(state).permute(0, 3, 1, 2), _STRIDE)
        return coarse + fine if torch.is_grad_enabled() else fine.add_(coarse)


@register(
    "progressive_gq",
    config=ProgressiveGQConfig,
    presets=(
        Preset("progressive-gq-f8", ProgressiveGQConfig(), note="8 groups of 8 bits, 2.4 M"),
        Preset(
            "progressive-gq-tiny",
            ProgressiveGQConfig(
                groups=3,
                group_bits=4,
                latent_dim=16,
                components=12,
                step_hidden=4,
                stem_width=8,
                encoder_width=16,
                encoder_blocks=1,
                decoder_width=16,
                decoder_blocks=1,
                head_width=8,
            ),
            note="for tests",
        ),
    ),
)
class ProgressiveGQ(Tokenizer):
    """Convolutional f8 tokenizer with ordered lookup-free groups; one model for every rate.

    Example:
        >>> model = ProgressiveGQ(ProgressiveGQConfig())
        >>> model.layout(512, 768).levels[0].grid
        (64, 96)
    """

    config: ProgressiveGQConfig

    def __init__(self, config: ProgressiveGQConfig) -> None:
        super().__init__(config)
        self.encoder = _Encoder(config)
        self.quantizer = SuccessiveGQ(
            config.latent_dim,
            groups=config.groups,
            group_bits=config.group_bits,
            hidden=config.step_hidden,
        )
        self.decoder = _Decoder(config)
        self.register_buffer("importance", torch.full((config.latent_dim,), 1 / 192))

    importance: Tensor  # (D,) mean squared pixel change of a unit of each latent channel

    @property
    def stride(self) -> int:
        """Pixels of a grid step: 8."""
        return _STRIDE

    @property
    def halo(self) -> int:
        """Pixels that the encoder or the decoder sees beyond a tile."""
        c = self.config
        encoder = _STEM * (1 + 2 * c.stem_blocks) + _STRIDE * 2 * c.encoder_blocks
        decoder = _STRIDE * (1 + 2 * c.decoder_blocks) + _STEM * (1 + 2 * c.head_blocks)
        reach = max(encoder, decoder)
        return -(-reach // _STRIDE) * _STRIDE

    @property
    def decodes_ragged(self) -> bool:
        """Positions may keep any number of groups."""
        return True

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one level ``(ceil(H/8), ceil(W/8))``, groups ordered."""
        grid = (-(-height // _STRIDE), -(-width // _STRIDE))
        level = LevelLayout(grid, self.quantizer.vocab_sizes, ordered="groups")
        return TokenLayout((level,), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The tensors that give tokens their meaning: the quantizer's."""
        return dict(self.quantizer.named_parameters())

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct from a random number of groups a picture (all of them in evaluation)."""
        latents = self.encoder(images).float()
        codes = self.quantizer(latents)
        batch = images.shape[0]
        kept = self._draw_kept(batch, generator).to(images.device)
        state = codes.states[kept, torch.arange(batch, device=images.device)]
        outputs = self.decoder(state, kept)
        outside = (latents - codes.states[-1].detach()).square() * self.importance
        missed = (latents.detach() - state).square() * self.importance
        commitment = outside.sum(dim=-1).mean() + missed.sum(dim=-1).mean()
        tokens = Tokens((codes.indices,), self.layout(*images.shape[-2:]))
        return TokenizerOutput(
            outputs,
            tokens,
            {"commitment": self.config.commitment_weight * commitment},
            {"commitment": commitment.detach(), "kept_groups": kept.float().mean() + 1},
        )

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Start as a transform codec of these pictures: principal components, greedy bits.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], a few hundred crops.
        """
        count = self.config.components
        patches = F.pixel_unshuffle(images.float(), _STRIDE).permute(0, 2, 3, 1).flatten(0, 2)
        mean = patches.mean(dim=0)
        covariance = (patches - mean).T @ (patches - mean) / len(patches)
        values, vectors = torch.linalg.eigh(covariance)
        values, basis = values.flip(0)[:count].clamp(min=1e-8), vectors.flip(1)[:, :count]
        scale = values.sqrt()
        for layer in (self.encoder.patch, self.decoder.patch):
            layer.weight.zero_()
            _bias(layer).zero_()
        self.encoder.patch.weight[:count] = (basis / scale).T
        _bias(self.encoder.patch)[:count] = -(mean @ basis) / scale
        self.decoder.patch.weight[:, :count] = basis * scale
        _bias(self.decoder.patch).copy_(mean)
        self.importance.fill_(_FREE_IMPORTANCE)
        self.importance[:count] = values / (3 * _STRIDE**2)
        self.quantizer.initialize((patches - mean) @ basis / scale, scale)

    def _draw_kept(self, batch: int, generator: torch.Generator | None) -> Tensor:
        """Return the index of the last kept group for each picture, ``(B,)`` on the CPU."""
        groups = self.config.groups
        if not self.training:
            return torch.full((batch,), groups - 1)
        weights = torch.tensor(self.config.keep_weights or (1,) * groups, dtype=torch.float32)
        return torch.multinomial(weights, batch, replacement=True, generator=generator)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.quantizer.latents_to_indices(self.encoder(images)),)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        """Decode once for each number of groups that occurs, and take its positions from it.

        The decoder was trained with one number everywhere: telling its blocks another one from
        place to place mixes features that do not belong together.
        """
        indices, counts = tokens.levels[0], tokens.group_counts()
        images: Tensor | None = None
        for count in counts.flatten().bincount().nonzero().flatten().tolist():
            state = self.quantizer.indices_to_state(indices[..., :count]).to(self.dtype)
            kept = torch.full((1,), count - 1, device=indices.device)
            decoded = cast(Tensor, self.decoder(state, kept))
            if images is None:
                images = decoded
            else:
                is_here = (counts == count).repeat_interleave(_STRIDE, 1)
                is_here = is_here.repeat_interleave(_STRIDE, 2)[:, None]
                images = torch.where(is_here, decoded, images)
        return cast(Tensor, images)


def _bias(layer: nn.Linear) -> Tensor:
    return cast(Tensor, layer.bias)


__all__ = ["ProgressiveGQ", "ProgressiveGQConfig"]
