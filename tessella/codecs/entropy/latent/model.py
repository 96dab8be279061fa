"""All integers of the prior of scalar latents, as a prior file holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.latent.integer_network import IntegerNetwork, Pass
from tessella.codecs.entropy.latent.network import SCALES, LatentPriorConfig
from tessella.codecs.entropy.tables import FrequencyTable, table_from_weights
from tessella.codecs.stored_layout import StoredLevel
from tessella.config import from_dict, to_dict
from tessella.errors import CheckpointError, ConfigError
from tessella.tokenizers.scalar_latent import HYPER_RANGE, LATENT_RANGE, QUALITIES

#: means of so many eighths, or less, round to zero
_ZERO_MEAN = 4
_CELLS = 4
_PREFIX = "latent_model"


class LatentModel:
    """Network, histograms of the hyper-latent, and the scale below which latents are not coded.

    Args:
        network: says what to expect of the latents.
        histograms: counts of the hyper-latent's values at each point of quality,
            ``(points, Z, 128)`` uint32.
        threshold: latents whose place on the ladder of scales is below this, and whose mean rounds
            to zero, are taken as zero without being coded. 0 to 63.

    Raises:
        CheckpointError: if the parts do not fit.
    """

    def __init__(
        self, network: IntegerNetwork, histograms: NDArray[np.uint32], threshold: int
    ) -> None:
        config = network.config
        shape = (config.points, config.hyper_channels, 2 * HYPER_RANGE)
        if histograms.shape != shape or histograms.dtype != np.uint32:
            raise CheckpointError(
                f"histograms of shape {histograms.shape} and dtype {histograms.dtype} given; "
                f"expected uint32 {shape}"
            )
        if not 0 <= threshold < SCALES:
            raise CheckpointError(f"threshold {threshold} given; expected 0 to {SCALES - 1}")
        self.network = network
        self.histograms = histograms
        self.threshold = threshold
        self._table = cache(self._make_table)

    def suits(self, levels: Sequence[StoredLevel]) -> bool:
        """Return whether the model can code a layout: all levels, or the first few."""
        config = self.network.config
        alphabets = (
            (QUALITIES,),
            (2 * HYPER_RANGE,) * config.hyper_channels,
            *((2 * LATENT_RANGE,) * count for count in config.slices),
        )
        coarse = levels[0].grid
        if len(coarse) != 2 or len(levels) > len(alphabets):
            return False
        fine = (coarse[0] * _CELLS, coarse[1] * _CELLS)
        return all(
            level.vocab_sizes == sizes and level.grid == (fine if i > 1 else coarse)
            for i, (level, sizes) in enumerate(zip(levels, alphabets, strict=False))
        )

    def hyper_table(self, quality: int, channel: int) -> FrequencyTable:
        """Return the table of a channel of the hyper-latent; symbols are values + 64."""
        points = self.network.config.points
        point = (2 * quality * (points - 1) + QUALITIES - 1) // (2 * (QUALITIES - 1))
        return self._table(point, channel)

    def is_coded(self, of: Pass) -> NDArray[np.bool_]:
        """Return which latents of a pass are coded; the others are zero."""
        rounds_to_zero = (of.mean >= -_ZERO_MEAN) & (of.mean < _ZERO_MEAN)
        found: NDArray[np.bool_] = ~(rounds_to_zero & (of.place < self.threshold))
        return found

    def settled(
        self,
        quality: NDArray[np.int64],
        hyper: NDArray[np.int64],
        latents: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return latents with zeros where they would not be coded.

        Args:
            quality: map ``(h/4, w/4)`` of 0 to 99.
            hyper: whole hyper-latents ``(Z, h/4, w/4)``.
            latents: ``(M, h, w)``.
        """
        kept: NDArray[np.int64] = latents.copy()
        features = self.network.features(hyper)

        def code(of: Pass) -> NDArray[np.int64]:
            own = latents[of.channels].reshape(len(of.mean), -1)[:, of.positions]
            found: NDArray[np.int64] = np.where(self.is_coded(of), own, 0)
            return found

        for index in range(len(self.network.config.slices)):
            self.network.code_slice(index, features, quality, kept, code)
        return kept

    def _make_table(self, point: int, channel: int) -> FrequencyTable:
        return table_from_weights(self.histograms[point, channel].astype(np.int64))

    # ---- storage ---------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """Return all that is not an array, as a JSON value."""
        return {"config": to_dict(self.network.config), "threshold": self.threshold}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all integers by name."""
        own = {f"{_PREFIX}.{name}": array for name, array in self.network.arrays().items()}
        return {**own, f"{_PREFIX}.histograms": self.histograms}

    @classmethod
    def from_arrays(
        cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]
    ) -> LatentModel:
        """Rebuild a model from :meth:`spec` and :meth:`arrays`.

        Raises:
            CheckpointError: if something is missing or does not fit.
        """
        own = {
            name.removeprefix(f"{_PREFIX}."): array
            for name, array in arrays.items()
            if name.startswith(_PREFIX)
        }
        try:
            config = from_dict(LatentPriorConfig, spec["config"])
            histograms = own.pop("histograms")
            network = IntegerNetwork.from_arrays(config, own)
            return cls(network, histograms, int(spec["threshold"]))  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise CheckpointError(f"an incomplete prior of latents given: {error!r}") from error


__all__ = ["LatentModel"]
