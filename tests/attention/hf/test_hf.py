"""A small Llama with our attention against its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Qwen2MoeConfig,
    Qwen3Config,
)
from transformers.cache_utils import DynamicCache

from lcm_graph.attention.hf import (
    Clusters,
    Everything,
    FirstAndLatest,
    HeadEntropy,
    Policy,
    Surprisal,
    bounded_cache,
    compress,
    register_attention,
    rope_of,
)
from lcm_graph.attention.hf.policies import Recorded
from lcm_graph.attention.selective import observation_scores, top_tokens
from lcm_graph.attention.windows import Rope
from tests.references import error

VOCABULARY, LAYERS = 50, 2


def llama(implementation: str) -> Any:
    """The same weights each time: 4 heads of 8, of which 2 share keys."""
    register_attention()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=implementation,
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():  # logits that tell tokens apart
        parameter.data.mul_(3)
    return model


def tokens(n: int, batch: int = 2) -> Tensor:
    return torch.randint(0, VOCABULARY, (batch, n), generator=torch.Generator().manual_seed(n))


@torch.no_grad()
def continued(model: Any, ids: Tensor, more: Tensor, policy: Policy) -> Tensor:
    """Logits of tokens after a compressed context, two at a time."""
    context = compress(model, ids, policy)
    cache = context.cache()
    with context.attached(model):
        parts = [model(some, cache=cache).logits for some in more.split(2, dim=1)]
    return torch.cat(parts, 1)


def test_without_a_context_it_is_sdpa() -> None:
    ours, theirs = llama("lcm_graph"), llama("sdpa")
    ids = tokens(13)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    for given in (None, mask):
        expected = theirs(ids, attention_mask=given).logits
        found = ours(ids, attention_mask=given).logits
        seen = slice(None) if given is None else given.bool()
        assert error(found[seen], expected[seen]) <= 1e-5
    prompt = ids[:1]
    expected = theirs.generate(prompt, max_new_tokens=9, do_sample=False, pad_token_id=0)
    found = ours.generate(prompt, max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert torch.equal(found, expected)


FULL: dict[str, Policy] = {
    "everything": Everything(),
    "first and latest": FirstAndLatest(1.0),
    "surprisal": Surprisal(1.0),
    "head entropy": HeadEntropy(1.0),
    "clusters": Clusters(1.0, clusters=0.2),
    "clusters, dropped": Clusters(1.0, tail="drop", clusters=0.2),
}


@pytest.mark.parametrize("name", FULL)
def test_the_full_budget_changes_nothing(name: str) -> None:
    """A context that is kept whole, in a cache of its own, is the model's own."""
    ids, more = tokens(21), tokens(5)
    expected = llama("sdpa")(torch.cat([ids, more], 1)).logits[:, 21:]
    assert error(continued(llama("lcm_graph"), ids, more, FULL[name]), expected) <= 1e-5


@pytest.mark.parametrize("name", FULL)
def test_the_full_budget_changes_no_gradient(name: str) -> None:
    """Of all parameters, by the tokens that follow a context, which is a constant."""
    ids, more = tokens(21), tokens(5)
    cotangent = torch.randn(2, 5, VOCABULARY, generator=torch.Generator().manual_seed(1))

    def gradients(model: Any, cache: Any) -> Tensor:
        found = torch.autograd.grad(
            model(more, cache=cache).logits, list(model.parameters()), cotangent
        )
        return torch.cat([one.flatten() for one in found])

    theirs, ours = llama("sdpa"), llama("lcm_graph")
    cache = DynamicCache()
    with torch.no_grad():
        theirs(ids, cache=cache)
    expected = gradients(theirs, cache)
    context = compress(ours, ids, FULL[name])
    with context.attached(ours):
        found = gradients(ours, context.cache())
    assert error(found, expected) <= 1e-5


@pytest.mark.parametrize(
    "policy",
    [
        FirstAndLatest(0.3),
        FirstAndLatest(0.3, rope=Rope(8)),
        Surprisal(0.3),
        HeadEntropy(0.3),
        Clusters(0.3, clusters=0.2),
        Clusters(0.3, tail="drop", clusters=0.2),
        Clusters(0.3, tail="sample", clusters=0.2),
    ],
    ids=str,
)
def test_less_is_kept(policy: Policy) -> None:
    """And what follows is near, but not the same."""
    ids, more = tokens(40), tokens(6)
    expected = llama("sdpa")(torch.cat([ids, more], 1)).logits[:, 40:]
    found = continued(llama("lcm_graph"), ids, more, policy)
    assert found.isfinite().all()
    assert 1e-4 <= error(found, expected) <= 1.5


def dropped(model: Any, ids: Tensor, more: Tensor, marks: Tensor) -> Tensor:
    """Logits when later tokens cannot see the context's tokens that are not marked."""
    n, m = more.size(1), ids.size(1)
    cache = DynamicCache()
    model(ids, cache=cache)
    mask = torch.ones(n, m + n, dtype=torch.bool).tril(m)
    mask[:, :m] &= marks
    return model(
        more, cache=cache, attention_mask=mask[None, None].expand(ids.size(0), 1, -1, -1)
    ).logits


@torch.no_grad()
def test_first_and_latest_is_a_mask() -> None:
    ids, more = tokens(40), tokens(6)
    place = torch.arange(40)
    expected = dropped(llama("sdpa"), ids, more, (place < 4) | (place >= 32))
    found = continued(llama("lcm_graph"), ids, more, FirstAndLatest(0.3))
    assert error(found, expected) <= 1e-5


@torch.no_grad()
def test_first_tokens_at_their_own_distance() -> None:
    """A limit as far as the first token is leaves one sink where it was."""
    ids, more = tokens(40, batch=1), tokens(1, batch=1)
    rope = Rope(8, base=10_000.0)
    near = continued(llama("lcm_graph"), ids, more, FirstAndLatest(0.3, n_sink=1))
    same = FirstAndLatest(0.3, n_sink=1, rope=rope, limit=40)
    assert error(continued(llama("lcm_graph"), ids, more, same), near) <= 1e-4
    nearer = FirstAndLatest(0.3, n_sink=1, rope=rope, limit=3)
    assert error(continued(llama("lcm_graph"), ids, more, nearer), near) >= 1e-3


@torch.no_grad()
def test_surprisal_keeps_what_the_model_did_not_expect() -> None:
    ids, more = tokens(40, batch=1), tokens(6, batch=1)
    model = llama("sdpa")
    logits = model(ids).logits[0].log_softmax(-1)
    surprisal = -logits[:-1].gather(1, ids[0, 1:, None]).squeeze(1)
    surprisal = torch.cat([surprisal.mean().view(1), surprisal])
    surprisal[:4] = torch.inf
    marks = torch.zeros(40, dtype=torch.bool)
    marks[surprisal.argsort(descending=True)[:12]] = True
    found = continued(llama("lcm_graph"), ids, more, Surprisal(0.3))
    assert error(found, dropped(model, ids, more, marks)) <= 1e-5


def test_several_policies_read_the_context_once() -> None:
    model = llama("lcm_graph")
    calls = []
    model.model.embed_tokens.register_forward_hook(lambda *_: calls.append(1))
    contexts = compress(model, tokens(20), [Everything(), Surprisal(0.5)])
    assert len(contexts) == 2 and len(calls) == 1


@torch.no_grad()
def test_a_bounded_cache_with_room_is_a_cache() -> None:
    model, ids = llama("sdpa"), tokens(12, batch=1)
    expected = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    cache = bounded_cache(LAYERS, 100)
    found = model.generate(ids, cache=cache, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(found, expected) and cache.get_seq_length() == 19


@torch.no_grad()
def test_a_bounded_cache_evicts() -> None:
    """One token at a time it keeps the first and the latest; what was seen counts for positions."""
    model, ids = llama("sdpa"), tokens(30, batch=1)
    cache = bounded_cache(LAYERS, 10, n_sink=2)
    for token in ids.split(1, dim=1):
        logits = model(token, cache=cache).logits
    layer = cache.layers[0]
    assert layer.places.tolist() == [0, 1, *range(21, 30)] and layer.keys.shape[-2] == 11
    assert cache.get_seq_length() == 30 and logits.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 5, 20])
@pytest.mark.parametrize("window", [0, 3])
def test_a_bounded_cache_keeps_what_scores(window: int, chunk: int) -> None:
    """The highest of all scores so far, whatever the order in which they came."""
    model, ids = llama("sdpa"), tokens(61, batch=1)
    scores = torch.rand(60, generator=torch.Generator().manual_seed(0))
    cache = bounded_cache(LAYERS, 12, n_sink=2, window=window)
    for some in range(0, 60, chunk):
        model(ids[:, some : some + chunk], cache=cache)
        for layer in cache.layers:
            layer.observe(scores[some : some + chunk])
    model(ids[:, 60:], cache=cache)
    others = torch.arange(2, 60 - window)
    best = others[scores[others].argsort(descending=True)[: 10 - window]].tolist()
    assert cache.layers[1].places.tolist() == [0, 1, *sorted(best), *range(60 - window, 61)]


@torch.no_grad()
@pytest.mark.parametrize("tail", ["drop", "summary"])
def test_clusters_do_not_look_ahead(tail: str) -> None:
    """What a token sees does not depend on those after it, in one call or one by one."""
    model, ids, more = llama("lcm_graph"), tokens(40, batch=1), tokens(6, batch=1)
    policy = Clusters(0.3, tail=tail, clusters=0.2)
    found = continued(model, ids, more, policy)
    other = continued(
        model, ids, torch.cat([more[:, :5], (more[:, 5:] + 1) % VOCABULARY], 1), policy
    )
    assert torch.equal(found[:, :5], other[:, :5])
    together = continued(model, ids, more, Clusters(0.3, tail=tail, clusters=0.2, block=6))
    assert together.isfinite().all() and error(together, found) >= 1e-5


@pytest.mark.parametrize(
    ("fraction", "window", "latest", "looked"),
    [(0.0, 32, 0, 4), (0.1, 32, 3, 10), (0.2, 3, 3, 20), (0.5, 32, 23, 50), (1.0, 200, 48, 100)],
)
def test_clusters_beside_the_first_and_latest(
    fraction: float, window: int, latest: int, looked: int
) -> None:
    """These are looked at by all queries; with them as many tokens as wanted, or a cluster more."""
    k, v = torch.randn(1, 2, 100, 8), torch.eye(100).expand(1, 2, 100, 100)
    seen = Recorded(torch.randn(1, 4, 3, 8), k, v, torch.zeros(1, 100), 8**-0.5, {})
    policy = Clusters(fraction, tail="drop", clusters=0.5, window=window)
    out, _ = policy.keep(seen).attend(torch.randn(1, 4, 5, 8), torch.arange(100, 105))
    assert (out[..., :4] > 0).all() and (out[..., 100 - latest :] > 0).all()
    assert error(out.sum(-1), torch.ones(1, 4, 5)) <= 1e-5
    counts = (out > 0).sum(-1)
    (index,) = seen.indices.values()
    assert (counts >= looked).all() and (counts < looked + index.summary.size.max()).all()


@pytest.mark.parametrize(("fraction", "latest"), [(0.1, 5), (0.4, 20), (1.0, 32)])
def test_what_was_observed_and_the_latest_are_kept(fraction: float, latest: int) -> None:
    """The latest by all heads; of the others what queries look at that see them."""
    q, k, v = torch.randn(1, 4, 64, 8), torch.randn(1, 2, 100, 8), torch.eye(100)
    seen = Recorded(q, k, v.expand(1, 2, 100, 100), torch.zeros(1, 100), 8**-0.5, {})
    kept = HeadEntropy(fraction, ratio=1.0).keep(seen)
    there = kept.v.sum(2) > 0
    assert there[..., 100 - latest :].all()
    scores = observation_scores(q, k, causal=True)[..., : 100 - latest]
    best = top_tokens(scores, round(100 * fraction) - latest)
    assert torch.equal(there[..., : 100 - latest], best)


@pytest.mark.parametrize("n", [1, 3, 4, 5])
@torch.no_grad()
def test_a_context_of_first_tokens(n: int) -> None:
    """With hardly any others it is the model's own."""
    ids, more = tokens(n), tokens(4)
    expected = llama("sdpa")(torch.cat([ids, more], 1)).logits[:, n:]
    for tail in ("drop", "summary"):
        found = continued(llama("lcm_graph"), ids, more, Clusters(1.0, tail=tail))
        assert error(found, expected) <= 1e-5


@torch.no_grad()
def test_a_context_of_one_token() -> None:
    ids, more = tokens(1), tokens(4)
    expected = llama("sdpa")(torch.cat([ids, more], 1)).logits[:, 1:]
    assert error(continued(llama("lcm_graph"), ids, more, Everything()), expected) <= 1e-5


def test_the_first_tokens_are_kept_whatever_the_fraction() -> None:
    ids = tokens(40, batch=1)
    dropping = Clusters(0.0, tail="drop")
    for policy in (Surprisal(0.05), FirstAndLatest(0.05), Surprisal(0.0), dropping):
        near = continued(llama("lcm_graph"), ids, tokens(3, batch=1), policy)
        expected = dropped(llama("sdpa"), ids, tokens(3, batch=1), torch.arange(40) < 4)
        assert error(near, expected) <= 1e-5


def test_one_context_at_a_time() -> None:
    model, ids = llama("lcm_graph"), tokens(9)
    context = compress(model, ids, Everything())
    with context.attached(model):
        before = model(ids, cache=context.cache()).logits
        with pytest.raises(ValueError, match="no context attached"):
            compress(model, ids, Everything())
        with pytest.raises(ValueError, match="no context attached"), context.attached(model):
            pass
        assert torch.equal(model(ids, cache=context.cache()).logits, before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bounded_cache(1, 4, n_sink=4), "'budget' must be above"),
        (lambda: bounded_cache(1, 9).layers[0].observe(torch.ones(2)), "at most the 0 tokens seen"),
        (lambda: Surprisal(-1.0), r"'fraction' must be from 0 to 1 \(got -1.0\)"),
        (lambda: HeadEntropy(5.0), r"'fraction' must be from 0 to 1 \(got 5.0\)"),
        (lambda: HeadEntropy(0.5, window=-1), r"'window' must be at least 0 \(got -1\)"),
        (lambda: Clusters(0.5, block=0), "'block' must be"),
        (lambda: Clusters(0.5, window=-1), r"'window' must be at least 0 \(got -1\)"),
        (lambda: Surprisal(0.2, n_sink=-3), r"'n_sink' must be at least 0 \(got -3\)"),
        (lambda: FirstAndLatest(0.2, n_sink=-3), "'n_sink' must be at least 0"),
        (lambda: FirstAndLatest(0.2, limit=-3), "'limit' must be at least 0"),
        (lambda: HeadEntropy(0.5, pool=4), "'pool' must be odd"),
        (lambda: HeadEntropy(0.5, ratio=0.5), "'ratio' must be at least 1"),
        (lambda: Clusters(0.5, tail="none"), "'tail' must be one of"),
        (lambda: Clusters(0.5, clusters=0), "'clusters' must be a number from 1 up"),
        (
            lambda: compress(llama("lcm_graph"), tokens(3), Everything(), window=0),
            "'window' must be",
        ),
        (lambda: compress(llama("sdpa"), tokens(3), Everything()), "attn_implementation='lcm_gr"),
        (lambda: compress(torch.nn.ReLU(), tokens(3), Everything()), "got 'ReLU'"),
        (lambda: compress(llama("lcm_graph"), tokens(3)[0], Everything()), "'input_ids' must be"),
    ],
)
def test_bad_input(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_a_policy_is_an_object() -> None:
    for policy in (Everything, 0.2, [Everything(), 0.2]):
        with pytest.raises(TypeError, match="'policies' must be one or several, such as"):
            compress(llama("lcm_graph"), tokens(3), policy)  # type: ignore[arg-type]


def generated(model: Any, ids: Tensor, cache: Any, **more: Any) -> Tensor:
    """Four tokens more, of which none is drawn or hidden."""
    found: Tensor = model.generate(
        ids, cache=cache, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False,
        pad_token_id=0, **more,
    )  # fmt: skip
    return found


@torch.no_grad()
@pytest.mark.parametrize("policy", [Everything(), Clusters(0.3, clusters=0.2, block=3)], ids=str)
def test_one_context_before_several_questions(policy: Policy) -> None:
    """Or beams, whose logits are those of each alone."""
    model, ids, more = llama("lcm_graph"), tokens(20, batch=1), tokens(6, batch=3)
    context = compress(model, ids, policy)
    with context.attached(model):
        found = model(more, cache=context.cache()).logits
        each = [model(one, cache=context.cache()).logits for one in more.split(1)]
        assert error(found, torch.cat(each)) <= 1e-5
        asked = torch.cat([ids, more[:1]], 1)
        beams = generated(model, asked, context.cache(), num_beams=3)
    assert beams.shape == (1, 30)
    two = compress(model, tokens(20), policy)
    with two.attached(model), pytest.raises(ValueError, match=r"context's batch of 2, .*\(got 3"):
        model(more, cache=two.cache())
    with two.attached(model):
        asked = torch.cat([tokens(20), more[:2]], 1)
        beams = generated(model, asked, two.cache(), num_beams=3, num_return_sequences=3)
        again = more[:2].repeat_interleave(2, 0)
        found = model(again, cache=two.cache()).logits
        each = model(more[:2], cache=two.cache()).logits
    assert beams.shape == (6, 30)
    assert error(found, each.repeat_interleave(2, 0)) <= 1e-5


@torch.no_grad()
def test_calls_that_would_not_see_the_context() -> None:
    model, ids, more = llama("lcm_graph"), tokens(20, batch=1), tokens(3, batch=1)
    context, other = (compress(model, ids, Everything()) for _ in range(2))
    both = torch.cat([ids, more], 1)
    with context.attached(model):
        for cache in (None, DynamicCache(), other.cache()):
            with pytest.raises(ValueError, match=r"called with cache=context.cache\(\)"):
                model(more, cache=cache)
        with pytest.raises(ValueError, match="the context's ids before the question's"):
            model.generate(more, cache=context.cache(), max_new_tokens=2, pad_token_id=0)
        mask = torch.ones_like(both)
        seen = model(more, cache=context.cache(), attention_mask=mask).logits
        mask[:, 2] = 0
        with pytest.raises(ValueError, match="must be 1 for the 20 tokens of the context"):
            model(more, cache=context.cache(), attention_mask=mask)
        with pytest.raises(ValueError, match=r"all after it, \[B, 23\] \(got \[1, 3\]\): l"):
            model(more, cache=context.cache(), attention_mask=torch.ones_like(more))
        found = generated(model, both, context.cache())
    assert error(seen, model(both).logits[:, 20:]) <= 1e-5
    assert torch.equal(found, generated(model, both, None))
    with pytest.raises(RuntimeError, match="a context that is not attached"):
        model(more, cache=context.cache())
    with (
        context.attached(model),
        pytest.raises(RuntimeError, match="a context that is not attached"),
    ):
        llama("lcm_graph")(more, cache=context.cache())
    with context.attached(model):
        for hides in (mask, torch.ones_like(more)):
            with pytest.raises(ValueError, match="'attention_mask' must be"):
                model(more, hides, cache=context.cache())
            with pytest.raises(ValueError, match="'attention_mask' must be"):
                model.model(more, hides, cache=context.cache())
        for later in (torch.ones(1, 1), torch.ones(1, 3), 1 - torch.eye(23)[2:3]):
            cache = context.cache()
            model(more[:, :2], cache=cache)
            with pytest.raises(ValueError, match="'attention_mask' must be"):
                model(more[:, 2:], cache=cache, attention_mask=later.long())
        with pytest.raises(ValueError, match=r"after the context, \[B, heads, queries, 3\]"):
            model(more, cache=context.cache(), attention_mask=torch.ones(1, 1, 3, 23).bool())
        cache = context.cache()
        first = model(more[:, :2], cache=cache).logits
        copied = copy.deepcopy(cache)
        second = [model(more[:, 2:], cache=one).logits for one in (cache, copied)]
    assert error(torch.cat([first, second[1]], 1), seen) <= 1e-5
    assert torch.equal(*second) and copied.layers[0].context is context


def test_gradients_by_checkpoints() -> None:
    """transformers drops the cache layer by layer, after positions are known."""
    model, ids, more = llama("lcm_graph"), tokens(20), tokens(5)
    context = compress(model, ids, Everything())

    def gradient() -> Tensor:
        model.zero_grad()
        with context.attached(model):
            model(more, cache=context.cache()).logits.square().sum().backward()
        return torch.cat([one.grad.flatten() for one in model.parameters()])

    model.train()
    expected = gradient()
    model.activation_checkpointing_enable()
    assert error(gradient(), expected) <= 1e-6


def small(config: type, **more: Any) -> Any:
    """A model of another kind, of two layers."""
    register_attention()
    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "pad_token_id": 0,
    }  # fmt: skip
    given = config(**(sizes | more))
    return AutoModelForCausalLM.from_config(given, attn_implementation="lcm_graph").eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "others"),
    [
        (GPTNeoXConfig, {}),
        (GPT2Config, {}),
        (Qwen3Config, {"head_dim": 8, "num_key_value_heads": 2}),
    ],
)
def test_other_models(config: type, others: dict[str, int]) -> None:
    model, ids, more = small(config, **others), tokens(20), tokens(5)
    expected = model(torch.cat([ids, more], 1)).logits[:, 20:]
    assert error(continued(model, ids, more, Everything()), expected) <= 1e-5


def model_alone(model: Any, ids: Tensor) -> Tensor:
    """Logits of a copy that has no context attached."""
    alone = type(model)(model.config)
    alone.load_state_dict(model.state_dict())
    return alone.eval()(ids).logits


@torch.no_grad()
def test_models_that_it_would_answer_wrongly_for() -> None:
    ids = tokens(30)
    windowed = small(MistralConfig, sliding_window=8, num_key_value_heads=2)
    expected = small(MistralConfig, sliding_window=8, num_key_value_heads=2)
    expected.set_attn_implementation("eager")
    assert error(windowed(ids).logits, expected(ids).logits) <= 1e-5
    chunked = small(
        Llama4TextConfig, attention_chunk_size=8, head_dim=8, num_key_value_heads=2,
        num_local_experts=2,
    )  # fmt: skip
    sliding = ["sliding_attention"] * LAYERS
    unheard = small(
        Qwen2MoeConfig, layer_types=sliding, sliding_window=8, num_key_value_heads=2,
        use_sliding_window=True, num_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    for model in (windowed, chunked, unheard):
        with pytest.raises(ValueError, match="hides a part of it"):
            compress(model, ids, Everything())
        context = compress(model, ids[:, :6], Everything())
        with context.attached(model):
            near = model(ids[:, 6:8], cache=context.cache()).logits
            assert error(near, model_alone(model, ids[:, :8])[:, 6:]) <= 1e-5
            with pytest.raises(ValueError, match="sees at most 8 tokens"):
                model(ids[:, 6:9], cache=context.cache())
    capped = small(Gemma2Config, head_dim=8, num_key_value_heads=2)
    with pytest.raises(ValueError, match="no attention with 'softcap'"):
        capped(ids)
    with_sinks = small(GptOssConfig, head_dim=8, num_key_value_heads=2, num_local_experts=2)
    with pytest.raises(ValueError, match="no attention with 's_aux'"):
        with_sinks(ids)
    twice = small(GPT2Config, add_cross_attention=True)
    with pytest.raises(ValueError, match=r"one attention a layer .*GPT2Attention of layers \[0, 0"):
        compress(twice, ids, Everything())


def test_the_rotary_embedding_of_a_model() -> None:
    rope, x = rope_of(llama("sdpa")), torch.randn(3, 20, 8)
    positions = torch.arange(20)
    assert error(rope(x, positions), Rope(8)(x, positions)) <= 1e-6
    scaled = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
    slow = rope_of(small(Qwen3Config, head_dim=8, num_key_value_heads=2, rope_parameters=scaled))
    assert error(slow(x, 4 * positions), rope(x, positions)) <= 1e-6
    changing = scaled | {"rope_type": "dynamic"}
    for model, says in (
        (small(GPT2Config), "with one rotary embedding .got GPT2LMHeadModel with 0"),
        (
            small(CohereConfig, num_key_value_heads=4),
            "features i and i . d/2 together, .*got CohereForCausalLM",
        ),
        (small(GPTNeoXConfig), "must turn all 8 features of a head .got a rotary embedding of 2"),
        (
            small(Qwen3Config, head_dim=8, num_key_value_heads=2, rope_parameters=changing),
            "fixed frequencies .got 'dynamic'",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            rope_of(model)
