"""
The guide: its code does what it says.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("model_tools") is None:
    pytest.skip("hermes-agent has an environment of its own", allow_module_level=True)

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "hermes.md").read_text(encoding="utf-8")
[FIRST, PLUGIN] = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.DOTALL)
[OUTPUT] = re.findall(r"^```text\n(.*?)^```$", GUIDE, re.M | re.DOTALL)
[CONFIG] = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.DOTALL)

SHOWS = """
import json, model_tools
from hermes_cli.plugins import get_plugin_manager
[plugin] = [each for each in get_plugin_manager()._plugins.values() if each.enabled
            and each.middleware_registered]
print(plugin.manifest.name, plugin.error)
"""


def run(code: str, home: Path) -> str:
    command = [sys.executable, "-c", code]
    env = {**os.environ, "HERMES_HOME": str(home)}
    env.pop("ORCHESTRATOR_ASYNC_CONFIG", None)
    done = subprocess.run(
        command, cwd=home, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_its_first_program_prints_what_it_shows(tmp_path: Path, backend: str) -> None:
    code = FIRST.replace("anyio.run(main)", f"anyio.run(main, backend={backend!r})")
    assert run(code, tmp_path) == OUTPUT


def test_its_settings_load_our_plugin(tmp_path: Path) -> None:
    settings = tmp_path / "circuits.toml"
    settings.write_text("[orchestrator]\nfailure_threshold = 1\n")
    config = CONFIG.replace("/home/ada/circuits.toml", str(settings))
    (tmp_path / "config.yaml").write_text(config)
    assert run(SHOWS, tmp_path) == "orchestrator-async None\n"


def test_a_plugin_of_ones_own_is_as_short_as_that(tmp_path: Path) -> None:
    plugin = tmp_path / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "plugin.yaml").write_text("name: mine\nversion: 1.0.0\n")
    (plugin / "__init__.py").write_text(PLUGIN)
    (tmp_path / "config.yaml").write_text("plugins: {enabled: [mine]}\n")
    assert run(SHOWS, tmp_path) == "mine None\n"
