"""The code of the how-to pages runs as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

PAGE = Path(__file__).parents[1] / "docs" / "add-a-tokenizer.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def blocks() -> list[str]:
    return _BLOCK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``photo.jpg`` and ``photos/``."""
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate((data.astronaut(), data.chelsea(), data.coffee())):
        small = np.ascontiguousarray(picture[:200, :260])
        Image.fromarray(small).save(tmp_path / "photos" / f"{i}.jpg", quality=92)
    Image.fromarray(data.chelsea()).save(tmp_path / "photo.jpg", quality=92)
    return tmp_path


def test_the_tokenizer_of_the_page_loads_encodes_reads_back_and_trains(
    blocks: list[str], folder: Path
) -> None:
    tokenizer, use, training = blocks
    (folder / "patch_fsq.py").write_text(tokenizer, encoding="utf-8")
    (folder / "steps.py").write_text(use + training, encoding="utf-8")
    # a process of its own: the registry of this one stays as it is
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:patch_fsq", "steps.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(38, 57) ")
    original, random, better = (
        np.asarray(Image.open(folder / name).convert("RGB"), dtype=float)
        for name in ("photo.jpg", "back.png", "better.png")
    )
    assert original.shape == random.shape == better.shape
    errors = [((original - other) ** 2).mean() for other in (random, better)]
    assert errors[1] < 0.3 * errors[0]
    assert (folder / "photo.tsl").stat().st_size > 0


def test_the_module_of_the_page_is_short_and_complete(blocks: list[str]) -> None:
    code = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(code) <= 60
    assert max(map(len, code)) <= 100
