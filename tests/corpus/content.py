"""
What is no error, and may look like one: other people's content, as tools return it.
"""

from __future__ import annotations

import errno
import http
import importlib
import inspect
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .found import Found
from .loopback import Net

# Documentation of these names, from its beginning and as it is.
_DOCUMENTED = """
ConnectionError FileNotFoundError PermissionError TimeoutError OSError ValueError KeyError
traceback.print_exc traceback.TracebackException errno socket.timeout subprocess.CalledProcessError
urllib.error http.client.HTTPException unittest.TestCase.assertRaises warnings.warn
logging.error logging.exception logging.Logger.error json.JSONDecodeError argparse.ArgumentParser
contextlib.suppress statistics.linear_regression concurrent.futures.TimeoutError
asyncio.wait_for sqlite3.Error csv.Error zipfile.BadZipFile tokenize.TokenError
""".split()

_COMMANDS = """
curl --help
git --version
git help -g
grep --help
openssl errstr 0A00010B
sqlite3 --help
tar --help
node --help
bash -c "help test"
perl -e "print qq(Failed: 0, passed: 12\n)"
python3 -c "print('Error rate: 0.02 %')"
python3 -c "print('Errors: 0\\nWarnings: 2')"
python3 -c "print('Mean squared error: 0.25')"
python3 -c "print('Error budget: 43 minutes left')"
python3 -c "print('0 errors, 0 failures')"
python3 -c "print('timeout = 30\\nretries = 5')"
python3 -c "print('404')"
python3 -c "print('HTTP/1.1 503 Service Unavailable')"
python3 -c "print('status: unavailable on Sundays')"
python3 -c "print({'errors': 0, 'failed': []})"
python3 -c "import json; print(json.dumps({'error': None, 'rows': 3}))"
python3 -c "import json; print(json.dumps({'error': '', 'ok': True}))"
python3 -c "import json; print(json.dumps([{'error': 'x'}]))"
python3 -c "import json; print(json.dumps({'data': {'error': 'connection refused'}}))"
python3 -m unittest
python3 -m compileall nowhere
printf 'level,message\\nerror,connection refused\\ninfo,ok\\n'
printf '#!/bin/sh\\nset -e\\necho "Error: no file" >&2\\nexit 1\\n'
printf 'def check(x):\\n    raise ValueError("invalid")\\n'
printf '## Troubleshooting\\n\\nError: connection refused\\n\\nStart the server first.\\n'
printf 'Error handling in Go: a tour\\n\\nErrors are values.\\n'
printf 'Fatal accidents by year: 2024, 12\\n'
printf 'Failed states: an essay\\n\\nWhat makes a state fail?\\n'
printf 'Exception handling\\n==================\\n'
printf 'Invalid ballots: 1.2 %% of all\\n'
printf 'Not found among the guests: Mr. Smith\\n'
printf 'Unknown: 12\\nKnown: 30\\n'
printf 'Warning: this file is generated\\n'
printf 'Timeout: 30 s\\nRetries: 3\\n'
printf 'Access denied is a film of 2003.\\n'
""".strip().splitlines()


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    Documentation, what programs print that succeed, logs, and results as JSON.
    """
    for name in _DOCUMENTED:
        yield _content("content docs", f"the documentation of {name}", _doc(name))
    for command in _COMMANDS:
        if shutil.which(command.partition(" ")[0]) is None:
            continue
        ran = subprocess.run(
            ["bash", "-c", command], cwd=here, capture_output=True, text=True, check=False
        )
        yield _content("content output", f"printed by {command}", ran.stdout or ran.stderr)
    yield _content("content lists", "errno", "\n".join(
        f"{name}: {os.strerror(number)}" for number, name in sorted(errno.errorcode.items())
    ))  # fmt: skip
    yield _content("content lists", "statuses", "\n".join(
        f"{each.value} {each.phrase}" for each in http.HTTPStatus
    ))  # fmt: skip
    yield from _logs(here)


def _content(source: str, provoked: str, text: str) -> Found:
    return Found(
        source=source, provoked=provoked, form="text", text=text[:3000], label="content"
    )


def _doc(name: str) -> str:
    module, _, rest = name.rpartition(".")
    found = sys.modules["builtins"] if not module else None
    for end in range(name.count(".") + 1, 0, -1):
        try:
            found = found or importlib.import_module(".".join(name.split(".")[:end]))
            rest = ".".join(name.split(".")[end:]) if module else name
            break
        except ImportError:
            continue
    for each in filter(None, rest.split(".")):
        found = getattr(found, each, found)
    return inspect.getdoc(found) or ""


def _logs(here: Path) -> Iterator[Found]:
    """
    Logs as Python's ``logging`` writes them, in three forms.
    """
    for name, form in (
        ("basic", logging.BASIC_FORMAT),
        ("with a colon", "%(levelname)s: %(message)s"),
        ("with a bar", "%(levelname)s | %(message)s"),
        ("with the level in brackets", "[%(levelname)s] %(message)s"),
    ):
        file = here / f"{name}.log"
        handler = logging.FileHandler(file)
        handler.setFormatter(logging.Formatter(form))
        log = logging.getLogger(f"corpus.{name}")
        log.propagate = False
        log.addHandler(handler)
        log.error("connection to 127.0.0.1 refused")
        log.error("connection to 127.0.0.1 refused, second attempt")
        log.warning("the queue is %d long", 30)
        log.info("connected")
        handler.close()
        yield _content("content logs", f"a log, {name}", file.read_text())
    try:
        {}["a"]  # type: ignore[index]
    except KeyError:
        file = here / "traceback.log"
        handler = logging.FileHandler(file)
        log.addHandler(handler)
        log.exception("the job failed")
        log.warning("the next job begins")
        handler.close()
    yield _content("content logs", "a log with a traceback", file.read_text())
    yield _content(
        "content logs",
        "a traceback, and what was printed after it",
        "Traceback" + file.read_text().partition("Traceback")[2],
    )
