"""The formulas of convolutions against torch's convolutions, its counter, and by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from paperzoo.accounting import convolution, count
from paperzoo.errors import UserError

numbers = st.integers(1, 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), numbers, numbers, st.integers(0, 3), numbers)
def test_output_size_is_torchs(size, kernel, stride, padding, dilation):
    conv = nn.Conv1d(1, 1, kernel, stride, padding, dilation, device="meta")
    if dilation * (kernel - 1) + 1 > size + 2 * padding:
        with pytest.raises(UserError, match="does not fit"):
            convolution.output_size(size, kernel, stride, padding, dilation)
    else:
        out = conv(torch.empty(1, 1, size, device="meta"))
        assert convolution.output_size(size, kernel, stride, padding, dilation) == out.shape[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), numbers, numbers, st.integers(0, 3), numbers, st.integers(0, 3))
def test_transposed_output_size_is_torchs(size, kernel, stride, padding, dilation, extra):
    conv = nn.ConvTranspose1d(1, 1, kernel, stride, padding, extra, dilation=dilation)
    try:
        expected = conv(torch.zeros(1, 1, size)).shape[2]
    except RuntimeError:
        with pytest.raises(UserError):
            convolution.transposed_output_size(size, kernel, stride, padding, dilation, extra)
    else:
        assert convolution.transposed_output_size(size, kernel, stride, padding, dilation, extra) == expected


def test_sizes_by_hand():
    assert convolution.output_size(224, 7, 2, 3) == 112
    assert convolution.output_size(32, 3, 1, 2, dilation=2) == 32
    assert convolution.transposed_output_size(14, 2, 2) == 28
    assert convolution.transposed_output_size(4, 3, 2, 1, output_padding=1) == 8


@settings(max_examples=40, deadline=None)
@given(numbers, numbers, numbers, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_parameters_macs_and_accesses_are_those_of_the_layer(groups, wide, out, high, across, bias):
    conv = nn.Conv2d(groups * wide, groups * out, (high, across), 2, 1, groups=groups, bias=bias)
    counted = count(conv, (groups * wide, 9, 7))
    sizes = tuple(convolution.output_size(size, kernel, 2, 1) for size, kernel in ((9, high), (7, across)))
    plan = ((high, across), groups * wide, groups * out)
    assert convolution.parameters(*plan, groups, bias) == counted.parameters
    assert convolution.macs(*plan, sizes, groups) == counted.macs
    with FlopCounterMode(display=False) as flops:
        conv(torch.zeros(1, groups * wide, 9, 7))
    assert 2 * convolution.macs(*plan, sizes, groups) == flops.get_total_flops()
    accesses = convolution.accesses(groups * wide, groups * out, sizes, groups, (high, across), (9, 7))
    assert accesses == counted.accesses - bias * groups * out


def test_papers_formulas_by_hand():
    """MobileNets: D_K 3, M 32, N 64, D_F 112; the ratio 1 / 64 + 1 / 9. ShuffleNet V2: hw(c1 + c2) + c1 c2 / g."""
    assert convolution.macs(3, 32, 64, 112) == 9 * 32 * 64 * 112**2
    assert convolution.separable_macs(3, 32, 64, 112) == 9 * 32 * 112**2 + 32 * 64 * 112**2
    assert convolution.separable_parameters(3, 32, 64) == 288 + 2048
    ratio = convolution.separable_macs(3, 32, 64, 112) / convolution.macs(3, 32, 64, 112)
    assert convolution.separable_ratio(3, 64) == pytest.approx(ratio) == pytest.approx(1 / 64 + 1 / 9)
    assert convolution.accesses(24, 48, 56, 3) == 56**2 * 72 + 24 * 48 // 3
    separable = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.Conv2d(32, 64, 1, bias=False))
    counted = count(separable, (32, 12, 12))
    assert (counted.parameters, counted.macs) == (2336, convolution.separable_macs(3, 32, 64, 12))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 60))
def test_equal_widths_access_least(one, other, side):
    """G1: the bound holds for all widths, with equality where they are equal."""
    bound = convolution.least_accesses(convolution.macs(1, one, other, side), side)
    found = convolution.accesses(one, other, side)
    assert found >= bound * (1 - 1e-12)
    assert (found == pytest.approx(bound, rel=1e-9)) == (one == other)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: convolution.output_size(2, 3), "a kernel of 3 pixels .* does not fit 2"),
        (lambda: convolution.output_size(2, 3, stride=0, padding=1), "stride=0: must be at least 1"),
        (lambda: convolution.output_size(5, 3, padding=-1), "P=-1"),
        (lambda: convolution.transposed_output_size(1, 1, padding=1), "padding=1: cuts all"),
        (lambda: convolution.transposed_output_size(4, 3, output_padding=1), "output_padding=1"),
        (lambda: convolution.parameters(3, 10, 9, groups=3), "groups=3: must divide the channels, 10 in and 9 out"),
        (lambda: convolution.macs(3, 0, 9, 4), "in_chans=0"),
    ],
)
def test_what_cannot_be_is_one_line(call, says):
    with pytest.raises(UserError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
