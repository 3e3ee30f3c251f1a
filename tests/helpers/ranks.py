"""Processes that stay, for tests of collectives: each call makes a gloo group of as many ranks as it asks for."""

import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

MOST = 4
SECONDS = 120  # then a call has failed


def _serve(rank: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    while (job := pickle.loads(pipe.recv_bytes())) is not None:
        function, size, store, arguments = job
        try:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{store}",
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=SECONDS / 2),
            )
            answer = function(rank, *arguments), None
        except Exception:
            answer = None, traceback.format_exc()
            _leave()  # so that the others fail, too, instead of waiting
        pipe.send_bytes(pickle.dumps(answer))
        pipe.recv_bytes()  # all have answered: a rank that left before would break off the others' meeting
        _leave()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class Ranks:
    """``MOST`` processes; ``run`` calls a function of a module on the first ``size`` of them."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn" if torch.cuda.is_available() else "fork")  # a fork has torch imported
        self.pipes, self.processes = [], []
        for rank in range(MOST):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """``function(rank, *arguments)`` on each rank; their results, in order."""
        with tempfile.TemporaryDirectory() as folder:
            for pipe in self.pipes[:size]:
                # Not pipe.send: it would share tensors through a thread of each process, and that may hang.
                pipe.send_bytes(pickle.dumps((function, size, Path(folder) / "store", arguments)))
            answers = []
            for rank, pipe in enumerate(self.pipes[:size]):
                if not pipe.poll(SECONDS):
                    self._start_again()
                    raise AssertionError(f"rank {rank} gave no answer in {SECONDS} s")
                answers.append(pickle.loads(pipe.recv_bytes()))
            for pipe in self.pipes[:size]:
                pipe.send_bytes(b"all have answered")
        errors = [f"rank {rank}: {error}" for rank, (_, error) in enumerate(answers) if error]
        assert not errors, "\n".join(errors)
        return [value for value, _ in answers]

    def _start_again(self) -> None:
        """Else every later call would wait for ranks that hang."""
        for process in self.processes:
            process.kill()
        self._start()

    def stop(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.send_bytes(pickle.dumps(None))
        for process in self.processes:
            process.join(10)
