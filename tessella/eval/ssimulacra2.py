"""SSIMULACRA2 (Sneyers, Cloudinary 2022): a perceptual score without a network.

Both pictures are taken to XYB, a perceptual colour space, and halved five times in linear light. On
each scale and channel three maps compare them::

    ssim      1 - (1 - (mx - my)^2) (2 sxy + C) / (sxx + syy + C), not below 0
    edges     r = (1 + |y - my|) / (1 + |x - mx|) - 1
    artifact  r where it is positive: the reconstruction has edges that the original has not
    blur      -r where that is positive: it has lost some

with x the original and y the reconstruction. Their 1-norms and 4-norms, 108 numbers in all, are
weighted and mapped to a scale on which 30 is low quality, 50 medium, 70 high, 90 visually lossless
and 100 identical; very bad pictures are below 0. Version 2.1, the weights of libjxl
(BSD-3-Clause). It is not symmetric, and made for pictures seen at one to one.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError
from tessella.eval.pixels import check_pair

SCALES = 6
LEAST_SIDE = 113  # eight pixels on the scale before the last
_C2 = 0.0009
_SIGMA = 1.5
# per channel (X, Y, B) and scale: ssim, artifact, blur as 1-norms, then as 4-norms
# fmt: off
_WEIGHTS = (
    (0, 0.0007376606707406586, 0, 0, 0.0007793481682867309, 0),
    (0, 0.0004371155730107379, 0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752),
    (0, 0.0016406437456599754, 0, 1.8422455520539298, 11.441172603757666, 0),
    (0.0007989109436015163, 0.000176816438078653, 0, 1.8787594979546387, 10.94906990605142, 0),
    (0.0007289346991508072, 0.9677937080626833, 0,
     0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053),
    (0.0004550992113792063, 0, 0, 0.0013648766163243398, 0, 0),
    (0, 0, 0, 7.466890328078848, 0, 17.445833984131262),
    (0.0006235601634041466, 0, 0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264),
    (225.20515300849274, 0, 0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985),
    (176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408),
    (0, 0, 0, 34.77906344483772, 44.835625328877896, 0),
    (0, 0, 0, 0, 0, 0),
    (0, 0.0008680556573291698, 0, 0, 0, 0),
    (0, 0.0005313191874358747, 0, 0.00016533814161379112, 0, 0),
    (0, 0, 0, 0.0004179171803251336, 0.0017290828234722833, 0),
    (0.0020827005846636437, 0, 0, 8.826982764996862, 23.19243343998926, 0),
    (95.1080498811086, 0.9863978034400682, 0.9834382792465353,
     0.0012286405048278493, 171.2667255897307, 0.9807858872435379),
    (0, 0, 0, 0.0005130064588990679, 0, 0.00010854057858411537),
)
# fmt: on
_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.55180986650955360),
)
_BIAS = 0.0037930732552754493


def ssimulacra2(images: Tensor, references: Tensor) -> Tensor:
    """Return the score of each picture, ``(B,)`` float64, 100 at most; higher is better.

    Args:
        images: reconstructions, uint8 sRGB pixels ``(B, 3, H, W)``, sides of at least 113.
        references: the originals, the same shape.

    Raises:
        ShapeError: if either is not uint8, the shapes differ, a side is too short or there are not
            three channels.

    Example:
        >>> black = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
        >>> ssimulacra2(black, black).item()
        100.0
    """
    check_pair(images, references)
    side = min(images.shape[-2:])
    if side < LEAST_SIDE or images.shape[1] != 3:
        raise ShapeError(
            f"pictures {tuple(images.shape)} given; SSIMULACRA2 needs three channels and sides of "
            f"at least {LEAST_SIDE}, as its weights are for {SCALES} scales"
        )
    y, x = linear_light(images), linear_light(references)
    norms = []
    for scale in range(SCALES):
        if scale:
            x, y = _halve(x), _halve(y)
        norms.append(_norms(positive_xyb(x), positive_xyb(y)))
    weights = torch.tensor(_WEIGHTS, dtype=torch.float64, device=images.device)
    stacked = torch.stack(norms, dim=2)  # (B, 3, scales, 6)
    return _score((stacked * weights.view(3, SCALES, 6)).sum(dim=(1, 2, 3)))


def linear_light(pixels: Tensor) -> Tensor:
    """Return the light of uint8 sRGB pixels, float32 in [0, 1]."""
    values = pixels.float() / 255
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def positive_xyb(light: Tensor) -> Tensor:
    """Return XYB, scaled and shifted so that no value of sRGB is negative.

    Args:
        light: linear RGB in [0, 1], ``(B, 3, H, W)``.
    """
    matrix = torch.tensor(_ABSORBANCE, dtype=light.dtype, device=light.device)
    mixed = torch.einsum("ij,bjhw->bihw", matrix, light) + _BIAS
    long, middle, short = (mixed.clamp(min=0) ** (1 / 3) - _BIAS ** (1 / 3)).unbind(dim=1)
    x, y = (long - middle) / 2, (long + middle) / 2
    return torch.stack([14 * x + 0.42, y + 0.01, short - y + 0.55], dim=1)


def blur(maps: Tensor) -> Tensor:
    """Filter ``(B, C, H, W)`` with libjxl's Gaussian of sigma 1.5; outside of it there is 0."""
    taps = torch.tensor(_taps(), dtype=maps.dtype, device=maps.device)
    x = maps.flatten(0, 1)[None]  # one picture of many channels: the depthwise form, which is fast
    count, reach = x.shape[1], len(taps) // 2
    x = F.conv2d(x, taps.view(1, 1, -1, 1).repeat(count, 1, 1, 1), padding=(reach, 0), groups=count)
    x = F.conv2d(x, taps.view(1, 1, 1, -1).repeat(count, 1, 1, 1), padding=(0, reach), groups=count)
    return x.view(maps.shape)


@lru_cache(maxsize=1)
def _taps() -> tuple[float, ...]:
    """Return the nine taps of a Gaussian made of three truncated cosines.

    Charalampidis, "Recursive implementation of the Gaussian filter using truncated cosine
    functions" (2016), with k = 1, 3, 5: libjxl runs it as a recursion, whose response these are.
    The weights of the cosines make the taps' sum and spread those of the Gaussian, and let the
    response end smoothly.
    """
    radius = round(3.2795 * _SIGMA + 0.2546)
    k = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
    omega = math.pi * k / (2 * radius)
    signs = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    p = signs / torch.tan(omega / 2)
    r = signs * p.square() / torch.sin(omega)
    rho = torch.exp(-(_SIGMA**2) * omega.square() / 2) / radius
    d13, d35, d51 = (p[i] * r[j] - r[i] * p[j] for i, j in ((0, 1), (1, 2), (2, 0)))
    zeta = torch.stack([d35 / d13, d51 / d13, torch.ones_like(d13)])
    moments = torch.tensor([1.0, radius**2 - _SIGMA**2, 0.0], dtype=torch.float64)
    moments[2] = zeta @ rho
    beta = torch.linalg.solve(torch.stack([p, r, zeta]), moments)
    n = torch.arange(1 - radius, radius, dtype=torch.float64)
    return tuple((beta[:, None] * torch.cos(omega[:, None] * n)).sum(dim=0).tolist())


def _halve(light: Tensor) -> Tensor:
    """Return 2x2 means; the last row and column of an odd side count twice."""
    height, width = light.shape[-2:]
    return F.avg_pool2d(F.pad(light, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def _norms(x: Tensor, y: Tensor) -> Tensor:
    """Return the norms of one scale, ``(B, 3, 6)`` float64, in the order of the weights."""
    mx, my, xx, yy, xy = blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    structure = (2 * (xy - mx * my) + _C2) / ((xx - mx * mx) + (yy - my * my) + _C2)
    ratio = (1 + (y - my).abs()) / (1 + (x - mx).abs()) - 1
    maps = torch.stack([1 - (1 - (mx - my).square()) * structure, ratio, -ratio], dim=2)
    maps = maps.clamp(min=0)
    ones, fours = (m.mean(dim=(3, 4), dtype=torch.float64) for m in (maps, maps.square().square()))
    return torch.cat([ones, fours.pow(0.25)], dim=2)


def _score(total: Tensor) -> Tensor:
    error = 0.9562382616834844 * total
    error = (
        2.326765642916932 * error
        - 0.020884521182843837 * error.square()
        + 6.248496625763138e-05 * error.pow(3)
    )
    return 100 - 10 * error.clamp(min=0).pow(0.6276336467831387)


__all__ = ["LEAST_SIDE", "SCALES", "blur", "linear_light", "positive_xyb", "ssimulacra2"]
