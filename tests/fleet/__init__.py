"""
A fleet of real processes that share circuits through a real engine, and what goes wrong.

The tool is the witness. Each process writes a line when its tool begins and one when it ends
into one file, which so has the tool calls of the whole fleet in one order, also those of a
process that was killed in the middle of one.

    python -m tests.fleet windows --processes 8 --tasks 200 --windows 30

runs a case in the size in which it is to hold; the tests run the same cases, smaller.
"""
