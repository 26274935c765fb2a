"""What exists for type checkers: the parameters of ``Signal[S, P, R]``, and what stands for their absence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Protocol, TypeAlias, final, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from typing_extensions import ParamSpec, TypeVar

    from .failures import Failure
    from .signal import Signal

    # What a signal is without type arguments: any sender, any payload, any result.
    S = TypeVar("S", default=Any)
    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
    F = TypeVar("F", bound=Callable[..., Any])

    AnySignal: TypeAlias = Signal[Any, ..., Any]
    ErrorPolicy: TypeAlias = Literal["propagate", "collect"] | Callable[[Failure], object]
    Wrapper: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
else:
    from typing import ParamSpec, TypeVar

    S = TypeVar("S")
    P = ParamSpec("P")
    R = TypeVar("R")


class Undeclared:
    """Stands in the type of a signal that was not declared, so that type checkers let any payload pass."""


@final
class Connector(Generic[S, P, R]):
    """The type of ``@signal.connect(...)`` for type checkers. There are no instances of it."""

    @overload
    def __call__(self: Connector[Any, ..., Undeclared], receiver: F, /) -> F: ...

    @overload
    def __call__(self, receiver: Callable[Concatenate[S, P], R], /) -> Callable[Concatenate[S, P], R]: ...

    @overload
    def __call__(
        self, receiver: Callable[Concatenate[S, P], Awaitable[R]], /
    ) -> Callable[Concatenate[S, P], Awaitable[R]]: ...

    def __call__(self, receiver: Any, /) -> Any:
        raise NotImplementedError


class AsyncPolicy(Protocol):
    """How ``send_async`` runs its receivers, where that is not one after the other.

    .. versionadded:: 0.1
    """

    async def run(self, calls: Sequence[Callable[[], Awaitable[bool]]], /) -> None:
        """Await every call.

        :param calls: one for each receiver, in order. Each gives whether the receiver succeeded, and keeps
            what it raised for the signal's failure policy.
        """
