"""From the trained float network to the integers of a prior file."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tessella.codecs.entropy.latent.integer_network import IntegerNetwork, SliceLayers
from tessella.codecs.entropy.latent.integers import (
    ACTIVATION_BITS,
    SUM_BITS,
    IntegerLayer,
    Offsets,
    other_colour,
    square,
)
from tessella.codecs.entropy.latent.model import LatentModel
from tessella.codecs.entropy.latent.network import (
    HYPER_UNIT,
    INPUT_UNIT,
    MEAN_GAIN,
    MEAN_STEPS,
    SCALE_GAIN,
    LatentPriorNetwork,
    SliceNetwork,
)
from tessella.tokenizers.scalar_latent import HYPER_RANGE
from tessella.training.latent.model import RatedTokenizer

#: places below this are not coded: scales up to 0.2 steps
THRESHOLD = 5

_ACTIVATION_UNIT = 2.0**-ACTIVATION_BITS
_MOST_WEIGHT = 127
_MOST_EXPONENT = 30
_COUNTS = 1 << 20
_HERE = ((0, 0),)


@torch.no_grad()
def integer_model(model: RatedTokenizer, *, threshold: int = THRESHOLD) -> LatentModel:
    """Round a trained prior to integers.

    Weights become int8 with a power of two of each output channel; the hyper-latent's densities
    become counts.

    Args:
        model: trained tokenizer and prior; only the prior is used.
        threshold: see :class:`~tessella.codecs.entropy.latent.model.LatentModel`.
    """
    network = integer_network(model.prior)
    return LatentModel(network, _histograms(model), threshold)


@torch.no_grad()
def integer_network(prior: LatentPriorNetwork) -> IntegerNetwork:
    """Round the network only."""
    hyper = prior.hyper_synthesis
    units = (HYPER_UNIT, _ACTIVATION_UNIT, _ACTIVATION_UNIT)
    convolutions = (hyper.conv1, hyper.conv2, hyper.conv3)
    first, second, third = (
        _layer(conv, unit, square(3)) for conv, unit in zip(convolutions, units, strict=True)
    )
    slices = tuple(_slice(cast(SliceNetwork, own), prior.config.reach) for own in prior.slices)
    shifts = prior.shifts.cpu().numpy().astype(np.int8)
    return IntegerNetwork(prior.config, (first, second, third), slices, shifts)


def _slice(own: SliceNetwork, reach: int) -> SliceLayers:
    quality = (own.quality.double() * 2.0**SUM_BITS).round().cpu().numpy().astype(np.int32)
    size = own.last.out_channels // 2
    gains = torch.full((2 * size,), SCALE_GAIN, dtype=torch.float64)
    gains[:size] = MEAN_GAIN * MEAN_STEPS
    return SliceLayers(
        _layer(own.features, _ACTIVATION_UNIT, _HERE),
        None if own.before is None else _layer(own.before, INPUT_UNIT, square(3)),
        _layer(own.anchors, INPUT_UNIT, other_colour(reach)),
        _layer(own.middle, _ACTIVATION_UNIT, _HERE),
        _layer(own.last, _ACTIVATION_UNIT, _HERE, gains=gains),
        quality,
    )


def _layer(
    conv: nn.Conv2d, unit: float, offsets: Offsets, *, gains: Tensor | None = None
) -> IntegerLayer:
    """Round a convolution.

    Args:
        conv: in floats.
        unit: what a whole input of 1 stands for.
        offsets: the neighbours to keep of its kernel.
        gains: factors of the outputs, which are then whole numbers; None for sums in units of
            ``2^-SUM_BITS``.
    """
    middle = conv.kernel_size[0] // 2
    taps = [conv.weight[:, :, middle + dy, middle + dx] for dy, dx in offsets]
    weight = torch.cat(taps, dim=1).double().cpu() * unit
    bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.cpu()
    bias = bias.double()
    bits = SUM_BITS
    if gains is not None:
        weight, bias, bits = weight * gains[:, None], bias * gains, 0
    largest = weight.abs().amax(dim=1).clamp(min=2.0**-_MOST_EXPONENT)
    exponent = (_MOST_WEIGHT / largest).log2().floor()
    # biases must fit 32 bits
    room = (2.0**30 / bias.abs().clamp(min=1e-9)).log2().floor()
    exponent = torch.minimum(exponent, room).clamp(max=_MOST_EXPONENT)
    factor = 2.0**exponent
    return IntegerLayer(
        (weight * factor[:, None]).round().to(torch.int8).numpy(),
        (bias * factor).round().to(torch.int32).numpy(),
        (exponent - bits).to(torch.int8).numpy(),
    )


def _histograms(model: RatedTokenizer) -> NDArray[np.uint32]:
    values = torch.arange(-HYPER_RANGE, HYPER_RANGE, device=model.tokenizer.device).float()
    points = model.tokenizer.config.points
    channels = model.tokenizer.config.hyper_channels
    grid = values.view(1, 1, 1, -1).expand(points, channels, 1, -1)
    bits = model.hyper_density.bits(grid, torch.eye(points, device=values.device))
    counts = (_COUNTS * 2.0 ** -bits[:, :, 0].double()).round()
    return counts.cpu().numpy().astype(np.uint32)


__all__ = ["THRESHOLD", "integer_model", "integer_network"]
