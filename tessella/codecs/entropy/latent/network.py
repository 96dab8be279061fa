"""The network of the prior of scalar latents, in floats for training.

::

    z^ --conv, 2 x (conv, shuffle 2)--> features (B, F, h, w)
    slice s, pass 1:  features, slices before s                --> mean, scale of the anchors
    slice s, pass 2:  features, slices before s, anchors of s  --> mean, scale of the rest

Anchors are the cells whose row and column have an even sum (checkerboard, arXiv 2103.15306); slices
are channel groups (arXiv 2007.08739, 2203.10886): two passes a slice for a picture of any size.

The network is made to be evaluated in exact integers later: convolutions, clipped rectifiers and
pixel shuffles only. Its outputs are integers already: the mean in eighths of a step, and the place
of the scale on a geometric ladder of 64 from 0.11 to 256. Inputs are integers within bounds,
shifted left by a number of bits a channel so that all channels are about as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.codecs.entropy.latent.clipping import clipped, rounded_through
from tessella.errors import ConfigError

MEAN_STEPS = 8
SCALES = 64
LEAST_SCALE = 0.11
LARGEST_SCALE = 256.0

#: latents further from zero are seen as if they were here
CONTEXT_RANGE = 255
_MOST_SHIFT = 6
INPUT_UNIT = 1 / 64  # of a shifted latent, in the float network
HYPER_UNIT = 1 / 8
MOST_ACTIVATION = 16.0
MEAN_GAIN = 4.0  # outputs of 1 are means of 4 steps
SCALE_GAIN = 16.0  # and 16 places on the ladder


@dataclass(frozen=True, slots=True)
class LatentPriorConfig:
    """Sizes of the prior's network.

    Args:
        slices: channels of each slice of latents.
        hyper_channels: channels of the hyper-latent.
        features: channels made of the hyper-latent.
        hidden: channels between, of every slice's network.
        reach: side of the square of anchors that the second pass of a slice sees; odd.
        points: qualities at which the biases are free.
    """

    slices: tuple[int, ...] = (16, 32, 48, 96)
    hyper_channels: int = 64
    features: int = 96
    hidden: int = 128
    reach: int = 5
    points: int = 8

    def __post_init__(self) -> None:
        sizes = (*self.slices, self.hyper_channels, self.features, self.hidden, self.reach)
        if not self.slices or min(sizes) < 1 or self.reach % 2 == 0 or self.points < 2:
            raise ConfigError(
                f"slices={self.slices}, hyper_channels={self.hyper_channels}, "
                f"features={self.features}, hidden={self.hidden}, reach={self.reach}, "
                f"points={self.points} given; expected at least 1 each, an odd reach and 2 points"
            )


class Expected(NamedTuple):
    """What the prior expects of latents ``(B, C, h, w)``.

    Args:
        mean: in steps, a multiple of 1/8.
        scale: place on the ladder of scales, 0 to 63, whole.
    """

    mean: Tensor
    scale: Tensor


class HyperSynthesis(nn.Module):
    """Hyper-latents ``(B, Z, h/4, w/4)`` to features ``(B, F, h, w)``."""

    def __init__(self, config: LatentPriorConfig) -> None:
        super().__init__()
        width = config.features
        self.conv1 = nn.Conv2d(config.hyper_channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, hyper: Tensor) -> Tensor:
        """Transform whole numbers."""
        x = _activated(self.conv1(hyper * HYPER_UNIT))
        x = F.pixel_shuffle(_activated(self.conv2(x)), 2)
        return F.pixel_shuffle(_activated(self.conv3(x)), 2)


class SliceNetwork(nn.Module):
    """Features and what was decoded to what is expected of one slice.

    Args:
        config: sizes.
        before: channels of the slices before.
        channels: channels of this one.
    """

    def __init__(self, config: LatentPriorConfig, *, before: int, channels: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.features = nn.Conv2d(config.features, hidden, 1)
        self.before = nn.Conv2d(before, hidden, 3, padding=1, bias=False) if before else None
        self.anchors = nn.Conv2d(channels, hidden, config.reach, padding=config.reach // 2)
        self.quality = nn.Parameter(torch.zeros(config.points, hidden))
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 2 * channels, 1)

    def context(self, features: Tensor, before: Tensor, quality: Tensor) -> Tensor:
        """Return what both passes share, ``(B, hidden, h, w)``.

        Args:
            features: of the hyper-latent.
            before: latents of the slices before as inputs, ``(B, C, h, w)``; C may be 0.
            quality: weights of the points, ``(B, points, h or 1, w or 1)``.
        """
        bias = torch.einsum("bphw,pc->bchw", quality, self.quality)
        x = cast(Tensor, self.features(features)) + bias
        return x if self.before is None else x + self.before(before)

    def expected(self, context: Tensor, anchors: Tensor | None) -> Expected:
        """Return what is expected, given the anchors (as inputs, others zero) or none."""
        x = context if anchors is None else context + self.anchors(anchors)
        x = _activated(self.middle(_activated(x)))
        mean, scale = cast(Tensor, self.last(x)).float().chunk(2, dim=1)
        whole = rounded_through(mean * (MEAN_GAIN * MEAN_STEPS))
        place = clipped(scale * SCALE_GAIN, 0.0, SCALES - 1.0)
        return Expected(whole / MEAN_STEPS, rounded_through(place))


class LatentPriorNetwork(nn.Module):
    """Hyper-synthesis and the networks of all slices.

    Args:
        config: sizes.
    """

    shifts: Tensor

    def __init__(self, config: LatentPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.hyper_synthesis = HyperSynthesis(config)
        starts = [sum(config.slices[:i]) for i in range(len(config.slices))]
        self.slices = nn.ModuleList(
            SliceNetwork(config, before=before, channels=channels)
            for before, channels in zip(starts, config.slices, strict=True)
        )
        self.register_buffer("shifts", torch.zeros(sum(config.slices), dtype=torch.int64))

    @torch.no_grad()
    def set_deviations(self, deviations: Tensor) -> None:
        """Start from the deviations ``(M,)`` of latents, in steps.

        Inputs are shifted so that channels are about as large, and the first scales expected are
        those of the channels.
        """
        wanted = (32 / deviations.clamp(min=1e-3)).log2().round()
        self.shifts.copy_(wanted.clamp(0, _MOST_SHIFT).long())
        ladder = math.log(LARGEST_SCALE / LEAST_SCALE) / (SCALES - 1)
        places = (deviations.clamp(min=LEAST_SCALE) / LEAST_SCALE).log() / ladder
        for network, own in zip(
            self.slices, torch.split(places, list(self.config.slices)), strict=True
        ):
            bias = cast(Tensor, cast(SliceNetwork, network).last.bias)
            bias[len(own) :] = own / SCALE_GAIN

    def inputs(self, latents: Tensor) -> Tensor:
        """Return latents ``(B, M, h, w)`` as the networks see them."""
        factors = (2.0 ** self.shifts.float() * INPUT_UNIT).view(1, -1, 1, 1)
        return latents.clamp(-CONTEXT_RANGE, CONTEXT_RANGE) * factors

    def forward(self, hyper: Tensor, latents: Tensor, quality: Tensor) -> Expected:
        """Return what is expected of all latents, each given what is decoded before it.

        Args:
            hyper: whole hyper-latents ``(B, Z, h/4, w/4)``.
            latents: whole latents ``(B, M, h, w)``.
            quality: weights of the points, ``(B, points, 1, 1)``.
        """
        features = self.hyper_synthesis(hyper)
        inputs = self.inputs(latents)
        is_anchor = anchors_of(latents.shape[-2:], latents.device)
        found: list[Expected] = []
        start = 0
        for network, channels in zip(self.slices, self.config.slices, strict=True):
            network = cast(SliceNetwork, network)
            own = inputs[:, start : start + channels]
            context = network.context(features, inputs[:, :start], quality)
            first = network.expected(context, None)
            second = network.expected(context, own * is_anchor)
            found.append(_chosen(is_anchor, first, second))
            start += channels
        return Expected(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))


def anchors_of(grid: Sequence[int], device: torch.device) -> Tensor:
    """Return the mask ``(h, w)`` of cells whose row and column have an even sum."""
    rows = torch.arange(grid[0], device=device)[:, None]
    columns = torch.arange(grid[1], device=device)
    return (rows + columns) % 2 == 0


def _chosen(mask: Tensor, first: Expected, second: Expected) -> Expected:
    return Expected(*(torch.where(mask, a, b) for a, b in zip(first, second, strict=True)))


def _activated(x: Tensor) -> Tensor:
    return x.clamp(0.0, MOST_ACTIVATION)


__all__ = [
    "CONTEXT_RANGE",
    "HYPER_UNIT",
    "INPUT_UNIT",
    "LARGEST_SCALE",
    "LEAST_SCALE",
    "MEAN_GAIN",
    "MEAN_STEPS",
    "SCALES",
    "SCALE_GAIN",
    "Expected",
    "LatentPriorConfig",
    "LatentPriorNetwork",
    "SliceNetwork",
    "anchors_of",
]
