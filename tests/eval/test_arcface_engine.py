"""The ArcFace engine on tiny ONNX files, written here byte by byte."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from tessella.errors import CheckpointError, MissingDependencyError
from tessella.eval.tokbench.face_annotations import Face
from tessella.eval.tokbench.face_engines import face_engine
from tessella.eval.tokbench.face_engines.onnx_nodes import first_node_kinds
from tessella.eval.tokbench.faces import TEMPLATE

pytest.importorskip("onnxruntime")

SQUARE = Face((0, 0, 112, 112), TEMPLATE, 1.0)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def node(kind: str, inputs: tuple[str, ...], output: str, **ints: list[int]) -> bytes:
    """Return a NodeProto whose attributes are lists of integers."""
    content = b"".join(message(1, name) for name in inputs) + message(2, output) + message(4, kind)
    for name, values in ints.items():
        numbers = b"".join(number(8, value) for value in values)
        content += message(5, message(1, name) + numbers + number(20, 7))
    return message(1, content)


def constant(name: str, value: float) -> bytes:
    raw = np.array([value], dtype="<f4").tobytes()
    return message(5, number(1, 1) + number(2, 1) + message(8, name) + message(9, raw))


def described(field: int, name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(message(1, number(1, size)) for size in shape)
    tensor = number(1, 1) + message(2, dims)
    return message(field, message(1, name) + message(2, message(1, tensor)))


def model(*, normalises: bool = False, side: int = 112) -> bytes:
    """Return a network that describes a face by the means of 4 x 4 parts."""
    nodes, last, constants = b"", "x", b""
    if normalises:
        nodes += node("Sub", ("x", "m"), "a") + node("Mul", ("a", "s"), "b")
        constants, last = constant("m", 127.5) + constant("s", 1 / 127.5), "b"
    nodes += node("AveragePool", (last,), "p", kernel_shape=[28, 28], strides=[28, 28])
    nodes += node("Flatten", ("p",), "y")
    parts = (side // 28) ** 2
    ends = described(11, "x", (1, 3, side, side)) + described(12, "y", (1, 3 * parts))
    graph = nodes + message(2, "tiny") + constants + ends
    return number(1, 8) + message(7, graph) + message(8, number(2, 13))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.onnx"
    file.write_bytes(model())
    return file


def test_the_recogniser_gets_the_aligned_face_in_rgb(weights: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    parts = pixels.reshape(4, 28, 4, 28, 3).mean(axis=(1, 3)).transpose(2, 0, 1).reshape(-1)
    (tmp_path / "raw.onnx").write_bytes(model(normalises=True))
    for file in (weights, tmp_path / "raw.onnx"):  # the second takes 0 to 255
        engine = face_engine("arcface-onnx", weights=file)
        located = engine.locate(pixels, SQUARE)
        assert located is not None
        assert engine.embed(pixels, located) == pytest.approx(parts / 127.5 - 1, abs=1e-5)
        assert f"{file.name} sha256:" in engine.identity
    assert engine.similarity(parts, -parts) == pytest.approx(-1)
    assert engine.similarity(parts, 0 * parts) == 0


def test_nodes_are_told_in_order(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(model(normalises=True))
    assert first_node_kinds(file) == ["Sub", "Mul", "AveragePool", "Flatten"]
    assert first_node_kinds(file, 1) == ["Sub"]


def test_damaged_files_raise_one_kind_of_error(tmp_path: Path) -> None:
    whole, file = model(normalises=True), tmp_path / "a.onnx"
    generator = np.random.default_rng(0)
    for length in range(0, len(whole), 7):
        mutant = bytearray(whole[: len(whole) - length // 2])
        mutant[int(generator.integers(len(mutant)))] = int(generator.integers(256))
        file.write_bytes(mutant)
        try:
            assert len(first_node_kinds(file)) <= 8
        except CheckpointError as error:
            assert "no ONNX file" in str(error)
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no ONNX file"):
        first_node_kinds(file)
    file.write_bytes(b"words, not a network")
    with pytest.raises(CheckpointError, match=r"a\.onnx"):
        face_engine("arcface-onnx", weights=file)


def test_a_network_of_another_input_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.onnx"
    file.write_bytes(model(side=224))
    with pytest.raises(CheckpointError, match=r"does not take one RGB picture \(1, 3, 112, 112\)"):
        face_engine("arcface-onnx", weights=file)


def test_unmarked_faces_are_aligned_by_dlib_or_refused(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = Face((175, 76, 265, 166), None, 0.18)
    picture = np.asarray(data.astronaut())
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingDependencyError, match=r"none annotated.*faces"):
        face_engine("arcface-onnx", weights=weights).locate(picture, face)
    monkeypatch.undo()
    pytest.importorskip("dlib")
    engine = face_engine("arcface-onnx", weights=weights)
    located = engine.locate(picture, face)
    assert located is not None
    assert located.source == "dlib"
    assert len(engine.embed(picture, located)) == 48


def test_onnxruntime_may_be_missing(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"tessella\[text\]"):
        face_engine("arcface-onnx", weights=weights)
