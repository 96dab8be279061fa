"""What several tests of whole runs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# everything that has state: a discriminator with LeCam, adaptive weight, MS-SSIM, averages
EVERYTHING = [
    "loss.ms_ssim=0.1",
    "loss.adversarial.weight=0.1",
    "loss.adversarial.start=1",
    "loss.adversarial.lecam=0.01",
    "loss.adversarial.is_adaptive=true",
    "loss.adversarial.channels=4",
    "loss.adversarial.layers=2",
]


def lines(output: Path, kind: str) -> list[dict[str, Any]]:
    """The records of a run, without the speed."""
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("images_per_second", None)
    return [record for record in records if record["kind"] == kind]
