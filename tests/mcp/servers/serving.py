"""
How the servers made with the SDK are served: on stdio, or on HTTP with ``--http PORT``.
"""

from __future__ import annotations

import argparse
import socket
import sys

import anyio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.stdio import stdio_server


def serve(server: Server) -> None:
    """
    Serve until the client has gone, or for ever on HTTP.

    On HTTP the line ``ready PORT`` on stderr says that connections are accepted.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int, metavar="PORT", help="0 for any")
    parser.add_argument(
        "--json", action="store_true", help="answer with JSON, not with events"
    )
    options = parser.parse_args()
    if options.http is None:
        anyio.run(_stdio, server)
    else:
        anyio.run(_http, server, options.http, options.json)


async def _stdio(server: Server) -> None:
    changes = NotificationOptions(tools_changed=True)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options(changes))


async def _http(server: Server, port: int, json_response: bool) -> None:
    app = server.streamable_http_app(json_response=json_response)
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
    with socket.create_server(("127.0.0.1", port)) as listener:
        # Else each answer waits 40 ms for a word of the client's system.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sys.stderr.write(f"ready {listener.getsockname()[1]}\n")
        sys.stderr.flush()
        await uvicorn.Server(config).serve(sockets=[listener])
