"""A channel that is made anew once the files of its certificates have changed, so that new connections use new ones."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from mekiki._wire.credentials import Credentials
from mekiki._wire.watched import Watched

Channel = TypeVar("Channel")
Metadata = tuple[tuple[str, str], ...]


class RotatingMethod:
    """An RPC on whichever channel is the current one."""

    def __init__(self, current: Callable[[], Any], make: Callable[[Any], Any]) -> None:
        self._current = current
        self._make = make
        self._made: tuple[Any, Any] = (None, None)  # channel, and its method

    def __call__(self, request: object, timeout: float | None = None, metadata: Metadata = ()) -> Any:  # noqa: ANN401 -- as gRPC's
        return self._method()(request, timeout=timeout, metadata=metadata)

    def with_call(self, request: object, timeout: float | None = None, metadata: Metadata = ()) -> Any:  # noqa: ANN401
        """The answer and the call, where the colour has it."""
        return self._method().with_call(request, timeout=timeout, metadata=metadata)

    def _method(self) -> Any:  # noqa: ANN401
        channel, method = self._made
        if (current := self._current()) is not channel:
            method = self._make(current)
            self._made = (current, method)
        return method


class RotatingChannel(Generic[Channel]):
    """What a stub needs of a channel. Each colour adds how it closes and what becomes of the channel before.

    Args:
        open_channel: makes a channel from credentials.
        credentials: with the files to watch; while they do not fit together, the last channel is used.
        retire: gets the channel whose files have changed: calls may still be under way on it.
    """

    def __init__(
        self,
        open_channel: Callable[[grpc.ChannelCredentials], Channel],
        credentials: Credentials,
        retire: Callable[[Channel], None],
    ) -> None:
        self._open_channel = open_channel
        self._credentials = credentials
        self._retire = retire
        self._opened: Channel | None = None
        self._current = Watched(credentials.files, self._renew)

    @property
    def current(self) -> Channel:
        """The channel of the files as they are now."""
        return self._current.value()

    def unary_unary(
        self,
        path: str,
        *,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool = False,
    ) -> RotatingMethod:
        """As gRPC's channel; likewise below."""
        return self._rotate(lambda c: c.unary_unary(path, request_serializer, response_deserializer))

    def unary_stream(
        self,
        path: str,
        *,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool = False,
    ) -> RotatingMethod:
        """One request, many answers."""
        return self._rotate(lambda c: c.unary_stream(path, request_serializer, response_deserializer))

    def stream_stream(
        self,
        path: str,
        *,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool = False,
    ) -> RotatingMethod:
        """Many requests, many answers."""
        return self._rotate(lambda c: c.stream_stream(path, request_serializer, response_deserializer))

    def _rotate(self, make: Callable[[Any], Any]) -> RotatingMethod:
        return RotatingMethod(self._current.value, make)

    def _renew(self) -> Channel:
        opened = self._open_channel(self._credentials.open())
        if self._opened is not None:
            self._retire(self._opened)
        self._opened = opened
        return opened
