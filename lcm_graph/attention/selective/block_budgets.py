"""Some tokens of every block, fewer of those that are redundant: after TCA-Attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_graph.attention.dense import attend
from lcm_graph.attention.selective.checks import check_grouped, check_scores
from lcm_graph.attention.selective.scores import redundancy_scores
from lcm_graph.monoids.base import check_at_least


@dataclass(frozen=True)
class BlockBudget:
    r"""How many of its tokens each block keeps: 1, 2, 4, …, all.

    The share of blocks that keep :math:`2^j` tokens is proportional to
    :math:`\exp(-(j - \mu)^2 / 2\sigma^2)`; the most redundant blocks get the smallest numbers.

    A reconstruction of "Training-free Context-adaptive Attention" (arXiv 2512.09238), whose public
    sources do not specify how redundancy is measured, nor block size, :math:`\mu` and
    :math:`\sigma`.

    Args:
        block: tokens of a block, a power of two.
        mu: logarithm to base 2 of the number that most blocks keep.
        sigma: its spread; 0 lets all blocks keep the power of two nearest to ``2 ** mu``.

    Raises:
        ValueError: ``block`` is no power of two, ``mu`` is not finite, or ``sigma`` negative.
    """

    block: int = 64
    mu: float = 3.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        block = check_at_least("block", self.block, 1)
        if block & (block - 1):
            raise ValueError(f"'block' must be a power of two (got {block})")
        object.__setattr__(self, "block", block)
        if not math.isfinite(self.mu):
            raise ValueError(f"'mu' must be finite (got {self.mu})")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"'sigma' must be finite and not negative (got {self.sigma})")

    @classmethod
    def of_fraction(cls, fraction: float, *, block: int = 64, sigma: float = 1.0) -> BlockBudget:
        """The budget that keeps a fraction of the tokens, on average.

        Args:
            fraction: from ``1 / block`` to 1; at its ends all blocks keep one token, or all.
            block: tokens of a block, a power of two.
            sigma: see above, from 0.01 to 100.

        Raises:
            ValueError: a number is out of range.
        """
        cls(block, sigma=sigma)
        if not 0.01 <= sigma <= 100:
            raise ValueError(f"'sigma' must be from 0.01 to 100 (got {sigma})")
        if not 1 / block <= fraction <= 1:
            raise ValueError(f"'fraction' must be from 1 / {block} to 1 (got {fraction})")
        if fraction in (1 / block, 1):
            return cls(block, mu=math.log2(fraction * block), sigma=0)
        low, high = -100.0 * (1 + sigma**2), 100.0 * (1 + sigma**2)
        while low < (middle := (low + high) / 2) < high:
            enough = cls(block, mu=middle, sigma=sigma).fraction >= fraction
            low, high = (low, middle) if enough else (middle, high)
        return cls(block, mu=high, sigma=sigma)

    @property
    def shares(self) -> Tensor:
        """The share of blocks that keep 1, 2, 4, … tokens: float64 ``[1 + log₂ block]``."""
        power = torch.arange(self.block.bit_length(), dtype=torch.float64)
        if self.sigma == 0:
            nearest = min(max(0, round(self.mu)), self.block.bit_length() - 1)
            return (power == nearest).double()
        return (-((power - self.mu) ** 2) / (2 * self.sigma**2)).softmax(0)

    @property
    def fraction(self) -> float:
        """Of all tokens that are kept, on average."""
        power = torch.arange(self.block.bit_length())
        return float((self.shares * 2.0**power).sum() / self.block)

    def tokens(self, redundancy: Tensor) -> Tensor:
        """Mark what is kept.

        Args:
            redundancy: of tokens, ``[B, H, M]``, see :func:`redundancy_scores`. A block is as
                redundant as its tokens on average; it keeps the least redundant.

        Returns:
            Bool ``[B, H, M]``.

        Raises:
            ValueError: ``redundancy`` is no floating point, or has NaN.
        """
        check_scores("redundancy", redundancy)
        if not redundancy.is_floating_point():
            raise ValueError(f"'redundancy' must be floating point (got {redundancy.dtype})")
        m = redundancy.size(-1)
        blocks = -(-m // self.block)
        padded = torch.nn.functional.pad(redundancy, (0, blocks * self.block - m), value=torch.inf)
        of_blocks = padded.unflatten(-1, (blocks, self.block))
        there = torch.arange(blocks * self.block, device=redundancy.device) < m
        there = there.view(blocks, self.block).expand_as(of_blocks)
        mean = torch.where(there, of_blocks, 0).sum(-1) / there.sum(-1).clamp(min=1)
        rank = mean.argsort(dim=-1, descending=True, stable=True).argsort(
            dim=-1
        )  # 0: most redundant
        ends = (self.shares.cumsum(0) * blocks).round().long().to(rank.device)
        power = torch.searchsorted(ends, rank, right=True).clamp(max=self.block.bit_length() - 1)
        place = of_blocks.argsort(dim=-1, stable=True).argsort(dim=-1)
        kept = (place < (1 << power).unsqueeze(-1)) & there
        return kept.flatten(-2)[..., :m]


def calibrate(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    candidates: Sequence[BlockBudget],
    tolerance: float,
    *,
    kind: str = "unattended",
    scale: float | None = None,
) -> list[BlockBudget | None]:
    """For each head of keys, the sparsest budget whose answers stay near those of all keys.

    Args:
        q: calibration queries, ``[B, H, N, D]``, which see all keys.
        k: ``[B, heads, M, D]``.
        v: ``[B, heads, M, C]``.
        candidates: budgets to choose from.
        tolerance: largest relative error of a head's answers, in the L2 norm over all of them.
        kind: of redundancy, see :func:`redundancy_scores`.
        scale: of the logits.

    Returns:
        For each head of keys a budget, or ``None`` where none is within the tolerance; see
        :func:`tokens_of_heads`.

    Raises:
        ValueError: shapes do not go together, or ``tolerance`` is negative or NaN.
    """
    check_grouped(q, k)
    if not tolerance >= 0:
        raise ValueError(f"'tolerance' must not be negative (got {tolerance})")
    heads = k.size(1)
    expected = attend(q, k, v, scale=scale).out.unflatten(1, (heads, -1))
    redundancy = redundancy_scores(q, k, kind=kind, scale=scale)
    chosen: list[BlockBudget | None] = [None] * heads
    for budget in sorted(candidates, key=lambda one: one.fraction, reverse=True):
        mask = budget.tokens(redundancy).repeat_interleave(q.size(1) // heads, 1).unsqueeze(2)
        found = attend(q, k, v, mask=mask, scale=scale).out.unflatten(1, (heads, -1))
        for head in range(heads):
            off = float((found[:, head] - expected[:, head]).norm())
            norm = float(expected[:, head].norm())
            if off <= tolerance * norm and math.isfinite(off):
                chosen[head] = budget
    return chosen


def tokens_of_heads(budgets: Sequence[BlockBudget | None], redundancy: Tensor) -> Tensor:
    """Mark what each head of keys keeps by a budget of its own: all, where there is none.

    Args:
        budgets: of heads, H of them, see :func:`calibrate`.
        redundancy: ``[B, H, M]``, see :func:`redundancy_scores`.

    Returns:
        Bool ``[B, H, M]``.

    Raises:
        ValueError: there is another number of budgets than of heads; see also
            :meth:`BlockBudget.tokens`.
    """
    if redundancy.dim() != 3 or redundancy.size(1) != len(budgets):
        raise ValueError(
            f"'budgets' must be one a head of 'redundancy' [B, H, M] (got {len(budgets)} for "
            f"{list(redundancy.shape)})"
        )
    marks = torch.ones_like(redundancy, dtype=torch.bool)
    for head, budget in enumerate(budgets):
        if budget is not None:
            marks[:, head] = budget.tokens(redundancy[:, head])
    return marks
