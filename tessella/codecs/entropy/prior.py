"""An entropy prior: the integers that ship beside a model and tell the coder what to expect.

A prior holds one histogram a level and group (profile 1, and where the counts of profile 2 start)
and, for bitwise codes on grids, a context model (profile 2); or the network of scalar latents
(profile 3). It is stored as one safetensors file of integers; floats never reach a probability.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.container_errors import UnknownModelError
from tessella.codecs.entropy.bit_model import BitModel
from tessella.codecs.entropy.latent.model import LatentModel
from tessella.codecs.entropy.tables import MAX_WEIGHT
from tessella.errors import CheckpointError
from tessella.identity import canonical_json, object_digest

PRIOR_FILE = "prior.safetensors"

_FORMAT = 1
_HISTOGRAM = "histogram"


class Prior:
    """Histograms and, optionally, a context model.

    Args:
        histograms: for ``(level, group)`` the counts ``(n,)``, integers from 0 to 2^31 - 1; for a
            continuous level n is ``2 M + 1``, see :mod:`tessella.codecs.entropy.signed`.
        bit_model: the context model of a single-level grid of bitwise codes.
        latent_model: the network and histograms of scalar latents.

    Raises:
        CheckpointError: if a histogram is not of such integers.
    """

    def __init__(
        self,
        histograms: Mapping[tuple[int, int], NDArray[np.integer]],
        bit_model: BitModel | None = None,
        latent_model: LatentModel | None = None,
    ) -> None:
        self._histograms = {}
        for key, counts in sorted(histograms.items()):
            values = np.asarray(counts)
            valid = values.ndim == 1 and values.size > 1 and values.dtype.kind in "iu"
            if not valid or int(values.min()) < 0 or int(values.max()) > MAX_WEIGHT:
                raise CheckpointError(
                    f"histogram {key} of shape {values.shape} and dtype {values.dtype} given; "
                    f"expected (n,) integers from 0 to {MAX_WEIGHT}"
                )
            self._histograms[key] = values.astype(np.uint32)
        self._bit_model = bit_model
        self._latent_model = latent_model

    @property
    def bit_model(self) -> BitModel | None:
        """The context model, if there is one."""
        return self._bit_model

    @property
    def latent_model(self) -> LatentModel | None:
        """The prior of scalar latents, if that is what this is."""
        return self._latent_model

    @cached_property
    def identity(self) -> bytes:
        """SHA-256 of all integers; token files carry its first bytes."""
        import torch

        arrays = {name: torch.from_numpy(array) for name, array in self._arrays().items()}
        return object_digest(self._config(), arrays)

    def histogram(self, level: int, group: int, size: int) -> NDArray[np.int64]:
        """Return the counts ``(size,)`` int64 of a level and group.

        Raises:
            UnknownModelError: if the prior has none of that size.
        """
        counts = self._histograms.get((level, group))
        if counts is None or counts.size != size:
            has = "no histogram" if counts is None else f"a histogram of {counts.size} symbols"
            raise UnknownModelError(
                f"prior {self.identity[:4].hex()} has {has} for level {level}, group {group}; the "
                f"tokens have {size} symbols there: use the prior of their tokenizer"
            )
        return counts.astype(np.int64)

    def range_bits(self, level: int, channels: int) -> int | None:
        """Return b of a continuous level whose histograms cover ``[-2^b, 2^b - 1]``."""
        counts = [self._histograms.get((level, c)) for c in range(channels)]
        sizes = {0 if count is None else count.size for count in counts}
        size = sizes.pop() - 1 if len(sizes) == 1 else 0
        return size.bit_length() - 2 if size >= 2 and size & (size - 1) == 0 else None

    def save(self, path: Path | str) -> None:
        """Write the prior to a safetensors file."""
        from safetensors.numpy import save_file

        config = canonical_json(self._config()).decode("utf-8")
        save_file(self._arrays(), str(path), metadata={"prior": config})
        Path(path).chmod(0o644)  # safetensors makes it private to its owner

    @classmethod
    def load(cls, path: Path | str) -> Prior:
        """Read a prior.

        Raises:
            CheckpointError: if the file is not a prior of this format.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "numpy") as file:
                config = json.loads((file.metadata() or {}).get("prior", "{}"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path} is not a readable prior: {error}") from error
        if config.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path} has prior format {config.get('format')}; expected {_FORMAT}"
            )
        histograms = {}
        for name in [name for name in arrays if name.startswith(_HISTOGRAM)]:
            _, level, group = name.split(".")
            histograms[int(level), int(group)] = arrays.pop(name)
        spec = config.get("bit_model")
        latent = config.get("latent_model")
        return cls(
            histograms,
            BitModel.from_arrays(spec, arrays) if spec else None,
            LatentModel.from_arrays(latent, arrays) if latent else None,
        )

    def _config(self) -> dict[str, object]:
        spec = self._bit_model.spec() if self._bit_model else None
        config: dict[str, object] = {"format": _FORMAT, "bit_model": spec}
        if self._latent_model:
            config["latent_model"] = self._latent_model.spec()
        return config

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        arrays: dict[str, NDArray[np.generic]] = {
            f"{_HISTOGRAM}.{level}.{group}": counts
            for (level, group), counts in self._histograms.items()
        }
        if self._bit_model:
            arrays.update(self._bit_model.arrays())
        if self._latent_model:
            arrays.update(self._latent_model.arrays())
        return arrays


__all__ = ["PRIOR_FILE", "Prior"]
