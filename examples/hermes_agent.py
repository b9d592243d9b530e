"""
An agent of hermes whose tool dies and comes back, with our circuits as a plugin.

    python -m examples.hermes_agent

It runs offline: the model is a script behind a server of this program. Hermes' home is a
directory that is removed in the end. (By its path it would find ``agent.py`` beside it, for
hermes has a module of that name.)
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "orchestrator-async"
WAIT = ("terminal", {"command": "sleep 1.1"})
CALLS = [*[("weather", {})] * 4, WAIT, ("weather", {})]
SETTINGS = '[tools."*"]\nreset_timeout = "1s"\n'
CONFIG = """
plugins:
  enabled: [orchestrator-async]
  entries:
    orchestrator-async:
      config: {path}
"""


class Model(BaseHTTPRequestHandler):
    """
    Asks for one call after another, and then says that it is done.
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
        why = "tool_calls" if says["content"] is None else "stop"
        choice = {"index": 0, "delta": says, "message": says, "finish_reason": why}
        answer = {"id": "1", "created": 1, "model": "script", "choices": [choice]}
        stream = bool(asked.get("stream"))
        answer["object"] = "chat.completion.chunk" if stream else "chat.completion"
        text = json.dumps(answer)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        self.wfile.write((f"data: {text}\n\ndata: [DONE]\n\n" if stream else text).encode())


def set_up(home: Path) -> None:
    """
    What ``pip`` and ``hermes plugins enable orchestrator-async`` would do, in this home.
    """
    plugin = home / "plugins" / NAME
    plugin.mkdir(parents=True)
    (plugin / "plugin.yaml").write_text(f"name: {NAME}\nversion: 1.0.0\n")
    imported = "from orchestrator_async.adapters.hermes.plugin import register\n"
    (plugin / "__init__.py").write_text(imported)
    (home / "circuits.toml").write_text(SETTINGS)
    (home / "config.yaml").write_text(CONFIG.format(path=home / "circuits.toml"))


def main() -> None:
    from run_agent import AIAgent
    from tools.registry import registry

    from orchestrator_async.adapters.hermes.plugin import circuits

    runs = 0

    def weather(args: dict[str, Any], **told: Any) -> str:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise ConnectionError("the service is down")
        return json.dumps({"sky": "clear"})

    schema = {"name": "weather", "description": "The weather.", "parameters": {"type": "object"}}
    registry.register("weather", "terminal", schema, weather)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    agent = AIAgent(base_url=url, api_key="none", model="script", quiet_mode=True,
                    skip_memory=True, skip_context_files=True, enabled_toolsets=["terminal"])
    said = agent.run_conversation("What is the weather?")
    for each in said["messages"]:
        if each["role"] == "tool":
            print("tool: ", each["content"].partition("\n")[0])
    print("model:", said["final_response"])
    made = circuits()
    assert made is not None
    figures = made.orch.get_fleet_stats()["weather"]
    print(f"runs: {runs}, refused: {figures['rejected']}, state: {figures['state']}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ["HERMES_HOME"] = home
        set_up(Path(home))
        main()
