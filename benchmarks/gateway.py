"""
What a gateway costs: a call of a tool that says it again, by the SDK's own client, straight
to its server and through a gateway.

    python -m benchmarks.gateway                 some seconds
    python -m benchmarks.gateway --smoke         whether it runs
    python -m benchmarks.gateway --loop trio     the gateway and the client on that loop

Everything is a process of its own, as it is where it is used: the client here, the server, and
the gateway, which has its own server behind it, on stdio. So a call through it is one call
more. The cases are measured in turn, a few calls each, many times; shown are medians, by the
wall's clock, for one call after another.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import anyio
from mcp import Client, StdioServerParameters

ROOT = Path(__file__).parent.parent
SERVER = ["-m", "tests.mcp.servers.plain"]
GATEWAY = """
import sys, anyio
from orchestrator_async.gateway import serve
http = ("127.0.0.1", 0) if sys.argv[3:] else None
async def main():
    await serve(sys.argv[1], http=http)
anyio.run(main, backend=sys.argv[2])
"""
CALLS = 20


@asynccontextmanager
async def on_stdio(args: list[str]) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(command=sys.executable, args=args, cwd=str(ROOT))
    async with Client(parameters) as client:
        yield client


@asynccontextmanager
async def on_http(args: list[str]) -> AsyncIterator[Client]:
    """
    A client of a program that says on standard error where it listens.
    """
    command = [sys.executable, *args]
    async with await anyio.open_process(command, cwd=ROOT, stdin=None) as process:
        try:
            assert process.stderr is not None
            said = b""
            while not said.endswith(b"\n"):
                said += await process.stderr.receive()
            address = said.split()[-1].decode()
            url = f"http://127.0.0.1:{address}/mcp" if address.isdigit() else address
            async with Client(url) as client:
                yield client
        finally:
            process.terminate()


async def measured(client: Client, tool: str) -> float:
    """
    Microseconds that a call takes.
    """
    begin = perf_counter()
    for _ in range(CALLS):
        result = await client.call_tool(tool, {"text": "hello"})
    took = perf_counter() - begin
    assert not result.is_error, result
    return took / CALLS * 1e6


async def run(rounds: int, loop: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = {"command": sys.executable, "args": SERVER, "cwd": str(ROOT)}
        path = await anyio.Path(folder, "servers.json").absolute()
        await path.write_text(json.dumps({"servers": {"plain": server}}))
        gateway = ["-c", GATEWAY, str(path), loop]
        async with AsyncExitStack() as stack:
            opened = {
                "server, stdio": (on_stdio(SERVER), "echo"),
                "gateway, stdio": (on_stdio(gateway), "plain__echo"),
                "server, HTTP": (on_http([*SERVER, "--http", "0"]), "echo"),
                "gateway, HTTP": (on_http([*gateway, "http"]), "plain__echo"),
            }
            cases = {
                name: (await stack.enter_async_context(opening), tool)
                for name, (opening, tool) in opened.items()
            }
            for client, _ in cases.values():
                await client.list_tools()
            times: dict[str, list[float]] = {name: [] for name in cases}
            for number in range(rounds):
                names = list(cases) if number % 2 else list(reversed(cases))
                for name in names:
                    times[name].append(await measured(*cases[name]))
    show(times, loop)


def show(times: dict[str, list[float]], loop: str) -> None:
    print(f"microseconds a call, medians of {len(times['server, stdio'])} rounds, {loop}")
    for name, each in times.items():
        direct = times[name.replace("gateway", "server")]
        pairs = zip(each, direct, strict=True)
        more = median(one - other for one, other in pairs)
        ratio = median(one / other for one, other in zip(each, direct, strict=True))
        told = f"  {ratio:.2f} of the server's, {more:,.0f} more" if more else ""
        print(f"  {name:<15} {median(each):>8,.0f}{told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--smoke", action="store_true", help="see only whether it runs")
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio")
    given = parser.parse_args()
    rounds = 3 if given.smoke else 101
    anyio.run(run, rounds, given.loop, backend=given.loop)


if __name__ == "__main__":
    main()
