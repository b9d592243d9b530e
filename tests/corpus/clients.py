"""
What the clients of HTTP, gRPC and other protocols raise.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .exceptions import provoke
from .found import Found
from .loopback import Net
from .python import Case

_NAME = "the name may also be the argument"
_FAILING, _BLAMING = (500, 502, 503, 429), (400, 403, 404, 409, 422)


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of those that are installed.
    """
    warnings.simplefilter("ignore")
    for name, cases in _CLIENTS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        for case in cases(net):
            if found := provoke(*case):
                yield found


def _addresses(net: Net) -> list[tuple[str, str, str, str]]:
    return [
        ("service", "nobody listens", f"http://{net.refused}/", ""),
        ("service", "reset", f"http://{net.reset}/", ""),
        ("service", "closed", f"http://{net.closed}/", ""),
        ("service", "no answer in time", f"http://{net.silent}/", ""),
        ("service", "no HTTP", f"http://{net.garbage}/", ""),
        ("service", "half an answer", f"http://{net.partial}/", ""),
        ("service", "a name that cannot be resolved", "http://nowhere.invalid/", _NAME),
        ("service", "TLS to a plain port", f"https://{net.http}/", ""),
        ("call", "a loop", f"http://{net.http}/loop", "this address loops"),
        ("call", "a scheme", "foo://example.com/", ""),
        ("call", "no URL", "nonsense", ""),
        ("call", "a port", "http://127.0.0.1:x/", ""),
        *(("service", f"status {n}", net.status(n), "") for n in _FAILING),
        ("service", "status 401", net.status(401), "its credential"),
        *(("call", f"status {n}", net.status(n), "") for n in _BLAMING),
        ("service", "a page where JSON should be", net.status(200), "a proxy's"),
    ]


def _of_urls(source: str, get: Callable[[str], Any]) -> Callable[[Net], Iterator[Case]]:
    def cases(net: Net) -> Iterator[Case]:
        for label, provoked, url, why in _addresses(net):
            if (source, provoked) == ("urllib3", "no URL"):  # it takes it for a name
                label, why = "service", _NAME
            yield source, label, provoked, (lambda url=url: get(url)), why  # type: ignore[misc]

    return cases


def _httpx(url: str) -> None:
    import httpx

    with httpx.Client(timeout=0.5, follow_redirects=True) as client:
        client.get(url).raise_for_status().json()


def _httpx2(url: str) -> None:
    import httpx2

    with httpx2.Client(timeout=0.5, follow_redirects=True) as client:
        client.get(url).raise_for_status().json()


def _requests(url: str) -> None:
    import requests

    answer = requests.get(url, timeout=0.5)
    answer.raise_for_status()
    answer.json()


def _urllib3(url: str) -> None:
    import urllib3

    urllib3.PoolManager(retries=False, timeout=0.5).request("GET", url).json()


def _aiohttp(url: str) -> None:
    import aiohttp

    async def get() -> None:
        timeout = aiohttp.ClientTimeout(total=0.5)
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            async with session.get(url) as answer:
                await answer.json()

    asyncio.run(get())


def _websockets(net: Net) -> Iterator[Case]:
    import websockets.sync.client as client

    for label, provoked, url, why in _addresses(net):
        if "half" in provoked or "loop" in provoked or "JSON" in provoked:
            continue
        url = url.replace("https:", "wss:").replace("http:", "ws:")
        yield (
            "websockets", label, provoked,
            lambda url=url: client.connect(url, open_timeout=0.5), why,
        )  # type: ignore[misc]  # fmt: skip


def _grpc(net: Net) -> Iterator[Case]:
    import grpc

    def fail(request: bytes, context: Any) -> bytes:
        word = request.decode()
        if word == "raise":
            raise KeyError("nowhere")
        if word == "slow":
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        if word == "large":
            return b"x" * 5_000_000
        context.abort(getattr(grpc.StatusCode, word), "")
        return b""

    handler = grpc.method_handlers_generic_handler(
        "s.S", {"Do": grpc.unary_unary_rpc_method_handler(fail)}
    )
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), (handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def ask(word: str, address: str = f"127.0.0.1:{port}", method: str = "Do") -> Any:
        def do() -> None:
            with grpc.insecure_channel(address) as channel:
                channel.unary_unary(f"/s.S/{method}")(word.encode(), timeout=1.5)

        return do

    grpc_ = "grpc"
    for word in (
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
        "UNAUTHENTICATED",
        "DATA_LOSS",
    ):
        yield grpc_, "service", word, ask(word)
    for word in ("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
                 "FAILED_PRECONDITION", "OUT_OF_RANGE"):  # fmt: skip
        yield grpc_, "call", word, ask(word)
    yield grpc_, "call", "no such method", ask("x", method="Nothing")
    yield grpc_, "service", "the handler raises", ask("raise")
    yield (
        grpc_,
        "call",
        "an answer that is too large",
        ask("large"),
        "less may be asked for",
    )
    yield grpc_, "service", "nobody listens", ask("x", net.refused)
    yield grpc_, "service", "no answer in time", ask("x", net.silent)
    yield grpc_, "service", "reset", ask("x", net.reset)
    yield grpc_, "service", "no gRPC", ask("x", net.garbage)
    yield grpc_, "service", "a name", ask("x", "nowhere.invalid:80"), _NAME


def _openai(net: Net) -> Iterator[Case]:
    import openai

    def ask(url: str) -> Any:
        client = openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=0.5)
        return lambda: client.models.retrieve("x")

    yield from _of_api("openai", ask, net)
    yield (
        "openai",
        "service",
        "no key",
        lambda: openai.OpenAI(api_key=None),
        "its credential",
    )


def _anthropic(net: Net) -> Iterator[Case]:
    import anthropic

    def ask(url: str) -> Any:
        client = anthropic.Anthropic(base_url=url, api_key="x", max_retries=0, timeout=0.5)
        return lambda: client.models.retrieve("x")

    yield from _of_api("anthropic", ask, net)


def _of_api(source: str, ask: Callable[[str], Any], net: Net) -> Iterator[Case]:
    yield source, "service", "nobody listens", ask(f"http://{net.refused}")
    yield source, "service", "no answer in time", ask(f"http://{net.silent}")
    yield source, "service", "closed", ask(f"http://{net.closed}")
    for number in (500, 503, 429, 401):
        yield source, "service", f"status {number}", ask(f"{net.status(number)}/json")
    for number in (400, 403, 404, 409, 422):
        yield source, "call", f"status {number}", ask(f"{net.status(number)}/json")


def _boto3(net: Net) -> Iterator[Case]:
    import boto3
    from botocore.config import Config

    def client(url: str, kind: str = "s3") -> Any:
        config = Config(
            connect_timeout=1, read_timeout=1, retries={"max_attempts": 0}, proxies={}
        )
        return boto3.client(
            kind, region_name="eu-west-1", endpoint_url=url, aws_access_key_id="x",
            aws_secret_access_key="x", config=config,
        )  # fmt: skip

    def get(url: str) -> Any:
        return lambda: client(url).get_object(Bucket="x", Key="y")

    boto = "boto3"
    yield boto, "service", "nobody listens", get(f"http://{net.refused}")
    yield boto, "service", "no answer in time", get(f"http://{net.silent}")
    yield boto, "service", "closed", get(f"http://{net.closed}")
    yield boto, "service", "reset", get(f"http://{net.reset}")
    yield (
        boto,
        "service",
        "half an answer",
        lambda: (
            client(f"http://{net.partial}").get_object(Bucket="x", Key="y")["Body"].read()
        ),
    )
    for number in (500, 503, 429):
        yield boto, "service", f"status {number}", get(net.status(number))
    for number in (403, 404):
        yield boto, "call", f"status {number}", get(net.status(number))
    ask = client(f"http://{net.refused}")
    yield boto, "call", "a parameter", lambda: ask.get_object(Bucket="x")
    yield boto, "call", "an unknown one", lambda: ask.get_object(Bucket="x", Key="y", Z=1)
    yield boto, "call", "a bucket", lambda: ask.get_object(Bucket="not a bucket", Key="y")
    yield boto, "call", "a type", lambda: ask.get_object(Bucket="x", Key=1)
    yield boto, "call", "an operation", lambda: ask.get_paginator("nonsense")
    yield boto, "call", "a service", lambda: client("http://x", "nonsense")
    yield (
        boto,
        "service",
        "no credentials",
        lambda: (
            boto3.Session(aws_access_key_id=None)
            .client("s3", region_name="x", endpoint_url=net.status(200))
            .list_buckets()
        ),
        "its own",
    )


def _paramiko(net: Net) -> Iterator[Case]:
    import paramiko

    def connect(address: str) -> Any:
        def do() -> None:
            host, _, port = address.rpartition(":")
            with contextlib.closing(paramiko.SSHClient()) as client:
                client.connect(
                    host, int(port), "x", "y", timeout=1, banner_timeout=1, auth_timeout=1,
                    look_for_keys=False, allow_agent=False,
                )  # fmt: skip

        return do

    yield "paramiko", "service", "nobody listens", connect(net.refused)
    yield "paramiko", "service", "reset", connect(net.reset)
    yield "paramiko", "service", "no ssh", connect(net.garbage)
    yield "paramiko", "service", "silent", connect(net.silent)
    yield (
        "paramiko",
        "call",
        "a key",
        lambda: paramiko.RSAKey.from_private_key_file("/dev/null"),
    )


def _pydantic(net: Net) -> Iterator[Case]:
    import pydantic

    class Model(pydantic.BaseModel):
        number: int
        kind: pydantic.HttpUrl | None = None

    valid = Model.model_validate
    yield "pydantic", "call", "a number", lambda: valid({"number": "x"})
    yield "pydantic", "call", "a field", lambda: valid({})
    yield "pydantic", "call", "a URL", lambda: valid({"number": 1, "kind": "x"})
    yield "pydantic", "call", "no object", lambda: valid(3)
    yield "pydantic", "call", "no JSON", lambda: Model.model_validate_json("nonsense")


def _jsonschema(net: Net) -> Iterator[Case]:
    import jsonschema

    def check(schema: Any, value: Any) -> Any:
        return lambda: jsonschema.validate(value, schema)

    name = "jsonschema"
    yield name, "call", "a type", check({"type": "string"}, 3)
    yield name, "call", "a property", check({"required": ["timeout"]}, {})
    yield name, "call", "one too many", check({"additionalProperties": False}, {"host": 1})
    yield name, "call", "an enum", check({"enum": ["a"]}, "b")
    yield name, "call", "a range", check({"minimum": 3}, 1)
    yield name, "call", "a pattern", check({"pattern": "^a"}, "b")
    yield name, "call", "a length", check({"maxLength": 1}, "bb")
    yield name, "call", "none of them", check({"anyOf": [{"type": "null"}]}, "b")
    yield name, "call", "a schema", check({"type": "nonsense"}, 1)


def _tables(net: Net) -> Iterator[Case]:
    import pandas as pd

    table = pd.DataFrame({"a": [1]})
    name = "pandas"
    yield name, "call", "a column", lambda: table["connection"]
    yield name, "call", "a query", lambda: table.query("b > 1")
    yield name, "call", "a file", lambda: pd.read_csv("nowhere.csv")
    yield name, "call", "an empty file", lambda: pd.read_csv("/dev/null")
    yield name, "call", "a row", lambda: table.loc[9]
    yield name, "call", "a merge", lambda: table.merge(table, on="b")
    yield name, "call", "lengths", lambda: pd.DataFrame({"a": [1], "b": [1, 2]})
    yield name, "call", "a sheet", lambda: pd.read_excel("/dev/null")
    yield name, "call", "a time", lambda: pd.to_datetime("yesterday-ish")
    yield name, "call", "a type", lambda: pd.Series(["x"]).astype(int)


def _documents(net: Net) -> Iterator[Case]:
    import yaml
    from lxml import etree

    name = "yaml and lxml"
    yield name, "call", "a flow", lambda: yaml.safe_load("[1")
    yield name, "call", "a tab", lambda: yaml.safe_load("a:\n\t- b")
    yield name, "call", "a tag", lambda: yaml.safe_load("!nonsense x")
    yield name, "call", "a mapping", lambda: yaml.safe_load("a: b: c")
    yield name, "call", "an alias", lambda: yaml.safe_load("*x")
    yield name, "call", "XML", lambda: etree.fromstring("<a>")
    yield name, "call", "no XML", lambda: etree.fromstring("text")
    yield name, "call", "a path", lambda: etree.fromstring("<a/>").xpath("//[")
    yield name, "call", "a file", lambda: etree.parse("nowhere.xml")


_CLIENTS: dict[str, Callable[[Net], Iterator[Case]]] = {
    "httpx": _of_urls("httpx", _httpx),
    "httpx2": _of_urls("httpx", _httpx2),
    "requests": _of_urls("requests", _requests),
    "urllib3": _of_urls("urllib3", _urllib3),
    "aiohttp": _of_urls("aiohttp", _aiohttp),
    "websockets": _websockets,
    "grpc": _grpc,
    "openai": _openai,
    "anthropic": _anthropic,
    "boto3": _boto3,
    "paramiko": _paramiko,
    "pydantic": _pydantic,
    "jsonschema": _jsonschema,
    "pandas": _tables,
    "lxml": _documents,
}
