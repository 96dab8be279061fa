"""Figures that compare the reconstructions of a set with the originals: rFID, KID and others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from tessella.errors import TessellaError
from tessella.eval.evaluation.equipment import Equipment
from tessella.eval.results import Figure

_KID_SUBSET = 1000
_IS_SPLITS = 10
_SMALL = 10_000  # pictures, below which distances say little

Arrays = Mapping[str, Tensor]


def set_figures(
    subject: str, dataset: str, fake: Arrays, real: Arrays, equipment: Equipment, reference: str
) -> list[Figure]:
    """Compute all set metrics of one subject on one set.

    Args:
        subject: label.
        dataset: name.
        fake: features of the reconstructions, ``(N, D)`` each, by name.
        real: those of the originals, in the same order.
        equipment: which metrics, and their weights.
        reference: digest of the originals.
    """
    figures = []
    for metric in equipment.of_sets:
        compute = _METRICS[metric]
        network = "clip" if metric == "CMMD" else "inception"
        count = len(next(iter(fake.values())))
        protocol = {
            **equipment.options.protocol.to_dict(),
            "reference": reference,
            "weights": equipment.digests[network],
            "count": count,
        }
        try:
            value, note = compute(fake, real, equipment)
        except TessellaError as error:
            value, note = None, str(error)
        if value is not None and not math.isfinite(value):
            value, note = None, "not a finite number"
        if count < _SMALL and not note:
            note = f"of {count} pictures: compares only with figures of the same pictures"
        figures.append(Figure(subject, dataset, metric, value, protocol, note))
    return figures


def _rfid(fake: Arrays, real: Arrays, equipment: Equipment) -> tuple[float, str]:
    return _frechet(fake["pool"], real["pool"], equipment, spatial=False)


def _sfid(fake: Arrays, real: Arrays, equipment: Equipment) -> tuple[float, str]:
    return _frechet(fake["spatial"], real["spatial"], equipment, spatial=True)


def _frechet(
    fake: Tensor, real: Tensor, equipment: Equipment, *, spatial: bool
) -> tuple[float, str]:
    from tessella.eval.metrics.frechet import FeatureStatistics, FrechetDistance

    path = equipment.options.reference
    statistics = FeatureStatistics.load(path, spatial=spatial) if path is not None else None
    metric = FrechetDistance(num_features=fake.shape[1], reference=statistics, accept_few=True)
    if statistics is None:
        metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute()), f"against {path.name}" if path is not None else ""


def _kid(fake: Arrays, real: Arrays, equipment: Equipment) -> tuple[float, str]:
    from tessella.eval.metrics.kernel import KernelDistance

    size = min(_KID_SUBSET, len(fake["pool"]))
    metric = KernelDistance(subset_size=size)
    metric.update(real["pool"], real=True)
    metric.update(fake["pool"], real=False)
    note = "" if size == _KID_SUBSET else f"subsets of all {size} pictures, {_KID_SUBSET} are usual"
    return float(metric.compute().mean), note


def _inception_score(fake: Arrays, real: Arrays, equipment: Equipment) -> tuple[float, str]:
    from tessella.eval.metrics.inception_score import InceptionScore

    splits = _IS_SPLITS if len(fake["logits"]) >= _KID_SUBSET else 1
    metric = InceptionScore(splits=splits)
    metric.update(fake["logits"])
    return float(metric.compute().mean), "" if splits > 1 else "one part: there are few pictures"


def _neighbours(which: str) -> Callable[[Arrays, Arrays, Equipment], tuple[float, str]]:
    def compute(fake: Arrays, real: Arrays, equipment: Equipment) -> tuple[float, str]:
        from tessella.eval.metrics.neighbours import PrecisionRecall

        metric = PrecisionRecall()
        metric.update(real["pool"], real=True)
        metric.update(fake["pool"], real=False)
        return float(getattr(metric.compute(), which)), ""

    return compute


def _cmmd(fake: Arrays, real: Arrays, equipment: Equipment) -> tuple[float, str]:
    from tessella.eval.metrics.cmmd import cmmd

    return cmmd(real["clip"], fake["clip"]), ""


_METRICS: Mapping[str, Callable[[Arrays, Arrays, Equipment], tuple[Any, str]]] = {
    "rFID": _rfid,
    "sFID": _sfid,
    "KID": _kid,
    "IS": _inception_score,
    "precision": _neighbours("precision"),
    "recall": _neighbours("recall"),
    "CMMD": _cmmd,
}

__all__ = ["set_figures"]
