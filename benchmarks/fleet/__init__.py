"""
What it takes that the processes of a fleet share their circuits: ``python -m benchmarks.fleet``
is followed by the name of a module here.
"""
