from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight JPEG photographs of 120 x 160 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    sources = (data.astronaut, data.chelsea, data.coffee, data.rocket)
    for i in range(8):
        picture = sources[i % 4]()
        top, left = 30 + 60 * (i // 4), 50 + 80 * (i // 4)
        crop = np.ascontiguousarray(picture[top : top + 120, left : left + 160])
        Image.fromarray(crop).save(folder / f"{i}.jpg", quality=92)
    return folder


@pytest.fixture
def quick(photos: Path, tmp_path: Path) -> list[str]:
    """Overrides of the tiny configuration for a run of a second."""
    return [
        f"data.train={photos}",
        f"data.val={photos}/[01].jpg",
        "data.crop=48",
        "data.batch=4",
        "model.initialize_with=32",
        f"trainer.output={tmp_path}/run",
        "trainer.device=cpu",
        "trainer.tensorboard=false",
        "calibration={pictures: 2, steps: 0}",
        "trainer.log_every=1",
    ]
