from __future__ import annotations

import argparse
import sys

from . import FAULTS, Server

parser = argparse.ArgumentParser(prog="http_faults")
parser.add_argument("--http", type=int, default=0, metavar="PORT", help="0 for any")
parser.add_argument(
    "--fault", choices=sorted(FAULTS), help="of every request, from the start"
)
parser.add_argument(
    "--elsewhere", default="http://127.0.0.1:9/mcp", help="where redirects go"
)
parser.add_argument("--size", type=int, default=100_000_000, help="bytes of what is large")
options = parser.parse_args()
server = Server(options.http, FAULTS, elsewhere=options.elsewhere, size=options.size)
server.fault = options.fault
sys.stderr.write(f"ready {server.server_address[1]}\n")
sys.stderr.flush()
server.serve_forever()
