"""An evaluation from labels to results: plan, work on every picture, put together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from tessella.codecs.named import codec_named
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError, TessellaError
from tessella.eval.evaluation.assembling import Assembler
from tessella.eval.evaluation.contenders import Contender, contenders
from tessella.eval.evaluation.equipment import EvalOptions, equip
from tessella.eval.evaluation.sets import EvalSet
from tessella.eval.evaluation.worker import Setup, Task, Worker, tasks_of
from tessella.eval.results import Results
from tessella.eval.weights import file_digest
from tessella.hub import resolve

Progress = Callable[[int, int], None]
_IDENTIFIED = (".json", ".safetensors")  # files of a model's folder that decide what it makes

_WORKERS: list[Worker] = []  # the one of this process, if it is one of several


def evaluate(
    labels: Sequence[str],
    sets: Sequence[EvalSet],
    options: EvalOptions | None = None,
    *,
    work: Path,
    peers: Sequence[str] = (),
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> tuple[Results, Setup]:
    """Evaluate models on sets of pictures.

    Args:
        labels: ``NAME[:QUALITY]``: tokenizers and classical codecs.
        sets: pictures; see :mod:`tessella.eval.evaluation.sets`.
        options: metrics, protocol, weights and engines.
        work: folder of finished pieces. Given again, the evaluation goes on where it was.
        peers: codecs that get the bytes of every tokenizer, picture by picture.
        jobs: processes, which share the cores.
        on_progress: called with the number of finished tasks and of all.

    Returns:
        The results, and the setup by which pictures can be shown.

    Raises:
        ConfigError: if a label, a set or an option is impossible; before anything is measured.
        PictureError: naming a picture that cannot be read.
    """
    options = options or EvalOptions()
    names = [dataset.info.name for dataset in sets]
    if not sets or len(set(names)) != len(names):
        raise ConfigError(
            f"data sets {names} given; expected at least one, of different names: rename a folder"
        )
    found = contenders(labels, peers=peers, device=options.device)
    equipment = equip(options, [dataset.info.kind for dataset in sets])
    identities = tuple(identity(contender, options.device) for contender in found)
    setup = Setup(tuple(found), identities, tuple(sets), equipment, work)
    total = (len(found) + 1) * sum(len(dataset.pictures) for dataset in sets)
    for done, _ in enumerate(_finished(setup, jobs), start=1):
        if on_progress is not None:
            on_progress(done, total)
    return Assembler(setup).results(), setup


def identity(contender: Contender, device: str) -> str:
    """Return a hash over all that decides a contender's reconstructions.

    The identity of a token space is not enough: a decoder may have been fine-tuned since.
    """
    codec = codec_named(contender.name, device=device)
    total = hashlib.sha256(codec.settings.encode("utf-8"))
    if isinstance(codec, TokenizerCodec):
        for path in sorted(resolve(contender.name).iterdir()):
            if path.suffix in _IDENTIFIED and path.is_file():
                total.update(file_digest(path).encode("ascii"))
    return total.hexdigest()


def _finished(setup: Setup, jobs: int) -> Iterator[Task]:
    """Do all tasks, the originals first: faces are compared with theirs."""
    phases = [tasks_of(setup, None)]
    phases += [tasks_of(setup, i) for i in range(len(setup.contenders))]
    if jobs == 1:
        worker = Worker(setup)
        for tasks in phases:
            for task in tasks:
                worker.run(task)
                yield task
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = get_context("spawn")  # forking a process that has run torch's threads may hang
    with ProcessPoolExecutor(jobs, context, _start, (setup, threads)) as pool:
        for tasks in phases:
            futures = {pool.submit(_run, task): task for task in tasks}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield futures[future]
            except BrokenProcessPool as error:
                raise TessellaError(
                    f"a process of {jobs} ended on its own, probably for want of memory; what is "
                    "finished is kept: start again with fewer jobs"
                ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _start(setup: Setup, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()
    _WORKERS.append(Worker(setup))  # what it loads stays for the next task


def _end_with_parent() -> None:
    """End this process when the one that started it is killed, which leaves it no other sign."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(task: Task) -> None:
    _WORKERS[0].run(task)


__all__ = ["evaluate", "identity"]
