"""
MCP servers that tests talk to, each a process: ``python -m tests.mcp.servers.NAME``.

``plain`` and ``changing`` are made with the SDK. ``hostile`` and ``http_faults`` are written
by hand, because an honest SDK does not misbehave; they import nothing slow.
"""
