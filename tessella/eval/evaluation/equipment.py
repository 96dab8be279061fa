"""What an evaluation measures with: metrics, weights and engines, found before anything runs.

What is not there is named in ``missing``, with where to get it; the rest is measured all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from tessella.config import nearest
from tessella.errors import ConfigError, MissingDependencyError, MissingWeightsError
from tessella.eval.perceptual import Network
from tessella.eval.protocol import PRESETS, Protocol
from tessella.eval.tokbench.word_reading import Crops
from tessella.eval.weights import PUBLISHED, file_digest, find_weights

if TYPE_CHECKING:
    from tessella.eval.tokbench.face_engines import FaceEngine
    from tessella.eval.tokbench.text_engines import TextEngine

# what each metric of a picture or of a set is made of
PICTURE_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "psnr": (),
        "ssim": (),
        "ms_ssim": (),
        "ssimulacra2": (),
        "lpips": ("lpips",),
        "dists": ("vgg", "dists"),
        "glcm": (),
    }
)
SET_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rFID": ("inception",),
        "sFID": ("inception",),
        "KID": ("inception",),
        "IS": ("inception",),
        "precision": ("inception",),
        "recall": ("inception",),
        "CMMD": ("clip",),
    }
)
DEFAULT_METRICS = (
    *("psnr", "ssim", "ms_ssim", "lpips", "dists"),
    *("rFID", "KID", "IS", "precision", "recall", "CMMD"),
)


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What to measure, and with what.

    Args:
        metrics: of pictures and of sets.
        protocol: of the pictures that distances are measured on.
        weights: the user's files by published name (``inception``, ``alex``, ``vgg``, ``squeeze``,
            ``dists``, ``clip``), and those of engines by the engine's.
        allow_download: fetch weights that are nowhere else.
        lpips: LPIPS's network.
        text_engine: reads words; ``auto`` for the best that is installed.
        face_engine: compares faces; ``auto`` for the best that is installed.
        crops: ``quad``: words are straightened where their corners are known (TokBench's sets have
            none); ``box``: all are cut along the axes.
        reference: statistics of a reference set for rFID (npz); the originals if None.
        device: of tokenizers and networks.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    protocol: Protocol = field(default_factory=lambda: PRESETS["torch-fidelity"])
    weights: Mapping[str, str] = field(default_factory=dict)
    allow_download: bool = False
    lpips: Network = "alex"
    text_engine: str = "auto"
    face_engine: str = "auto"
    crops: Crops = "quad"
    reference: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        known = [*PICTURE_METRICS, *SET_METRICS]
        for name in self.metrics:
            if name not in known:
                raise ConfigError(f"there is no metric {name!r}; {nearest(name, known)}")
        for value, allowed in ((self.lpips, get_args(Network)), (self.crops, get_args(Crops))):
            if value not in allowed:
                raise ConfigError(f"{value!r} given; expected {', '.join(allowed)}")
        if self.reference is not None and not self.reference.is_file():
            raise ConfigError(f"reference {self.reference} does not exist; expected an npz file")
        engines = (self.text_engine, self.face_engine)
        for name in self.weights:
            if name not in (*PUBLISHED, *engines):
                raise ConfigError(f"weights.{name} given; {nearest(name, [*PUBLISHED, *engines])}")


@dataclass(frozen=True, slots=True)
class Equipment:
    """What was found; plain data, so that processes can be given it.

    Args:
        options: what was asked for.
        metrics: those that can be computed.
        files: weights by published name.
        digests: their SHA-256.
        engines: identity of the engine of ``text`` and ``faces``, where one is there.
        missing: metric or engine, and what it lacks.
    """

    options: EvalOptions
    metrics: tuple[str, ...]
    files: Mapping[str, str]
    digests: Mapping[str, str]
    engines: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def of_pictures(self) -> tuple[str, ...]:
        """Metrics of one picture."""
        return tuple(name for name in self.metrics if name in PICTURE_METRICS)

    @property
    def of_sets(self) -> tuple[str, ...]:
        """Metrics of a set."""
        return tuple(name for name in self.metrics if name in SET_METRICS)

    def evidence(self) -> dict[str, Any]:
        """Return what decides figures besides pictures and codecs, as a JSON value."""
        protocol = {k: v for k, v in self.options.protocol.to_dict().items() if k != "name"}
        return {
            "metrics": sorted(self.metrics),
            "weights": dict(sorted(self.digests.items())),
            "lpips": self.options.lpips,
            "protocol": protocol,
        }


def equip(options: EvalOptions, kinds: Sequence[str]) -> Equipment:
    """Look for all that the options need.

    Args:
        options: what to measure.
        kinds: of the data sets.

    Raises:
        ConfigError: if an engine is unknown, or a file that the user named does not exist.
    """
    files: dict[str, str] = {}
    missing: dict[str, str] = {}
    usable = []
    wanted = options.metrics if "images" in kinds else _quick(options.metrics)
    for metric in wanted:
        try:
            files |= _files(metric, options)
            usable.append(metric)
        except (MissingWeightsError, MissingDependencyError) as error:
            missing[metric] = str(error)
    engines = {}
    for kind, engine in (("text", make_text_engine), ("faces", make_face_engine)):
        if kind in kinds:
            try:
                engines[kind] = engine(options).identity
                if kind == "text":
                    engines[kind] += f", {options.crops} crops"
            except (MissingWeightsError, MissingDependencyError) as error:
                missing[kind] = str(error)
    digests = {name: file_digest(path) for name, path in files.items()}
    return Equipment(options, tuple(usable), files, digests, engines, missing)


def make_text_engine(options: EvalOptions) -> TextEngine:
    """Return the engine that reads words.

    Raises:
        MissingDependencyError: if none is installed.
        MissingWeightsError: if its weights are not found.
        ConfigError: if there is no such engine.
    """
    from tessella.eval.tokbench.text_engines import text_engine

    return text_engine(options.text_engine, weights=options.weights.get(options.text_engine))


def make_face_engine(options: EvalOptions) -> FaceEngine:
    """Return the engine that compares faces.

    Raises:
        MissingDependencyError: if none is installed.
        MissingWeightsError: if its weights are not found.
        ConfigError: if there is no such engine.
    """
    from tessella.eval.tokbench.face_engines import face_engine

    return face_engine(options.face_engine, weights=options.weights.get(options.face_engine))


def _quick(metrics: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in metrics if name == "psnr")


def _files(metric: str, options: EvalOptions) -> dict[str, str]:
    """Return the weights of a metric by name.

    Raises:
        ConfigError: if a file that the user named does not exist: a slip, nothing to go on without.
        MissingWeightsError: if one is nowhere.
        MissingDependencyError: if a package is missing.
    """
    if metric == "CMMD":
        _check_transformers()
    found = {}
    for need in (*PICTURE_METRICS.get(metric, ()), *SET_METRICS.get(metric, ())):
        name = options.lpips if need == "lpips" else need
        given = options.weights.get(name)
        if given is not None and not Path(given).expanduser().exists():
            raise ConfigError(f"weights.{name}={given} does not exist; expected a file")
        found[name] = str(find_weights(name, given, allow_download=options.allow_download))
    return found


def _check_transformers() -> None:
    import importlib.util

    if importlib.util.find_spec("transformers") is None:
        raise MissingDependencyError(
            "CMMD needs CLIP from transformers: pip install tessella[prompts]"
        )


__all__ = [
    "DEFAULT_METRICS",
    "PICTURE_METRICS",
    "SET_METRICS",
    "Equipment",
    "EvalOptions",
    "equip",
    "make_face_engine",
    "make_text_engine",
]
