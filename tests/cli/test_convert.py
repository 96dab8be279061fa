"""``tessella convert``: published checkpoints become models, or nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_runner import Run
from safetensors.torch import load_file, save_file

import tessella
from tessella.codecs.entropy.prior import Prior
from tessella.errors import ConfigError
from tessella.tokenizers.checkpoints import count_averages
from tessella.tokenizers.checkpoints.files import convert_file

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
RECORDING = PARITY / "taming_vqgan"


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for part in ("encoder", "decoder", "quant")
        for name, tensor in load_file(RECORDING / f"{part}.safetensors").items()
    }


def test_a_lightning_checkpoint_becomes_a_model(
    run: Run, work: Path, picture: Path, state: dict[str, torch.Tensor]
) -> None:
    extra = {"loss.discriminator.main.0.weight": torch.zeros(3)}
    torch.save({"state_dict": state | extra, "epoch": 3}, "last.ckpt")
    result = run("convert", "vqgan", "last.ckpt", "-o", "models/mine")
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("models/mine  vqgan  0.")
    assert "MIT" in (work / "models/mine/MODEL_CARD.md").read_text()
    io = load_file(RECORDING / "io.safetensors")
    tokens = tessella.load("models/mine").encode(io["input"])
    assert torch.equal(tokens.levels[0][..., 0], io["indices"])
    assert run("encode", picture, "-m", "models/mine", "-o", "a.tsl").code == 0
    assert run("decode", "a.tsl", "-m", "models/mine", "-o", "back.png").code == 0


def test_averages_are_taken_where_there_are_some_and_counted(
    run: Run, work: Path, state: dict[str, torch.Tensor]
) -> None:
    decoder = [name for name in state if name.startswith("decoder.")]
    averages = {f"model_ema.{name.replace('.', '')}": state[name] + 1 for name in decoder}
    more = {"model_ema.decay": torch.tensor(0.999), "loss.logvar": torch.zeros(1)}
    more |= {"model_ema.losslogvar": torch.zeros(1)}
    torch.save({"state_dict": state | averages | more}, "ema.ckpt")
    torch.save({"state_dict": state}, "raw.ckpt")
    result = run("convert", "ibq", "ema.ckpt", "-o", "ema")
    assert (result.code, result.stderr) == (0, "")
    line = f"{len(decoder)} of {len(state)} tensors are moving averages (EMA)"
    assert result.stdout.splitlines()[1] == line
    assert f"averages of the weights: {len(decoder)} of" in (work / "ema/MODEL_CARD.md").read_text()
    raw = convert_file("ibq", "raw.ckpt", "raw")
    assert (raw.averages, raw.tensors) == (0, len(state))
    ours, plain = tessella.load("ema").state_dict(), raw.model.state_dict()
    for name, tensor in ours.items():
        assert torch.equal(tensor, plain[name] + float(name.startswith("decoder.")))


def test_a_file_with_all_weights_averaged_beside_them() -> None:
    weights = {"encoder.x": torch.zeros(1), "quantize.codebook_used": torch.zeros(1)}
    beside = {"model": weights, "ema": weights, "steps": 3}
    assert count_averages("llamagen_vq", beside) == 1
    assert count_averages("llamagen_vq", {"model": weights}) == 0
    assert count_averages("infinity_bsq", {"vae": weights, "ema": weights}) == 0  # as it is read
    assert count_averages("var_vqvae", beside) == 0
    with pytest.raises(ConfigError, match="did you mean 'llamagen_vq'"):
        count_averages("llamagen", beside)


def test_counted_codes_become_the_entropy_model(run: Run, picture: Path) -> None:
    state = load_file(PARITY / "mcquic" / "tiny_m2" / "state_dict.safetensors")
    torch.save({"model": state, "config": {"qp": 2}, "version": "0.1.40"}, "qp_2.mcquic")
    result = run("convert", "mcquic", "qp_2.mcquic", "-o", "models/mine")
    assert (result.code, result.stderr) == (0, "")
    counts = Prior.load("models/mine/prior.safetensors").histogram(2, 1, 48)  # finest level last
    averages = state["_quantizer._entropyCoder._freqEMA.0"][1]
    assert counts.argmax() == int(averages.argmax())
    assert run("encode", picture, "-m", "models/mine", "-o", "a.tsl").code == 0
    assert run("decode", "a.tsl", "-m", "models/mine", "-o", "back.png").code == 0


def _foreign(state: dict[str, torch.Tensor]) -> object:
    return {"model.layers.0.weight": torch.zeros(2, 2)}


def _incomplete(state: dict[str, torch.Tensor]) -> object:
    return {k: v for k, v in state.items() if k != "decoder.conv_out.bias"}


def _excessive(state: dict[str, torch.Tensor]) -> object:
    return state | {"encoder.extra": torch.zeros(1)}


def _misshapen(state: dict[str, torch.Tensor]) -> object:
    return state | {"decoder.conv_out.bias": torch.zeros(5)}


def _code(state: dict[str, torch.Tensor]) -> object:
    return {"state_dict": state, "callback": Path("x")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_foreign, "is missing from the checkpoint or its config"),
        (_incomplete, "missing ['decoder.conv_out.bias']"),
        (_excessive, "unexpected ['encoder.extra']"),
        (_misshapen, "decoder.conv_out.bias (5,) instead of (3,)"),
        (_code, "not opened because such files can run code"),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    run: Run, work: Path, state: dict[str, torch.Tensor], make: object, message: str
) -> None:
    assert callable(make)
    torch.save(make(state), "a.pt")
    result = run("convert", "vqgan", "a.pt", "-o", "out")
    assert result.code == 1
    assert message in result.stderr
    assert [p.name for p in work.iterdir()] == ["a.pt"]


def test_damaged_files_and_unknown_names_are_refused(
    run: Run, work: Path, state: dict[str, torch.Tensor]
) -> None:
    save_file(state, "a.safetensors")
    whole = Path("a.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(state, "a.ckpt")
    Path("cut.ckpt").write_bytes(Path("a.ckpt").read_bytes()[:5000])
    Path("text.txt").write_text("no")
    for arguments, code, message in (
        (("vqgan", "cut.safetensors"), 1, "not a whole safetensors file"),
        (("vqgan", "cut.ckpt"), 1, "not a whole checkpoint"),
        (("vqgan", "none.ckpt"), 1, "is missing; expected a checkpoint"),
        (("vqgan", "text.txt"), 1, "expected a file that ends in"),
        (("vqgam", "a.ckpt"), 2, "did you mean 'vqgan'?"),
        (("vqgan", "a.ckpt", "--preset", "vqgan-f16-1023"), 2, "did you mean 'vqgan-f16-1024'?"),
        (("vqgan", "a.ckpt", "--preset", "vqgan-f16-1024"), 1, "does not fit the model"),
    ):
        result = run("convert", *arguments, "-o", "out")
        assert (result.code, message in result.stderr) == (code, True), result.stderr
        assert not Path("out").exists()
    assert run("convert", "vqgan", "a.safetensors", "-o", "out").code == 0
    again = run("convert", "vqgan", "a.safetensors", "-o", "out")
    assert (again.code, "out exists" in again.stderr) == (1, True)
