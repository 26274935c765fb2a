"""Types for type checkers: the parameters of ``Signal[S, P, R]``, and the types of options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Protocol, TypeAlias, final, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from typing_extensions import ParamSpec, TypeVar

    from .failures import Failure

    # The types of a signal without type arguments: any sender, any payload, any result.
    S = TypeVar("S", default=Any)
    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
    F = TypeVar("F", bound=Callable[..., Any])

    # Any signal. Not ``Signal[Any, ..., Any]``: this module and most of the engine are below the class, and imports
    # only go down, in annotations too.
    AnySignal: TypeAlias = Any
    ErrorPolicy: TypeAlias = Literal["propagate", "collect", "log"] | Callable[[Failure], object]
    Wrapper: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
else:
    from typing import ParamSpec, TypeVar

    S = TypeVar("S")
    P = ParamSpec("P")
    R = TypeVar("R")


class Undeclared:
    """The result type of a signal that was not declared. With it, type checkers accept any payload."""


@final
class Connector(Generic[S, P, R]):
    """The type of ``@signal.connect(...)`` for type checkers. It has no instances."""

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
    """How ``send_async`` runs receivers, if not one after the other.

    .. versionadded:: 0.1
    """

    async def run(self, calls: Sequence[Callable[[], Awaitable[bool]]], /) -> None:
        """Await every call.

        :param calls: one call for each receiver, in order. Each returns whether the receiver succeeded, and keeps
            its exception for the signal's failure policy.
        """
