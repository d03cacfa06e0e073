"""A classifier of sets of tokens."""

from __future__ import annotations

from torch import Tensor, nn

from lcm_graph.aggregators import aggregation_by_name
from lcm_graph.training.models.parts import to_width


class TokenSetClassifier(nn.Module):
    """Embed tokens, fold each set, classify.

    Args:
        aggr: name of the aggregation.
        num_tokens: size of the vocabulary.
        num_classes: number of classes.
        hidden: size of everything.
        dropout: probability, of each number of an embedding and of a folded set.

    Raises:
        ValueError: unknown aggregation.
    """

    def __init__(
        self, aggr: str, num_tokens: int, num_classes: int, hidden: int = 32, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, hidden)
        nn.init.normal_(self.tokens.weight, std=0.1)
        self.aggr = aggregation_by_name(aggr, hidden, hidden)
        self.narrow = to_width(self.aggr, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, tokens: Tensor, ptr: Tensor) -> Tensor:
        """Tokens int64 ``[n]`` in sets ``ptr [S + 1]`` -> ``[S, num_classes]``."""
        x = self.dropout(self.tokens(tokens))
        out: Tensor = self.head(self.dropout(self.narrow(self.aggr(x, ptr=ptr))))
        return out
