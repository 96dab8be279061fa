from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six small photographs without loss, 00.png to 05.png."""
    folder = tmp_path_factory.mktemp("photos")
    sources = (data.astronaut, data.chelsea, data.coffee, data.astronaut, data.coffee, data.rocket)
    for i, load in enumerate(sources):
        top, left = 40 + 25 * i, 60 + 20 * i
        crop = np.ascontiguousarray(load()[top : top + 90 + 10 * i, left : left + 120])
        Image.fromarray(crop).save(folder / f"{i:02d}.png")
    return folder
