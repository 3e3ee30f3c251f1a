"""Members in Python threads with one torch thread each, where a layer of a member is too small to be split over cores.

What a member computes is what it computes alone with one torch thread, operation by operation: only the core differs.
Gradients are taken in the same threads.
"""

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import Any

import torch
from torch import Tensor, nn


def in_threads(members: Sequence[nn.Module], images: Tensor, count: int) -> list[Tensor]:
    """The logits of members, which may share no parameter or buffer.

    Args:
        members: M networks that give logits (B, K).
        images: (B, C, H, W), which get no gradient.
        count: how many threads.

    Returns:
        M logits (B, K), whose gradients reach the members' parameters.
    """
    parameters = [[p for p in member.parameters() if p.requires_grad] for member in members]
    flat = [parameter for own in parameters for parameter in own]
    return list(_Members.apply(count, members, parameters, images, *flat))


def may_be_threaded(members: Sequence[nn.Module], images: Tensor) -> bool:
    """Whether each torch thread has as many members to do, on a CPU, and none draws random numbers.

    A rule, no measurement, since sums round otherwise with another number of torch threads: a run must be the same when
    it is repeated, with the threads that are on record. Draws would come in the order in which threads happen to run;
    with fewer members than threads, or some left over, cores would have nothing to do.

    Args:
        members: as they are trained; copies are tried.
        images: some of a batch, (B, C, H, W).
    """
    count = torch.get_num_threads()
    if count < 2 or len(members) % count or images.device.type != "cpu":
        return False
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        for member in members:
            copy.deepcopy(member)(images)
        return torch.equal(before, torch.get_rng_state())


class _Members(torch.autograd.Function):
    """Forward and backward of each member in a thread."""

    @staticmethod
    def forward(ctx: Any, count: int, members: Any, parameters: Any, images: Tensor, *_: Tensor) -> Any:
        def call(member: nn.Module) -> Tensor:
            with torch.enable_grad():
                return member(images)

        ctx.set_materialize_grads(False)
        ctx.count, ctx.parameters = count, parameters
        ctx.logits = _each(count, call, members)
        return tuple(logits.detach() for logits in ctx.logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        def take(logits: Tensor, parameters: Sequence[Tensor], gradient: Tensor | None) -> Any:
            if gradient is None or not parameters:  # of a member that no loss is of, or that is frozen
                return [None] * len(parameters)
            return torch.autograd.grad(logits, parameters, gradient, allow_unused=True)

        found = _each(ctx.count, take, ctx.logits, ctx.parameters, gradients)
        ctx.logits = None
        return (None, None, None, None, *(gradient for own in found for gradient in own))


def _each(count: int, function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """The function of each in the threads, under the caller's autocast, which is a thread's own."""
    enabled, kind = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def within(*own: Any) -> Any:
        with torch.autocast("cpu", enabled=enabled, dtype=kind):
            return function(*own)

    return list(_pool(count, os.getpid()).map(within, *arguments))


@lru_cache
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """The threads of a process: a forked one has none of its parent's."""
    before = torch.get_num_threads()
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes the global number when it first asks: setting it before that is lost
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    for _ in range(count):
        pool.submit(int)  # a thread begins with a task while the others wait
    ready.wait()
    torch.set_num_threads(before)  # else threads that come later would begin with one
    return pool
