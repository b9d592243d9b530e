from __future__ import annotations

import argparse

from . import BEHAVIOURS

parser = argparse.ArgumentParser(prog="hostile")
parser.add_argument("behaviour", choices=sorted(BEHAVIOURS))
parser.add_argument("--size", type=int, help="bytes of what is large")
parser.add_argument("--count", type=int, help="how many of what is many")
options = parser.parse_args()
BEHAVIOURS[options.behaviour](size=options.size, count=options.count).run()
