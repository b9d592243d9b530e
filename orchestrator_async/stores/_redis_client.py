"""
The client library, as far as it is used here: how a client is made, asked and ended, and
what its errors mean.

Below ``redis``, and the one module that knows the library.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
from glide import (
    AdvancedGlideClientConfiguration,
    AdvancedGlideClusterClientConfiguration,
    BackoffStrategy,
    ClosingError,
    GlideClient,
    GlideClientConfiguration,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    Logger,
    LogLevel,
    NodeAddress,
    Script,
    ServerCredentials,
    TlsAdvancedConfiguration,
)
from glide import ConnectionError as LostError
from glide import TimeoutError as LateError

from orchestrator_async._store import StoreDownError, StoreError
from orchestrator_async._text import clean

from ._redis_door import Door
from ._redis_options import Options
from ._redis_text import script

_T = TypeVar("_T")
AnyClient = GlideClient | GlideClusterClient

# It tries again after 0.1 s and then every 0.2 s, less a fifth by chance: what it takes to
# be back within a second of an engine, and 800 attempts a second of 160 processes.
_RECONNECT: Final = {"num_of_retries": 2, "factor": 50, "exponent_base": 2}
_JITTER: Final = 20

_RESUBSCRIBE: Final = 200
"""Milliseconds between its looks at whether it is subscribed. They ask no engine."""

_CONNECT: Final = 1.0
"""Seconds for a connection at the most, so that a hung one is given up soon."""

_GRACE: Final = 1.0
"""Seconds beyond all others, after which it is no longer waited for."""

_PATIENCE: Final = 3.0
"""Seconds for which the library's own means are waited for; and between two clients."""


class Client:
    """
    A client of an engine, which connects again by itself.

    Where the one of the library does not, it is replaced: it does not look for the primary
    again when that has become a replica, or is gone.
    """

    def __init__(
        self, options: Options, channel: str, heard: Callable[[object], object]
    ) -> None:
        """
        One that is not connected yet.

        Args:
            options: Where the engine is, and how it is spoken to.
            channel: What is listened to.
            heard: Called with each message, in this thread.
        """
        self._options = options
        self._channel = channel
        self._heard = heard
        self._door = Door(options.address, is_cluster=options.cluster)
        self._client: AnyClient | None = None
        self._is_open = True
        self._failing_since: float | None = None
        self._replace_at = 0.0
        # Both are kept by the library for as long as these are.
        self._change = Script(script("change"))  # type: ignore[no-untyped-call]
        self._fleet = Script(script("fleet"))  # type: ignore[no-untyped-call]

    async def connect(self) -> None:
        """
        Connect. To be closed, also if that fails.

        Raises:
            StoreDownError: Nobody is there.
            StoreError: It cannot be spoken to.
        """
        if await self._door.is_shut():
            raise StoreDownError(f"nobody answers at {self._options.address}")
        failure = await self._make()
        if failure is not None:
            raise await self._told(failure)

    async def close(self) -> None:
        """
        End it. It waits for nothing, and is done also where its task is cancelled.
        """
        self._is_open = False
        await _end(self._client)

    async def time(self) -> object:
        return await self._ask(lambda client: client.time())

    async def texts(self, keys: list[str]) -> list[object]:
        """
        What there is under keys, ``None`` where that is no string.
        """
        return list(await self._ask(lambda client: client.mget(list(keys))))

    async def change(self, keys: list[str], args: list[str]) -> object:
        return await self._run(self._change, keys, args)

    async def fleet(self, keys: list[str], args: list[str]) -> object:
        return await self._run(self._fleet, keys, args)

    async def publish(self, message: str, channel: str) -> None:
        await self._ask(lambda client: client.publish(message, channel))

    async def is_down(self) -> bool:
        """
        Whether nobody is there, for all that can be seen from outside.
        """
        return await self._door.is_shut()

    async def _run(self, of: Script, keys: list[str], args: list[str]) -> object:
        return await self._ask(
            lambda client: client.invoke_script(of, list(keys), list(args))
        )

    async def _ask(self, asked: Callable[[AnyClient], Awaitable[_T]]) -> _T:
        """
        What the engine answers.

        Raises:
            StoreDownError: Nobody is there.
            StoreError: There is no answer, or it refuses.
        """
        if not self._is_open or self._client is None:
            raise StoreError("the session with the store has ended")
        answer = await self._answer(asked(self._client))
        if not isinstance(answer, _Failure):
            self._failing_since = None
            return answer
        error = await self._told(answer)
        if type(error) is StoreError and answer.is_of_connection:
            await self._replace(at_once=answer.is_lasting)
        raise error

    async def _answer(self, answer: Awaitable[_T]) -> _T | _Failure:
        """
        What comes of an ask, and no exception: none is to have one of the library's as its
        context.
        """
        longest = self._options.request_timeout + _CONNECT + _GRACE
        with anyio.move_on_after(longest):
            try:
                return await answer
            except Exception as error:
                return _Failure(error)
        return _Failure(None)

    async def _told(self, failure: _Failure) -> StoreError:
        if failure.may_be_down and await self._door.is_shut():
            return StoreDownError(f"nobody answers at {self._options.address}")
        return StoreError(_masked(failure.text, self._options))

    async def _make(self) -> _Failure | None:
        """
        Have a client of the library that has been heard of by the engine, in the place of
        the one before; or say why not.
        """
        quiet()
        # It does not connect yet: that would hold up the loop for as long as it takes.
        made = await self._answer(_create(self._options, self._channel, self._heard))
        if isinstance(made, _Failure):
            return made
        superfluous: AnyClient | None = made
        try:
            pong = await self._answer(made.ping())
            if isinstance(pong, _Failure):
                return pong
            if self._is_open:
                superfluous, self._client = self._client, made
            return None
        finally:
            await _end(superfluous)

    async def _replace(self, *, at_once: bool) -> None:
        """
        Have another client, if this one has failed for a while.
        """
        now = anyio.current_time()
        if self._failing_since is None:
            self._failing_since = now
        has_failed = at_once or now - self._failing_since >= _PATIENCE
        if not has_failed or now < self._replace_at or not self._is_open:
            return
        self._replace_at = now + _PATIENCE
        if await self._make() is None:
            self._failing_since = None


class _Failure:
    """
    That an ask has failed, in the library's words, or without any.
    """

    def __init__(self, error: Exception | None) -> None:
        self.text = "no answer" if error is None else str(error).strip()
        self.may_be_down = (
            error is None
            or isinstance(error, LateError | LostError | ClosingError)
            or "connect" in self.text
        )
        # Of a replica the library expects no more. It answers nothing at all where the loop
        # of another thread has ended, which was the first one to use it.
        self.is_lasting = error is None or "read only replica" in self.text
        self.is_of_connection = self.may_be_down or self.is_lasting


async def _end(client: AnyClient | None) -> None:
    if client is not None:
        with anyio.CancelScope(shield=True):
            await client.close()


def quiet() -> None:
    """
    Have the library write nothing to stderr, unless somebody has set its log up already.
    """
    Logger.init(LogLevel.OFF)


def _masked(text: str, options: Options) -> str:
    if password := options.address.password:
        text = text.replace(password, "***")
    return clean(text, limit=300)


async def _create(
    options: Options, channel: str, heard: Callable[[object], object]
) -> AnyClient:
    address = options.address
    thread = threading.get_ident()

    def message(told: Any, _: object) -> None:
        # The library calls this in the thread of the loop that was the first to use it. A
        # message may get lost; a listener is not to be called from elsewhere.
        if threading.get_ident() == thread:
            heard(told.message)

    credentials = None
    if address.password is not None:
        credentials = ServerCredentials(address.password, address.username)
    common: dict[str, Any] = {
        "addresses": _addresses(options),
        "use_tls": address.tls,
        "credentials": credentials,
        "request_timeout": max(round(options.request_timeout * 1000), 1),
        "reconnect_strategy": BackoffStrategy(**_RECONNECT, jitter_percent=_JITTER),
        "database_id": address.database,
        "lazy_connect": True,
    }
    if options.cluster:
        cluster = GlideClusterClientConfiguration
        return await GlideClusterClient.create(
            cluster(
                **common,
                pubsub_subscriptions=cluster.PubSubSubscriptions(
                    {cluster.PubSubChannelModes.Exact: {channel}}, message, None
                ),
                advanced_config=AdvancedGlideClusterClientConfiguration(
                    **_advanced(options)
                ),
            )
        )
    single = GlideClientConfiguration
    return await GlideClient.create(
        single(
            **common,
            pubsub_subscriptions=single.PubSubSubscriptions(
                {single.PubSubChannelModes.Exact: {channel}}, message, None
            ),
            advanced_config=AdvancedGlideClientConfiguration(**_advanced(options)),
        )
    )


def _addresses(options: Options) -> list[NodeAddress]:
    address = options.address
    if address.path:
        return [NodeAddress(unix_socket_path=address.path)]
    return [NodeAddress(host, port) for host, port in address.hosts]


def _advanced(options: Options) -> dict[str, Any]:
    return {
        "connection_timeout": max(round(min(options.request_timeout, _CONNECT) * 1000), 1),
        "tls_config": _tls(options) if options.address.tls else None,
        "pubsub_reconciliation_interval": _RESUBSCRIBE,
    }


def _tls(options: Options) -> TlsAdvancedConfiguration:
    return TlsAdvancedConfiguration(
        use_insecure_tls=not options.verify,
        root_pem_cacerts=Path(options.ca_file).read_bytes() if options.ca_file else None,
        client_cert_path=options.cert_file,
        client_key_path=options.key_file,
    )
