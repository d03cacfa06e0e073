"""``attend`` against the formula, in every backend."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lcm_graph.attention import AttentionState, attend, merge
from lcm_graph.attention.dense import BACKENDS, call, chunked, plain
from lcm_graph.attention.dense.chunked import chunked_attention
from lcm_graph.attention.dense.inputs import Inputs
from lcm_graph.attention.dense.kernel import kernel_attention
from lcm_graph.attention.dense.plain import plain_attention
from tests.references import error

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-6}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK", 5)
    monkeypatch.setattr(call, "CHUNK", 5)


def reference(q: Tensor, k: Tensor, v: Tensor, added: Tensor | float = 0.0) -> AttentionState:
    """Written down, with heads repeated."""
    if q.dim() > 2:
        times = q.size(-3) // k.size(-3)
        k, v = k.repeat_interleave(times, -3), v.repeat_interleave(times, -3)
    logits = (q @ k.mT) * q.size(-1) ** -0.5 + added
    hidden = (logits == -math.inf).all(-1, keepdim=True)
    logits = logits.masked_fill(hidden, 0)
    lse = logits.logsumexp(-1).masked_fill(hidden.squeeze(-1), -math.inf)
    return AttentionState(logits.softmax(-1).masked_fill(hidden, 0) @ v, lse)


def tensors(
    shape: tuple[int, ...], n: int, m: int, d: int, c: int, shared: int, dtype: torch.dtype
) -> list[Tensor]:
    """Queries, keys and values; ``shared`` heads of queries share one of keys."""
    heads = (*shape[:-1], shape[-1] // shared) if shape else ()
    return [
        torch.randn(*lead, size, features).to(dtype)
        for lead, size, features in ((shape, n, d), (heads, m, d), (heads, m, c))
    ]


def added_to(kind: str, lead: tuple[int, ...], n: int, m: int) -> dict[str, Tensor | bool]:
    """Arguments that hide or favour keys; the first query sees none, if any are hidden."""
    if kind == "causal":
        return {"causal": True}
    if kind == "mask":
        mask = torch.rand(n, m) > 0.4
        mask[:1] = False
        return {"mask": mask}
    if kind == "mask of heads":
        mask = torch.rand(*lead, n, m) > 0.4
        mask[..., :1, :] = False
        return {"mask": mask}
    if kind == "bias":
        return {"bias": torch.randn(*lead[-1:], 1, m)}
    if kind == "all":
        return {"bias": torch.randn(n, 1), "mask": torch.rand(m) > 0.4, "causal": True}
    return {}


def as_bias(arguments: dict[str, Tensor | bool], n: int, m: int) -> Tensor:
    added = torch.zeros(n, m)
    if "bias" in arguments:
        added = added + arguments["bias"]
    if "mask" in arguments:
        added = added.masked_fill(~torch.as_tensor(arguments["mask"]), -math.inf)
    if "causal" in arguments:
        sees = torch.arange(m) <= torch.arange(n).unsqueeze(1) + m - n
        added = added.masked_fill(~sees, -math.inf)
    return added


SHAPES = {"2d": ((), 1), "heads": ((4,), 1), "batch": ((2, 4), 1), "groups": ((2, 4), 2)}
KINDS = ("plain", "causal", "mask", "mask of heads", "bias", "all")


@pytest.mark.parametrize(
    ("backend", "shape"),
    [(b, s) for b in BACKENDS for s in SHAPES if (b, s) != ("kernel", "2d")],  # it wants heads
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values(backend: str, kind: str, shape: str, dtype: torch.dtype) -> None:
    lead, shared = SHAPES[shape]
    for n, m in ((1, 1), (3, 2), (2, 3), (16, 17), (17, 16)):
        q, k, v = tensors(lead, n, m, 4, 4, shared, dtype)
        arguments = added_to(kind, lead, n, m)
        found = attend(q, k, v, backend=backend, **arguments)  # type: ignore[arg-type]
        wide = torch.promote_types(dtype, torch.float32)
        added = as_bias(arguments, n, m).to(wide)
        expected = reference(q.to(wide), k.to(wide), v.to(wide), added)
        assert found.out.dtype == found.lse.dtype == wide
        assert found.out.shape == expected.out.shape and found.lse.shape == expected.lse.shape
        assert error(found.out, expected.out) <= TOLERANCE[dtype]
        seen = expected.lse != -math.inf
        assert torch.equal(found.lse != -math.inf, seen)
        assert error(found.lse[seen], expected.lse[seen]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("backend", ["plain", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(backend: str, kind: str, shape: str) -> None:
    """Through values and through ``lse``, on random cotangents."""
    lead, shared = SHAPES[shape]
    for n, m in ((1, 1), (3, 17), (16, 6)):
        inputs = tensors(lead, n, m, 4, 3, shared, torch.float64)
        arguments = added_to(kind, lead, n, m)
        if "bias" in arguments:
            bias = torch.as_tensor(arguments["bias"]).double().requires_grad_()
            arguments["bias"] = bias
            inputs.append(bias)
        for tensor in inputs:
            tensor.requires_grad_()
        found = attend(*inputs[:3], backend=backend, **arguments)  # type: ignore[arg-type]
        q, k, v = inputs[:3]
        expected = reference(q, k, v, as_bias(arguments, n, m).double())
        cotangents = torch.randn_like(found.out), torch.randn_like(found.lse)
        grads = []
        for out, lse in (found, expected):
            seen = expected.lse != -math.inf
            loss = (cotangents[0] * out).sum() + (cotangents[1] * lse)[seen].sum()
            grads.append(torch.autograd.grad(loss, inputs))
        for mine, theirs in zip(*grads, strict=True):
            assert error(mine, theirs) <= 1e-11


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_scaled_dot_product_attention(backend: str | None) -> None:
    q, k, v = tensors((2, 4), 9, 9, 8, 8, 1, torch.float32)
    for causal in (False, True):
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        assert error(attend(q, k, v, causal=causal, backend=backend).out, expected) <= 2e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_huge_logits(backend: str) -> None:
    """Of ±1e4: the largest wins, nothing overflows."""
    q, k, v = tensors((1, 2), 6, 17, 4, 4, 1, torch.float32)
    q = 1e4 * q
    found, expected = attend(q, k, v, backend=backend), reference(q, k, v)
    assert found.out.isfinite().all() and found.lse.abs().max() > 1e4
    assert error(found.out, expected.out) <= 1e-3 and error(found.lse, expected.lse) <= 1e-6
    if backend != "kernel":
        q.requires_grad_()
        state = attend(q, k, v, backend=backend)
        (state.out.sum() + state.lse.sum()).backward()
        assert q.grad is not None and q.grad.isfinite().all()


@pytest.mark.parametrize("backend", [None, "plain", "chunked"])
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_ask_or_to_see(backend: str | None, n: int, m: int) -> None:
    q, k, v = tensors((2, 4), n, m, 4, 3, 2, torch.float32)
    q.requires_grad_()
    found = attend(q, k, v, backend=backend)
    assert found.out.shape == (2, 4, n, 3) and (found.out == 0).all()
    assert found.lse.shape == (2, 4, n) and (found.lse == -math.inf).all()
    found.out.sum().backward()
    assert q.grad is not None and (q.grad == 0).all()
    with torch.no_grad():
        assert attend(q, k, v).lse.shape == (2, 4, n)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_the_keys_merge(backend: str) -> None:
    """Mini-batch consistency: any split, parts of no key among them."""
    q, k, v = tensors((2, 4), 7, 40, 4, 4, 2, torch.float32)
    expected = attend(q, k, v, backend=backend)
    for _ in range(5):
        cuts = torch.randint(0, 41, (4,)).sort().values
        parts = zip(k.tensor_split(cuts, -2), v.tensor_split(cuts, -2), strict=True)
        found = merge(*(attend(q, some, other) for some, other in parts))
        assert error(found.out, expected.out) <= 2e-6
        assert error(found.lse, expected.lse) <= 2e-6


def test_the_gradient_of_merged_parts() -> None:
    """What kernels get wrong: the gradient through ``lse`` that a merge needs."""
    q, k, v = (t.requires_grad_() for t in tensors((2,), 7, 40, 4, 4, 1, torch.float64))
    cotangent = torch.randn(2, 7, 4, dtype=torch.float64)
    expected = torch.autograd.grad((reference(q, k, v).out * cotangent).sum(), (q, k, v))
    for backend in ("plain", "chunked"):
        halves = ((k[:, at], v[:, at]) for at in (slice(0, 13), slice(13, 40)))
        state = merge(*(attend(q, some, other, backend=backend) for some, other in halves))
        found = torch.autograd.grad((state.out * cotangent).sum(), (q, k, v))
        for mine, theirs in zip(found, expected, strict=True):
            assert error(mine, theirs) <= 1e-11


@pytest.mark.parametrize("backend", ["plain", "chunked"])
def test_second_derivatives(backend: str) -> None:
    q, k, v = (t.requires_grad_() for t in tensors((2,), 3, 7, 2, 2, 2, torch.float64))
    bias = torch.randn(2, 1, 7, dtype=torch.float64, requires_grad=True)

    def state(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return tuple(attend(q, k, v, bias=bias, backend=backend))

    assert torch.autograd.gradcheck(
        state, (q, k, v, bias), check_forward_ad=backend == "plain", check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(state, (q, k, v, bias))
    assert torch.autograd.gradgradcheck(lambda k: state(q.detach(), k, v.detach(), bias), (k,))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", ["q", "k", "v"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_strides(backend: str, which: str, dtype: torch.dtype) -> None:
    """Transposed, expanded, stepped: the kernel reads features as if they lay side by side."""
    clean = dict(zip("qkv", tensors((2, 4), 5, 7, 8, 8, 1, dtype), strict=True))
    one = clean[which]
    strided = {
        "transposed": one.mT.contiguous().mT,
        "expanded": one[..., :1].expand(one.shape),
        "stepped": one.repeat_interleave(2, -1)[..., ::2],
        "tokens": one.repeat_interleave(2, -2)[..., ::2, :],
        "heads last": one.transpose(1, 2).contiguous().transpose(1, 2),
    }
    for name, other in strided.items():
        given = {**clean, which: other}
        found = attend(given["q"], given["k"], given["v"], backend=backend)
        wide = {n: t.to(found.out.dtype) for n, t in {**clean, which: other.clone()}.items()}
        expected = reference(**wide)
        assert error(found.out, expected.out) <= TOLERANCE[dtype], name
        assert error(found.lse, expected.lse) <= TOLERANCE[dtype], name


@pytest.mark.parametrize("m", [3, 17])  # one chunk, and several
def test_autocast_does_not_narrow(m: int) -> None:
    q, k, v = (t.requires_grad_() for t in tensors((2, 4), 6, m, 8, 8, 1, torch.float32))
    expected = attend(q, k, v)
    cotangent = torch.randn_like(expected.out)
    wanted = torch.autograd.grad((expected.out * cotangent).sum(), (q, k, v))
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v)
    grads = torch.autograd.grad((found.out * cotangent).sum(), (q, k, v))
    assert torch.equal(found.out, expected.out) and torch.equal(found.lse, expected.lse)
    assert all(map(torch.equal, grads, wanted))


def test_causal_attention_keeps_no_table() -> None:
    """What is saved for the backward pass is inputs and answers, not who sees whom."""
    q, k, v = (t.requires_grad_() for t in tensors((1,), 40, 40, 4, 4, 1, torch.float32))
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        attend(q, k, v, causal=True)
    assert sizes and max(sizes) < 40 * 40


@pytest.mark.parametrize(("n", "m"), [(40, 40), (3, 40), (40, 3), (41, 17)])
def test_causal_chunks_leave_out_queries_that_see_none(
    monkeypatch: pytest.MonkeyPatch, n: int, m: int
) -> None:
    """Half of the logits, and what the edges of chunks add; forward and backward."""
    computed: list[int] = []

    def noted(inputs: Inputs, q: Tensor, k: Tensor) -> Tensor:
        logits = plain.logits_of(inputs, q, k)
        computed.append(logits.numel())
        return logits

    def noted_attention(inputs: Inputs) -> AttentionState:
        computed.append(inputs.q.size(-2) * inputs.k.size(-2))
        return plain_attention(inputs)

    monkeypatch.setattr(chunked, "logits_of", noted)
    monkeypatch.setattr(chunked, "plain_attention", noted_attention)
    q, k, v = (t.requires_grad_() for t in tensors((), n, m, 4, 4, 1, torch.float32))
    found = attend(q, k, v, causal=True, backend="chunked")
    seen = int((as_bias({"causal": True}, n, m) == 0).sum())
    most = seen + 5 * m  # a chunk's keys are seen by some of its queries
    assert seen <= sum(computed) <= most
    computed.clear()
    found.out.sum().backward()
    assert seen <= sum(computed) <= most


def test_no_features() -> None:
    """All keys are alike then."""
    q, k, v = tensors((2,), 3, 5, 0, 4, 1, torch.float32)
    assert error(attend(q, k, v).out, v.mean(1, keepdim=True).expand(2, 3, 4)) <= 1e-6


def test_functional_transforms() -> None:
    """Which look into all operations, whatever the number of keys."""
    q, k, v = tensors((3, 2), 4, 7, 2, 2, 1, torch.float64)
    expected = torch.func.jacrev(lambda q: reference(q, k[0], v[0]).out)(q[0])
    assert error(torch.func.jacfwd(lambda q: attend(q, k[0], v[0]).out)(q[0]), expected) <= 1e-12
    mapped = torch.func.vmap(attend)(q, k, v)
    assert error(mapped.out, attend(q, k, v).out) <= 1e-12


def test_the_backend_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is for what asks for no gradient, and only where it is right."""
    called: list[str] = []

    def spy(name: str, original: Callable[[Inputs], AttentionState]) -> None:
        def noted(inputs: Inputs) -> AttentionState:
            called.append(name)
            return original(inputs)

        monkeypatch.setattr(call, f"{name}_attention", noted)

    spy("plain", plain_attention)
    spy("chunked", chunked_attention)
    spy("kernel", kernel_attention)
    q, k, v = tensors((2, 4), 3, 4, 4, 4, 1, torch.float32)
    attend(q, k, v)
    attend(q, k, v[..., :2])
    attend(q.requires_grad_(), k, v)
    attend(q, *tensors((2, 4), 1, 6, 4, 4, 1, torch.float32)[1:])
    with torch.no_grad():
        attend(q, k, v)
    assert called == ["kernel", "plain", "plain", "chunked", "kernel"]


Q, K, V = torch.ones(1, 4, 3, 2), torch.ones(1, 2, 5, 2), torch.ones(1, 2, 5, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((Q[0, 0, 0], K, V), r"'q' must be floating point \[..., tokens, features\] \(got \[2\]"),
        ((Q, K.long(), V), "'k' must be floating point"),
        ((Q, K.double(), V), "'k' must be torch.float32 on cpu as 'q' is"),
        ((Q, K[0], V[0]), "as many dimensions"),
        ((Q, K, V[:, :, 1:]), "M and D in common"),
        ((Q, K[..., :1], V), "M and D in common"),
        ((Q[:, :3], K, V), "or a divisor of their number"),
        ((Q.expand(2, 4, 3, 2), K, V), "must have the batch of 'q'"),
        ((Q, K, V, {"mask": torch.ones(3, 5)}), "'mask' must be bool"),
        ((Q, K, V, {"bias": torch.ones(3, 5, dtype=torch.bool)}), "'bias' must be floating point"),
        ((Q, K, V, {"bias": torch.ones(3, 5).long()}), "'bias' must be floating point"),
        ((Q, K, V, {"scale": torch.ones(())}), r"'scale' must be a number.*got a Tensor \[\]"),
        ((Q, K, V, {"mask": torch.ones(3, 4, dtype=torch.bool)}), r"broadcast .*\[1, 4, 3, 5\]"),
        ((Q, K, V, {"bias": torch.ones(2, 1, 4, 3, 5)}), "'bias' must broadcast"),
        ((Q, K, V, {"backend": "flash"}), "'backend' must be one of plain, chunked, kernel"),
        (
            (Q.clone().requires_grad_(), K, V, {"backend": "kernel"}),
            "not 'kernel': it gives no gradient of lse",
        ),
    ],
)
def test_bad_input(arguments: tuple[object, ...], says: str) -> None:
    *args, last = arguments
    keywords = last if isinstance(last, dict) else {}
    args = args if keywords else [*args, last]
    with pytest.raises(ValueError, match=says):
        attend(*args, **keywords)  # type: ignore[arg-type]


def test_it_compiles_for_numbers_that_change() -> None:
    """A scale, and how many features there are."""
    torch._dynamo.reset()
    by_scale = torch.compile(
        lambda q, scale: attend(q, q, q, scale=scale).out, fullgraph=True, backend="eager"
    )
    for features, scale in ((8, 0.1), (8, 0.2), (12, 0.3), (16, 0.3)):
        q = torch.randn(1, 2, 4, features)
        assert error(by_scale(q, scale), attend(q, q, q, scale=scale).out) <= 1e-5


def test_tensors_without_numbers() -> None:
    with FakeTensorMode():
        state = attend(*(torch.randn(1, 2, 3, 4) for _ in range(3)))
    assert state.out.shape == (1, 2, 3, 4) and state.lse.shape == (1, 2, 3)


@pytest.mark.parametrize("m", [1, 3, 15, 16, 40, 513])
@pytest.mark.parametrize("masked", [False, True])
def test_nan_is_not_lost(m: int, masked: bool) -> None:
    """Whether gradients are asked for or not: torch's kernel would answer 0 of few keys."""
    q, k, v = (torch.randn(1, 2, size, 8) for size in (4, m, m))
    q[0, 0, 1], k[0, 1, m // 2] = math.nan, math.nan
    mask = torch.ones(4, m, dtype=torch.bool) if masked else None
    if mask is not None:
        mask[2] = False
        mask[2, m // 2] = True
    for backend in ("plain", "chunked", "kernel", None):
        state = attend(q, k, v, mask=mask, backend=backend)
        for found in (state.out[..., 0], state.lse):
            assert found.isnan()[0].tolist() == [[False, True, False, False], [True] * 4]


# 2026-11: torch 2.13 traces autograd functions by making one.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("m", [4, 16])
def test_it_compiles_whole(m: int, causal: bool) -> None:
    """Values and gradients, of few keys and of many."""
    inputs = [torch.randn(1, 2, size, 8, requires_grad=True) for size in (m, m, m)]
    cotangents = [torch.randn(1, 2, m, 8), torch.randn(1, 2, m)]

    def run(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return attend(q, k, v, causal=causal)

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found, expected = (
        [*state, *torch.autograd.grad(tuple(state), inputs, cotangents)]
        for state in (compiled(*inputs), run(*inputs))
    )
    for mine, theirs in zip(found, expected, strict=True):
        assert error(mine, theirs) <= 1e-5
