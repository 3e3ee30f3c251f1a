"""LSTM variants over a whole sequence, forward and backward written out.

Autograd would record some twenty operations a step, and their bookkeeping costs more than the arithmetic. Here the
products with the input are one matrix product over all steps, and so are those of the weights' gradients; all that
does not depend on the next step's gradient is computed for all steps at once. What is left in the loops is one matrix
product and few element-wise operations a step, into memory that is there already.

Shapes: x (T, B, I), h and c (B, H), gates (T, B, nH) with n = 4 (i, f, g, o) or n = 3 (f, g, o with i = 1 - f).
"""

from typing import Any

import torch
from torch import Tensor

# Slopes from outputs in one pass, where autograd's formulas take three: grad y (1 - y), grad (1 - y²).
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input

Peepholes = tuple[Tensor | None, Tensor | None, Tensor | None]  # (H,) to i, f and o


def recurrence(
    x: Tensor, state: tuple[Tensor, Tensor], weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, peepholes: Peepholes
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Outputs (T, B, H) and the last state of an LSTM with peepholes or with coupled gates.

    Args:
        x: (T, B, I), T and B at least 1.
        state: (h, c).
        weight_ih: (nH, I).
        weight_hh: (nH, H).
        bias: (nH,).
        peepholes: to the input gate, the forget gate and the output gate, where there are any.
    """
    h, c = (part.to(x.dtype) for part in state)
    out, c = _Recurrence.apply(x, h, c, weight_ih, weight_hh, bias, *peepholes)
    return out, (out[-1], c)


class _Recurrence(torch.autograd.Function):
    """Back-propagation through time by hand; differentiable once."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        to_i: Tensor | None,
        to_f: Tensor | None,
        to_o: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        steps, batch, _ = x.shape
        size = h.shape[1]
        gates = torch.addmm(bias, x.flatten(0, 1), weight_ih.t()).view(steps, batch, -1)  # before h is known
        coupled = gates.shape[2] == 3 * size
        hs, cs = (x.new_empty(steps + 1, batch, size) for _ in range(2))  # before the first step and after each
        hs[0], cs[0] = h, c
        squashed = x.new_empty(steps, batch, size)  # tanh(c)
        i_s, f_s, g_s, o_s = _by_step(_parts(gates, size))
        # In one operation: the gates that see the old cell state, and all sigmoids that may be taken at once.
        seeing, to_seeing = _seeing(gates, size, to_i, to_f)  # (B, 1 or 2, H) each step, (1 or 2, H)
        sigmoids = seeing if to_o is not None else _but_g(gates, size)
        weight = weight_hh.t()
        h_s, c_s, wide_c = hs.unbind(), cs.unbind(), cs[:, :, None].unbind()  # wide: (B, 1, H)
        for t, (gate, sigmoid, f, g, o, tanh) in enumerate(
            zip(gates.unbind(), sigmoids, f_s, g_s, o_s, squashed.unbind(), strict=True)
        ):
            previous_c, cell = c_s[t], c_s[t + 1]
            torch.addmm(gate, h_s[t], weight, out=gate)
            if to_seeing is not None:
                seeing[t].addcmul_(wide_c[t], to_seeing)
            sigmoid.sigmoid_()
            g.tanh_()
            if coupled:
                torch.lerp(g, previous_c, f, out=cell)  # f c + (1 - f) g
            else:
                torch.mul(f, previous_c, out=cell).addcmul_(i_s[t], g)
            if to_o is not None:
                o.addcmul_(cell, to_o).sigmoid_()
            torch.mul(o, torch.tanh(cell, out=tanh), out=h_s[t + 1])
        ctx.save_for_backward(x, weight_ih, weight_hh, to_i, to_f, to_o, gates, hs, cs, squashed)
        return hs[1:], cs[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outs: Tensor, d_c: Tensor) -> Any:
        x, weight_ih, weight_hh, to_i, to_f, to_o, gates, hs, cs, squashed = ctx.saved_tensors
        size = hs.shape[2]
        before = cs[:-1]  # the old cell states
        # The slope of each gate's sum: first per dc (of o: per dh) of its step, in the loop times that.
        slopes = torch.empty_like(gates)
        i, f, g, o = _parts(gates, size)
        s_i, s_f, s_g, s_o = _parts(slopes, size)
        if s_i is None:
            _sigmoid_backward(before - g, f, grad_input=s_f)
            _tanh_backward(1 - f, g, grad_input=s_g)
        else:
            _sigmoid_backward(g, i, grad_input=s_i)
            _sigmoid_backward(before, f, grad_input=s_f)
            _tanh_backward(i, g, grad_input=s_g)
        _sigmoid_backward(squashed, o, grad_input=s_o)
        to_c = _tanh_backward(o, squashed, grad_input=torch.empty_like(squashed))  # dh -> dc
        to_before = f.clone()  # dc -> dc of the step before
        for target, slope, weight in ((to_c, s_o, to_o), (to_before, s_f, to_f), (to_before, s_i, to_i)):
            if weight is not None:
                target.addcmul_(slope, weight)
        d_h, d_c = d_outs[-1], d_c.clone()
        wide_d_c = d_c[:, None]  # (B, 1, H), the same memory
        by_c = slopes[..., :-size].unflatten(2, (-1, size))  # (T, B, n - 1, H): what dc reaches, all but o
        d_out_before = [None, *d_outs[:-1].unbind()]
        steps = list(zip(*(part.unbind() for part in (slopes, s_o, by_c, to_c, to_before)), d_out_before, strict=True))
        for slope, slope_o, slope_c, h_to_c, c_to_c, d_out in reversed(steps):
            slope_o.mul_(d_h)
            d_c.addcmul_(d_h, h_to_c)
            slope_c.mul_(wide_d_c)
            d_c.mul_(c_to_c)
            d_h = slope @ weight_hh if d_out is None else torch.addmm(d_out, slope, weight_hh)
        flat = slopes.flatten(0, 1)  # (TB, nH): the gradients of the gates' sums
        return (
            (flat @ weight_ih).view_as(x) if ctx.needs_input_grad[0] else None,
            d_h,
            d_c,
            flat.t() @ x.flatten(0, 1),
            flat.t() @ hs[:-1].flatten(0, 1),
            flat.sum(0),
            None if to_i is None else (s_i * before).sum((0, 1)),
            None if to_f is None else (s_f * before).sum((0, 1)),
            None if to_o is None else (s_o * cs[1:]).sum((0, 1)),
        )


def _parts(stacked: Tensor, size: int) -> Any:
    """Views (..., H) of i, f, g, o in (..., nH); i is None where it is coupled."""
    parts = stacked.split(size, dim=-1)
    return (None, *parts) if len(parts) == 3 else parts


def _by_step(parts: Any) -> Any:
    return tuple(None if part is None else part.unbind() for part in parts)


def _seeing(
    gates: Tensor, size: int, to_i: Tensor | None, to_f: Tensor | None
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The gates before g at each step, (B, 1 or 2, H), and their peepholes (1 or 2, H)."""
    peepholes = [weight for weight in (to_i, to_f) if weight is not None]
    seeing = gates[..., : gates.shape[2] - 2 * size].unflatten(2, (-1, size)).unbind()
    return seeing, torch.stack(peepholes) if peepholes else None


def _but_g(gates: Tensor, size: int) -> tuple[Tensor, ...]:
    """Views of f and o in f, g, o at each step, (B, 2, H)."""
    return gates.unflatten(2, (-1, size))[:, :, ::2].unbind()
