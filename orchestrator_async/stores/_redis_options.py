"""
Where an engine is, and how it is to be spoken to. Without I/O.

No message and no ``repr`` has anything of a url in it but the addresses: a password that is
quoted wrongly can be anywhere.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

_TLS: Final = {
    "redis": False,
    "valkey": False,
    "unix": False,
    "rediss": True,
    "valkeys": True,
}
_PORT: Final = 6379
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
_HOST: Final = re.compile(r"[^\s/@:\[\]]+|\[[0-9A-Fa-f:.%a-z]+\]")
_LONGEST_TIMEOUT: Final = 3600.0

File = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """
    Where an engine is.

    Attributes:
        hosts: Hosts and ports; none where it is on a socket.
        path: The path of its socket, or "".
        tls: Whether it is spoken to under TLS.
        username: A user of its ACL, or ``None``.
        password: That user's, or ``None``.
        database: The number of the database.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    tls: bool = False
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    database: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for host, port in self.hosts
        )
        return f"{'rediss' if self.tls else 'redis'}://{hosts}/{self.database}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """
    How an engine is spoken to, checked. The fields are those of ``RedisStore``.
    """

    address: Address
    prefix: str
    cluster: bool
    request_timeout: float
    verify: bool
    ca_file: File | None
    cert_file: File | None
    key_file: File | None

    def __post_init__(self) -> None:
        _check_text(self.prefix, "prefix")
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError("prefix: expected 1 to 100 letters, digits and any of ._:/-")
        _check_flag(self.cluster, "cluster")
        _check_flag(self.verify, "verify")
        _check_timeout(self.request_timeout)
        for name in ("ca_file", "cert_file", "key_file"):
            _check_file(getattr(self, name), name)
        self._check_tls()
        if self.cluster and self.address.path:
            raise ValueError("cluster: the nodes of one are reached by host and port")
        if self.cluster and self.address.database:
            raise ValueError("cluster: it has one database, which is 0")

    def _check_tls(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            missing = "key_file" if self.key_file is None else "cert_file"
            raise ValueError(f"{missing}: cert_file and key_file go together")
        if self.address.tls:
            return
        for name in ("ca_file", "cert_file"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: the url is none of TLS, which begins with rediss:"
                )
        if not self.verify:
            raise ValueError("verify: the url is none of TLS, which begins with rediss:")


def address_from(url: str, username: str | None, password: str | None) -> Address:
    """
    What a url says, and the options beside it.

    Raises:
        ValueError: It is none, or says what an option says as well.
        TypeError: It is no text.
    """
    _check_text(url, "url")
    scheme, separator, rest = url.partition("://")
    if "sentinel" in scheme:
        raise ValueError(
            "url: valkey-glide does not ask Sentinels. Name the primary and its replicas, "
            "redis://one:6379,two:6379, and it finds which is which"
        )
    if not separator or scheme not in _TLS:
        known = ", ".join(f"{each}://" for each in _TLS)
        raise ValueError(f"url: expected one that begins with one of {known}")
    place, _, query = rest.partition("?")
    userinfo, at, where = _split_user(place, scheme)
    if "," in userinfo:
        raise ValueError("url: the user and the password stand once, before all hosts")
    user, _, secret = userinfo.partition(":")
    username = _one_of(unquote(user) if at else "", username, "username")
    password = _one_of(unquote(secret) if at else "", password, "password")
    if username is not None and password is None:
        raise ValueError("password: there is a username, and no password")
    if scheme == "unix":
        return Address(
            path=_path(where),
            username=username,
            password=password,
            database=_database(query.removeprefix("db=") if query else ""),
        )
    if query:
        raise ValueError("url: expected no ? in it; what it would say is an option")
    hosts, _, database = where.partition("/")
    return Address(
        hosts=tuple(_host(each) for each in hosts.split(",")),
        tls=_TLS[scheme],
        username=username,
        password=password,
        database=_database(database),
    )


def _split_user(place: str, scheme: str) -> tuple[str, str, str]:
    """
    Who, whether there is anybody, and where.
    """
    if scheme == "unix":
        if place.startswith("/"):
            return "", "", place
        userinfo, at, path = place.partition("@")
        return (userinfo, at, path) if at else ("", "", place)
    return place.rpartition("@")


def _one_of(said: str, given: str | None, name: str) -> str | None:
    if given is not None:
        _check_text(given, name)
    if said and given:
        raise ValueError(f"{name}: it is in the url as well")
    return said or given or None


def _host(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(_PORT)
    if not _HOST.fullmatch(host):
        raise ValueError("url: expected host:port, or several of them between commas")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("url: expected a port from 1 to 65535")
    return host.strip("[]"), int(port)


def _path(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("url: expected the absolute path of a socket: unix:///run/it.sock")
    return unquote(text)


def _database(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("url: expected a number as the database")
    return int(text)


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, not {type(value).__name__}")


def _check_flag(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, not {type(value).__name__}")


def _check_file(value: object, name: str) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, not {type(value).__name__}")


def _check_timeout(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = type(value).__name__
        raise TypeError(f"request_timeout: expected seconds, not {kind}")
    if isinstance(value, int):
        value = min(value, 10**9)  # more than that is no float
    if math.isnan(value) or not 0.001 <= value <= _LONGEST_TIMEOUT:
        raise ValueError("request_timeout: expected seconds, from 0.001 to 3600")
