"""``tessella encode`` and ``tessella decode``."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from PIL import Image
from tiny_model import photograph

import tessella
from tessella.images import decode_rgb, from_pixels, to_pixels


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_there_and_back(run: Run, picture: Path, work: Path) -> None:
    result = run("encode", "photo.png", "-m", "tiny")
    assert (result.code, result.stderr) == (0, "")
    size = (work / "photo.tsl").stat().st_size
    assert re.fullmatch(
        r"photo\.tsl  158x113  900 tokens  \d+ B  \d\.\d\d bpp\n", result.stdout
    )  # 15 x 20 positions, 3 groups
    assert f"{size} B  {8 * size / (158 * 113):.2f} bpp" in result.stdout
    result = run("decode", "photo.tsl", "-o", "back.png")
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == "back.png  158x113  900 tokens\n"
    model = tessella.load("tiny")
    expected = to_pixels(model.decode(model.encode(picture)))
    assert np.array_equal(decode_rgb("back.png"), expected)


def test_fewer_groups_are_smaller_and_decode_from_either_side(
    run: Run, picture: Path, work: Path
) -> None:
    for keep in (1, 2, 3):
        assert run("encode", picture, "-m", "tiny", "-q", keep, "-o", f"{keep}.tsl").code == 0
    sizes = [(work / f"{keep}.tsl").stat().st_size for keep in (1, 2, 3)]
    assert sizes == sorted(sizes)
    assert run("decode", "1.tsl").code == 0
    assert run("decode", "3.tsl", "-q", 1, "-o", "cut.png").code == 0
    assert np.array_equal(decode_rgb("1.png"), decode_rgb("cut.png"))
    assert run("decode", "3.tsl").code == 0
    original = decode_rgb(picture)
    assert psnr(decode_rgb("3.png"), original) > psnr(decode_rgb("1.png"), original)


def test_standard_streams(run: Run, picture: Path) -> None:
    run("encode", picture, "-m", "tiny")
    result = run("encode", "-", "-m", "tiny", stdin=picture.read_bytes())
    assert result.code == 0
    assert result.data == Path("photo.tsl").read_bytes()
    assert result.stderr.startswith("standard input  158x113  900 tokens")
    back = run("decode", "-", "-o", "-", stdin=result.data)
    run("decode", "photo.tsl", "-o", "back.png")
    assert np.array_equal(decode_rgb(io.BytesIO(back.data)), decode_rgb("back.png"))
    run("encode", "-", "-m", "tiny", "-o", "in.tsl", stdin=picture.read_bytes())
    assert Path("in.tsl").read_bytes() == result.data


def test_bytes_do_not_go_to_a_terminal(
    run: Run, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessella.cli.options.is_terminal", lambda stream: stream is sys.stdout)
    result = run("encode", picture, "-m", "tiny", "-o", "-")
    assert (result.code, result.data) == (2, b"")
    assert "bytes would go to a terminal" in result.stderr


def test_folders_keep_their_structure(run: Run, picture: Path, work: Path) -> None:
    (work / "in" / "sub").mkdir(parents=True)
    for name in ("in/a.png", "in/sub/b.PNG", "in/.hidden.png", "in/notes.txt"):
        (work / name).write_bytes(picture.read_bytes())
    result = run("encode", "in", "-m", "tiny", "-o", "out")
    assert result.code == 0
    assert len(result.stdout.splitlines()) == 2
    assert sorted(p.name for p in (work / "out").rglob("*.tsl")) == ["a.tsl", "b.tsl"]
    assert (work / "out" / "sub" / "b.tsl").is_file()
    assert run("decode", "out/", "-o", "back/").code == 0
    assert (work / "back" / "sub" / "b.png").is_file()


def test_patterns_and_several_processes(run: Run, picture: Path, work: Path) -> None:
    for name in ("a1.png", "a2.png", "b1.png"):
        (work / name).write_bytes(picture.read_bytes())
    (work / "a3.png").write_bytes(b"broken")
    result = run("encode", "a*.png", "-m", "tiny", "-j", 2, "-o", "out/", "--device", "cpu")
    assert result.code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["out/a1.tsl", "out/a2.tsl"]
    assert "tessella: a3.png is not a picture of a known kind" in result.stderr
    assert "1 of 3 files failed" in result.stderr
    assert sorted(p.name for p in (work / "out").iterdir()) == ["a1.tsl", "a2.tsl"]


def test_a_failing_file_does_not_stop_the_others(run: Run, picture: Path, work: Path) -> None:
    (work / "cut.png").write_bytes(picture.read_bytes()[:900])
    result = run("encode", "missing.png", "cut.png", picture, "-m", "tiny", "-o", "out")
    assert result.code == 1
    assert (work / "out" / "photo.tsl").is_file()
    lines = result.stderr.splitlines()
    assert lines[0] == "tessella: missing.png does not exist; expected a picture file"
    assert lines[1].startswith("tessella: cut.png is damaged or truncated")
    assert lines[2] == "tessella: 2 of 3 files failed"
    (work / "bad.tsl").write_bytes((work / "out" / "photo.tsl").read_bytes()[:-1] + b"\0")
    result = run("decode", "bad.tsl", "out/photo.tsl", "none.tsl", "-o", "back")
    assert result.code == 1
    assert (work / "back" / "photo.png").is_file()
    assert result.stderr.startswith("tessella: bad.tsl: ")
    assert "tessella: none.tsl: there is no such file" in result.stderr


def test_existing_files_are_kept_unless_asked(run: Run, picture: Path, work: Path) -> None:
    (work / "photo.tsl").write_bytes(b"mine")
    result = run("encode", picture, "-m", "tiny")
    assert result.code == 1
    assert result.stderr.endswith("photo.tsl exists; give --overwrite to replace it\n")
    assert (work / "photo.tsl").read_bytes() == b"mine"
    assert run("encode", picture, "-m", "tiny", "--overwrite").code == 0
    assert (work / "photo.tsl").read_bytes() != b"mine"
    result = run("decode", "photo.tsl")  # photo.png is the original
    assert result.code == 1
    assert "photo.png exists" in result.stderr


def test_two_inputs_never_share_an_output(run: Run, picture: Path, work: Path) -> None:
    Image.open(picture).save(work / "photo.jpg")
    result = run("encode", "photo.jpg", "photo.png", "-m", "tiny")
    assert result.code == 1
    assert "photo.png: photo.tsl is already the output of photo.jpg" in result.stderr


def test_truncated_file_is_decoded_with_a_word(run: Run, work: Path) -> None:
    pixels = np.ascontiguousarray(photograph()[:256, :256])
    Image.fromarray(pixels).save(work / "a.png")
    run("encode", "a.png", "-m", "tiny")
    data = (work / "a.tsl").read_bytes()
    (work / "a.tsl").write_bytes(data[:-10])
    result = run("decode", "a.tsl", "-o", "b.png")
    assert result.code == 0
    assert result.stderr == "tessella: warning: a.tsl ends early: 2 of 3 parts arrived\n"
    model = tessella.load("tiny")
    tokens = model.encode(from_pixels(pixels)).truncate(groups=2)
    assert np.array_equal(decode_rgb("b.png"), to_pixels(model.decode(tokens)))


def test_transparency_and_orientation(run: Run, work: Path) -> None:
    image = Image.new("RGBA", (24, 16), (128, 128, 128, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(work / "a.png", exif=exif.tobytes())
    brightness = []
    for options in ([], ["--background", "#000000"]):
        result = run("encode", "a.png", "-m", "tiny", "--overwrite", *options)
        assert "16x24" in result.stdout
        run("decode", "a.tsl", "-o", "b.png", "--overwrite")
        brightness.append(decode_rgb("b.png").mean())
    assert brightness[0] > brightness[1] + 100
    result = run("encode", "a.png", "-m", "tiny", "--background", "grün")
    assert result.code == 2
    assert "is not a colour" in result.stderr


def test_size_limit_and_its_override(run: Run, picture: Path) -> None:
    result = run("encode", picture, "-m", "tiny", "--max-pixels", 1000)
    assert result.code == 1
    assert "158x113 = 17854 pixels; the limit is 1000" in result.stderr
    assert run("encode", picture, "-m", "tiny", "--max-pixels", 0).code == 0
    result = run("decode", "photo.tsl", "-o", "b.png", "--max-pixels", 1000)
    assert result.code == 1
    assert "limits are 65535 a side and 1000 pixels" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode"], 2, "Missing argument"),
        (["encode", "photo.png", "-q", "0"], 2, "-q"),
        (
            ["encode", "photo.png", "-m", "tiny", "-q", "9"],
            2,
            "9 groups asked for; expected 1 to 3",
        ),
        (["encode", "photo.png", "-m", "tinny"], 1, "did you mean 'tiny'?"),
        (["encode", "photo.png", "--device", "abacus"], 2, "device 'abacus' cannot be used"),
        (["encode", "*.xyz"], 2, "matches no files"),
        (["encode", "empty"], 2, "the folder empty holds no files of these kinds: .avif"),
        (["encode", "-", "photo.png"], 2, "must be the only input"),
        (["encode", "a.png", "b.png", "-o", "-"], 2, "2 inputs given for standard output"),
        (["encode", "a.png", "b.png", "-o", "photo.png"], 2, "photo.png is a file"),
        (["decode", "photo.png", "-o", "b.png"], 1, "photo.png: the file begins with 89 50 4e 47"),
        (["decode", "a.tsl", "-o", "b.xyz"], 1, "suffix '.xyz'; expected one of"),
        (["glue"], 2, "No such command"),
    ],
)
def test_wrong_use_is_one_line(
    run: Run, picture: Path, work: Path, arguments: list[str], code: int, message: str
) -> None:
    (work / "empty").mkdir()
    result = run(*arguments)
    assert result.code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_the_error_itself(run: Run, picture: Path) -> None:
    with pytest.raises(tessella.CheckpointError):
        run("encode", picture, "-m", "none", "--debug")
