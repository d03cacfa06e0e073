"""A product of learned spectra, which is a circular convolution of signals."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lcm_graph.monoids.base import Monoid, check_positive
from lcm_graph.monoids.mean import count_dtype, divide
from lcm_graph.monoids.segment import align, segment_sum, times_weight

SMALLEST = 1e-6
"""A coefficient below this magnitude counts as this number, with a gradient of 0."""


class SpectrumState(NamedTuple):
    """A product of spectra: logarithm of its magnitude, angle, and number of factors."""

    log: Tensor  # [n, size // 2 + 1], float32 or wider
    turns: Tensor  # [n, size // 2 + 1]: the angle in turns, in [-1/2, 1/2]
    size: Tensor  # [n, 1]


class FourierProduct(Monoid):
    r"""Elements become signals, the signals of a set are convolved, and the result is read out.

    ``lift`` maps an element to a signal of ``size`` samples and takes its Fourier transform z;
    combining multiplies spectra, kept as Σ log \|z\|, Σ arg z and the number of factors n; and
    ``lower`` transforms back the product, with the geometric mean :math:`\exp(Σ \log|z| / n)` for
    its magnitude, and maps that linearly to ``channels`` features. An empty set answers 0.

    The idea is that of SSMA (Taraday, David & Baskin, NeurIPS 2024, "Sequential signal mixing
    aggregation for message passing graph neural networks"), with these differences. A signal has
    one dimension and any size; SSMA's has two, and a size that follows from the largest number of
    neighbours, so that convolving that many polynomials does not wrap around. The affine map to
    signals is learned from a random start; SSMA's is fixed unless asked for. All elements take
    part; SSMA may first mix them into that number by attention. One linear map reads the result
    out, where SSMA may factorise it. SSMA's code takes the geometric mean, too (without it products
    grow or vanish exponentially), but adds 1e-6 to all magnitudes; here those below 1e-6 count as
    1e-6.

    Angles are kept in turns, so that dropping whole turns is exact and 100,000 elements can be
    combined; the closed form adds them in float64. States are float32 or wider, and spectra are
    computed in their precision, whatever the elements'; an output has the parameters' dtype.

    Args:
        channels: features of an element and of an output.
        size: samples of a signal (default: ``2 * channels``).

    Raises:
        ValueError: an argument is not a positive integer.
    """

    invertible = True

    def __init__(self, channels: int, size: int | None = None) -> None:
        super().__init__(check_positive("channels", channels))
        self.size = 2 * channels if size is None else check_positive("size", size)
        self.signal = nn.Linear(channels, self.size)
        self.out = nn.Linear(self.size, channels)

    def reset_parameters(self) -> None:
        self.signal.reset_parameters()
        self.out.reset_parameters()

    def lift(self, x: Tensor) -> SpectrumState:
        self._check_elements(x)
        dtype = count_dtype(x.dtype)
        weight, bias = self.signal.weight.to(dtype), self.signal.bias.to(dtype)
        with torch.autocast(x.device.type, enabled=False):  # errors of angles add up
            real, imaginary = _transform(linear(x.to(dtype), weight, bias))
        power = real.square() + imaginary.square()
        small = power < SMALLEST**2
        log = torch.where(small, math.log(SMALLEST), torch.where(small, 1, power).log() / 2)
        angle = torch.atan2(torch.where(small, 0, imaginary), torch.where(small, 1, real))
        return SpectrumState(log, _wrap(angle / (2 * math.pi)), log.new_ones(len(log), 1))

    def combine(self, left: SpectrumState, right: SpectrumState) -> SpectrumState:
        return SpectrumState(
            left.log + right.log, _wrap(left.turns + right.turns), left.size + right.size
        )

    def identity(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> SpectrumState:
        dtype = count_dtype(self.out.weight.dtype if dtype is None else dtype)
        device = self.out.weight.device if device is None else device
        zeros = torch.zeros(n, self.size // 2 + 1, dtype=dtype, device=device)
        return SpectrumState(zeros, zeros, zeros.new_zeros(n, 1))

    def lower(self, state: SpectrumState) -> Tensor:
        magnitude = divide(state.log, state.size).exp()
        angle = state.turns * (2 * math.pi)
        signal = _transform_back(magnitude * angle.cos(), magnitude * angle.sin(), self.size)
        out = self.out(signal.to(self.out.weight.dtype))
        return torch.where(state.size == 0, 0, out)

    def segment(self, state: SpectrumState, index: Tensor, dim_size: int) -> SpectrumState:
        turns = _wrap(segment_sum(state.turns.double(), index, dim_size))
        return SpectrumState(
            segment_sum(state.log, index, dim_size),
            turns.to(state.turns.dtype),
            segment_sum(state.size, index, dim_size),
        )

    def inverse(self, state: SpectrumState) -> SpectrumState:
        return SpectrumState(-state.log, -state.turns, -state.size)

    def weigh(self, state: SpectrumState, weight: Tensor) -> SpectrumState:
        return SpectrumState(
            times_weight(state.log, weight),
            times_weight(state.turns, weight),
            state.size * align(weight, state.size),
        )

    def __repr__(self) -> str:
        return f"FourierProduct({self.channels}, size={self.size})"


def _transform(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts of the spectra of ``signal [n, size]``."""
    if len(signal) == 0:  # MKL does not transform nothing
        nothing = signal.narrow(1, 0, signal.size(1) // 2 + 1)
        return nothing, nothing
    spectrum = torch.fft.rfft(signal)
    return spectrum.real, spectrum.imag


def _transform_back(real: Tensor, imaginary: Tensor, size: int) -> Tensor:
    """The signals ``[n, size]`` of these spectra."""
    if len(real) == 0:
        return real.narrow(1, 0, 1).expand(0, size)
    return torch.fft.irfft(torch.complex(real, imaginary), n=size)


def _wrap(turns: Tensor) -> Tensor:
    """The same angle in [-1/2, 1/2]; exact, and with a gradient of 1."""
    return turns - turns.round()
