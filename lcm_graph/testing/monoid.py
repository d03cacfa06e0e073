"""The conformance suite of monoids."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid
from lcm_graph.testing import monoid_folds, monoid_gradients, monoid_laws, monoid_streams
from lcm_graph.testing.check import Check, Measurement, make_checks
from lcm_graph.testing.compare import expect
from lcm_graph.testing.module import (
    deepcopy_round_trip,
    pickle_round_trip,
    reset_changes_parameters,
    state_dict_round_trip,
)
from lcm_graph.testing.subject import MonoidSubject


def check_monoid(
    monoid: Monoid,
    *,
    channels: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    elements: Callable[[int, torch.Generator], Tensor] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """Checks that hold ``monoid`` to the laws it claims and to what folds need of it.

    The checks are independent of each other and leave ``monoid`` untouched::

        @pytest.mark.parametrize("check", check_monoid(MyMonoid(8)), ids=str)
        def test_my_monoid(check):
            check()

    A law that is claimed (``commutative``, ``associative``, ``idempotent``, ``invertible``) must
    hold; one that is not is measured: ``check()`` returns its relative error.

    Args:
        monoid: what to check; evaluated in eval mode.
        channels: features of the elements drawn (default: ``monoid.channels``).
        seed: of the elements drawn.
        dtype: in which the laws are checked; the dtype check tries others as well.
        elements: draws ``n`` elements, ``[n, channels]``, where normal ones do not suit.
        expected_failures: check name -> why it is known to fail. Such a check passes by failing.

    Raises:
        ValueError: neither ``channels`` nor ``monoid.channels`` is set, or ``expected_failures``
            names an unknown check.
    """
    if not isinstance(monoid, Monoid):
        raise TypeError(f"'monoid' must be a Monoid (got {type(monoid).__name__})")
    channels = monoid.channels if channels is None else channels
    if channels is None:
        raise ValueError(
            f"'channels' must be given, since {monoid!r} takes any number of them (got None)"
        )
    subject = MonoidSubject(monoid, channels, seed, dtype, elements)
    functions = [
        *monoid_laws.CHECKS,
        *monoid_folds.CHECKS,
        *monoid_gradients.CHECKS,
        *monoid_streams.CHECKS,
        check_state_dict,
        check_deepcopy,
        check_pickle,
        check_reset_parameters,
        check_repr,
    ]
    return make_checks(functions, subject, expected_failures)


def check_state_dict(subject: MonoidSubject) -> Measurement:
    """``load_state_dict(state_dict())`` restores the monoid."""
    state_dict_round_trip(subject.fresh(), subject.evaluate)
    return None


def check_deepcopy(subject: MonoidSubject) -> Measurement:
    """A deep copy is alike and independent."""
    deepcopy_round_trip(subject.fresh(), subject.evaluate)
    return None


def check_pickle(subject: MonoidSubject) -> Measurement:
    """Pickling keeps the answers."""
    pickle_round_trip(subject.fresh(), subject.evaluate)
    return None


def check_reset_parameters(subject: MonoidSubject) -> Measurement:
    """``reset_parameters`` changes every parameter."""
    return reset_changes_parameters(subject.fresh())


def check_repr(subject: MonoidSubject) -> Measurement:
    """The representation is one line (PyG stores it for each layer)."""
    text = repr(subject.fresh())
    expect("\n" not in text and bool(text), f"expected a repr of one line, got {text!r}")
    return None
