"""A prompt that a model has read, of which each layer keeps what a policy says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lcm_graph.attention.hf.interface import NAME, READER
from lcm_graph.attention.hf.policies import Kept, Policy, Recorded
from lcm_graph.attention.states import AttentionState


class Context:
    """What layers keep of a context, for a model to go on from.

    Made by :func:`compress`. While it is attached, the model sees the context through it, and a
    cache from :meth:`cache` holds what comes after::

        context = compress(model, ids, Clusters(0.1))
        with context.attached(model):
            out = model(question, cache=context.cache())

    ``model.generate`` wants to see the context's ids before the question's, as with any cache.

    Args:
        kept: of each layer.
        length: tokens of the context, which positions go on from.
    """

    def __init__(self, kept: Sequence[Kept], length: int) -> None:
        self.kept = list(kept)
        self.length = length

    def cache(self) -> Cache:
        """An empty cache whose first token stands behind the context."""
        return Cache(layers=[_Behind(self.length) for _ in self.kept])

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Let ``model`` see the context.

        Raises:
            ValueError: see :func:`compress`, the model has another number of layers, or a context
                attached.
        """
        modules = _attention_modules(model)
        if len(modules) != len(self.kept):
            raise ValueError(
                f"'model' must have the {len(self.kept)} layers that the context was made with "
                f"(got {len(modules)})"
            )
        readers = [_Reads(kept) for kept in self.kept]
        with _attached(modules, readers):
            yield


@torch.no_grad()
def compress(
    model: nn.Module, input_ids: Tensor, policies: Policy | Sequence[Policy], *, window: int = 64
) -> Any:
    """Let a model read a context, and keep of it what policies say.

    Args:
        model: a causal language model with ``attn_implementation="lcm_graph"``, see
            :func:`register_attention`.
        input_ids: int64 ``[B, M]``, of one length each.
        policies: one, or several to compare, for which the model reads the context once.
        window: last queries that policies may look at.

    Returns:
        A :class:`Context`, or a list of them.

    Raises:
        ValueError: the model has another attention or a context attached, or the context is empty.
    """
    modules = _attention_modules(model)
    if input_ids.dim() != 2 or not input_ids.numel():
        raise ValueError(f"'input_ids' must be [batch, tokens] (got {list(input_ids.shape)})")
    notes = [_Notes(window) for _ in modules]
    with _attached(modules, notes):
        logits = model(input_ids, cache=DynamicCache(), use_cache=True).logits
    surprisal = -logits[:, :-1].float().log_softmax(-1)
    surprisal = surprisal.gather(2, input_ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    alone = surprisal.size(1) == 0  # one token, of which nothing was expected
    first = surprisal.new_zeros(len(surprisal), 1) if alone else surprisal.mean(1, keepdim=True)
    surprisal = torch.cat([first, surprisal], 1)
    each = [policies] if not isinstance(policies, Sequence) else list(policies)
    seen = [note.seen(surprisal) for note in notes]
    contexts = [
        Context([policy.keep(layer) for layer in seen], input_ids.size(1)) for policy in each
    ]
    return contexts if isinstance(policies, Sequence) else contexts[0]


class _Notes:
    """Records what a layer sees of a context."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.recorded: tuple[Tensor, Tensor, Tensor, float] | None = None

    def record(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        self.recorded = (q[:, :, -self.window :], k, v, scale)

    def read(self, q: Tensor, positions: Tensor) -> None:
        return None

    def seen(self, surprisal: Tensor) -> Recorded:
        if self.recorded is None:
            raise ValueError(
                f"'model' must use attn_implementation={NAME!r}: a layer was not heard of"
            )
        q, k, v, scale = self.recorded
        return Recorded(q, k, v, surprisal.to(k.device), scale, {})


class _Reads:
    """Reads what was kept."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def record(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        pass

    def read(self, q: Tensor, positions: Tensor) -> AttentionState:
        return self.kept.attend(q, positions)


class _Behind(DynamicLayer):
    """A layer's cache of what comes after ``length`` tokens that are kept elsewhere."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def get_seq_length(self) -> int:
        return self.length + int(super().get_seq_length())

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return int(super().get_seq_length()) + query_length, self.length


@contextmanager
def _attached(modules: Sequence[nn.Module], readers: Sequence[object]) -> Iterator[None]:
    if any(hasattr(module, READER) for module in modules):
        raise ValueError("'model' must have no context attached (got one that has): leave it first")
    for module, reader in zip(modules, readers, strict=True):
        setattr(module, READER, reader)
    try:
        yield
    finally:
        for module in modules:
            delattr(module, READER)


def _attention_modules(model: nn.Module) -> list[nn.Module]:
    """The model's attention modules, layer by layer."""
    config = getattr(model, "config", None)
    if getattr(config, "_attn_implementation", None) != NAME:
        raise ValueError(
            f"'model' must be a transformers model with attn_implementation={NAME!r} (got "
            f"{getattr(config, '_attn_implementation', type(model).__name__)!r}): call "
            "register_attention() and then model.set_attn_implementation('lcm_graph')"
        )
    found = {
        module.layer_idx: module
        for name, module in model.named_modules()
        if name.endswith("attn") and isinstance(getattr(module, "layer_idx", None), int)
    }
    return [found[layer] for layer in sorted(found)]
