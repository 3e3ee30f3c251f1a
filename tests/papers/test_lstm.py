"""Cells against torch.nn, a scalar loop, and their own equations; gradients by finite differences."""

import math

import pytest
import timm
import torch

from paperzoo.papers.lstm import GRU, LSTM, CoupledLSTM, PeepholeLSTM

VARIANTS = {
    "lstm": LSTM,
    "peephole": PeepholeLSTM,
    "coupled": CoupledLSTM,
    "coupled_peephole": lambda i, h: CoupledLSTM(i, h, peephole=True),
    "gru": GRU,
}
OURS = ["peephole", "coupled", "coupled_peephole"]
T, B, I, H = 6, 3, 4, 5  # noqa: E741 - as in the docstrings


def make(variant, dtype=torch.float64):
    torch.manual_seed(1)
    cell = VARIANTS[variant](I, H).to(dtype)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return cell


def drawn(variant, dtype=torch.float64):
    """An input and a state that is not zero."""
    torch.manual_seed(2)
    h, c = torch.randn(2, B, H, dtype=dtype)
    return torch.randn(T, B, I, dtype=dtype), h if variant == "gru" else (h, c)


def flat(state):
    return list(state) if isinstance(state, tuple) else [state]


def by_steps(cell, x, state):
    outs = []
    for x_t in x:
        out, state = cell.step(x_t, state)
        outs.append(out)
    return torch.stack(outs), state


def results(function, x, state, parameters):
    """Outputs, last state, and gradients of a loss of all of them by all that goes in."""
    x = x.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in flat(state))
    out, last = function(x, state if len(state) > 1 else state[0])
    torch.manual_seed(3)
    loss = sum((torch.randn_like(value) * value).sum() for value in [out, *flat(last)])
    return [out, *flat(last), *torch.autograd.grad(loss, [x, *state, *parameters])]


@pytest.mark.parametrize(("ours", "theirs"), [(LSTM, torch.nn.LSTM), (GRU, torch.nn.GRU)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_variants_are_torchs(ours, theirs, dtype):
    cell, reference = ours(I, H).to(dtype), theirs(I, H).to(dtype)
    state = {f"{name}_l0": value for name, value in cell.state_dict().items()}
    reference.load_state_dict(state)
    x, start = drawn("gru" if ours is GRU else "lstm", dtype)

    def call(x, state):
        out, last = reference(x, tuple(p[None] for p in state) if isinstance(state, tuple) else state[None])
        return out, tuple(p[0] for p in last) if isinstance(last, tuple) else last[0]

    expected = results(call, x, start, list(reference.parameters()))
    for function in (cell, lambda x, s: by_steps(cell, x, s)):
        found = results(function, x, start, list(cell.parameters()))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_sequence_is_its_steps_with_all_gradients(variant):
    cell = make(variant)
    x, state = drawn(variant)
    parameters = list(cell.parameters())
    found = results(cell, x, state, parameters)
    expected = results(lambda x, s: by_steps(cell, x, s), x, state, parameters)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def scalar_loop(cell, variant, x, h, c):
    """One number at a time, from the equations of the papers."""
    weights = {name: value.tolist() for name, value in cell.named_parameters()}
    coupled = variant.startswith("coupled")
    names = ["f", "g", "o"] if coupled else ["i", "f", "g", "o"]
    peep = {name: weights.get(f"weight_c{name}", [0.0] * H) for name in "ifo"}
    outs = []
    for t in range(T):
        new_h, new_c = [[0.0] * H for _ in range(B)], [[0.0] * H for _ in range(B)]
        for b in range(B):
            for j in range(H):
                total = {}
                for place, name in enumerate(names):
                    row = place * H + j
                    total[name] = weights["bias_ih"][row] + weights["bias_hh"][row]
                    total[name] += sum(w * v for w, v in zip(weights["weight_ih"][row], x[t][b], strict=True))
                    total[name] += sum(w * v for w, v in zip(weights["weight_hh"][row], h[b], strict=True))
                f = sigmoid(total["f"] + peep["f"][j] * c[b][j])
                i = 1 - f if coupled else sigmoid(total["i"] + peep["i"][j] * c[b][j])
                new_c[b][j] = f * c[b][j] + i * math.tanh(total["g"])
                o = sigmoid(total["o"] + peep["o"][j] * new_c[b][j])
                new_h[b][j] = o * math.tanh(new_c[b][j])
        h, c = new_h, new_c
        outs.append(h)
    return outs, h, c


@pytest.mark.parametrize("variant", ["lstm", *OURS])
def test_lstms_against_a_scalar_loop(variant):
    cell = make(variant)
    x, (h, c) = drawn(variant)
    expected = scalar_loop(cell, variant, x.tolist(), h.tolist(), c.tolist())
    out, state = cell(x, (h, c))
    for found, wanted in zip([out, *state], expected, strict=True):
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_slopes(variant):
    cell = make(variant)
    x, state = drawn(variant)
    inputs = [x, *flat(state), *(p.detach() for p in cell.parameters())]
    names = [name for name, _ in cell.named_parameters()]

    def function(x, *rest):
        n = len(flat(state))
        start = rest[:n] if n > 1 else rest[0]
        out, last = torch.func.functional_call(cell, dict(zip(names, rest[n:], strict=True)), (x, start))
        return (out, *flat(last))

    assert torch.autograd.gradcheck(function, [value.clone().requires_grad_() for value in inputs])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_continues_a_sequence_and_none_is_zeros(variant):
    cell = make(variant)
    x, _ = drawn(variant)
    whole, last = cell(x)
    first, state = cell(x[:2])
    second, state = cell(x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(flat(state), flat(last))
    zeros = cell.initial_state(B)
    assert not any(part.any() for part in flat(zeros))
    torch.testing.assert_close(cell(x, zeros)[0], whole)


PARAMETERS = {"lstm": 4, "peephole": 4, "coupled": 3, "coupled_peephole": 3, "gru": 3}
PEEPHOLES = {"peephole": ["weight_ci", "weight_cf", "weight_co"], "coupled_peephole": ["weight_cf", "weight_co"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_by_name_and_number(variant):
    n, shapes = PARAMETERS[variant], {k: tuple(v.shape) for k, v in VARIANTS[variant](I, H).named_parameters()}
    expected = {"weight_ih": (n * H, I), "weight_hh": (n * H, H), "bias_ih": (n * H,), "bias_hh": (n * H,)}
    assert shapes == expected | dict.fromkeys(PEEPHOLES.get(variant, []), (H,))
    bound = H**-0.5
    assert all(bool((p.abs() <= bound).all()) and p.std() > 0 for p in VARIANTS[variant](I, H).parameters())


@pytest.mark.parametrize("variant", OURS)
def test_only_what_needs_a_gradient_gets_one_and_none_is_kept_in_place(variant):
    cell = make(variant)
    x, state = drawn(variant)
    before = [value.clone() for value in [x, *state, *cell.parameters()]]
    out, _ = cell(x, state)
    out.sum().backward()  # the last state is left out
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, [x, *state, *cell.parameters()], strict=True))
    cell.zero_grad()
    cell(x, state)[1][1].sum().backward()  # of the cell state alone
    assert cell.weight_hh.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.equal(cell(x, state)[0], out)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (1, 1)])
def test_no_steps_no_samples_and_one(variant, shape):
    cell = make(variant)
    x = torch.randn(*shape, I, dtype=torch.float64)
    out, state = cell(x)
    assert out.shape == (*shape, H)
    assert all(part.shape == (shape[1], H) for part in flat(state))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_dtype_and_large_inputs_are_finite(variant, dtype):
    cell = make(variant).to(dtype)
    x, state = drawn(variant, dtype)
    for scale in (1, 1e4):
        y = (scale * x).requires_grad_()
        out, last = cell(y, state)
        assert out.dtype == flat(last)[0].dtype == dtype
        out.float().sum().backward()
        assert out.isfinite().all()
        assert y.grad.isfinite().all()
    if dtype != torch.float16:  # close to float64, as far as the format goes
        exact = make(variant)(x.double(), tuple(s.double() for s in state) if variant != "gru" else state.double())[0]
        torch.testing.assert_close(
            cell(x, state)[0].double(), exact, rtol=0, atol=0.06 if dtype == torch.bfloat16 else 1e-5
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_runs_in_the_weights_dtype(variant):
    cell = make(variant, torch.float32)
    x, state = drawn(variant, torch.float32)
    expected = cell(x, state)[0]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(cell(x, state)[0], expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_activations_are_those_of_the_steps(variant):
    cell = make(variant)
    x, state = drawn(variant)
    shown = cell.activations(x, state)
    torch.testing.assert_close(shown["h"], cell(x, state)[0].detach())
    assert all(value.shape == (T, B, H) for value in shown.values())
    if variant != "gru":
        before = torch.cat([state[1][None], shown["c"][:-1]])
        torch.testing.assert_close(shown["f"] * before + shown["i"] * shown["g"], shown["c"])
    if variant.startswith("coupled"):
        torch.testing.assert_close(shown["i"], 1 - shown["f"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("cell", "gru"), ("hidden", 12), ("layers", 2), ("embedding", 5), ("forget_bias", 1.0), ("drop_rate", 0.5)],
)
def test_options_reach_the_network(option, value):
    characters = torch.randint(9, (2, 7), generator=torch.Generator().manual_seed(0))
    logits = []
    for options in ({}, {option: value}):
        torch.manual_seed(0)
        network = timm.create_model("lstm_char", num_classes=9, **{"hidden": 8, "embedding": 4} | options)
        logits.append(network(characters)[0])
        assert logits[-1].shape == (2, 7, 9)
    assert not torch.allclose(*logits)


def test_the_forget_bias_is_added_to_the_forget_gates_alone():
    for cell, place in (("peephole", 1), ("coupled", 0)):
        torch.manual_seed(0)
        plain = timm.create_model("lstm_char", num_classes=9, cell=cell, hidden=6)
        torch.manual_seed(0)
        biased = timm.create_model("lstm_char", num_classes=9, cell=cell, hidden=6, forget_bias=2.0)
        difference = biased.cells[0].bias_ih - plain.cells[0].bias_ih
        expected = torch.zeros_like(difference)
        expected[place * 6 : place * 6 + 6] = 2
        torch.testing.assert_close(difference, expected)


def test_the_network_carries_the_state_of_every_layer():
    torch.manual_seed(0)
    network = timm.create_model("lstm_char", num_classes=9, cell="peephole", layers=3, hidden=6).double()
    characters = torch.randint(9, (2, 8))
    whole, last = network(characters)
    first, state = network(characters[:, :3])
    second, state = network(characters[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, last)
    shown = network.activations(characters[:1])
    torch.testing.assert_close(network.head(shown["h"]), whole[0])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="hidden_size=0"):
        LSTM(3, 0)
    cell = PeepholeLSTM(I, H)
    with pytest.raises(ValueError, match=r"x of shape \(2, 4\)"):
        cell(torch.zeros(2, I))
    with pytest.raises(ValueError, match=r"state of shape \(2, 5\)"):
        cell(torch.zeros(T, B, I), (torch.zeros(2, H), torch.zeros(2, H)))
