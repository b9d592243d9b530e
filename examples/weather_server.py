"""
A small weather service over HTTP, for the demo. Standard library only.

    python examples/weather_server.py [--port 8080]

| request                         | answer                                              |
|---------------------------------|-----------------------------------------------------|
| ``GET /forecast?city=…&days=…`` | the forecast, or 404 for a city it does not know    |
| ``GET /count``                  | how many forecasts this process was asked for       |

The first line it prints is JSON: its ``port`` and ``pid``, or the ``error`` that kept it
from listening. It ends when its standard input is closed, and so never outlives the
program that started it, however that one ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socketserver
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
CITIES = ("Bergen", "London", "Oslo", "Paris", "Tromsø")
SKIES = ("sun", "clouds", "rain", "fog", "snow")
WORK = 0.12
"""Seconds that a forecast takes, so that callers who come at once really overlap."""


class WeatherServer(ThreadingHTTPServer):
    """
    Counts the forecasts that it is asked for, whatever becomes of them.
    """

    daemon_threads = True
    request_queue_size = 256
    # On Windows the option would let two servers have one port.
    allow_reuse_address = os.name != "nt"

    def __init__(self, port: int) -> None:
        self.forecasts = 0
        self._lock = threading.Lock()
        super().__init__((HOST, port), WeatherHandler)

    def server_bind(self) -> None:
        # HTTPServer's own also asks the resolver for the host's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(
            sys.exception(), ConnectionError
        ):  # a client that left is no error
            super().handle_error(request, client_address)

    def counted(self) -> None:
        with self._lock:
            self.forecasts += 1


class WeatherHandler(BaseHTTPRequestHandler):
    """
    Answers one request in JSON.
    """

    server: WeatherServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/forecast":
                self.server.counted()
                self._forecast(query.get("city", ""), int(query.get("days", "1")))
            case "/count":
                self._answer(200, {"forecasts": self.server.forecasts, "pid": os.getpid()})
            case _:
                self._answer(404, {"detail": "no such page"})

    def _forecast(self, city: str, days: int) -> None:
        time.sleep(WORK)
        if city not in CITIES:
            self._answer(404, {"detail": f"no station in {city}", "cities": CITIES})
            return
        seeds = [zlib.crc32(f"{city} {day}".encode()) for day in range(days)]
        forecast = [{"sky": SKIES[seed % 5], "celsius": seed % 23 - 4} for seed in seeds]
        self._answer(200, {"city": city, "forecast": forecast})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """
        Quiet: the terminal belongs to the demo.
        """


def _exit_with_stdin() -> None:
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)


def main() -> int:
    """
    Serve until standard input is closed.
    """
    parser = argparse.ArgumentParser(description="A small weather service for the demo.")
    parser.add_argument(
        "--port", type=int, default=0, help="0 (the default) is any free port"
    )
    port = parser.parse_args().port
    try:
        server = WeatherServer(port)
    except (OSError, OverflowError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps({"port": server.server_port, "pid": os.getpid()}), flush=True)
    threading.Thread(target=_exit_with_stdin, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
