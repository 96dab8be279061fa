"""The integer prior of scalar latents: tables, exactness, coding, storage."""

from __future__ import annotations

import itertools
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from tessella.codecs.container_errors import MalformedError, UnknownModelError
from tessella.codecs.entropy.latent.coder import LatentCoder, decode_escaped, encode_escaped
from tessella.codecs.entropy.latent.gaussian import gaussian_tables
from tessella.codecs.entropy.latent.integer_network import Pass
from tessella.codecs.entropy.latent.integers import IntegerLayer, neighbours, other_colour, square
from tessella.codecs.entropy.latent.model import LatentModel
from tessella.codecs.entropy.latent.network import LatentPriorConfig
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.stored_layout import StoredLevel, split_parts
from tessella.codecs.token_coding import join
from tessella.errors import CheckpointError
from tessella.tokenizers.scalar_latent import ScalarLatentConfig
from tessella.training.latent.export import integer_model
from tessella.training.latent.model import RatedTokenizer

CONFIG = LatentPriorConfig(slices=(2, 3), hyper_channels=4, features=8, hidden=8, reach=3, points=3)
COARSE = (2, 3)
LEVELS = (
    StoredLevel(COARSE, (100,)),
    StoredLevel(COARSE, (128,) * 4),
    StoredLevel((8, 12), (4096,) * 2),
    StoredLevel((8, 12), (4096,) * 3),
)


@pytest.fixture(scope="module")
def rated() -> RatedTokenizer:
    sizes = ScalarLatentConfig(
        widths=(8, 8, 8), blocks=(1, 1, 1), slices=(2, 3), hyper_channels=4, points=3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rated = RatedTokenizer(sizes, CONFIG)
        rated.prior.set_deviations(torch.tensor([30.0, 4.0, 2.0, 0.3, 0.1]))
        with torch.no_grad():
            for parameter in rated.prior.parameters():
                parameter.mul_(1.5)
            rated.prior.slices[0].quality.normal_()
    return rated.eval()


@pytest.fixture(scope="module")
def model(rated: RatedTokenizer) -> LatentModel:
    return integer_model(rated, threshold=8)


def _values(seed: int = 0) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    scales = (30.0, 4.0, 2.0, 0.3, 0.1)
    latents = np.stack([rng.normal(0, s, 96).round() for s in scales], axis=1).astype(np.int64)
    quality = np.full((6, 1), 37)
    hyper = rng.normal(64, 3, (6, 4)).round().astype(np.int64)
    return [quality, hyper, latents[:, :2] + 2048, latents[:, 2:] + 2048]


def _coded(model: LatentModel, values: list[NDArray[np.int64]]) -> bytes:
    return LatentCoder(LEVELS, values, model).encode(join(split_parts(LEVELS)))


def _decoded(model: LatentModel, data: bytes) -> list[NDArray[np.int64]]:
    values = [np.zeros((lev.positions, lev.groups), dtype=np.int64) for lev in LEVELS]
    LatentCoder(LEVELS, values, model).decode(join(split_parts(LEVELS)), data)
    return values


def test_tables_are_those_of_exact_gaussians() -> None:
    tables, first, last = gaussian_tables()
    assert len(tables) == 512
    with mpmath.workdps(40):
        for f, place in ((4, 0), (0, 0), (1, 13), (7, 13), (3, 30), (5, 41)):
            scale = mpmath.mpf(11) / 100 * (mpmath.mpf(25600) / 11) ** (mpmath.mpf(place) / 63)
            row = 64 * f + place
            table = tables[row]
            total = 1 << table.bits
            numbers = range(int(first[row]), int(last[row]) + 1)
            mean = mpmath.mpf(f - 4) / 8
            edges = [mpmath.ncdf(k - mpmath.mpf(1) / 2 - mean, 0, scale) for k in numbers]
            edges.append(mpmath.ncdf(numbers[-1] + mpmath.mpf(1) / 2 - mean, 0, scale))
            assert edges[0] < mpmath.mpf(2) ** -17 <= edges[1]
            assert 1 - edges[-1] < mpmath.mpf(2) ** -17 <= 1 - edges[-2]
            starts = list(table.starts)
            likeliest = max(high - low for low, high in itertools.pairwise(edges))
            for k, (low, high) in enumerate(itertools.pairwise(edges)):
                found = starts[k + 2] - starts[k + 1]
                # each has 1 and its share; what rounding leaves goes to the likeliest
                slack = table.size + 1 if high - low == likeliest else 2
                assert abs(found - float((high - low) * (total - table.size)) - 1) <= slack


def test_mirrored_rows_mirror() -> None:
    tables, first, last = gaussian_tables()
    for f, place in ((1, 5), (2, 33), (3, 63)):
        a, b = 64 * f + place, 64 * (8 - f) + place
        assert (first[a], last[a]) == (-last[b], -first[b])
        widths = [np.diff(tables[row].starts) for row in (a, b)]
        assert np.array_equal(widths[0][1:], widths[1][:0:-1])


def test_escapes_come_back() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 512, 400)
    values = (rng.normal(0, 1, 400) * 4 ** rng.uniform(0, 6, 400)).astype(np.int64)
    encoder = RangeEncoder()
    encode_escaped(encoder, values, rows)
    decoder = RangeDecoder(encoder.finish())
    assert np.array_equal(decode_escaped(decoder, rows), values)
    decoder.check_end()


def test_integers_follow_the_floats(rated: RatedTokenizer, model: LatentModel) -> None:
    values = _values(3)
    latents = np.concatenate(values[2:], axis=1).T.reshape(5, 8, 12) - 2048
    hyper = values[1].T.reshape(4, 2, 3) - 64
    points = rated.tokenizer.point_weights(torch.full((1, 1, 1), 37)).permute(0, 3, 1, 2)
    with torch.no_grad():
        floats = rated.prior(
            torch.from_numpy(hyper[None]).float(), torch.from_numpy(latents[None]).float(), points
        )
    mean, place = _expected(model, values[0].reshape(COARSE), hyper, latents)
    difference = np.abs(mean - 8 * floats.mean[0].numpy())
    assert np.median(difference) <= 1
    assert np.median(difference) < 0.1 * np.abs(mean).mean()
    assert np.abs(place - floats.scale[0].numpy()).mean() < 1


def _expected(
    model: LatentModel,
    quality: NDArray[np.int64],
    hyper: NDArray[np.int64],
    latents: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    mean, place = np.empty((2, 5, 96), dtype=np.int64)
    features = model.network.features(hyper)

    def code(of: Pass) -> NDArray[np.int64]:
        mean[of.channels, of.positions] = of.mean
        place[of.channels, of.positions] = of.place
        return latents[of.channels].reshape(len(of.mean), -1)[:, of.positions]

    known = np.zeros_like(latents)
    for index in range(2):
        model.network.code_slice(index, features, quality, known, code)
    assert np.array_equal(known, latents)
    return mean.reshape(5, 8, 12), place.reshape(5, 8, 12)


@pytest.mark.parametrize("is_extreme", [False, True])
def test_layers_are_exact(is_extreme: bool) -> None:
    rng = np.random.default_rng(1)
    draw = rng.choice if is_extreme else rng.integers
    ends = ([-128, 127],) if is_extreme else (-128, 128)
    layer = IntegerLayer(
        draw(*ends, (16, 25 * 96)).astype(np.int8),
        rng.integers(-(2**31), 2**31, 16).astype(np.int32),
        rng.integers(-4, 20, 16).astype(np.int8),
    )
    inputs = rng.integers(-(2**15) + 1, 2**15, (96, 6, 5))
    if is_extreme:
        inputs = np.sign(inputs) * (2**15 - 1)
    columns = neighbours(inputs.astype(np.float64), square(5))
    found = layer(columns).astype(np.int64)
    exact = layer.weight.astype(np.int64) @ columns.astype(np.int64) + layer.bias[:, None]
    for row, sums, shift in zip(found, exact.tolist(), layer.shift.tolist(), strict=True):
        for value, total in zip(row.tolist(), sums, strict=True):
            rounded = total << -shift if shift <= 0 else (total + (1 << shift - 1)) >> shift
            assert value == rounded


def test_neighbours_are_those_of_a_convolution() -> None:
    rng = np.random.default_rng(2)
    maps, weight = rng.integers(-9, 9, (3, 5, 7)), rng.integers(-9, 9, (4, 3, 5, 5))
    for offsets in (square(5), other_colour(5)):
        mask = np.zeros((5, 5), dtype=np.int64)
        for dy, dx in offsets:
            mask[dy + 2, dx + 2] = 1
        expected = torch.nn.functional.conv2d(
            torch.from_numpy(maps[None]), torch.from_numpy(weight * mask), padding=2
        )
        taps = np.concatenate([weight[:, :, dy + 2, dx + 2] for dy, dx in offsets], axis=1)
        positions = np.array([0, 3, 17, 34])
        found = taps @ neighbours(maps.astype(np.float64), offsets, positions)
        assert np.array_equal(found, expected[0].flatten(1)[:, positions].numpy())


def test_threads_and_split_products_change_nothing(model: LatentModel) -> None:
    # a product in another order of summation: what threads and other libraries do
    rng = np.random.default_rng(4)
    layer = model.network.slices[1].anchors
    columns = rng.integers(-16320, 16321, (layer.weight.shape[1], 50)).astype(np.float64)
    order = rng.permutation(len(columns))
    shuffled_layer = IntegerLayer(
        np.ascontiguousarray(layer.weight[:, order]), layer.bias, layer.shift
    )
    assert np.array_equal(layer(columns), shuffled_layer(columns[order]))


@pytest.mark.parametrize("seed", range(3))
def test_latents_come_back(model: LatentModel, seed: int) -> None:
    values = _values(seed)
    for ours, theirs in zip(_decoded(model, _coded(model, values)), values, strict=True):
        assert np.array_equal(ours, theirs)


def test_settled_latents_need_fewer_bytes_and_stay(model: LatentModel) -> None:
    values = _values(5)
    model = LatentModel(model.network, model.histograms, 63)
    latents = np.concatenate(values[2:], axis=1).T.reshape(5, 8, 12) - 2048
    quality, hyper = values[0].reshape(COARSE), values[1].T.reshape(4, 2, 3) - 64
    settled = model.settled(quality, hyper, latents)
    assert 0 < np.count_nonzero(settled) < np.count_nonzero(latents)
    assert np.array_equal(settled[settled != 0], latents[settled != 0])
    assert np.array_equal(model.settled(quality, hyper, settled), settled)
    columns = settled.reshape(5, -1).T + 2048
    thinned = [*values[:2], columns[:, :2], columns[:, 2:]]
    assert len(_coded(model, thinned)) < len(_coded(model, values))
    assert np.array_equal(_decoded(model, _coded(model, thinned))[3], columns[:, 2:])


def test_a_map_of_qualities_comes_back(model: LatentModel) -> None:
    values = _values(6)
    values[0] = np.array([[0], [99], [50], [7], [7], [80]])
    back = _decoded(model, _coded(model, values))
    assert all(np.array_equal(a, b) for a, b in zip(back, values, strict=True))


def test_extreme_latents_come_back(model: LatentModel) -> None:
    values = _values(7)
    rng = np.random.default_rng(7)
    values[2] = rng.choice([0, 2048, 4095], (96, 2))
    values[3] = rng.choice([0, 2048, 4095], (96, 3))
    values[1] = rng.choice([0, 127], (6, 4))
    back = _decoded(model, _coded(model, values))
    assert all(np.array_equal(a, b) for a, b in zip(back, values, strict=True))


def test_the_size_is_that_of_the_probabilities(model: LatentModel) -> None:
    everything = LatentModel(model.network, model.histograms, 0)
    rng = np.random.default_rng(8)
    values = _values(8)
    hyper = values[1].T.reshape(4, 2, 3) - 64
    latents = np.zeros((5, 8, 12), dtype=np.int64)
    bits = 0.0

    def draw(of: Pass) -> NDArray[np.int64]:
        nonlocal bits
        normal = stats.norm(of.mean / 8, 0.11 * (256 / 0.11) ** (of.place / 63))
        drawn: NDArray[np.int64] = normal.rvs(random_state=rng).round().astype(np.int64)
        bits -= np.log2(normal.cdf(drawn + 0.5) - normal.cdf(drawn - 0.5)).sum()
        return drawn

    features = model.network.features(hyper)
    for index in range(2):
        model.network.code_slice(index, features, values[0].reshape(COARSE), latents, draw)
    for channel in range(4):
        counts = model.histograms[1, channel].astype(float)
        bits -= float(np.log2(counts[values[1][:, channel]] / counts.sum()).sum())
    columns = latents.reshape(5, -1).T + 2048
    size = len(_coded(everything, [*values[:2], columns[:, :2], columns[:, 2:]]))
    assert abs(size - bits / 8) < 0.01 * bits / 8 + 4


def test_what_is_no_latent_is_refused(model: LatentModel) -> None:
    data = _coded(model, _values(9))
    with pytest.raises(MalformedError, match="left over"):
        _decoded(model, data + bytes(range(1, 12)))
    with pytest.raises(UnknownModelError, match="use the prior of their tokenizer"):
        LatentCoder(LEVELS[:1] + LEVELS[2:], [], model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        noise = rng.integers(0, 256, 60, dtype=np.uint8).tobytes()
        try:
            values = _decoded(model, noise)
        except MalformedError:
            continue
        assert max(int(v.max()) for v in values) < 4096


def test_priors_of_latents_are_stored(model: LatentModel, tmp_path: Path) -> None:
    prior = Prior({}, latent_model=model)
    prior.save(tmp_path / "prior.safetensors")
    again = Prior.load(tmp_path / "prior.safetensors")
    assert again.identity == prior.identity
    assert again.latent_model is not None
    values = _values(10)
    assert _coded(again.latent_model, values) == _coded(model, values)
    other = Prior({}, latent_model=LatentModel(model.network, model.histograms, 3))
    assert other.identity != prior.identity


def test_weights_that_do_not_fit_are_refused(model: LatentModel) -> None:
    arrays = model.arrays()
    name = "latent_model.slice.1.before.weight"
    spec = model.spec()
    with pytest.raises(CheckpointError, match="without"):
        LatentModel.from_arrays(spec, {k: v for k, v in arrays.items() if k != name})
    with pytest.raises(CheckpointError, match="expected"):
        LatentModel.from_arrays(spec, {**arrays, name: arrays[name][:, :-1]})
    with pytest.raises(CheckpointError, match=r"2\^52"):
        IntegerLayer(
            np.full((1, 4000), 127, np.int8), np.zeros(1, np.int32), np.full(1, -31, np.int8)
        )
