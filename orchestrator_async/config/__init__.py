"""
Settings and servers from a file, in TOML, or in the JSON of hosts of MCP servers.

A file is read where its path is given, and never looked for. Importing this imports
pydantic.
"""

from __future__ import annotations

from ._config import Config, GatewayConfig
from ._errors import ConfigError
from ._read import load_config, read_config
from ._servers import ServerConfig

__all__ = [
    "Config",
    "ConfigError",
    "GatewayConfig",
    "ServerConfig",
    "load_config",
    "read_config",
]
