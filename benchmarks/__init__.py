"""
What a call costs, as ratios measured in one run: ``python -m benchmarks``.
"""
