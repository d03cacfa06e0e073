"""A prefix of learned tokens, or of given ones, as a state of linear attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm_graph.attention.states import AttentionState
from lcm_graph.attention.tensor.monomials import count_monomials, monomials, taylor_weights
from lcm_graph.monoids.base import check_positive
from lcm_graph.monoids.mean import count_dtype

FEATURES = ("elu", "taylor")


class PrefixState(nn.Module):
    r"""What queries gather of a prefix whose keys and values were summed up, or never were any.

    .. math:: o = \frac{\sum_j e^{s_j} v_j + \phi(q)^T Z}{\sum_j e^{s_j} + \phi(q)^T |z|}

    With :math:`Z = z = 0`, as it begins, it changes nothing: a frozen model stays as it was until
    they learn. Filled by :meth:`fill` it answers as a prefix of these tokens would, as far as
    :math:`\phi(q)^T \phi(k)` is :math:`e^{q \cdot k / \sqrt{d}}`: for ``"taylor"`` nearly, the
    higher the degree; for ``"elu"`` not at all, which serves to learn. As the features of
    ``"taylor"`` have signs, z keeps its sign there, and a sum below 0 counts as 0.

    Args:
        heads: of queries, H.
        channels: features of a query and of a key, D.
        value_channels: features of a value, E (default: D).
        features: ``"elu"``, :math:`\mathrm{elu}(x / D^{1/4}) + 1`; or ``"taylor"``, the monomials
            of x up to ``degree``, of which there are :math:`\binom{D + g}{g}`.
        degree: of ``"taylor"``, even.

    Raises:
        ValueError: ``features`` is unknown, ``degree`` odd, or features are more than a million.

    Source: Liang et al., "Towards Infinite-Long Prefix in Transformer" (2024), algorithm 2 (NTK-
    Attention). There the gradient of :math:`|z|` at 0 is 0, so that z never learns; here it is 1.
    """

    def __init__(
        self,
        heads: int,
        channels: int,
        value_channels: int | None = None,
        *,
        features: str = "elu",
        degree: int = 4,
    ) -> None:
        super().__init__()
        if features not in FEATURES:
            raise ValueError(f"'features' must be one of {', '.join(FEATURES)} (got {features!r})")
        self.heads = check_positive("heads", heads)
        self.channels = check_positive("channels", channels)
        out = (
            channels if value_channels is None else check_positive("value_channels", value_channels)
        )
        self.features, self.degree = features, degree
        count = channels if features == "elu" else count_monomials(channels, degree)
        self.products = nn.Parameter(torch.zeros(heads, count, out))
        self.norm = nn.Parameter(torch.zeros(heads, count))

    def feature_map(self, x: Tensor) -> Tensor:
        """:math:`\\phi(x)`, ``[*, D]`` -> ``[*, features]``."""
        x = x / self.channels**0.25
        if self.features == "elu":
            return F.elu(x) + 1
        return monomials(x, self.degree) * taylor_weights(x, self.degree).sqrt()

    @torch.no_grad()
    def fill(self, k: Tensor, v: Tensor) -> PrefixState:
        """Be the prefix of these tokens; of two prefixes one after the other the state is the sum.

        Args:
            k: ``[H, m, D]``.
            v: ``[H, m, E]``.

        Raises:
            ValueError: a shape is another one.
        """
        heads, _, out = self.products.shape
        m = k.size(-2) if k.dim() == 3 else 0
        if k.shape != (heads, m, self.channels) or v.shape != (heads, m, out):
            raise ValueError(
                f"'k' and 'v' must be {[heads, 'm', self.channels]} and {[heads, 'm', out]}, "
                "heads that queries share repeated: k.repeat_interleave(group, 0) "
                f"(got {list(k.shape)} and {list(v.shape)})"
            )
        mapped = self.feature_map(k.to(self.norm))
        self.products.copy_(mapped.mT @ v.to(mapped))
        self.norm.copy_(mapped.sum(1))
        return self

    def forward(self, q: Tensor, state: AttentionState) -> AttentionState:
        """Merge the prefix into what queries gathered elsewhere.

        Args:
            q: ``[B, H, N, D]``, scaled by nothing: logits are :math:`q \\cdot k / \\sqrt{D}`.
            state: of the same queries, ``out [B, H, N, E]`` and ``lse [B, H, N]``; see
                :func:`lcm_graph.attention.attend`.

        Returns:
            The same shapes.

        Raises:
            TypeError: ``state`` is none.
            ValueError: a shape is another one.
        """
        if not isinstance(state, AttentionState):
            raise TypeError(
                "'state' must be an AttentionState, such as attend(q, k, v) "
                f"(got {type(state).__name__})"
            )
        if q.dim() != 4 or q.size(1) != self.heads or q.size(-1) != self.channels:
            raise ValueError(
                f"'q' must be [B, {self.heads}, N, {self.channels}] (got {list(q.shape)})"
            )
        if state.lse.shape != q.shape[:-1]:
            raise ValueError(
                f"'state' must be of the same queries, lse {list(q.shape[:-1])} "
                f"(got {list(state.lse.shape)})"
            )
        answers = (*q.shape[:-1], self.products.size(-1))
        if state.out.shape != answers:
            raise ValueError(f"'state' must have out {list(answers)} (got {list(state.out.shape)})")
        wide = count_dtype(state.out.dtype)
        mapped = self.feature_map(q.to(wide))
        sums = mapped @ self.products.to(wide)
        norm = (mapped @ self._size().to(wide).unsqueeze(-1)).squeeze(-1)
        if self.features == "taylor":
            norm = norm.clamp(min=0)
        lse = state.lse.to(wide)
        # What both are divided by: the larger of the state's sum and 1, but its own if the prefix
        # weighs nothing, so that then it stays as it is
        shift = torch.where(norm > 0, lse.clamp(min=0), lse).detach()
        shift = torch.where(shift == -torch.inf, 0, shift)
        there = (lse - shift).exp().unsqueeze(-1)
        here = (-shift).clamp(max=80).exp().unsqueeze(-1)
        total = there + here * norm.unsqueeze(-1)
        known = ~(total <= 0)  # NaN stays NaN
        out = (there * state.out.to(wide) + here * sums) / torch.where(known, total, 1)
        out = torch.where(known, out, 0)
        filled = torch.where(known, total, 1).log().squeeze(-1) + shift
        return AttentionState(
            out.to(state.out.dtype), filled.masked_fill(~known.squeeze(-1), -torch.inf)
        )

    def _size(self) -> Tensor:
        """What the features of a query are multiplied by in the denominator."""
        if self.features == "taylor":  # whose features have signs
            return self.norm
        return torch.where(self.norm < 0, -self.norm, self.norm)

    def extra_repr(self) -> str:
        heads, _, out = self.products.shape
        degree = f", degree={self.degree}" if self.features == "taylor" else ""
        return f"{heads}, {self.channels}, {out}, features={self.features!r}{degree}"
