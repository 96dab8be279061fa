"""Agreement with recordings of the public implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessella.eval import mean_psnr, ms_ssim, psnr, ssim

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def pairs(parity_dir: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor, dict[str, float]]]:
    folder = parity_dir / "eval_metrics"
    if not folder.is_dir():
        pytest.skip("no recordings of metrics")
    values = json.loads((folder / "pairs.json").read_text())
    tensors = load_file(folder / "pairs.safetensors")
    return {
        name: (
            tensors[f"{name}.dist"].permute(2, 0, 1)[None],
            tensors[f"{name}.ref"].permute(2, 0, 1)[None],
            record,
        )
        for name, record in values.items()
        if not name.startswith("_")
    }


def test_pairs(pairs: dict[str, tuple[torch.Tensor, torch.Tensor, dict[str, float]]]) -> None:
    assert pairs
    for distorted, reference, record in pairs.values():
        assert psnr(distorted, reference).item() == pytest.approx(
            record["psnr_rgb_uint8"], abs=1e-6
        )
        assert ssim(distorted, reference).item() == pytest.approx(
            record["skimage_ssim_gaussian"], abs=1e-5
        )
        expected = record["pytorch_msssim_ms_ssim"]
        assert ms_ssim(distorted, reference).item() == pytest.approx(expected, abs=1e-4)


def test_mean_over_pictures(
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor, dict[str, float]]], parity_dir: Path
) -> None:
    record = json.loads((parity_dir / "eval_metrics" / "pairs.json").read_text())["_dataset"]
    expected = next(v for k, v in record.items() if "mean" in k)
    values = torch.cat([psnr(d, r) for d, r, _ in pairs.values()])
    assert mean_psnr(values) == pytest.approx(expected, abs=2e-4)
