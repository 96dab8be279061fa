"""Whole runs in processes of their own: killed ones, and two that share the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_records import EVERYTHING, lines

import tessella
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.progressive_gq import ProgressiveGQ
from tessella.training import train


def environment(threads: int) -> dict[str, str]:
    """Variables of a process that finds the package where this one did."""
    path = os.pathsep.join([str(Path(tessella.__file__).parents[1]), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}


KILLED = """
import os, signal, sys
import torch
from tessella.training import train
done = 0
step = torch.optim.AdamW.step
def counted(self, *args, **kwargs):
    global done
    done += 1
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
torch.optim.AdamW.step = counted
train("progressive_gq_tiny", sys.argv[1:], progress=False)
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_exactly(quick: list[str], tmp_path: Path) -> None:
    overrides = [*quick, "trainer.steps=6", "trainer.save_every=3"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("progressive_gq_tiny", [*overrides, f"trainer.output={whole}"], progress=False)
    overrides.append(f"trainer.output={parts}")
    threads = torch.get_num_threads()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *overrides], env=environment(threads), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    train("progressive_gq_tiny", overrides, progress=False)
    assert lines(parts, "training") == lines(whole, "training")
    name = Path("model") / "model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()


PROCESSES = """
import sys
from tessella.training import train
train("progressive_gq_tiny", sys.argv[1:], progress=False)
"""


@pytest.mark.slow
def test_two_processes_train_one_model(quick: list[str], tmp_path: Path) -> None:
    # every picture keeps all groups, so that nothing random depends on the process
    overrides = [
        *quick, *EVERYTHING, "model.config.keep_weights=[0, 0, 1]", "trainer.steps=4",
        "trainer.save_every=2", "loss.adversarial.start=2", "loss.adversarial.is_adaptive=false",
    ]  # fmt: skip
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    launch += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", str(script)]
    both = [*overrides, f"trainer.output={tmp_path}/two"]
    subprocess.run([*launch, *both], env=environment(1), check=True, timeout=240)
    train("progressive_gq_tiny", [*overrides, f"trainer.output={tmp_path}/one"], progress=False)
    one, two = (lines(tmp_path / name, "training") for name in ("one", "two"))
    assert len(one) == len(two) == 4
    for a, b in zip(one[:2], two[:2], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)
        assert b["psnr"] == pytest.approx(a["psnr"], rel=1e-3)
    rows = [lines(tmp_path / name, "validation")[-1]["rows"] for name in ("one", "two")]
    for a, b in zip(*rows, strict=True):
        assert b["psnr"] == pytest.approx(a["psnr"], abs=0.3)
    assert isinstance(ProgressiveGQ.from_pretrained(tmp_path / "two" / "model"), Tokenizer)
