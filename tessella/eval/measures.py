"""What metrics are called, which direction is better, and how their values are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric.

    Args:
        title: as tables and axes write it.
        better: which direction; empty where neither is, or where it is not known.
        digits: behind the decimal point; None for three significant ones.
        unit: behind the title of an axis.
    """

    title: str
    better: Better = ""
    digits: int | None = None
    unit: str = ""

    @property
    def axis(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float | None, missing: str = "-") -> str:
        """Write a value."""
        if value is None:
            return missing
        if self.digits is not None:
            return f"{value:,.{self.digits}f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "bpp": Measure("bpp", "lower", 4, "bits per pixel"),
        "bytes": Measure("bytes", "lower", 0),
        "psnr": Measure("PSNR", "higher", 2, "dB"),
        "ssim": Measure("SSIM", "higher", 4),
        "ms_ssim": Measure("MS-SSIM", "higher", 4),
        "ssimulacra2": Measure("SSIMULACRA2", "higher", 2),
        "lpips": Measure("LPIPS", "lower", 4),
        "dists": Measure("DISTS", "lower", 4),
        "rfid": Measure("rFID", "lower", 2),
        "gfid": Measure("gFID", "lower", 2),
        "fid": Measure("FID", "lower", 2),
        "sfid": Measure("sFID", "lower", 2),
        "kid": Measure("KID", "lower", 5),
        "cmmd": Measure("CMMD", "lower", 3),
        "is": Measure("IS", "higher", 2),
        "precision": Measure("precision", "higher", 3),
        "recall": Measure("recall", "higher", 3),
        "density": Measure("density", "higher", 3),
        "coverage": Measure("coverage", "higher", 3),
        "t_acc": Measure("T-ACC", "higher", 4),
        "t_acc_loose": Measure("T-ACC loose", "higher", 4),
        "t_ned": Measure("T-NED", "higher", 4),
        "f_sim": Measure("F-Sim", "higher", 4),
        "encode": Measure("encode s/MP", "lower", None),
        "decode": Measure("decode s/MP", "lower", None),
        "usage": Measure("usage", "higher", 3),
        "entropy": Measure("entropy", "", 3, "bits"),
        "perplexity": Measure("perplexity", "", 1),
        "zipf": Measure("Zipf", "", 3),
        "gini": Measure("Gini", "lower", 3),
    }
)


def measure(name: str) -> Measure:
    """Return a metric by its name, whatever its case; an unknown one has no direction."""
    key = name.lower().replace("-", "_").replace(" ", "_")
    return _MEASURES.get(key, Measure(name))


__all__ = ["Better", "Measure", "measure"]
