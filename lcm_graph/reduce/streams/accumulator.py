"""``Accumulator``: a fold whose elements come chunk by chunk."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lcm_graph.monoids import Monoid, State
from lcm_graph.reduce.digest import parameter_digest
from lcm_graph.reduce.lifted import check_monoid_type
from lcm_graph.reduce.plan import make_plan
from lcm_graph.reduce.sets import check_tensor
from lcm_graph.reduce.streams.counter import Counter, fold_subtrees
from lcm_graph.reduce.streams.counter_tensors import counter_from, counter_tensors
from lcm_graph.reduce.streams.file import (
    check_monoid_of,
    describe_monoid,
    read_stream,
    write_stream,
)

GRADIENTS = ("last", "all")


class Accumulator:
    """Folds sets whose elements come in chunks, in memory that grows by the logarithm.

    After n elements a set has a state for each binary digit 1 of n: of its first elements, as many
    as the highest power of two in n, of the next, and so on. Adding elements carries, as adding
    to a binary number does. These are the subtrees of the canonical tree (see :class:`FoldPlan`),
    so the answer is that of :func:`segment_reduce` for all of the elements at once, however they
    were cut into chunks: exactly where the same operations are done on the same numbers, also for
    operators that are not associative. Matrix products of other sizes may round otherwise, and a
    closed form sums in another order: then the two agree up to rounding.

    The monoid's parameters are those of the moment: states that were folded before a training step
    are not computed anew.

    Args:
        monoid: what to fold with.
        gradient: ``"last"``: the result is differentiable through the latest chunk, those before
            are constants. ``"all"``: through all chunks, whose graphs are kept; see
            :func:`fold_chunks` for gradients in bounded memory.

    Raises:
        TypeError: ``monoid`` is not a :class:`~lcm_graph.monoids.Monoid`.
        ValueError: ``gradient`` is none of these.

    Example:
        >>> counter = Accumulator(BinaryGRU(16))
        >>> for x, index in chunks:
        ...     counter.update(x, index)
        >>> counter.result()  # [sets, 16]
    """

    def __init__(self, monoid: Monoid, *, gradient: str = "last") -> None:
        check_monoid_type(monoid)
        if gradient not in GRADIENTS:
            raise ValueError(f"'gradient' must be one of {', '.join(GRADIENTS)} (got {gradient!r})")
        self.monoid = monoid
        self.gradient = gradient
        self._like: Tensor | None = None  # [0, features]: an element's shape, dtype and device
        self._counter = Counter(monoid, torch.device("cpu"))

    # Figures -----------------------------------------------------------------------------------

    @property
    def counts(self) -> Tensor:
        """Elements so far of each set: int64 ``[num_sets]``."""
        return self._counter.counts.clone()

    @property
    def num_sets(self) -> int:
        """One more than the largest set that was named."""
        return self._counter.num_sets

    @property
    def num_elements(self) -> int:
        """Elements so far, of all sets."""
        return int(self._counter.counts.sum())

    @property
    def num_states(self) -> int:
        """Rows of states that there is room for: those that each level ever needed."""
        return sum(slots.used for slots in self._counter.levels)

    # More elements -----------------------------------------------------------------------------

    def update(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
    ) -> None:
        """Take in a chunk.

        Args:
            x: floating point ``[n, features]``, as ``monoid.lift`` takes them.
            index: integers ``[n]``, the set of each element, in any order; the elements of a set
                follow those that it has in the order in which they come. Without ``index`` and
                ``ptr`` they are of set 0.
            ptr: integers ``[S + 1]``, if the sets lie end to end.
            dim_size: number of sets, if more than are named; sets that other chunks named stay.
                There is a row for each number up to the largest: number sets densely.

        Raises:
            TypeError: ``x`` is no tensor.
            ValueError: see :func:`segment_reduce`; or elements have other features, dtype or device
                than before.

        If it fails, by whatever error, the accumulator is as it was.
        """
        check_tensor("x", x)
        plan = make_plan(x.size(0) if x.dim() else 0, index, ptr, dim_size, x.device)
        self._check_like(x)
        counter = self._begin(x)
        start = counter.counts_of(plan.num_sets)
        subtrees = fold_subtrees(self.monoid, self.monoid.lift(x), plan, start)
        more = torch.cat([plan.sizes, start.new_zeros(start.numel() - plan.num_sets)])
        counter.insert(subtrees, start + more, constant=self.gradient == "last")
        self._keep(counter, x)

    def merge(self, other: Accumulator) -> None:
        """Take in the elements of another accumulator, set by set, after one's own.

        The sum of two binary numbers: of a monoid that is commutative and associative, the answer
        is that of all elements at once, up to rounding. Of another it is the same too, if the
        number of elements so far of each set is a multiple of a power of two that is not below
        the number of ``other``'s (so shards of 2^k elements merge exactly); else it is a
        fold of the same elements along another balanced tree.

        Args:
            other: of the same monoid; stays as it is. It counts as the latest chunk: gradients pass
                through its states as far as they do in ``other``.

        Raises:
            TypeError: ``other`` is no accumulator, or is of another kind of monoid.
            ValueError: ``other``'s monoid has other parameters, its elements have other features,
                dtype or device, or the monoid is not commutative and the numbers of elements are
                not as said above.
        """
        if not isinstance(other, Accumulator):
            raise TypeError(f"'other' must be an Accumulator (got {type(other).__name__})")
        if repr(other.monoid) != repr(self.monoid):
            raise TypeError(
                f"'other' must be of the same monoid, {self.monoid} (got {other.monoid})"
            )
        if other.monoid is not self.monoid and (
            parameter_digest(other.monoid) != parameter_digest(self.monoid)
        ):
            raise ValueError(
                f"'other' must be of a {self.monoid} with the same parameters: what was folded by "
                "different ones does not go together"
            )
        if other._like is None:
            return
        self._check_like(other._like)
        counter = self._begin(other._like)
        if not self.monoid.commutative:
            _check_aligned(
                self.monoid,
                counter.counts_of(other.num_sets),
                other._counter.counts_of(counter.num_sets),
            )
        counter.add(other._counter, constant=self.gradient == "last")
        self._keep(counter, other._like)

    # The answer --------------------------------------------------------------------------------

    def result(self) -> Tensor:
        """What the sets fold to: ``[num_sets, out_channels]``, as ``monoid.lower`` gives it.

        Raises:
            ValueError: there has been no chunk, so that an answer's dtype is not known.
        """
        return self.monoid.lower(self.state())

    def state(self) -> State:
        """The same, not lowered: states of ``num_sets`` elements, identities where empty.

        Raises:
            ValueError: there has been no chunk.
        """
        if self._like is None:
            raise ValueError("the accumulator has taken in no chunk: call update(x, index) first")
        return self._counter.fold()

    def detach(self) -> None:
        """Forget how the states were computed: gradients end here."""
        self._counter.detach()

    def copy(self) -> Accumulator:
        """Another accumulator that has taken in the same, with its graph, and goes on by itself."""
        other = Accumulator(self.monoid, gradient=self.gradient)
        other._counter, other._like = self._counter.copy(), self._like
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Accumulator:
        """With a copy of the monoid, and without the graph, which belongs to the other."""
        other = Accumulator(copy.deepcopy(self.monoid, memo), gradient=self.gradient)
        if self._like is not None:
            other.load_state_dict(self.state_dict())
        memo[id(self)] = other
        return other

    # To files and back -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """All that the accumulator holds but the monoid, as tensors.

        ``"like"``, an element's shape and dtype; see :func:`counter_tensors` for the others.
        Without gradients.

        Raises:
            ValueError: there has been no chunk.
        """
        if self._like is None:
            raise ValueError("the accumulator has taken in no chunk: there is nothing to keep")
        return {"like": self._like.clone(), **counter_tensors(self._counter)}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Hold what :meth:`state_dict` gave, instead of what is held.

        It does not say of which monoid it is: states of the same shapes are taken for one's own.

        Raises:
            TypeError: ``state_dict`` is no mapping.
            ValueError: an entry is missing, or does not fit the monoid or the others.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"'state_dict' must be a mapping (got {type(state_dict).__name__})")
        try:
            like = state_dict["like"].clone()
            if like.dim() == 0 or like.size(0):
                raise ValueError(f"'like' must have no rows (got shape {tuple(like.shape)})")
            with torch.no_grad():
                structure = self.monoid.lift(like)
            rest = {name: tensor for name, tensor in state_dict.items() if name != "like"}
            counter = counter_from(rest, self.monoid, structure)
        except (AttributeError, KeyError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"'state_dict' is not what an Accumulator of {self.monoid} gives ({error})"
            ) from error
        self._counter, self._like = counter, like

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`state_dict` to a safetensors file, all or nothing; makes missing folders.

        Raises:
            ValueError: there has been no chunk.
            ImportError: safetensors is not installed (extra ``streams``).
            OSError: the file cannot be written.
        """
        write_stream(path, self.state_dict(), describe_monoid(self.monoid))

    def load(self, path: str | os.PathLike[str], device: torch.device | str | None = None) -> None:
        """Hold what :meth:`save` wrote instead of what is held.

        The file holds no monoid, only its repr and a digest of its parameters, which are loaded
        with the monoid's own ``state_dict``. What the repr does not tell, such as a function that
        the monoid was given, is not checked.

        Args:
            path: the file.
            device: where to hold it (default: the CPU).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, is something else, or is of another monoid or one with
                other parameters.
            ImportError: safetensors is not installed (extra ``streams``).
        """
        tensors, about = read_stream(path)
        check_monoid_of(path, about, self.monoid)
        self.load_state_dict({name: tensor.to(device) for name, tensor in tensors.items()})

    # How ---------------------------------------------------------------------------------------

    def _begin(self, like: Tensor) -> Counter:
        """The counter for elements like these: another one, if these are the first."""
        return self._counter if self._like is not None else Counter(self.monoid, like.device)

    def _keep(self, counter: Counter, like: Tensor) -> None:
        self._counter = counter
        if self._like is None:
            with torch.inference_mode(False), torch.no_grad():
                self._like = like.new_zeros(0, *like.shape[1:])

    def _check_like(self, x: Tensor) -> None:
        like = self._like
        if like is None:
            return
        for what in ("dtype", "device"):
            if getattr(x, what) != getattr(like, what):
                raise ValueError(
                    f"'x' must be of the same {what} as the chunks before, {getattr(like, what)} "
                    f"(got {getattr(x, what)}); convert it with x.to(…)"
                )
        if x.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"'x' must be [n, {', '.join(map(str, like.shape[1:]))}] as the chunks before "
                f"(got {tuple(x.shape)}); use another Accumulator for other features"
            )

    def __repr__(self) -> str:
        return f"Accumulator({self.monoid}, sets={self.num_sets}, elements={self.num_elements})"


def _check_aligned(monoid: Monoid, mine: Tensor, theirs: Tensor) -> None:
    """ValueError if elements would not come after one's own, in their order."""
    size = torch.ones_like(theirs)
    for _ in range(int(theirs.max()).bit_length() if theirs.numel() else 0):
        size = torch.where(size < theirs, 2 * size, size)
    wrong = ((mine % size != 0) & (theirs > 0)).nonzero().flatten()
    if wrong.numel():
        one = int(wrong[0])
        raise ValueError(
            f"{monoid} is not commutative, and set {one} has {int(mine[one])} elements, not a "
            f"multiple of {int(size[one])}: {int(theirs[one])} more can be merged in no order but "
            "their own; pass them to update instead"
        )
