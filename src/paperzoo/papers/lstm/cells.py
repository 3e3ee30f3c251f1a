"""Recurrent cells under one protocol: LSTM, peephole LSTM, coupled input and forget gate, GRU.

Hochreiter & Schmidhuber, 1997; Gers & Schmidhuber, 2000 (peepholes); Greff, Srivastava, Koutník, Steunebrink,
Schmidhuber: LSTM: A Search Space Odyssey, 2017, Sec. 3 (the variants); Cho et al., 2014 (GRU).

``gates`` and ``step`` say what a cell computes, one equation a line. ``forward`` computes the same over a sequence,
fast: LSTM and GRU by torch's kernel, the variants that torch lacks by ``recurrence.py``.

Symbols: x (B, I) the input, h (B, H) the output, c (B, H) the cell state, σ the sigmoid, n the number of gates that
are stacked in dimension 0 of the weights, in torch's order. Both biases are kept, as in torch, so that weights can be
exchanged.
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperzoo.papers.lstm.recurrence import recurrence

State = Any  # (h, c) of the LSTMs, h of the GRU


class Cell(nn.Module):
    """A recurrent layer: ``(x (T, B, I), state) -> (out (T, B, H), state)``.

    Args:
        input_size: I.
        hidden_size: H.

    Raises:
        ValueError: a size is below 1.
    """

    names: ClassVar[tuple[str, ...]]  # of the gates, in the order of the weights

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name}={size}: must be at least 1")
        self.input_size, self.hidden_size = input_size, hidden_size
        stacked = len(self.names) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(stacked, input_size))
        self.weight_hh = nn.Parameter(torch.empty(stacked, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(stacked))
        self.bias_hh = nn.Parameter(torch.empty(stacked))

    def reset_parameters(self) -> None:
        """U(-1/√H, 1/√H), as torch does."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"{self.input_size}, {self.hidden_size}"

    @abstractmethod
    def gates(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """The gates (B, H) at one step by name, and the new state: ``h``, and ``c`` of the LSTMs."""

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """Zeros, of the weights' dtype and device."""

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the equations: x (B, I) -> (h (B, H), state)."""

    @abstractmethod
    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps, fast: x (T, B, I) with T and B at least 1."""

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Of a sequence (T, B, I): all outputs (T, B, H) and the state that continues the sequence.

        Runs in the weights' dtype, under autocast too: a rounding of the state would add up over the steps.

        Raises:
            ValueError: x is not (T, B, I), or the state does not fit.
        """
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"x of shape {tuple(x.shape)}: must be (T, B, {self.input_size})")
        state = self.initial_state(x.shape[1]) if state is None else state
        for part in state if isinstance(state, tuple) else (state,):
            if part.shape != (x.shape[1], self.hidden_size):
                raise ValueError(
                    f"state of shape {tuple(part.shape)}: must be {(x.shape[1], self.hidden_size)}, (B, H)"
                )
        if not len(x) or not x.shape[1]:
            return x.new_zeros(*x.shape[:2], self.hidden_size), state
        with _no_autocast(x.device.type):
            return self.sequence(x.to(self.weight_ih.dtype), state)

    @torch.no_grad()
    def activations(self, x: Tensor, state: State = None) -> dict[str, Tensor]:
        """Every gate and state over a sequence (T, B, I), (T, B, H) each: what is drawn."""
        state = self.initial_state(x.shape[1]) if state is None else state
        steps: list[Mapping[str, Tensor]] = []
        for x_t in x:
            steps.append(self.gates(x_t, state))
            state = self.step(x_t, state)[1]
        return {name: torch.stack([step[name] for step in steps]) for name in steps[0]} if steps else {}

    def _linear(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """W [x, h] + b for each gate: n times (B, H)."""
        total = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        return total.chunk(len(self.names), dim=1)

    def _zeros(self, batch: int) -> Tensor:
        return self.weight_hh.new_zeros(batch, self.hidden_size)


def _no_autocast(device: str) -> AbstractContextManager[Any]:
    """Nothing where there is no autocast, as on ``meta``."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


class _LSTM(Cell):
    """What the LSTMs share: the state (h, c), and a step that ends in its gates."""

    def initial_state(self, batch: int) -> State:
        """(h, c)."""
        return self._zeros(batch), self._zeros(batch)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the equations."""
        at = self.gates(x, state)
        return at["h"], (at["h"], at["c"])


class LSTM(_LSTM):
    """The LSTM with forget gate and without peepholes, torch.nn.LSTM's."""

    names: ClassVar = ("i", "f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.reset_parameters()

    def gates(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Of one step."""
        h, c = state
        i, f, g, o = self._linear(x, h)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * c.tanh()}

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps, by torch's kernel."""
        weights: list[Tensor] = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        state = tuple(part.to(x.dtype)[None] for part in state)
        out, h, c = torch.lstm(x, state, weights, True, 1, 0.0, self.training, False, False)
        return out, (h[0], c[0])


class PeepholeLSTM(_LSTM):
    """Gates that see the cell state: input and forget gate the old one, the output gate the new one (Sec. 2).

    Peepholes are diagonal: H weights each, 3H in all.
    """

    names: ClassVar = ("i", "f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ci = nn.Parameter(torch.empty(hidden_size))
        self.weight_cf = nn.Parameter(torch.empty(hidden_size))
        self.weight_co = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def gates(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Of one step."""
        h, c = state
        i, f, g, o = self._linear(x, h)
        i = (i + self.weight_ci * c).sigmoid()
        f = (f + self.weight_cf * c).sigmoid()
        g = g.tanh()
        c = f * c + i * g
        o = (o + self.weight_co * c).sigmoid()
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * c.tanh()}

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps."""
        peepholes = (self.weight_ci, self.weight_cf, self.weight_co)
        return recurrence(x, state, self.weight_ih, self.weight_hh, self.bias_ih + self.bias_hh, peepholes)


class CoupledLSTM(_LSTM):
    """Coupled input and forget gate (CIFG): what is forgotten makes room for what is new, i = 1 - f.

    Args:
        input_size, hidden_size: I, H.
        peephole: let the forget gate see the old cell state and the output gate the new one, 2H weights.
    """

    names: ClassVar = ("f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int, peephole: bool = False) -> None:
        super().__init__(input_size, hidden_size)
        self.peephole = peephole
        if peephole:
            self.weight_cf = nn.Parameter(torch.empty(hidden_size))
            self.weight_co = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def gates(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Of one step."""
        h, c = state
        f, g, o = self._linear(x, h)
        f = (f + self.weight_cf * c if self.peephole else f).sigmoid()
        g = g.tanh()
        c = f * c + (1 - f) * g
        o = (o + self.weight_co * c if self.peephole else o).sigmoid()
        return {"i": 1 - f, "f": f, "g": g, "o": o, "c": c, "h": o * c.tanh()}

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps."""
        peepholes = (None, self.weight_cf, self.weight_co) if self.peephole else (None, None, None)
        return recurrence(x, state, self.weight_ih, self.weight_hh, self.bias_ih + self.bias_hh, peepholes)


class GRU(Cell):
    """The gated recurrent unit as torch.nn.GRU: the reset gate acts after the matrix product with h.

    Cho et al. (2014) reset before it, ``U (r * h)``, and their z keeps the new value where torch's keeps the old.
    """

    names: ClassVar = ("r", "z", "n")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.reset_parameters()

    def initial_state(self, batch: int) -> State:
        """Only h."""
        return self._zeros(batch)

    def gates(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Of one step."""
        h = state
        r_x, z_x, n_x = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, dim=1)
        r_h, z_h, n_h = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, dim=1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        n = (n_x + r * n_h).tanh()
        return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * h}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the equations."""
        h = self.gates(x, state)["h"]
        return h, h

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps, by torch's kernel."""
        weights: list[Tensor] = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        out, h = torch.gru(x, state.to(x.dtype)[None], weights, True, 1, 0.0, self.training, False, False)
        return out, h[0]
