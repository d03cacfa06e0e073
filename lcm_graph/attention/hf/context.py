"""A prompt that a model has read, of which each layer keeps what a policy says."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lcm_graph.attention.hf.interface import NAME, READER
from lcm_graph.attention.hf.policies import Kept, Policy, Recorded
from lcm_graph.attention.states import AttentionState
from lcm_graph.monoids.base import check_positive


class Context:
    """What layers keep of a context, for a model to go on from.

    Made by :func:`compress`. While it is attached, the model sees the context through it, and a
    cache from :meth:`cache` holds what comes after::

        context = compress(model, ids, Clusters(0.1))
        with context.attached(model):
            out = model(question, cache=context.cache())

    ``model.generate`` wants to see the context's ids before the question's, as with any cache::

        both = torch.cat([ids, question], 1)
        with context.attached(model):
            out = model.generate(
                both, attention_mask=torch.ones_like(both), cache=context.cache()
            )

    A context of one sequence goes before any number of questions; of several, before as many, or
    as many beams of each.

    Args:
        kept: of each layer.
        length: tokens of the context, which positions go on from.
        batch: sequences of the context.
    """

    def __init__(self, kept: Sequence[Kept], length: int, batch: int) -> None:
        self.kept = list(kept)
        self.length, self.batch = length, batch
        self._calls = 0  # of a model that it is attached to, now

    def cache(self) -> Cache:
        """An empty cache whose first token stands behind the context.

        It is for a model that the context is attached to: RuntimeError without.
        """
        return Cache(layers=[_Behind(self) for _ in self.kept])

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Let ``model`` see the context.

        Raises:
            ValueError: see :func:`compress`, the model has another number of layers, or a context
                attached. While it is attached, calls of the model raise it too that have no cache
                of this context, no token, another batch, or a mask that is not of the context and
                what follows or hides some of the context.
        """
        modules = _attention_modules(model)
        if len(modules) != len(self.kept):
            raise ValueError(
                f"'model' must have the {len(self.kept)} layers that the context was made with "
                f"(got {len(modules)})"
            )
        readers = [_Reads(kept, self.length, self.batch) for kept in self.kept]
        inner = getattr(model, "base_model", model)  # what the model itself calls, or its caller
        hooks = [
            inner.register_forward_pre_hook(self._begin, with_kwargs=True),
            inner.register_forward_hook(self._end, always_call=True),
        ]
        try:
            with _attached(modules, readers):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse a call that would not see the context, or not all of it."""
        given = dict(inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        cache = next((one for one in given.values() if isinstance(one, Cache)), None)
        layer = cache.layers[0] if cache is not None and cache.layers else None
        if not isinstance(layer, _Behind) or layer.context is not self:
            raise ValueError(
                "'model' must be called with cache=context.cache() while a context is attached, "
                "and positions go on from there (got another cache, or none)"
            )
        named = (given.get(name) for name in ("input_ids", "inputs_embeds"))
        tokens = next((one for one in named if isinstance(one, Tensor)), None)
        count = 1 if tokens is None else tokens.size(1)
        if not count:
            raise ValueError(
                "'input_ids' must go on from the context (got no token): model.generate wants to "
                "see the context's ids before the question's, torch.cat([ids, question], 1)"
            )
        mask = given.get("attention_mask")
        seen = layer.get_seq_length()
        if isinstance(mask, Tensor):
            self._check_mask(mask, seen + count)
        self._calls += 1

    def _check_mask(self, mask: Tensor, seen: int) -> None:
        """Of so many tokens, those of the context among them; of 4 dimensions, without these."""
        whole = mask.dim() == 2
        wanted = f"[B, {seen}]" if whole else f"[B, heads, queries, {seen - self.length}]"
        if mask.size(-1) != (seen if whole else seen - self.length):
            both = f"the {self.length} tokens of the context and all after it"
            which = both if whole else "the tokens after the context"
            raise ValueError(
                f"'attention_mask' must be of {which}, {wanted} (got {list(mask.shape)}): leave it "
                "out, if it hides nothing"
            )
        if whole and not mask[:, : self.length].all():
            raise ValueError(
                f"'attention_mask' must be 1 for the {self.length} tokens of the context, which is "
                "read as it was compressed: leave out there what is to be hidden. (generate takes "
                "pad tokens for hidden, if it is given no mask: give it torch.ones_like(ids).)"
            )

    def _end(self, *_: object) -> None:
        self._calls = max(0, self._calls - 1)


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
        window: last queries that policies may look at, 1 at least.

    Returns:
        A :class:`Context`, or a list of them.

    Raises:
        TypeError: a policy is none.
        ValueError: the model has another attention or a context attached, it has not one attention
            a layer or sliding windows, the context is empty, or ``window`` is below 1.
    """
    check_positive("window", window)
    each = list(policies) if isinstance(policies, Sequence) else [policies]
    for policy in each:
        if isinstance(policy, type) or not hasattr(policy, "keep"):
            raise TypeError(
                "'policies' must be one or several, such as Clusters(0.2) or Everything() "
                f"(got {policy!r})"
            )
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
    seen = [note.seen(surprisal) for note in notes]
    contexts = [
        Context([policy.keep(layer) for layer in seen], input_ids.size(1), input_ids.size(0))
        for policy in each
    ]
    return contexts if isinstance(policies, Sequence) else contexts[0]


class _Notes:
    """Records what a layer sees of a context."""

    length = 0

    def __init__(self, window: int) -> None:
        self.window = window
        self.recorded: tuple[Tensor, Tensor, Tensor, float] | None = None

    def record(self, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None) -> None:
        if mask is not None and not _is_causal(mask):
            raise ValueError(
                "'model' must see all of its context and add nothing to its logits (got a layer "
                "whose mask hides a part of it, or is a bias)"
            )
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


def _is_causal(mask: Tensor) -> bool:
    """Whether a mask ``[B, 1 or H, n, m]``, bool or what is added, hides what comes later alone."""
    seen = mask if mask.dtype == torch.bool else mask == 0
    adds = mask.is_floating_point() and bool((mask[~seen] > torch.finfo(mask.dtype).min / 2).any())
    n, m = mask.shape[-2:]
    expected = torch.ones(n, m, dtype=torch.bool, device=mask.device).tril(m - n)
    return not adds and bool((seen == expected).all())


class _Reads:
    """Reads what was kept."""

    def __init__(self, kept: Kept, length: int, batch: int) -> None:
        self.kept, self.length, self.batch = kept, length, batch

    def record(self, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None) -> None:
        pass

    def read(self, q: Tensor, positions: Tensor) -> AttentionState:
        times, others = divmod(q.size(0), self.batch)
        if others:
            raise ValueError(
                f"'input_ids' must have the context's batch of {self.batch}, or a multiple, as of "
                f"beams (got {q.size(0)})"
            )
        if times == 1:
            return self.kept.attend(q, positions)
        places = positions.expand(q.size(0), -1)
        states = [self.kept.attend(q[i::times], places[i::times]) for i in range(times)]
        parts = (torch.stack(fields, 1).flatten(0, 1) for fields in zip(*states, strict=True))
        return AttentionState(*parts)


class _Behind(DynamicLayer):
    """A layer's cache of what comes after a context that is kept elsewhere."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context

    def update(self, *args: Any, **kwargs: Any) -> Any:
        if not self.context._calls:
            raise RuntimeError(
                "this cache goes on from a context that is not attached: call the model within "
                "'with context.attached(model):'"
            )
        return super().update(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Behind:
        memo[id(self.context)] = self.context  # which is read, and may be large
        made = copy.copy(self)
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made

    def get_seq_length(self) -> int:
        return self.context.length + int(super().get_seq_length())

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return int(super().get_seq_length()) + query_length, self.context.length


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
    found: list[Any] = [
        module
        for module in model.modules()
        if "Attention" in type(module).__name__
        and isinstance(getattr(module, "layer_idx", None), int)
    ]
    layers = [module.layer_idx for module in found]
    if sorted(layers) != list(range(len(found))) or not found:
        kinds = ", ".join(sorted({type(module).__name__ for module in found}))
        raise ValueError(
            f"'model' must have one attention a layer (got {type(model).__name__} with "
            f"{kinds or 'none'} of layers {sorted(layers)})"
        )
    return sorted(found, key=lambda module: module.layer_idx)
