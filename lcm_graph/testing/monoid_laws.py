"""The laws of a monoid: states, identity, commutativity, associativity, inverses."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lcm_graph.monoids.state import leaves, map_state, num_elements, take
from lcm_graph.testing.check import Measurement
from lcm_graph.testing.compare import expect, expect_close, expect_equal, relative_error
from lcm_graph.testing.subject import SIZES, MonoidSubject, describe


def check_states(subject: MonoidSubject) -> Measurement:
    """Elements lie along dim 0; combining keeps structure, shapes, dtypes and its operands."""
    monoid = subject.fresh()
    for n in SIZES:
        a, b = subject.states(monoid, n, 0), subject.states(monoid, n, 2)
        for name, state in (("lift", a), ("identity", subject.empty(monoid, n))):
            got = num_elements(state)
            expect(got == n, f"{name}: expected {n} elements along dim 0, got {got}")
        before = [tensor.clone() for tensor in leaves((a, b))]
        combined = monoid.combine(a, b)
        expect(
            describe(combined) == describe(a) and num_elements(combined) == n,
            f"combine of {n} states: expected {describe(a)}, got {describe(combined)}",
        )
        for now, then in zip(leaves((a, b)), before, strict=True):
            expect_equal(now, then, f"an operand after combine of {n} states")
        absorbed = monoid.combine(a, subject.empty(monoid, n))
        twice = monoid.combine(absorbed, b)
        expect(
            describe(twice) == describe(absorbed),
            f"combine with the identity: expected {describe(absorbed)}, got {describe(twice)}",
        )
        out = monoid.lower(combined)
        expect(
            out.dim() == 2
            and out.size(0) == n
            and out.size(1) == (monoid.out_channels or out.size(1)),
            f"lower of {n} states: expected [{n}, {monoid.out_channels}], got {tuple(out.shape)}",
        )
    return None


def check_rows(subject: MonoidSubject) -> Measurement:
    """Elements do not see each other: combining many gives what combining each alone gives."""
    monoid = subject.fresh()
    a, b = subject.states(monoid, 17, 0), subject.states(monoid, 17, 1)
    together = monoid.lower(monoid.combine(a, b))
    worst = 0.0
    for row in range(17):
        at = torch.tensor([row])
        alone = monoid.lower(monoid.combine(take(a, at), take(b, at)))
        worst = max(worst, expect_close(together[row : row + 1], alone, f"row {row} of 17"))
    return worst


def check_identity_left(subject: MonoidSubject) -> Measurement:
    """``combine(e, x)`` lowers exactly like ``x``, and goes on as ``x`` would."""
    return _check_identity(subject, left=True)


def check_identity_right(subject: MonoidSubject) -> Measurement:
    """``combine(x, e)`` lowers exactly like ``x``, and goes on as ``x`` would."""
    return _check_identity(subject, left=False)


def _check_identity(subject: MonoidSubject, left: bool) -> Measurement:
    monoid = subject.fresh()
    e = subject.empty(monoid, 17)
    for salt in (0, 1):
        x, y = subject.states(monoid, 17, salt), subject.states(monoid, 17, 2)
        same = monoid.combine(e, x) if left else monoid.combine(x, e)
        what = "combine(e, x)" if left else "combine(x, e)"
        expect_equal(monoid.lower(same), monoid.lower(x), f"lower({what}) on 17 states")
        expected = monoid.lower(monoid.combine(x, y))
        expect_equal(monoid.lower(monoid.combine(same, y)), expected, f"{what} combined with y")
    expect_equal(monoid.lower(monoid.combine(e, e)), monoid.lower(e), "lower(combine(e, e))")
    return None


def check_commutative(subject: MonoidSubject) -> Measurement:
    """``combine(a, b)`` is ``combine(b, a)``, to the last bit where it is claimed."""
    monoid = subject.fresh()
    worst = 0.0
    for n in (1, 2, 3, 16, 17):
        for salt in (2, 3):
            a, b = subject.states(monoid, n, salt - 2), subject.states(monoid, n, salt)
            ab, ba = monoid.lower(monoid.combine(a, b)), monoid.lower(monoid.combine(b, a))
            worst = max(worst, relative_error(ab, ba))
            if monoid.commutative:
                expect_equal(ab, ba, f"combine(a, b) against combine(b, a) on {n} states")
    return worst


def check_associative(subject: MonoidSubject) -> Measurement:
    """``(a b) c`` is ``a (b c)``; measured where it is not claimed."""
    monoid = subject.fresh()
    a, b, c = (subject.states(monoid, 17, salt) for salt in (0, 1, 2))
    left = monoid.lower(monoid.combine(monoid.combine(a, b), c))
    right = monoid.lower(monoid.combine(a, monoid.combine(b, c)))
    if monoid.associative:
        return expect_close(left, right, "(a b) c against a (b c) on 17 states")
    return relative_error(left, right)


def check_idempotent(subject: MonoidSubject) -> Measurement:
    """``combine(a, a)`` lowers like ``a``; measured where it is not claimed."""
    monoid = subject.fresh()
    a = subject.states(monoid, 17, 1)
    twice, once = monoid.lower(monoid.combine(a, a)), monoid.lower(a)
    if monoid.idempotent:
        expect_equal(twice, once, "combine(a, a) against a on 17 states")
    return relative_error(twice, once)


def check_inverse(subject: MonoidSubject) -> Measurement:
    """What was combined can be taken out again; ``inverse`` raises TypeError if not claimed."""
    monoid = subject.fresh()
    a, b = subject.states(monoid, 17, 0), subject.states(monoid, 17, 1)
    if not monoid.invertible:
        try:
            monoid.inverse(a)
        except TypeError:
            return {"invertible": False}
        raise AssertionError("expected inverse to raise TypeError, as 'invertible' is not claimed")
    nothing = monoid.lower(monoid.combine(a, monoid.inverse(a)))
    expect_close(nothing, monoid.lower(subject.empty(monoid, 17)), "combine(a, inverse(a)) on 17")
    rest = monoid.lower(monoid.combine(monoid.combine(a, b), monoid.inverse(a)))
    return expect_close(rest, monoid.lower(b), "combine(combine(a, b), inverse(a)) against b on 17")


def check_additive(subject: MonoidSubject) -> Measurement:
    """``combine`` adds the tensors of the states, and the identity is 0, if that is claimed."""
    monoid = subject.fresh()
    if not monoid.additive:
        return {"additive": False}
    expect(monoid.commutative and monoid.associative, "what adds is commutative and associative")
    a, b = subject.states(monoid, 17, 0), subject.states(monoid, 17, 1)
    combined = leaves(monoid.combine(a, b))
    for one, left, right in zip(combined, leaves(a), leaves(b), strict=True):
        expect_equal(one, left + right, "a tensor of combine(a, b) against the sum")
    for one in leaves(subject.empty(monoid)):
        expect_equal(one, torch.zeros_like(one), "a tensor of the identity")
    return None


def check_weigh(subject: MonoidSubject) -> Measurement:
    """Weight 1 changes nothing; weight 0 makes the identity."""
    monoid = subject.fresh()
    x, y = subject.states(monoid, 17, 0), subject.states(monoid, 17, 1)
    one, zero = torch.ones(17, dtype=subject.dtype), torch.zeros(17, dtype=subject.dtype)
    try:
        kept, dropped = monoid.weigh(y, one), monoid.weigh(y, zero)
    except TypeError:
        return {"weigh": "undefined"}
    expect_equal(monoid.lower(kept), monoid.lower(y), "lower(weigh(y, 1)) against lower(y)")
    e = subject.empty(monoid, 17)
    expect_equal(
        monoid.lower(monoid.combine(x, dropped)),
        monoid.lower(x),
        "combine(x, weigh(y, 0)) against x",
    )
    expect_equal(
        monoid.lower(monoid.combine(dropped, x)),
        monoid.lower(x),
        "combine(weigh(y, 0), x) against x",
    )
    expect_equal(
        monoid.lower(dropped), monoid.lower(e), "lower(weigh(y, 0)) against lower(identity)"
    )
    both = monoid.combine(dropped, monoid.weigh(x, zero))
    expect_equal(monoid.lower(both), monoid.lower(e), "two elements of weight 0 against identity")
    weight = torch.linspace(0, 1, 17, dtype=subject.dtype).requires_grad_()
    out = monoid.lower(monoid.combine(x, monoid.weigh(y, weight)))
    (grad,) = torch.autograd.grad(out.sum(), weight)
    expect(
        bool(out.isfinite().all() and grad.isfinite().all()),
        "expected finite outputs and gradients for weights from 0 to 1",
    )
    return None


def check_row_order(subject: MonoidSubject) -> Measurement:
    """``combine`` sees an element at any row alike."""
    monoid = subject.fresh()
    a, b = subject.states(monoid, 16, 0), subject.states(monoid, 16, 1)
    back = torch.arange(15, -1, -1)
    there = monoid.lower(monoid.combine(a, b))
    here = monoid.lower(monoid.combine(*(map_state(lambda t: t[back], s) for s in (a, b))))
    return expect_close(here, there[back], "combine on 16 reversed rows")


CHECKS: tuple[Callable[[MonoidSubject], Measurement], ...] = (
    check_states,
    check_rows,
    check_row_order,
    check_identity_left,
    check_identity_right,
    check_commutative,
    check_associative,
    check_idempotent,
    check_inverse,
    check_additive,
    check_weigh,
)
