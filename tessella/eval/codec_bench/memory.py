"""Peak memory of codecs: a fresh process codes one picture, and the system says how far it grew.

What is counted is the resident set, from before the codec is loaded to the highest it ever is while
the codec is loaded and a picture is compressed and decompressed: weights, buffers of libraries and
pictures, and what allocators keep. The interpreter, torch itself and the given pixels are not.
Linux's ``/proc`` has a high-water mark that can be reset; elsewhere there is no figure. Memory of a
GPU is not counted.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from tessella.codecs.named import codec_named
from tessella.errors import TessellaError
from tessella.eval.evaluation.worker import Setup
from tessella.eval.results import Results
from tessella.images import Pixels

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
WHY_MISSING = "needs /proc/self/clear_refs, which Linux alone has"


def peak_memory(setup: Setup, results: Results) -> dict[str, int]:
    """Return bytes by codec: its highest quality of the bench on the largest picture.

    Empty where the system cannot say.

    Args:
        setup: of the bench.
        results: of the same bench.

    Raises:
        TessellaError: if a process ends on its own.
    """
    if not _can_reset():
        return {}
    largest = max(results.pictures, key=lambda record: record.width * record.height)
    dataset = next(d for d in setup.sets if d.info.name == largest.dataset)
    pixels = next(p for p in dataset.pictures if p.name == largest.picture).read()
    found: dict[str, int] = {}
    for contender in setup.contenders:
        best = max(contender.subjects, key=lambda subject: subject.quality or 0)
        arguments = contender.name, best.quality, pixels, setup.equipment.options.device
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # one each: nothing is shared
            try:
                peak = pool.submit(_growth, *arguments).result()
            except BrokenProcessPool as error:
                raise TessellaError(
                    f"the process that measured {best.label} ended on its own, probably for want "
                    "of memory; leave the memory out"
                ) from error
        found[best.codec] = max(peak, found.get(best.codec, 0))
    return found


def _can_reset() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, "ascii")
    except OSError:
        return False
    return _STATUS.is_file()


def _growth(name: str, quality: int | None, pixels: Pixels, device: str) -> int:
    import torch

    torch.ones(8, 8).mm(torch.ones(8, 8))  # its threads and libraries are nobody's
    _CLEAR.write_text(_RESET_PEAK, "ascii")
    before = _kilobytes("VmRSS")
    codec = codec_named(name, device=device)
    data = codec.compress(pixels, quality)
    codec.decompress(data, max_pixels=None)
    return 1024 * max(0, _kilobytes("VmHWM") - before)


def _kilobytes(field: str) -> int:
    lines = _STATUS.read_text("ascii").splitlines()
    line = next(line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1])


__all__ = ["WHY_MISSING", "peak_memory"]
