"""Every recording of the public evaluation code against ours."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tessella.eval import glcm as texture
from tessella.eval import ms_ssim, psnr, ssim, to_uint8
from tessella.eval.dists import dists_of_maps, l2_pool
from tessella.eval.luminance import psnr_y, uniform_ssim
from tessella.eval.metrics import (
    CMMD,
    CodebookUse,
    CompressionRatio,
    FaceScores,
    FeatureStatistics,
    FrechetDistance,
    GLCMScore,
    InceptionScore,
    KernelDistance,
    MeanPSNR,
    PrecisionRecall,
    TokenLanguage,
    WordScores,
    frechet_distance,
)
from tessella.eval.metrics.kernel import unbiased_mmd2
from tessella.eval.perceptual import layer_distances
from tessella.eval.resizing import crop, resize
from tessella.eval.ssim import similarity_decibels
from tessella.eval.tokbench import (
    EDGES,
    Placement,
    align_face,
    bucket_means,
    crop_word,
    face_similarity,
    fit_word,
    is_equal,
    levenshtein,
    normalise_word,
    pad,
    place,
    restore,
    similarity_transform,
    text_similarity,
)
from tessella.eval.tokbench.faces import recogniser_input
from tessella.eval.token_counts import zipf_exponent, zipf_line

pytestmark = pytest.mark.parity

Record = tuple[dict[str, Tensor], Any]


class Folder:
    """Reads pairs of files of the recording; a test skips what is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tensors(self, stem: str) -> dict[str, Tensor]:
        file = self.path / f"{stem}.safetensors"
        if not file.is_file():
            pytest.skip(f"no recording {stem}")
        return load_file(file)

    def values(self, stem: str) -> Any:
        file = self.path / f"{stem}.json"
        if not file.is_file():
            pytest.skip(f"no recording {stem}")
        return json.loads(file.read_text())


@pytest.fixture(scope="module")
def folder(parity_dir: Path) -> Folder:
    return Folder(parity_dir / "eval_metrics")


def chw(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1)[None].contiguous()


def close(ours: float | Tensor, theirs: float, tolerance: float) -> None:
    assert float(ours) == pytest.approx(theirs, abs=tolerance, rel=0)


def numbers(tensors: dict[str, Tensor], suffix: str) -> list[str]:
    """The numbers i of keys ``{i}.suffix``."""
    found = [key.partition(".")[0] for key in tensors if key.endswith(f".{suffix}")]
    assert found
    return found


def test_pairs(folder: Folder) -> None:
    values, tensors = folder.values("pairs"), folder.tensors("pairs")
    mean = MeanPSNR()
    for name in values["_dataset"]["order"]:
        record = values[name]
        x, y = chw(tensors[f"{name}.dist"]), chw(tensors[f"{name}.ref"])
        mean.update(x, y)
        close((x.double() - y.double()).square().mean(), record["mse_255"], 1e-9)
        close(psnr(x, y), record["psnr_rgb_uint8"], 1e-6)
        close(psnr(x, y), record["torchmetrics_psnr"], 2e-4)
        close(psnr_y(x, y), record["pyiqa_psnr_y_yiq"], 2e-2)  # theirs rounds Y to 8 bits
        close(psnr_y(x, y, scale="studio"), record["psnr_y_bt601_studio_255"], 1e-6)
        close(uniform_ssim(x, y), record["skimage_ssim_default_uniform7"], 1e-5)
        close(ssim(x, y), record["skimage_ssim_gaussian"], 1e-5)
        close(ssim(x, y), record["pytorch_msssim_ssim"], 5e-5)
        similarity = ms_ssim(x, y)
        close(similarity, record["pytorch_msssim_ms_ssim"], 1e-4)
        # it pads borders and averages channels earlier
        close(similarity, record["torchmetrics_ms_ssim"], 5e-4)
        close(similarity_decibels(similarity), record["ms_ssim_db"], 1e-3)
    close(mean.compute(), values["_dataset"]["psnr_mean_of_images"], 1e-6)


def test_rounding(folder: Folder) -> None:
    tensors = folder.tensors("preprocess")
    images = tensors["q.in"]
    assert torch.equal(to_uint8(images), tensors["q.half_scale_round"])
    assert torch.equal(to_uint8(images), tensors["q.clamp01_round_div_trunc"])
    assert torch.equal(to_uint8(images, "trunc_half"), tensors["q.half_scale_trunc"])
    assert torch.equal(to_uint8(images, "trunc_128"), tensors["q.clamp127p5_plus128_trunc"])


def test_resizes(folder: Folder) -> None:
    tensors = folder.tensors("preprocess")
    keys = {"tf1": "tf1_bilinear", "torch": "torch_bilinear", "aa": "torch_bilinear_antialias"}
    for i in numbers(tensors, "tf1_bilinear"):
        pixels = chw(tensors[f"{i}.in"])
        for name, key in keys.items():
            theirs = tensors[f"{i}.{key}"]
            ours = resize(pixels, tuple(theirs.shape[-2:]), name)
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
        theirs = tensors[f"{i}.pil_bicubic_float_hwc"]
        ours = resize(pixels, tuple(theirs.shape[:2]), "clean")[0].permute(1, 2, 0)
        torch.testing.assert_close(ours, theirs.clamp(0, 255), atol=1e-3, rtol=0)


def test_adm_crops(folder: Folder) -> None:
    tensors = folder.tensors("preprocess")
    names = [key.partition(".")[0] for key in tensors if key.startswith("adm")]
    assert names
    for name in set(names):
        theirs = tensors[f"{name}.out"].numpy()
        picture = Image.fromarray(tensors[f"{name}.in"].numpy())
        assert np.array_equal(np.array(crop(picture, theirs.shape[0], "adm")), theirs)


def test_texture(folder: Folder) -> None:
    values, tensors = folder.values("glcm"), folder.tensors("glcm")
    for i in numbers(tensors, "gray64"):
        record, levels = values[i], tensors[f"{i}.gray64"].numpy()
        rows = texture.patches(levels)
        for r, row in enumerate(rows):
            for c, patch in enumerate(row):
                matrices = texture.co_occurrence(patch)
                close(texture.score(matrices), record["entropy"]["patches"][r][c], 1e-9)
                textbook = record["textbook_entropy_mean16"]["patches"][r][c]
                close(texture.entropy(matrices), textbook, 1e-9)
                for name, ours in texture.properties(matrices).items():
                    close(ours, record[name]["patches"][r][c], 1e-5)
        assert len(rows) == len(record["entropy"]["patches"])
        pixels = tensors[f"{i}.bgr"].flip(-1)
        ours = texture.grey_levels(pixels.permute(2, 0, 1))
        assert np.array_equal(ours, levels)


def test_texture_of_the_set(folder: Folder) -> None:
    values, tensors = folder.values("glcm"), folder.tensors("glcm")
    score, ratio = GLCMScore(), CompressionRatio()
    for i in numbers(tensors, "bgr"):
        pixels = tensors[f"{i}.bgr"].flip(-1).permute(2, 0, 1)[None]
        score.update(pixels)
        ratio.update(pixels, [tensors[f"{i}.jpeg_bytes"].numel()])
        decoded = np.array(Image.open(io.BytesIO(tensors[f"{i}.jpeg_bytes"].numpy().tobytes())))
        close(float(np.abs(decoded.astype(int) - chw_to_hwc(pixels)).max()), 0, 1)
    close(score.compute().score, values["_dataset"]["glcm_score"], 1e-9)
    close(ratio.compute(), values["_dataset"]["compression_ratio"], 1e-9)


def chw_to_hwc(pixels: Tensor) -> np.ndarray[Any, Any]:
    return pixels[0].permute(1, 2, 0).numpy().astype(int)


def test_frechet_distance(folder: Folder) -> None:
    values, tensors = folder.values("features"), folder.tensors("features")
    real, fake = tensors["real"], tensors["fake"]
    metric = FrechetDistance(num_features=real.shape[1], accept_few=True)
    for side, rows in ((True, real), (False, fake)):
        for batch in rows.split(77):
            metric.update(batch, real=side)
    for name, side in (("real", True), ("fake", False)):
        ours = metric.statistics(real=side)
        torch.testing.assert_close(ours.mean, tensors[f"{name}.mu"], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(ours.covariance, tensors[f"{name}.sigma"], atol=1e-12, rtol=0)
    for key in ("fid_torch_fidelity", "fid_cleanfid", "fid_torchmetrics"):
        assert float(metric.compute()) == pytest.approx(values[key], rel=1e-8)
    few = frechet_distance(*(FeatureStatistics.of(rows[:12]) for rows in (real, fake)))
    for theirs in values["fid_rank_deficient_n12"].values():
        close(few, theirs, 1e-6)


def test_kernel_distance(folder: Folder) -> None:
    values, tensors = folder.values("features"), folder.tensors("features")
    real, fake = tensors["real"], tensors["fake"]
    record = values["kid_torch_fidelity_subsets10_size100_seed2020"]
    metric = KernelDistance(subsets=10, subset_size=100, seed=2020)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    close(metric.compute().mean, record["kernel_inception_distance_mean"], 1e-9)
    close(metric.compute().deviation, record["kernel_inception_distance_std"], 1e-9)
    whole = values["mmd2_poly3_unbiased_first_m"]
    close(unbiased_mmd2(real[: whole["m"]], fake[: whole["m"]]), whole["value"], 1e-9)
    draws = np.random.RandomState(7)  # clean-fid draws from its second set first
    found = []
    for _ in range(10):
        second, first = (
            rows[torch.from_numpy(draws.choice(len(rows), 100, replace=False))]
            for rows in (fake, real)
        )
        found.append(unbiased_mmd2(first, second))
    close(float(np.mean(found)), values["kid_cleanfid_seed7_subsets10_size100"], 1e-9)


def test_inception_score(folder: Folder) -> None:
    values, logits = folder.values("features"), folder.tensors("features")["logits"]
    for key, options in (
        ("is_torch_fidelity_splits10_shuffle_seed2020", {"splits": 10, "seed": 2020}),
        ("is_splits10_noshuffle", {"splits": 10, "seed": None}),
        ("is_splits1", {"splits": 1, "seed": None}),
    ):
        metric = InceptionScore(**options)
        metric.update(logits)
        close(metric.compute().mean, values[key]["inception_score_mean"], 1e-9)
        close(metric.compute().deviation, values[key]["inception_score_std"], 1e-9)
    metric = InceptionScore(split_size=125, seed=None)
    metric.update(logits)
    close(metric.compute().mean, values["is_consecutive_split125_mean"], 1e-9)


def test_neighbours(folder: Folder) -> None:
    values, tensors = folder.values("features"), folder.tensors("features")
    for key, k, border in (
        ("prdc_k5", 5, False),
        ("prdc_k3", 3, False),
        ("prc_torch_fidelity_k3", 3, True),
    ):
        metric = PrecisionRecall(k=k, includes_border=border)
        metric.update(tensors["real"], real=True)
        metric.update(tensors["fake"], real=False)
        found = metric.compute()._asdict()
        for name, theirs in values[key].items():
            close(found[name], theirs, 1e-7)  # one of them is in float32


def test_cmmd(folder: Folder) -> None:
    values, tensors = folder.values("features"), folder.tensors("features")
    metric = CMMD()
    metric.update(tensors["real"], real=True)
    metric.update(tensors["fake"], real=False)
    close(metric.compute(), values["cmmd_unit_norm"], 1e-9)
    close(metric.compute(), values["cmmd_unit_norm_float32"], 2e-4)


def test_lpips(folder: Folder) -> None:
    from lpips import ScalingLayer

    tensors = folder.tensors("lpips_head")
    count = sum(key.startswith("lin.") for key in tensors)
    parts = [[tensors[f"{name}.{k}"] for k in range(count)] for name in ("f0", "f1", "lin")]
    layers = layer_distances(*parts)
    for k, ours in enumerate(layers):
        torch.testing.assert_close(ours, tensors[f"per_layer.{k}"], atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.stack(layers).sum(0), tensors["lpips"], atol=1e-6, rtol=0)
    scaled = ScalingLayer()(tensors["scaling.in"])
    torch.testing.assert_close(scaled, tensors["scaling.out"], atol=1e-6, rtol=0)


def test_dists(folder: Folder) -> None:
    tensors = folder.tensors("dists_head")
    count = sum(key.startswith("f0.") for key in tensors)
    maps, others = ([tensors[f"{name}.{k}"] for k in range(count)] for name in ("f0", "f1"))
    ours = dists_of_maps(maps, others, tensors["alpha"], tensors["beta"])
    torch.testing.assert_close(ours, tensors["dists"], atol=1e-6, rtol=0)
    pooled = l2_pool(tensors["l2pool_in"])
    torch.testing.assert_close(pooled, tensors["l2pool_out"], atol=1e-6, rtol=0)


def test_codebook_use(folder: Folder) -> None:
    values, tensors = folder.values("tokens"), folder.tensors("tokens")
    metric = CodebookUse([values["K"]])
    metric.update(tensors["tokens"][..., None])
    assert torch.equal(metric.counts, tensors["counts"])
    (found,) = metric.compute()
    assert found.used == values["used"]
    close(found.usage, values["usage"], 1e-9)
    close(found.entropy, values["entropy_bits"], 1e-9)
    close(found.perplexity, values["perplexity"], 1e-9)
    close(found.normalised_entropy, values["normalised_entropy"], 1e-9)
    close(found.gini, values["gini"], 1e-9)
    counts = tensors["counts"].numpy()
    line, top = zipf_line(counts), zipf_line(counts, ranks=100)
    close(-line.slope, values["zipf_ols"]["exponent"], 1e-9)
    close(line.intercept, values["zipf_ols"]["intercept"], 1e-9)
    close(line.r2, values["zipf_ols"]["r2"], 1e-9)
    close(-top.slope, values["zipf_ols_top100"]["exponent"], 1e-9)
    close(top.r2, values["zipf_ols_top100"]["r2"], 1e-9)
    close(zipf_exponent(counts), values["zipf_mle_truncated"]["exponent"], 1e-6)


def test_token_language(folder: Folder) -> None:
    values, tensors = folder.values("tokens"), folder.tensors("tokens")
    metric = TokenLanguage(values["K"])
    for batch in tensors["tokens"].split(7):
        metric.update(batch)
    found = metric.compute()
    for n, record in values["ngram_row_major"].items():
        ours = found.ngrams[int(n) - 1]
        assert (ours.total, ours.distinct) == (record["total"], record["distinct"])
        close(ours.entropy, record["entropy_bits"], 1e-9)
    for n, theirs in values["conditional_entropy_bits"].items():
        close(found.conditional_entropies[int(n) - 2], theirs, 1e-9)
    close(found.horizontal_information, values["mutual_information_bits"]["horizontal"], 1e-9)
    close(found.vertical_information, values["mutual_information_bits"]["vertical"], 1e-9)
    assert found.huffman.total_bits == values["huffman"]["total_bits"]
    close(found.huffman.mean_bits, values["huffman"]["mean_bits"], 1e-9)
    close(found.huffman.ratio, values["huffman"]["compression_ratio_vs_fixed"], 1e-9)
    close(found.huffman.percent_saved, values["huffman"]["percent_saved"], 1e-9)
    assert found.innovation == values["innovation_cumulative_distinct"]
    close(found.heaps_exponent, values["heaps"]["beta"], 1e-9)
    assert found.zlib_ratio == pytest.approx(values["zlib9_ratio_uint16"], rel=0.02)
    assert found.lzma_ratio == pytest.approx(values["lzma_ratio_uint16"], rel=0.02)


def test_words(folder: Folder) -> None:
    values = folder.values("tokbench_text")
    pairs = values["pairs"]
    for record in pairs:
        label, read = record["gt"], record["pred"]
        assert is_equal(label, read) == bool(record["raw"])
        assert is_equal(label, read, ignores_case=True) == bool(record["caseless"])
        close(text_similarity(label, read), record["t_ned"], 1e-12)
        longest = max(len(label), len(read))
        close(levenshtein(label, read) / longest, record["raw_ned_distance"], 1e-12)
        caseless = 1 - text_similarity(label, read, ignores_case=True)
        close(caseless, record["caseless_ned_distance"], 1e-12)
    metric = WordScores()
    labels, read = ([pair[key] for pair in pairs] for key in ("gt", "pred"))
    metric.update(labels, read, [0.5] * len(pairs))
    found = metric.compute()
    close(100 * found.overall_accuracy, values["t_acc_pct"], 1e-12)
    close(100 * found.overall_similarity, values["t_ned_pct"], 1e-12)


def test_buckets(folder: Folder) -> None:
    buckets = folder.values("tokbench_text")["buckets"]
    for key, kind, ratios, scores in (
        ("text_acc", "text", "text_ratio", "acc"),
        ("text_ned", "text", "text_ratio", "ned"),
        ("face", "face", "face_ratio", "f_sim"),
    ):
        for setting, record in buckets[key].items():
            edges = EDGES[kind][setting]
            assert [*edges, 1.0] == record["edges"]
            ours = bucket_means(buckets[ratios], buckets[scores], edges)
            assert list(ours.counts) == record["count"]
            np.testing.assert_allclose(ours.means, record["mean"], atol=1e-12, rtol=0)
            close(ours.mean, record["macro"], 1e-12)


def test_word_crops(folder: Folder) -> None:
    tensors = folder.tensors("tokbench_crops")
    picture = tensors["image"].numpy()
    for i, box in enumerate(tensors["boxes"].tolist()):
        word = crop_word(picture, box)
        assert word is not None
        assert np.array_equal(word, tensors[f"{i}.crop"].numpy())
        fitted = fit_word(word)
        torch.testing.assert_close(fitted, tensors[f"{i}.resized"], atol=1e-5, rtol=0)
        ours = normalise_word(fitted)
        torch.testing.assert_close(ours, tensors[f"{i}.input"], atol=1e-5, rtol=0)


def test_padding(folder: Folder) -> None:
    values, tensors = folder.values("tokbench_padding"), folder.tensors("tokbench_padding")
    for i, record in values.items():
        side = record["target_size"][0]
        original, scaled, position = (
            tuple(record[key]) for key in ("original_size", "scaled_size", "paste_position")
        )
        placement = Placement(original, scaled, position, side)
        assert place(original, side) == placement
        canvas, found = pad(Image.fromarray(tensors[f"{i}.image"].numpy()), side)
        assert found == placement
        for ours, theirs in (
            (canvas, tensors[f"{i}.padded"]),
            (restore(canvas, found), tensors[f"{i}.restored"]),
        ):
            assert np.abs(np.array(ours).astype(int) - theirs.numpy().astype(int)).max() <= 1


def test_faces(folder: Folder) -> None:
    tensors = folder.tensors("tokbench_face")
    picture = tensors["bgr"].numpy()
    for i in numbers(tensors, "M"):
        theirs = tensors[f"{i}.aligned_bgr"].numpy()
        side = theirs.shape[0]
        matrix = similarity_transform(tensors[f"{i}.kps"].numpy(), side)
        np.testing.assert_allclose(matrix, tensors[f"{i}.M"].numpy(), atol=1e-4, rtol=0)
        ours = align_face(picture, matrix, side)
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
        if f"{i}.arcface_input" in tensors:
            blob = recogniser_input(theirs[..., ::-1])
            expected = tensors[f"{i}.arcface_input"].numpy()
            np.testing.assert_allclose(blob, expected, atol=1e-6, rtol=0)
    first, second = tensors["emb_ref"], tensors["emb_rec"]
    expected = tensors["f_sim"].numpy()
    ours = face_similarity(first.numpy(), second.numpy())
    np.testing.assert_allclose(ours, expected, atol=1e-6, rtol=0)
    metric = FaceScores()
    metric.update(first, second, [0.5] * len(first))
    assert math.isclose(metric.compute().overall, float(expected.mean()), abs_tol=1e-6)
