"""Rotary position embeddings, and how to take them back."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_graph.monoids.mean import count_dtype


class Rope:
    """Turn pairs of features by angles that grow with the position.

    Feature i goes with feature i + d/2, as in Llama. A turn by negative positions takes one back.

    Args:
        features: d, even.
        base: wavelengths go from 2π to 2π ``base``.
        frequencies: angles per position, ``[d / 2]``, instead of those of ``base``: of models that
            scale them.

    Raises:
        ValueError: ``features`` is odd, ``base`` not positive, or there is another number of
            frequencies.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).
    """

    def __init__(
        self, features: int, base: float = 10_000.0, *, frequencies: Tensor | None = None
    ) -> None:
        if features < 2 or features % 2:
            raise ValueError(f"'features' must be even and positive (got {features})")
        if not base > 0:
            raise ValueError(f"'base' must be positive (got {base})")
        if frequencies is None:
            exponent = torch.arange(0, features, 2, dtype=torch.float64) / features
            frequencies = base**-exponent
        if frequencies.shape != (features // 2,):
            raise ValueError(
                f"'frequencies' must be [{features // 2}] (got {list(frequencies.shape)})"
            )
        self.features = features
        self.frequencies = frequencies

    def __call__(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turn vectors.

        Args:
            x: floating point ``[..., n, features]``.
            positions: of the vectors, any numbers, that broadcast over ``[..., n]``.

        Returns:
            Like ``x``.

        Raises:
            ValueError: ``x`` has another number of features.
        """
        if x.size(-1) != self.features:
            raise ValueError(f"'x' must be [..., n, {self.features}] (got {list(x.shape)})")
        wide = count_dtype(x.dtype)
        angle = positions.to(x.device, torch.float64).unsqueeze(-1)
        angle = angle * self.frequencies.to(x.device, torch.float64)
        cos, sin = angle.cos().to(wide), angle.sin().to(wide)
        first, second = x.to(wide).chunk(2, -1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        return turned.to(x.dtype)

    def __repr__(self) -> str:
        return f"Rope({self.features})"
