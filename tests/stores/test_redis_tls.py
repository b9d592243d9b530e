"""
An engine under TLS. What ends TLS here is a proxy of the test's own, as not all engines do.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator_async.stores import StoreDownError, StoreError
from orchestrator_async.stores.redis import RedisStore

from .engine import Engine
from .parts import REAL_LOOPS, Listener, moved, opened

pytestmark = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)


@dataclass(frozen=True)
class Signed:
    """
    A certificate and its private key, as files and as they are.
    """

    cert_file: Path
    key_file: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey


def sign(folder: Path, name: str, by: Signed | None = None) -> Signed:
    """
    A certificate for this machine, signed by another one; or one that signs.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.name if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(
            x509.BasicConstraints(ca=by is None, path_length=None), critical=True
        )
    )
    if by is not None:
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([here]), critical=False)
    cert = builder.sign(by.key if by else key, hashes.SHA256())
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Signed(cert_file, key_file, subject, key)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Signed:
    return sign(folder, "authority")


@pytest.fixture(scope="module")
def engines(folder: Path, authority: Signed) -> Signed:
    return sign(folder, "engine", authority)


@contextmanager
def tls_before(engine: Engine, context: ssl.SSLContext) -> Iterator[str]:
    """
    The url of what speaks TLS and passes on to an engine what it is told.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = [threading.Thread(target=serve, args=(server, engine, context))]
        threads[0].start()
        try:
            yield f"rediss://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            threads[0].join(30)


def serve(server: socket.socket, engine: Engine, context: ssl.SSLContext) -> None:
    pumps: list[threading.Thread] = []
    open_ones: list[socket.socket] = []
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            client.settimeout(10)
            try:
                secure = context.wrap_socket(client, server_side=True)
            except OSError:
                client.close()
                continue
            secure.settimeout(None)
            behind = engine.connect()
            behind.settimeout(None)
            open_ones += [secure, behind]
            for pair in ((secure, behind), (behind, secure)):
                pumps.append(threading.Thread(target=pump, args=pair))
                pumps[-1].start()
    for each in open_ones:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    for thread in pumps:
        thread.join(30)
    for each in open_ones:
        each.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def context_of(engines: Signed) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(engines.cert_file, engines.key_file)
    return context


@pytest.fixture
def url(shared_engine: Engine, engines: Signed) -> Iterator[str]:
    with tls_before(shared_engine, context_of(engines)) as url:
        yield url


async def uses(url: str, prefix: str, **options: Any) -> None:
    listener = Listener()
    store = RedisStore(url, prefix=prefix, request_timeout=1.0, **options)
    async with store.session(listener) as session:
        await moved(session, "circuit", opened())
        await listener.hears(1)


async def test_a_certificate_that_is_signed_by_whom_it_should_be_will_do(
    url: str, prefix: str, authority: Signed
) -> None:
    await uses(url, prefix, ca_file=authority.cert_file)
    await uses(url, prefix, ca_file=str(authority.cert_file))


async def test_any_other_will_not(
    url: str, prefix: str, folder: Path, authority: Signed
) -> None:
    another = sign(folder, "another authority")
    for options in ({}, {"ca_file": another.cert_file}):
        with pytest.raises(StoreError) as caught:
            await uses(url, prefix, **options)
        assert not isinstance(caught.value, StoreDownError)


async def test_unless_it_is_not_looked_at(url: str, prefix: str) -> None:
    await uses(url, prefix, verify=False)


async def test_an_engine_may_want_to_know_who_asks(
    shared_engine: Engine, prefix: str, folder: Path, authority: Signed, engines: Signed
) -> None:
    context = context_of(engines)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.cert_file)
    ours = sign(folder, "ours", authority)
    with tls_before(shared_engine, context) as url:
        known = {"cert_file": ours.cert_file, "key_file": ours.key_file}
        await uses(url, prefix, ca_file=authority.cert_file, **known)
        with pytest.raises(StoreError):
            await uses(url, prefix, ca_file=authority.cert_file)


async def test_a_file_that_is_not_there_is_named(
    url: str, prefix: str, folder: Path, authority: Signed
) -> None:
    missing = folder / "missing.pem"
    with pytest.raises(StoreError, match=r"missing\.pem"):
        await uses(url, prefix, ca_file=missing)
    with pytest.raises(StoreError, match=r"missing\.pem"):
        await uses(
            url,
            prefix,
            ca_file=authority.cert_file,
            cert_file=missing,
            key_file=authority.key_file,
        )


async def test_what_speaks_no_tls_is_no_engine_under_it(
    own_engine: Engine, authority: Signed
) -> None:
    url = own_engine.url.replace("redis://", "rediss://")
    with pytest.raises(StoreError) as caught:
        await uses(url, "mine", ca_file=authority.cert_file)
    assert not isinstance(caught.value, StoreDownError)
