"""The multi-head attention block of Set Transformers, part by part."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.aggr.utils import MultiheadAttentionBlock

from lcm_graph.attention.dense import attend
from lcm_graph.attention.states import AttentionState


class AttentionBlock(MultiheadAttentionBlock):
    """PyG's block, with its parameters, whose attention is a state that can be folded.

    For queries X and elements Y: H = LayerNorm(X + Multihead(X, Y)), then LayerNorm(H + ReLU(W H)).

    Source: Lee et al., "Set Transformer" (2019), equations 6 and 7, as in PyG.
    """

    def __init__(self, channels: int, heads: int, layer_norm: bool, dropout: float) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"'dropout' must be from 0 to below 1 (got {dropout})")
        super().__init__(channels, heads, layer_norm, dropout)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, the output's among them, which PyG leaves as they are."""
        super().reset_parameters()
        self.attn.out_proj.reset_parameters()

    def queries(self, x: Tensor) -> Tensor:
        """``[*, n, channels]`` -> ``[*, heads, n, channels / heads]``."""
        return self._projected(x, 0)

    def keys_and_values(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """``[*, m, channels]`` -> two of ``[*, heads, m, channels / heads]``."""
        return self._projected(y, 1), self._projected(y, 2)

    def gather(self, q: Tensor, k: Tensor, v: Tensor) -> AttentionState:
        """What projected queries gather of projected elements, ``[*, heads, n or m, c]``."""
        if self.training and self.dropout:  # of weights, which are not a state's then
            out = self.attended(q, k, v)
            return AttentionState(out, attend(q.detach(), k.detach(), v.detach()).lse)
        return attend(q, k, v)

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``out`` of that, by torch's kernels."""
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)

    def finish(self, x: Tensor, gathered: Tensor) -> Tensor:
        """Queries ``[*, n, channels]`` and ``out [*, heads, n, channels / heads]`` of what they
        gathered -> ``[*, n, channels]``."""
        merged = gathered.transpose(-3, -2).flatten(-2).to(x.dtype)
        out: Tensor = x + self.attn.out_proj(merged)
        if self.layer_norm1 is not None:
            out = self.layer_norm1(out)
        out = out + self.lin(out).relu()
        if self.layer_norm2 is not None:
            out = self.layer_norm2(out)
        return out

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Queries ``[B, n, channels]`` and all of their elements ``[B, m, channels]``."""
        return self.finish(x, self.attended(self.queries(x), *self.keys_and_values(y)))

    def _projected(self, x: Tensor, part: int) -> Tensor:
        rows = slice(part * self.channels, (part + 1) * self.channels)
        projected = F.linear(x, self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows])
        return projected.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
