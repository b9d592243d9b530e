"""
Circuits that processes share through Redis or Valkey.

All of a change is one script in the engine, on its own clock, so changes of one circuit come
one after another; what one makes is told to all by pub/sub. ``_redis_change.lua`` is that
script, ``_redis_client`` the client library, ``_redis_text`` what stands in the engine.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import anyio

from orchestrator_async._log import logger
from orchestrator_async._requiring import require
from orchestrator_async._store import (
    NOTHING_KNOWN,
    Answer,
    Change,
    SharedState,
    StoreDownError,
    StoreError,
)

from ._hearing import Asked, Heard, hear
from ._record import record_of
from ._redis_args import arguments_of
from ._redis_loops import begin, end
from ._redis_options import File, Options, address_from
from ._redis_text import (
    Keys,
    is_beyond,
    message_from,
    names_from,
    pairs_from,
    question_of,
    quoted,
    record_from,
    reply_from,
    text_of,
    time_from,
    word_from,
)

require("valkey-glide", module="glide", extra="redis", at_least="2.6", below="3")

from ._redis_client import Client  # noqa: E402

_CHUNK: Final = 500
_MOST_MENDED: Final = 10
_MOST_NOTED: Final = 1_000
_MOST_PROCESSES: Final = 10_000
_FEW: Final = 50


def _nothing(word: str) -> None:
    """
    What a session does that does not want to be asked.
    """


class RedisStore:
    """
    A store in an engine that speaks as Redis from 6.2 on does: Redis, Valkey.

    It is made without I/O. Several orchestrators may use one, each with sessions of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "orchestrator_async",
        username: str | None = None,
        password: str | None = None,
        cluster: bool = False,
        request_timeout: float = 2.0,
        ca_file: File | None = None,
        cert_file: File | None = None,
        key_file: File | None = None,
        verify: bool = True,
    ) -> None:
        """
        Say where the engine is.

        Args:
            url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, or
                ``unix:///path``; ``valkey://`` and ``valkeys://`` are the same as the first
                two. Several hosts stand between commas: a primary and its replicas, which
                the client tells apart, or nodes of a cluster. ``%`` quotes what has a
                meaning in a url.
            prefix: What the names of all keys begin with: fleets with different ones know
                nothing of each other. 1 to 100 letters, digits and any of ``._:/-``.
            username: A user of the engine's ACL, if the url has none.
            password: That user's, if the url has none.
            cluster: Whether it is a cluster. Each circuit is on one of its nodes.
            request_timeout: Seconds after which an answer is no longer waited for.
            ca_file: Certificates (PEM) that the engine's is to be signed by, in the place of
                those that the system trusts.
            cert_file: Our own certificate (PEM), for an engine that wants one.
            key_file: Its private key (PEM).
            verify: Whether the engine's certificate is looked at. Without that anybody can
                be the engine.

        Raises:
            ValueError: An option is none; the message names it.
            TypeError: It is of another type.
        """
        self._options = Options(
            address=address_from(url, username, password),
            prefix=prefix,
            cluster=cluster,
            request_timeout=request_timeout,
            verify=verify,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
        )
        self._keys = Keys(prefix)
        self._noted: set[str] = set()

    def __repr__(self) -> str:
        return (
            f"RedisStore({str(self._options.address)!r}, prefix={self._options.prefix!r})"
        )

    def session(
        self,
        heard: Callable[[str, SharedState], object],
        asked: Callable[[str], object] | None = None,
    ) -> AbstractAsyncContextManager[_Session]:
        """
        A connection, as ``Store`` says.
        """
        return self._session(heard, asked)

    @asynccontextmanager
    async def _session(self, heard: Heard, asked: Asked | None) -> AsyncIterator[_Session]:
        clock = _Clock()

        def message(told: object) -> None:
            found, word = message_from(told, clock.now), word_from(told)
            if word is not None:
                hear(asked or _nothing, word)
            elif found is None:
                self._note(self._keys.channel, told)
            else:
                hear(heard, found[0], found[1].as_state())

        loop = begin()
        client = Client(self._options, self._keys.channel, message)
        try:
            await client.connect()
            session = _Session(client, self._keys, self._note, clock)
            await session.read_clock()
            yield session
        finally:
            try:
                await client.close()
            finally:
                end(loop)

    def _note(self, key: str, found: object = None) -> None:
        """
        Log, once a key, that there is in it what nobody here has written.
        """
        if key in self._noted or len(self._noted) >= _MOST_NOTED:
            return
        self._noted.add(key)
        text = f": {found[:40]!r}" if isinstance(found, bytes) else ""
        logger.warning("the store holds what cannot be read in %s%s", key, text)


class _Clock:
    """
    About what the engine's clock says, as of the last time that it was asked.
    """

    def __init__(self) -> None:
        self._ahead = -math.inf  # of the loop's

    @property
    def now(self) -> int:
        """
        Milliseconds; 0 where it was not asked yet.
        """
        return int(max(0.0, anyio.current_time() * 1000 + self._ahead))

    def set(self, now: int) -> None:
        self._ahead = now - anyio.current_time() * 1000


class _Session:
    """
    A session of the store in an engine.
    """

    def __init__(
        self, client: Client, keys: Keys, note: Callable[..., None], clock: _Clock
    ) -> None:
        self._client = client
        self._clock = clock
        self._keys = keys
        self._note = note
        self._said: dict[str, dict[str, str]] = {}

    async def read(self, circuits: Sequence[str]) -> Sequence[SharedState | None]:
        found: list[SharedState | None] = []
        for first in range(0, len(circuits), _CHUNK):
            found += await self._read(circuits[first : first + _CHUNK])
        return found

    async def read_clock(self) -> int:
        """
        Milliseconds on the engine's clock.
        """
        now = time_from(await self._client.time())
        if now is None:
            raise StoreError("the engine has answered what is no answer")
        self._clock.set(now)
        return now

    async def _read(self, circuits: Sequence[str]) -> list[SharedState | None]:
        now = await self.read_clock()
        texts = await self._client.texts([self._keys.state(each) for each in circuits])
        if len(texts) != len(circuits):
            raise StoreError("the engine has answered what is no answer")
        records = [record_from(text, now) for text in texts]
        odd = []
        for circuit, text, record in zip(circuits, texts, records, strict=True):
            if not isinstance(text, bytes):
                continue
            if record is None:
                self._note(self._keys.state(circuit), text)
            if record is None or is_beyond(text, record, now):
                odd.append(circuit)
        for circuit in odd[:_MOST_MENDED]:
            await self._mend(circuit)
        return [None if each is None else each.as_state() for each in records]

    async def _mend(self, circuit: str) -> None:
        """
        Have a time that is too far away brought near: read later, it would be as far away.
        What cannot be read goes.
        """
        try:
            await self._ask(circuit, "mend", [text_of(record_of(NOTHING_KNOWN))])
        except StoreDownError:
            raise
        except StoreError:
            pass  # it cannot be written to, and what was read was read

    async def change(self, circuit: str, change: Change) -> Answer:
        kind, args = arguments_of(change)
        return await self._ask(circuit, kind, args)

    async def _ask(self, circuit: str, kind: str, args: list[str]) -> Answer:
        keys = self._keys.of(circuit)
        words = [self._keys.channel, quoted(circuit), kind, *args]
        reply = reply_from(await self._client.change(keys, words))
        if reply is None:
            raise StoreError("the engine has answered what is no answer")
        for key in reply.odd:
            self._note(key)
        return Answer(done=reply.done, state=reply.record.as_state())

    async def beat(self, process: str, figures: Mapping[str, str]) -> int:
        before = self._said.get(process, {})
        said = {name: text for name, text in {**before, **figures}.items() if text}
        self._said[process] = said
        alive, kept = await self._beat(process, figures)
        if kept < len(said):  # the engine has lost its data
            alive, _ = await self._beat(process, said)
        return alive

    async def _beat(self, process: str, figures: Mapping[str, str]) -> tuple[int, int]:
        name = quoted(process)
        words = ["beat", name]
        for tool, text in figures.items():
            words += [quoted(tool), text.encode(errors="replace").decode()]
        keys = [self._keys.alive, self._keys.figures(name)]
        match await self._client.fleet(keys, words):
            case [int() as alive, int() as kept]:
                return alive, kept
        raise StoreError("the engine has answered what is no answer")

    async def ask(self, word: str) -> None:
        await self._client.publish(question_of(word), self._keys.channel)

    async def figures(self) -> Mapping[str, Mapping[str, str]]:
        words = ["alive", str(_MOST_PROCESSES)]
        answer = await self._client.fleet([self._keys.alive], words)
        names = names_from(answer)
        found: dict[str, Mapping[str, str]] = {}
        for first in range(0, len(names), _FEW):
            some = names[first : first + _FEW]
            keys = [self._keys.figures(quoted(each)) for each in some]
            answer = await self._client.fleet([self._keys.alive, *keys], ["figures"])
            if not isinstance(answer, list) or len(answer) != len(some):
                raise StoreError("the engine has answered what is no answer")
            for name, pairs in zip(some, answer, strict=True):
                found[name] = pairs_from(pairs)
        return found

    async def is_down(self) -> bool:
        return await self._client.is_down()

    async def leave(self, process: str) -> None:
        self._said.pop(process, None)
        name = quoted(process)
        keys = [self._keys.alive, self._keys.figures(name)]
        await self._client.fleet(keys, ["leave", name])
