"""
An agent of hermes whose tool dies and comes back, with our circuits as a plugin.

    python -m examples.hermes_agent

It runs offline, in a home that is removed: the model is a script behind a server of this
program. (By its path it would find ``agent.py`` beside it: hermes has such a module.)
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WAIT = ("terminal", {"command": "sleep 1.1"})
CALLS = [*[("weather", {})] * 4, WAIT, ("weather", {})]
WEATHER = {"name": "weather", "description": "The weather.", "parameters": {}}


class Model(BaseHTTPRequestHandler):
    """
    Asks for one call after another, and then says how the weather is.
    """

    def log_message(self, *args: Any) -> None: ...

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        made = sum(each["role"] == "tool" for each in asked.get("messages", []))
        says: dict[str, Any] = {"role": "assistant", "content": "Sunny."}
        if made < len(CALLS):
            name, args = CALLS[made]
            function = {"name": name, "arguments": json.dumps(args)}
            call = {"index": 0, "id": f"c{made}", "type": "function", "function": function}
            says = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice: dict[str, Any] = {"index": 0, "delta": says, "message": says}
        choice["finish_reason"] = "stop" if says["content"] else "tool_calls"
        text = json.dumps({"id": "1", "created": 1, "model": "m", "choices": [choice]})
        kind = "application/json"
        if asked.get("stream"):
            text, kind = f"data: {text}\n\ndata: [DONE]\n\n", "text/event-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())


def set_up(home: Path) -> None:
    """
    What ``hermes plugins enable orchestrator-async`` would do in this home.
    """
    (home / "circuits.toml").write_text('[orchestrator]\nreset_timeout = "1s"\n')
    entry = {"orchestrator-async": {"config": str(home / "circuits.toml")}}
    plugins = {"enabled": ["orchestrator-async"], "entries": entry}
    (home / "config.yaml").write_text(json.dumps({"plugins": plugins}))
    os.environ["HERMES_HOME"] = str(home)


def main() -> None:
    from run_agent import AIAgent  # now that it has a home
    from tools.registry import registry

    runs: list[object] = []

    def weather(args: dict[str, Any], **told: Any) -> str:
        runs.append(args)
        if len(runs) <= 3:
            raise ConnectionError("the service is down")
        return json.dumps({"sky": "clear"})

    registry.register("weather", "terminal", WEATHER, weather)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    agent = AIAgent(
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        api_key="none",
        model="m",
        enabled_toolsets=["terminal"],
        quiet_mode=True,
        skip_memory=True,
        skip_context_files=True,
    )
    said = agent.run_conversation("What is the weather?")
    for each in said["messages"]:
        if each["role"] == "tool":
            print("tool: ", each["content"].partition("\n")[0])
    print("model:", said["final_response"])
    print("runs: ", len(runs))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        set_up(Path(home))
        main()
