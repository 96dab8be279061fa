"""A made-up evaluation with every kind of record, and pictures to show, from a seed."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tessella.eval.report import ShownPicture
from tessella.eval.results import (
    ORIGINAL,
    FaceRecord,
    Figure,
    PictureRecord,
    Results,
    SetInfo,
    Subject,
    TokenRecord,
    WordRecord,
)

PHOTOGRAPHS, SIGNS, RECEIPTS, FACES = "photographs", "signs-512", "receipts", "faces-512"
READER, OTHER_READER, EMBEDDER = "PARSeq 0.9", "rapidocr 3.10 (PP-OCRv4)", "ArcFace R100"
# codec: qualities with bits per pixel, how well it does for its rate, seconds per megapixel
_CODECS = {
    "jpeg": ((5, 0.141), (10, 0.256), (20, 0.449), (50, 0.869)),
    "webp": ((1, 0.155), (10, 0.274), (40, 0.577)),
    "avif": ((1, 0.069), (20, 0.163), (40, 0.382)),
    "progressive-gq-f8": ((1, 0.052), (2, 0.101), (4, 0.196), (8, 0.388)),
    "one-d-piece-256": ((64, 0.012), (128, 0.023), (256, 0.045)),
}
_GAIN = {"jpeg": -1.6, "webp": 0.2, "avif": 1.6, "progressive-gq-f8": -0.2, "one-d-piece-256": -2.2}
_DETAIL = {"jpeg": 0.2, "webp": 0.5, "avif": 0.7, "progressive-gq-f8": 1.5, "one-d-piece-256": 1.3}
_SECONDS = {
    "jpeg": (0.011, 0.006),
    "webp": (0.22, 0.014),
    "avif": (0.61, 0.03),
    "progressive-gq-f8": (1.35, 1.92),
    "one-d-piece-256": (2.1, 2.4),
}
_WORDS = ("Harbour", "EXIT", "Bakery", "No. 17", "tessella", "North", "Café", "24h", "Platform")


def example_results(
    seed: int = 0, *, num_pictures: int = 6, num_words: int = 60, num_faces: int = 30
) -> Results:
    """Return an evaluation of five codecs on four sets, with two engines that read words."""
    rng = np.random.default_rng(seed)
    sets = (
        SetInfo(PHOTOGRAPHS, "images", num_pictures, "3f" * 32),
        SetInfo(SIGNS, "text", 40, "a1" * 32, 512, READER),
        SetInfo(RECEIPTS, "text", 20, "b2" * 32, 0, OTHER_READER),
        SetInfo(FACES, "faces", 40, "c3" * 32, 512, EMBEDDER),
    )
    subjects = _subjects()
    return Results(
        subjects=subjects,
        sets=sets,
        protocol={"name": "clean", "crop": "none", "resize_filter": "clean", "count": num_pictures},
        versions={"torch": "2.6.0", "Pillow": "11.3.0", "torchmetrics": "1.5.2"},
        pictures=tuple(_pictures(rng, subjects, sets, num_pictures)),
        words=tuple(_words(rng, subjects, num_words)),
        faces=tuple(_faces(rng, subjects, num_faces)),
        figures=tuple(_figures(subjects, num_pictures)),
        tokens=tuple(_tokens(rng)),
        missing={
            "FID": "weights-inception-2015-12-05-6726825d.pth was not found; give its path, or "
            "allow the download",
        },
    )


def _subjects() -> tuple[Subject, ...]:
    found = []
    for codec, points in _CODECS.items():
        settings = "static tables" if codec not in ("jpeg", "webp", "avif") else "4:2:0"
        found += [Subject(f"{codec}:{quality}", codec, quality, settings) for quality, _ in points]
    label = "progressive-gq-f8:2"
    return (*found, Subject(f"jpeg@{label}", "jpeg", None, "4:2:0, highest that fits", label))


def _rate(subject: Subject) -> float:
    if subject.matched:
        return 0.1
    return dict(_CODECS[subject.codec])[subject.quality or 0]


def _clearness(subject: Subject) -> float:
    return math.log2(_rate(subject) / 0.01) + _DETAIL[subject.codec]


def _pictures(
    rng: np.random.Generator,
    subjects: tuple[Subject, ...],
    sets: tuple[SetInfo, ...],
    count: int,
) -> list[PictureRecord]:
    found = []
    for info in sets:
        for i in range(count if info.name == PHOTOGRAPHS else 4):
            width, height = (768, 512) if i % 3 else (512, 768)
            hardness = rng.normal(0, 1)
            for subject in subjects:
                rate = _rate(subject) * math.exp(0.3 * hardness)
                level = math.log2(_rate(subject) / 0.01)
                db = 18.5 + 2.25 * level + _GAIN[subject.codec] - 1.5 * hardness
                clear = _clearness(subject)
                scores: dict[str, float | None] = {
                    "psnr": db,
                    "ssim": 1 - 0.9 * math.exp(-0.28 * (level + 1)),
                    "ms_ssim": None if i == 0 else 1 - 0.8 * math.exp(-0.45 * (level + 1)),
                    "lpips": 0.75 * math.exp(-0.30 * clear) + 0.01 * hardness,
                    "dists": 0.45 * math.exp(-0.26 * clear),
                }
                seconds = [s * width * height / 1e6 for s in _SECONDS[subject.codec]]
                num_bytes = round(rate * width * height / 8)
                found.append(
                    PictureRecord(
                        subject.label,
                        info.name,
                        f"{i:02d}.png",
                        width,
                        height,
                        num_bytes,
                        *seconds,
                        scores,
                    )
                )
    return found


def _words(rng: np.random.Generator, subjects: tuple[Subject, ...], count: int) -> list[WordRecord]:
    found = []
    for dataset in (SIGNS, RECEIPTS):
        for i in range(count):
            height = float(np.round(rng.lognormal(3.1, 0.6), 1))
            text = _WORDS[int(rng.integers(len(_WORDS)))]
            luck = rng.random()
            for label, clear in [(ORIGINAL, 12.0), *((s.label, _clearness(s)) for s in subjects)]:
                chance = 1 / (1 + math.exp(-(1.1 * clear - 9 + height / 9)))
                wrong = text[:-1] + "?" if luck < chance + 0.2 else "~" + text[2:]
                read = text if luck < chance else wrong
                name = f"{i % 40:02d}.jpg"
                found.append(WordRecord(label, dataset, name, text, read, height, height / 1024))
    return found


def _faces(rng: np.random.Generator, subjects: tuple[Subject, ...], count: int) -> list[FaceRecord]:
    found = []
    for i in range(count):
        side = float(np.round(rng.lognormal(4.2, 0.7), 1))
        luck = rng.normal(0, 0.05)
        for subject in subjects:
            clear = 0.5 * _clearness(subject) - 2.6 + side / 90
            similarity = 1 / (1 + math.exp(-clear)) + luck
            record = (subject.label, FACES, f"{i % 40:02d}.jpg", side, side / 1024)
            found.append(FaceRecord(*record, float(np.clip(similarity, -1, 1))))
    return found


def _figures(subjects: tuple[Subject, ...], count: int) -> list[Figure]:
    found = []
    protocol = {"name": "clean", "resize_filter": "clean", "count": count}
    for subject in subjects:
        label, clear = subject.label, _clearness(subject)
        kid = 0.09 * math.exp(-0.45 * clear)
        note = "FID needs more pictures than features: 12 against 2048"
        found.append(Figure(label, PHOTOGRAPHS, "rFID", None, {}, note))
        found.append(Figure(label, PHOTOGRAPHS, "KID", kid, protocol))
        found.append(Figure(label, PHOTOGRAPHS, "precision", 1 - kid * 4, protocol))
    return found


def _tokens(rng: np.random.Generator) -> list[TokenRecord]:
    found = []
    parts = [("progressive-gq-f8:8", f"group {i + 1}", 256, 0.35 + 0.1 * i) for i in range(4)]
    for label, part, size, exponent in [*parts, ("one-d-piece-256:256", "", 4096, 0.8)]:
        ranks = np.unique(np.geomspace(1, size, 60).astype(int))
        shares = (np.arange(1, size + 1) + 4.0) ** -exponent * np.exp(
            -3.5 * (np.arange(size) / size) ** 5
        )
        shares = shares / shares.sum()
        entropy = float(-(shares * np.log2(shares)).sum())
        statistics = {
            "usage": float(1 - rng.uniform(0, 0.02)),
            "entropy": entropy,
            "perplexity": 2**entropy,
            "zipf": exponent,
            "gini": 0.3 + exponent / 3,
        }
        picked = [float(shares[rank - 1]) for rank in ranks]
        found.append(
            TokenRecord(label, PHOTOGRAPHS, part, size, statistics, ranks.tolist(), picked)
        )
    return found


def example_picture(seed: int, *, width: int = 384, height: int = 256) -> Image.Image:
    """Draw hills below a sky, with houses and a sign."""
    rng = np.random.default_rng(seed)
    top, low = rng.integers(90, 230, (2, 3))
    blend = np.linspace(0, 1, height)[:, None, None]
    sky = (top * (1 - blend) + low * blend) * np.ones((1, width, 1))
    image = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x = np.arange(width)
    for depth in range(4):
        ridge = height * (0.4 + 0.14 * depth)
        for scale in (90, 37, 13):
            ridge = ridge + scale / 6 * np.sin(x / scale + rng.uniform(0, 6))
        color = tuple(int(v) for v in rng.integers(30, 150, 3) // (1 + depth // 2) + 20)
        line = [(int(a), int(b)) for a, b in zip(x, ridge, strict=True)]
        draw.polygon([(0, height), *line, (width, height)], fill=color)
    for _ in range(9):
        left, base = rng.uniform(0, width), rng.uniform(0.62, 0.97) * height
        size = rng.uniform(12, 40)
        color = tuple(int(v) for v in rng.integers(120, 250, 3))
        draw.rectangle([left, base - size, left + size, base], fill=color)
        roof = [(left - 4, base - size), (left + size / 2, base - 1.6 * size)]
        draw.polygon([*roof, (left + size + 4, base - size)], fill=(120, 50, 40))
    draw.text((0.08 * width, 0.08 * height), "Harbour  No. 17", fill=(25, 25, 30))
    grain = rng.normal(0, 5, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def example_shown(count: int = 3) -> list[ShownPicture]:
    """Return the worst and best pictures of two subjects; originals come more than once."""
    found = []
    for i in range(count):
        for label, quality in (("jpeg:5", 5), ("progressive-gq-f8:2", None)):
            size = (384, 256) if i % 3 else (256, 384)
            original = example_picture(i, width=size[0], height=size[1])
            blurred = original.filter(ImageFilter.GaussianBlur(1.6))
            coded = _encoded(original, "JPEG", quality=quality) if quality else None
            changed = Image.open(io.BytesIO(coded)) if coded else blurred
            found.append(
                ShownPicture(
                    dataset=PHOTOGRAPHS,
                    picture=f"{i:02d}.png",
                    subject=label,
                    why="worst" if i % 2 else "best",
                    metric="lpips",
                    value=0.21 + 0.07 * i,
                    num_bytes=2100 + 37 * i,
                    original=_encoded(original, "PNG"),
                    reconstruction=_encoded(changed, "PNG"),
                    media_type="image/png",
                )
            )
    return found


def _encoded(image: Image.Image, name: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()
