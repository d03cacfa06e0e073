"""The fold as an operator of torch, whichever backend folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.autograd import forward_ad

from lcm_graph import FoldPlan, LCMAggregation, segment_reduce
from lcm_graph.kernels import backend, record_kernels
from lcm_graph.kernels.binary_gru import reference, torch_fold
from lcm_graph.kernels.binary_gru.op import binary_gru_fold, binary_gru_fold_backward
from lcm_graph.kernels.binary_gru.weights import butterfly, cell_gradients
from lcm_graph.monoids import BinaryGRU
from tests.references import GeneralGRU, error, gradients, index_of

SIZES = (0, 1, 2, 3, 0, 16, 17, 5, 33, 1)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def batch(channels: int, dtype: torch.dtype, sizes: tuple[int, ...] = SIZES) -> tuple[Any, ...]:
    index = index_of(sizes)[torch.randperm(sum(sizes))]
    plan = FoldPlan.from_index(index, len(sizes))
    return BinaryGRU(channels).to(dtype), torch.randn(len(index), channels, dtype=dtype), plan


def arguments(
    monoid: BinaryGRU, x: Tensor, plan: FoldPlan, keep: bool = True, how: str = "torch"
) -> tuple[Any, ...]:
    tree = plan.tree
    cell = (monoid.weight_ih, monoid.weight_hh, monoid.bias_ih, monoid.bias_hh)
    rows = (tree.left, tree.right, tree.singles, tree.roots, tree.sizes, plan.level_ptr)
    return (x, *rows, *cell, plan.source is None, keep, how)


def fold(monoid: BinaryGRU, x: Tensor, plan: FoldPlan, recompute: bool | None = None) -> Tensor:
    return monoid.lower(segment_reduce(monoid, monoid.lift(x), plan=plan, recompute=recompute))


@pytest.mark.parametrize("gather", ["distinct", "gathered", "rows multiplied"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_torch_fold_is_the_reference(
    dtype: torch.dtype,
    channels: int,
    recompute: bool,
    gather: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(torch_fold.CHUNK_NUMBERS, "cpu", 1)  # several chunks a level
    if gather == "rows multiplied":
        monkeypatch.setattr(torch_fold, "ROWS_CHANNELS", 1)
    monoid, x, plan = batch(channels, dtype, (*SIZES, 300))
    if gather != "distinct":
        x = x[:40].contiguous()
        plan = plan.gather(torch.randint(0, 40, (plan.num_elements,)), 40)
    with torch.no_grad():
        weights = butterfly(monoid.weight_ih, monoid.weight_hh, monoid.bias_ih, monoid.bias_hh)
        expected = reference.fold(x, plan.tree, weights)
        cotangent = torch.randn(plan.tree.roots.numel(), channels, dtype=dtype)
        grad_x, grads = reference.fold_backward(x, plan.tree, weights, expected, cotangent)
    x.requires_grad_()
    with backend("torch"):
        roots, nodes, kept = binary_gru_fold(*arguments(monoid, x, plan, keep=not recompute))
    used = torch_fold._multiplied_rows(x, plan.tree, torch_fold._products(weights))
    assert (used is not None) == (gather == "rows multiplied")
    assert kept.shape == (0 if recompute else plan.tree.left.numel(), 8 * channels)
    assert error(nodes, expected) <= TOLERANCE[dtype]
    inputs = [x, monoid.weight_ih, monoid.weight_hh, monoid.bias_ih, monoid.bias_hh]
    found = torch.autograd.grad(roots, inputs, cotangent)
    for got, wanted in zip(found, [grad_x, *cell_gradients(grads)], strict=True):
        assert error(got, wanted) <= TOLERANCE[dtype]


@pytest.mark.parametrize("gather", [False, True], ids=["distinct", "gathered"])
@pytest.mark.parametrize("name", ["torch", "triton", "compile"])
def test_backends_agree(name: str, gather: bool) -> None:
    monoid, x, plan = batch(6, torch.float32, (*SIZES, 90))
    if gather:
        x = x[:40].contiguous()
        plan = plan.gather(torch.randint(0, 40, (plan.num_elements,)), 40)
    general = GeneralGRU(6)
    general.load_state_dict(monoid.state_dict())
    x.requires_grad_()
    expected = fold(general, x, plan)
    with backend(name), record_kernels() as ran:
        out = fold(monoid, x, plan)
        found = gradients(out, [x, *monoid.parameters()])
    assert ran == [f"binary_gru/{name}", f"binary_gru_backward/{name}"]
    assert error(out, expected) <= 1e-5
    wanted = gradients(expected, [x, *general.parameters()])
    for got, want in zip(found, wanted, strict=True):
        assert error(got, want) <= 1e-5


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_whose_turn_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward pass takes the way of its forward pass, also after the block."""
    monoid, x, plan = batch(4, torch.float32)
    x.requires_grad_()
    with record_kernels() as ran:
        with backend(name):
            out = fold(monoid, x, plan)
        out.sum().backward()
    assert ran == [f"binary_gru/{name}", f"binary_gru_backward/{name}"]
    with record_kernels() as ran:
        fold(GeneralGRU(4), x, plan)
        hooked = BinaryGRU(4)
        hooked.register_forward_hook(lambda *_: None)
        fold(hooked, x, plan)
        patched = BinaryGRU(4)
        monkeypatch.setattr(patched, "operator", torch.maximum)
        assert torch.equal(fold(patched, x, plan)[1], x[plan.index == 1].squeeze(0))
        weighed = monoid.weigh(monoid.lift(x), torch.ones(len(x)))
        segment_reduce(monoid, weighed, plan=plan)
        torch.func.vmap(lambda x: fold(monoid, x, plan))(torch.randn(2, *x.shape))
    assert ran == []


@pytest.mark.parametrize("name", ["torch", "triton"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype, name: str) -> None:
    monoid, x, plan = batch(8, dtype)
    x.requires_grad_()
    wide = BinaryGRU(8)
    wide.load_state_dict(monoid.state_dict())
    wide_x = x.detach().float().requires_grad_()
    cotangent = torch.randn(plan.num_sets, 8)
    with backend(name), record_kernels() as ran:
        out = fold(monoid, x, plan)
        assert out.dtype == dtype
        assert bool(ran) == (name == "triton")  # torch's own takes the general way
        found = torch.autograd.grad(out, [x, *monoid.parameters()], cotangent.to(dtype))
    expected = fold(wide, wide_x, plan)
    wanted = torch.autograd.grad(expected, [wide_x, *wide.parameters()], cotangent)
    assert error(out.float(), expected) <= 0.03
    for got, want in zip(found, wanted, strict=True):
        assert error(got.float(), want) <= 0.06


def test_opcheck() -> None:
    monoid, x, plan = batch(3, torch.float64, (0, 3, 1, 6))
    given = arguments(monoid, x.requires_grad_(), plan)
    # Tracing with gradients compares all outputs after the backward pass, which uses up nodes.
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(binary_gru_fold, given, test_utils=utilities)
    given = tuple(t.detach() if isinstance(t, Tensor) else t for t in given)
    torch.library.opcheck(binary_gru_fold, given)
    roots, nodes, kept = binary_gru_fold(*given)
    rest = (*given[1:11], True, "torch")
    torch.library.opcheck(
        binary_gru_fold_backward, (torch.randn_like(roots), given[0], nodes, kept, *rest)
    )


def test_layer_compiled_whole() -> None:
    """One operator in the graph, which stays the same for sets of other sizes."""
    torch._dynamo.reset()
    aggr = LCMAggregation(4, 4)
    compiled = torch.compile(aggr, backend="aot_eager")
    graphs = []
    for sizes in ((3, 7, 1), (3, 9, 5), (21, 5, 5), (1, 41, 9), (3, 3, 3), (91, 1, 1)):
        x = torch.randn(sum(sizes), 4, requires_grad=True)
        inputs = [x, *aggr.parameters()]
        with record_kernels() as ran:
            out = compiled(x, index_of(sizes), dim_size=3)
            found = gradients(out, inputs)
        assert ran == ["binary_gru/torch", "binary_gru_backward/torch"]
        expected = aggr(x, index_of(sizes), dim_size=3)
        assert error(out, expected) <= 1e-6
        for got, wanted in zip(found, gradients(expected, inputs), strict=True):
            assert error(got, wanted) <= 1e-5
        graphs.append(counters["stats"]["unique_graphs"])
    # The second tells that sizes change. (A size of 0 or 1 has a graph of its own.)
    assert graphs[1:] == [graphs[1]] * 5


def test_gradcheck_and_second_derivatives() -> None:
    monoid, x, plan = batch(2, torch.float64, (2, 0, 3, 1))
    for p in monoid.parameters():
        torch.nn.init.normal_(p)
    cell = (monoid.weight_ih, monoid.weight_hh, monoid.bias_ih, monoid.bias_hh)

    def roots(x: Tensor, *cell: Tensor) -> Tensor:
        given = arguments(monoid, x, plan)
        return binary_gru_fold(given[0], *given[1:7], *cell, *given[11:])[0]

    inputs = [t.detach().clone().requires_grad_() for t in (x, *cell)]
    assert torch.autograd.gradcheck(roots, inputs)
    assert torch.autograd.gradgradcheck(roots, inputs)


def test_forward_mode_is_refused_by_the_operator_and_taken_by_the_fold() -> None:
    monoid, x, plan = batch(3, torch.float64)
    tangent = torch.randn_like(x)
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(x, tangent)
        with pytest.raises(RuntimeError, match="binary_gru_fold has no forward-mode derivative"):
            binary_gru_fold(*arguments(monoid, dual, plan))
    general = GeneralGRU(3).double()
    general.load_state_dict(monoid.state_dict())
    with record_kernels() as ran:
        got = torch.func.jvp(lambda x: fold(monoid, x, plan), (x,), (tangent,))[1]
    wanted = torch.func.jvp(lambda x: fold(general, x, plan), (x,), (tangent,))[1]
    assert wanted.any()
    assert error(got, wanted) <= 1e-10
    assert ran == []


def test_batches_of_gradients() -> None:
    monoid, x, plan = batch(3, torch.float64)
    x.requires_grad_()
    out = fold(monoid, x, plan)
    cotangents = torch.randn(4, *out.shape, dtype=torch.float64)
    (together,) = torch.autograd.grad(out, x, cotangents, is_grads_batched=True, retain_graph=True)
    for cotangent, got in zip(cotangents, together, strict=True):
        (wanted,) = torch.autograd.grad(out, x, cotangent, retain_graph=True)
        assert error(got, wanted) <= 1e-10


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_a_set_alone_in_a_batch_and_again(name: str) -> None:
    """Bit for bit on the way of Triton; matrix products of other sizes may round otherwise."""
    same: Callable[[Tensor, Tensor], bool] = torch.equal
    if name == "torch":
        same = torch.allclose
    monoid, x, plan = batch(6, torch.float32)
    with torch.no_grad(), backend(name):
        together = fold(monoid, x, plan)
        assert torch.equal(fold(monoid, x, plan), together)
        for s, size in enumerate(SIZES):
            alone = fold(monoid, x[plan.index == s], FoldPlan.from_ptr(torch.tensor([0, size])))
            assert same(alone[0], together[s])


def test_backend_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"'name' must be one of auto, torch, triton, compile"):
        backend("cuda").__enter__()
    monkeypatch.delenv("TRITON_INTERPRET")
    with (
        backend("triton"),
        pytest.raises(RuntimeError, match=r"'triton' needs tensors on a CUDA device \(got cpu\)"),
    ):
        LCMAggregation(3, 3)(torch.randn(2, 3))


def test_compiled_gates_serve_any_sizes() -> None:
    aggr = LCMAggregation(6, 6)
    with backend("compile"), torch.no_grad():
        aggr(torch.randn(400, 6), index_of((100, 300)))
        before = counters["stats"]["unique_graphs"]
        for sizes in ((33, 3), (150, 200), (1, 1, 90)):
            aggr(torch.randn(sum(sizes), 6), index_of(sizes))
        wider = LCMAggregation(11, 11)
        wider(torch.randn(400, 11), index_of((100, 300)))
        assert counters["stats"]["unique_graphs"] == before
