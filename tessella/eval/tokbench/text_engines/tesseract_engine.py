"""The program tesseract with its English data, one line a crop.

A crop is made grey, dark on light and of full contrast, 32 pixels high with a white border of 10;
without that tesseract misses light or pale text. One process reads many crops from files.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from tessella.errors import CheckpointError, MissingDependencyError
from tessella.eval.tokbench.text_engines.base import Reading, TextEngine
from tessella.images import Pixels

_HEIGHT = 32
_BORDER = 10
_WIDEST = 64 * _HEIGHT
_BATCH = 64
_SECONDS_A_CROP = 10
_OPTIONS = ("--oem", "1", "--psm", "7", "--dpi", "150", "-l", "eng")
_WORD_LEVEL = "5"


class TesseractEngine(TextEngine):
    """See the module. Published tables are made with another recogniser and do not compare.

    Raises:
        MissingDependencyError: if the program or its English data are not installed.
    """

    name: ClassVar[str] = "tesseract"

    def __init__(self) -> None:
        program = shutil.which("tesseract")
        if program is None:
            raise MissingDependencyError(
                "reading words with tesseract needs the program 'tesseract' on the PATH, with its "
                "English data: install the distribution's package, such as tesseract-ocr"
            )
        self._program = program
        version = re.search(r"tesseract v?(\S+)", self._run("--version"))
        folder = re.search(r'"(.+)"', self._run("--list-langs"))
        data = Path(folder[1] if folder else "") / "eng.traineddata"
        if version is None or not data.is_file():
            raise MissingDependencyError(
                f"{program} has no English data ({data}); install it, such as tesseract-ocr-eng"
            )
        super().__init__({"tesseract": version[1]}, [data])

    def _read(self, crops: Sequence[Pixels], labels: Sequence[str] | None) -> list[Reading]:
        readings = []
        for start in range(0, len(crops), _BATCH):
            readings += self._read_batch(crops[start : start + _BATCH])
        return readings

    def _read_batch(self, crops: Sequence[Pixels]) -> list[Reading]:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{i}.png" for i in range(len(crops))]
            for file, crop in zip(files, crops, strict=True):
                Image.fromarray(prepared(crop)).save(file)
            names = Path(folder) / "crops.txt"
            names.write_text("\n".join(map(str, files)), encoding="utf-8")
            table = self._run(
                str(names),
                "stdout",
                *_OPTIONS,
                "-c",
                "tessedit_create_tsv=1",
                seconds=60 + _SECONDS_A_CROP * len(crops),
            )
        return _readings(table, len(crops))

    def _run(self, *arguments: str, seconds: float = 60) -> str:
        try:
            done = subprocess.run(  # noqa: S603  # a list without a shell
                [self._program, *arguments],
                capture_output=True,
                check=True,
                timeout=seconds,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", None) or b""
            raise CheckpointError(
                f"{self._program} {' '.join(arguments)} failed: {error} "
                f"{told.decode('utf-8', 'replace').strip()[-500:]}"
            ) from error
        return done.stdout.decode("utf-8", "replace")


def prepared(crop: Pixels) -> Pixels:
    """Return a crop as grey ``(52, W)``: dark on light, stretched, with a white border."""
    grey = np.asarray(Image.fromarray(crop).convert("L"), dtype=np.float64)
    low, high = np.percentile(grey, (1, 99))
    if np.median(grey) < (low + high) / 2:  # most of a crop is ground, and here it is dark
        grey, low, high = 255 - grey, 255 - high, 255 - low
    stretched = ((grey - low) * (255 / max(high - low, 1.0))).clip(0, 255)
    image = Image.fromarray(np.rint(stretched).astype(np.uint8))
    width = min(max(round(_HEIGHT * image.width / image.height), 1), _WIDEST)
    image = image.resize((width, _HEIGHT), Image.Resampling.BICUBIC)
    return np.pad(np.array(image), _BORDER, constant_values=255)


def _readings(table: str, count: int) -> list[Reading]:
    """Return the words of each page of tesseract's table, joined by spaces."""
    words: list[list[tuple[str, float]]] = [[] for _ in range(count)]
    for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
        text = (row["text"] or "").strip()
        if row["level"] == _WORD_LEVEL and text:
            words[int(row["page_num"]) - 1].append((text, float(row["conf"]) / 100))
    readings = []
    for found in words:
        length = sum(len(text) for text, _ in found)
        sure = sum(len(text) * confidence for text, confidence in found) / max(length, 1)
        readings.append(Reading(" ".join(text for text, _ in found), min(max(sure, 0.0), 1.0)))
    return readings


__all__ = ["TesseractEngine", "prepared"]
