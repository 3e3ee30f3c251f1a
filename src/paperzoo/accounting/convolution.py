"""The arithmetic of convolutions: sizes, parameters, multiply-adds, memory accesses.

Sources: Howard et al., MobileNets, 2017, Sec. 3.1 (separable); Ma et al., ShuffleNet V2, 2018, Sec. 2 (accesses).
"""

from math import prod, sqrt

from paperzoo.errors import UserError

Size = int | tuple[int, ...]  # of a kernel or a map, along its dimensions; a number stands for both of two


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Pixels that a convolution or pooling puts out along one dimension: floor((W + 2P - D(K - 1) - 1) / S) + 1.

    Args:
        size: W, pixels of its input.
        kernel, stride, padding, dilation: K, S, P, D.

    Raises:
        UserError: a number cannot be, or the kernel does not fit.
    """
    _demand_numbers(size=size, kernel=kernel, stride=stride, dilation=dilation)
    span, room = dilation * (kernel - 1) + 1, size + 2 * padding
    if padding < 0 or span > room:
        raise UserError(
            f"a kernel of {span} pixels (K={kernel}, D={dilation}) does not fit {room} (W={size}, P={padding})"
        )
    return (room - span) // stride + 1


def transposed_output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, output_padding: int = 0
) -> int:
    """Pixels that a transposed convolution puts out: (W - 1)S - 2P + D(K - 1) + output_padding + 1.

    Raises:
        UserError: a number cannot be, or nothing is left.
    """
    _demand_numbers(size=size, kernel=kernel, stride=stride, dilation=dilation)
    if padding < 0 or not 0 <= output_padding < max(stride, dilation):
        raise UserError(
            f"padding={padding}, output_padding={output_padding}: the one is at least 0, the other from 0 to below"
            f" stride or dilation ({max(stride, dilation)})"
        )
    found = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if found < 1:
        raise UserError(f"padding={padding}: cuts all of the output away (W={size}, K={kernel}, S={stride})")
    return found


def parameters(kernel: Size, in_chans: int, out_chans: int, groups: int = 1, bias: bool = False) -> int:
    """K * K * (C_in / groups) * C_out, and C_out of the bias; groups = C_in is depthwise.

    Raises:
        UserError: the groups do not divide the channels.
    """
    _demand_groups(in_chans, out_chans, groups)
    return _area(kernel) * (in_chans // groups) * out_chans + bias * out_chans


def macs(kernel: Size, in_chans: int, out_chans: int, map_size: Size, groups: int = 1) -> int:
    """Multiply-adds of one image: the weights' number times the pixels that are put out.

    For a transposed convolution ``map_size`` is its input's.
    """
    return parameters(kernel, in_chans, out_chans, groups) * _area(map_size)


def separable_parameters(kernel: Size, in_chans: int, out_chans: int) -> int:
    """Depthwise, then pointwise: D_K * D_K * M + M * N."""
    return parameters(kernel, in_chans, in_chans, groups=in_chans) + parameters(1, in_chans, out_chans)


def separable_macs(kernel: Size, in_chans: int, out_chans: int, map_size: Size) -> int:
    """D_K * D_K * M * D_F * D_F + M * N * D_F * D_F."""
    return separable_parameters(kernel, in_chans, out_chans) * _area(map_size)


def separable_ratio(kernel: Size, out_chans: int) -> float:
    """Cost of the separable to that of the standard convolution: 1 / N + 1 / D_K^2."""
    return 1 / out_chans + 1 / _area(kernel)


def accesses(
    in_chans: int, out_chans: int, map_size: Size, groups: int = 1, kernel: Size = 1, input_map: Size | None = None
) -> int:
    """Memory access cost of one image: hw(c_1 + c_2) + c_1 c_2 / g of a pointwise convolution (Sec. 2, G1 and G2).

    Args:
        in_chans, out_chans, groups: c_1, c_2, g.
        map_size: h and w of the output.
        kernel: another than 1x1 has that many more weights.
        input_map: h and w of the input; None is the output's.
    """
    read = in_chans * _area(map_size if input_map is None else input_map)
    return read + out_chans * _area(map_size) + parameters(kernel, in_chans, out_chans, groups)


def least_accesses(multiply_adds: int, map_size: Size) -> float:
    """The least for a pointwise convolution of B multiply-adds: 2 sqrt(hw B) + B / hw, where c_1 = c_2 (G1)."""
    pixels = _area(map_size)
    return 2 * sqrt(pixels * multiply_adds) + multiply_adds / pixels


def _area(size: Size) -> int:
    return size * size if isinstance(size, int) else prod(size)


def _demand_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name}={number}: must be at least 1")


def _demand_groups(in_chans: int, out_chans: int, groups: int) -> None:
    _demand_numbers(in_chans=in_chans, out_chans=out_chans, groups=groups)
    if in_chans % groups or out_chans % groups:
        raise UserError(f"groups={groups}: must divide the channels, {in_chans} in and {out_chans} out")
