"""A named check: what a conformance suite is a list of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

Measurement: TypeAlias = "dict[str, Any] | float | None"
"""What a check found out beside passing: an error that is no failure, or why it did nothing."""

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check:
    """One check of a suite. Call it: it returns a measurement (or None) or raises AssertionError.

    ``str(check)`` is its name, so ``pytest.mark.parametrize("check", checks, ids=str)`` reads well.

    Args:
        name: what is checked.
        run: does it.
        expected_failure: why the check is known to fail. It must then fail; passing raises.
    """

    name: str
    run: Callable[[], Measurement]
    expected_failure: str | None = None

    def __call__(self) -> Measurement:
        try:
            measurement = self.run()
        except Exception as error:
            if self.expected_failure is not None:
                return {"expected_failure": self.expected_failure, "error": str(error)}
            if isinstance(error, AssertionError):
                raise
            raise AssertionError(
                f"{self.name}: expected an answer, raised {type(error).__name__}: {error}"
            ) from error
        if self.expected_failure is not None:
            raise AssertionError(
                f"{self.name}: passes, though it was expected to fail ({self.expected_failure}); "
                "take it off 'expected_failures'"
            )
        return measurement

    def __str__(self) -> str:
        return self.name


def make_checks(
    functions: Sequence[Callable[[Subject], Measurement]],
    subject: Subject,
    expected_failures: Mapping[str, str] | None,
) -> list[Check]:
    """Name each function's check by the function, less its ``check_``.

    Raises:
        ValueError: ``expected_failures`` names a check that there is not.
    """
    expected = dict(expected_failures or {})
    checks = []
    for function in functions:
        name = function.__name__.removeprefix("check_")
        checks.append(Check(name, _bind(function, subject), expected.pop(name, None)))
    if expected:
        raise ValueError(
            f"'expected_failures' names unknown checks {sorted(expected)} "
            f"(there are {', '.join(map(str, checks))})"
        )
    return checks


def _bind(
    function: Callable[[Subject], Measurement], subject: Subject
) -> Callable[[], Measurement]:
    return lambda: function(subject)
