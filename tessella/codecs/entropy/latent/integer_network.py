"""The prior's network in integers: pass by pass, the same for encoder and decoder.

What :mod:`tessella.codecs.entropy.latent.network` does in floats. All weights are integers; so is
everything between, see :mod:`tessella.codecs.entropy.latent.integers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.latent.integers import (
    IntegerLayer,
    Whole,
    neighbours,
    other_colour,
    rectified,
    shuffled,
    square,
)
from tessella.codecs.entropy.latent.network import CONTEXT_RANGE, SCALES, LatentPriorConfig
from tessella.errors import CheckpointError

_MOST_MEAN = 1 << 14
_GRADES = 99  # the highest quality
_CELLS = 4  # a side of a cell of the hyper-latent
_MOST_LEFT_SHIFT = 6


class Pass(NamedTuple):
    """Latents that are decoded at once, ``(C, n)``.

    Args:
        channels: which channels of the latents.
        positions: which positions, in raster order.
        mean: expected, in eighths of a step.
        place: of the scale, on the ladder.
    """

    channels: slice
    positions: NDArray[np.intp]
    mean: NDArray[np.int64]
    place: NDArray[np.int64]


#: takes a pass and returns its latents ``(C, n)``
Code = Callable[[Pass], NDArray[np.int64]]


@dataclass(frozen=True)
class SliceLayers:
    """Layers of one slice's network."""

    features: IntegerLayer
    before: IntegerLayer | None
    anchors: IntegerLayer
    middle: IntegerLayer
    last: IntegerLayer
    quality: NDArray[np.int32]


class IntegerNetwork:
    """Hyper-synthesis and the networks of all slices.

    Args:
        config: sizes.
        hyper: the layers of the hyper-synthesis.
        slices: the layers of each slice.
        shifts: bits by which latents are shifted left as inputs, ``(M,)``.

    Raises:
        CheckpointError: if layers do not fit the sizes.
    """

    def __init__(
        self,
        config: LatentPriorConfig,
        hyper: tuple[IntegerLayer, IntegerLayer, IntegerLayer],
        slices: tuple[SliceLayers, ...],
        shifts: NDArray[np.int8],
    ) -> None:
        self.config = config
        self.hyper = hyper
        self.slices = slices
        self.shifts = shifts
        self._check()

    def features(self, hyper: NDArray[np.int64]) -> Whole:
        """Return the features ``(F, 16 n)`` of whole hyper-latents ``(Z, h/4, w/4)``."""
        maps = hyper.astype(np.float64)
        height, width = maps.shape[1:]
        near = square(3)
        first, second, third = self.hyper
        maps = rectified(first(neighbours(maps, near))).reshape(-1, height, width)
        maps = shuffled(rectified(second(neighbours(maps, near))), height, width)
        maps = shuffled(rectified(third(neighbours(maps, near))), 2 * height, 2 * width)
        return maps.reshape(maps.shape[0], -1)

    def code_slice(
        self,
        index: int,
        features: Whole,
        quality: NDArray[np.int64],
        latents: NDArray[np.int64],
        code: Code,
    ) -> None:
        """Code one slice in two passes.

        Args:
            index: which slice; those before must be in the latents.
            features: of the hyper-latent.
            quality: map ``(h/4, w/4)`` of 0 to 99.
            latents: ``(M, h, w)``; what ``code`` returns is written here.
            code: takes each pass in turn.
        """
        layers, sizes = self.slices[index], self.config.slices
        start = sum(sizes[:index])
        channels = slice(start, start + sizes[index])
        grid = latents.shape[1:]
        is_anchor = (np.indices(grid).sum(axis=0) % 2 == 0).ravel()
        context = layers.features(features)
        context += self._quality_bias(layers.quality, quality)
        if layers.before is not None:
            before = self._inputs(latents, slice(0, start))
            context += layers.before(neighbours(before, square(3)))
        for positions in (np.flatnonzero(is_anchor), np.flatnonzero(~is_anchor)):
            sums = context[:, positions]
            if not is_anchor[positions[0]]:
                # neighbours of the other colour are anchors: all that is known of this slice
                seen = self._inputs(latents, channels)
                near = neighbours(seen, other_colour(self.config.reach), positions)
                sums = sums + layers.anchors(near)
            out = layers.last(rectified(layers.middle(rectified(sums)))).astype(np.int64)
            mean, place = out[: sizes[index]], out[sizes[index] :]
            coded = code(
                Pass(
                    channels,
                    positions,
                    mean.clip(-_MOST_MEAN, _MOST_MEAN),
                    place.clip(0, SCALES - 1),
                )
            )
            latents[channels].reshape(sizes[index], -1)[:, positions] = coded

    def _inputs(self, latents: NDArray[np.int64], channels: slice) -> Whole:
        clipped = latents[channels].clip(-CONTEXT_RANGE, CONTEXT_RANGE).astype(np.float64)
        return clipped * np.ldexp(1.0, self.shifts[channels].astype(np.int64))[:, None, None]

    def _quality_bias(self, table: NDArray[np.int32], quality: NDArray[np.int64]) -> Whole:
        """Interpolate biases ``(hidden, h w)`` between the points."""
        rows = table.astype(np.int64)
        place = quality.ravel() * (len(rows) - 1)
        low = np.minimum(place // _GRADES, len(rows) - 2)
        rest = (place - low * _GRADES)[:, None]
        mixed = rows[low] * (_GRADES - rest) + rows[low + 1] * rest
        cells = ((2 * mixed + _GRADES) // (2 * _GRADES)).T.reshape(-1, *quality.shape)
        spread = cells.repeat(_CELLS, axis=1).repeat(_CELLS, axis=2)
        bias: Whole = spread.reshape(len(spread), -1).astype(np.float64)
        return bias

    # ---- storage ---------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all integers by name."""
        found: dict[str, NDArray[np.generic]] = {"shifts": self.shifts}
        layers = {f"hyper.{i}": layer for i, layer in enumerate(self.hyper)}
        for i, own in enumerate(self.slices):
            found[f"slice.{i}.quality"] = own.quality
            for name in ("features", "before", "anchors", "middle", "last"):
                layer = getattr(own, name)
                if layer is not None:
                    layers[f"slice.{i}.{name}"] = layer
        for name, layer in layers.items():
            for part in ("weight", "bias", "shift"):
                found[f"{name}.{part}"] = getattr(layer, part)
        return found

    @classmethod
    def from_arrays(
        cls, config: LatentPriorConfig, arrays: Mapping[str, NDArray[np.generic]]
    ) -> IntegerNetwork:
        """Rebuild a network from :meth:`arrays`.

        Raises:
            CheckpointError: if something is missing or does not fit.
        """

        def layer(name: str) -> IntegerLayer:
            return IntegerLayer(*(arrays[f"{name}.{p}"] for p in ("weight", "bias", "shift")))  # type: ignore[arg-type]

        try:
            slices = tuple(
                SliceLayers(
                    layer(f"slice.{i}.features"),
                    layer(f"slice.{i}.before") if i else None,
                    layer(f"slice.{i}.anchors"),
                    layer(f"slice.{i}.middle"),
                    layer(f"slice.{i}.last"),
                    arrays[f"slice.{i}.quality"],  # type: ignore[arg-type]
                )
                for i in range(len(config.slices))
            )
            hyper = (layer("hyper.0"), layer("hyper.1"), layer("hyper.2"))
            return cls(config, hyper, slices, arrays["shifts"])  # type: ignore[arg-type]
        except KeyError as error:
            raise CheckpointError(f"a prior without {error} given; expected all layers") from error

    def _check(self) -> None:
        config = self.config
        width, hidden, start = config.features, config.hidden, 0
        expected = [
            (width, 9 * config.hyper_channels),
            (4 * width, 9 * width),
            (4 * width, 9 * width),
        ]
        found = [layer.weight.shape for layer in self.hyper]
        for layers, size in zip(self.slices, config.slices, strict=True):
            found += [layers.features.weight.shape, layers.anchors.weight.shape]
            found += [layers.middle.weight.shape, layers.last.weight.shape, layers.quality.shape]
            near = len(other_colour(config.reach))
            expected += [(hidden, width), (hidden, near * size)]
            expected += [(hidden, hidden), (2 * size, hidden), (config.points, hidden)]
            if layers.before is not None:
                found.append(layers.before.weight.shape)
                expected.append((hidden, 9 * start))
            start += size
        fits = found == expected and self.shifts.shape == (start,)
        if not fits or self.shifts.dtype != np.int8:
            raise CheckpointError(f"layers of shapes {found} given; expected {expected}")
        if int(self.shifts.min()) < 0 or int(self.shifts.max()) > _MOST_LEFT_SHIFT:
            raise CheckpointError(
                f"shifts from {self.shifts.min()} to {self.shifts.max()} given; expected 0 to "
                f"{_MOST_LEFT_SHIFT}"
            )
        if any(layers.quality.dtype != np.int32 for layers in self.slices):
            raise CheckpointError("biases of qualities that are not int32 given; expected int32")


__all__ = ["Code", "IntegerNetwork", "Pass", "SliceLayers"]
