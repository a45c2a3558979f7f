"""Results of steps as the futures that they are, with types: `future`, `wait`, `as_completed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pipedeco.result import StepResult

T = TypeVar("T")
ReturnWhen = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Generic, NamedTuple

    class DoneAndNotDone(NamedTuple, Generic[T]):
        """What `wait` returns: `concurrent.futures` makes it."""

        done: set[StepResult[T]]
        not_done: set[StepResult[T]]


@overload
def future(result: StepResult[T]) -> StepResult[T]: ...
@overload
def future(result: T) -> StepResult[T]: ...
def future(result: Any) -> Any:
    """The result of a step, typed as the future that it is; nothing waits.

    A call of a component is typed as the value, so that a body reads as it would undecorated;
    `future(fit(x)).done()` is how a type checker takes the rest.

    Raises TypeError for anything but the result of a step.
    """
    if isinstance(result, StepResult):
        return result
    raise TypeError(
        "future(...) takes the result of a step, which a component gives where a pipeline's body "
        f"calls it, not {type(result).__name__}: {result!r:.80}"
    )


@overload
def wait(
    results: Iterable[StepResult[T]], timeout: float | None = None, return_when: ReturnWhen = ...
) -> DoneAndNotDone[T]: ...
@overload
def wait(
    results: Iterable[T], timeout: float | None = None, return_when: ReturnWhen = ...
) -> DoneAndNotDone[T]: ...
def wait(
    results: Iterable[Any], timeout: float | None = None, return_when: str = "ALL_COMPLETED"
) -> Any:
    """As `concurrent.futures.wait`, typed for results of steps.

    Raises TypeError for anything but results of steps.
    """
    import concurrent.futures

    return concurrent.futures.wait(_futures(results), timeout, return_when)


@overload
def as_completed(
    results: Iterable[StepResult[T]], timeout: float | None = None
) -> Iterator[StepResult[T]]: ...
@overload
def as_completed(results: Iterable[T], timeout: float | None = None) -> Iterator[StepResult[T]]: ...
def as_completed(results: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
    """As `concurrent.futures.as_completed`, typed for results of steps.

    Raises TypeError for anything but results of steps, and TimeoutError.
    """
    import concurrent.futures

    return concurrent.futures.as_completed(_futures(results), timeout)


def _futures(results: Iterable[Any]) -> list[Any]:
    return [future(result) for result in results]
