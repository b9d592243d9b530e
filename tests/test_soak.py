"""
The soak: memory that grows is told from memory that only trembles.
"""

from __future__ import annotations

import random

import pytest

from .soak import BLOCKS_A_ROUND, most, slope

CALLS_A_ROUND = 10_000


def weights(rounds: int, leak: float, *, tremble: int = 150, caches: int = 0) -> list[int]:
    """
    What rounds weigh where each call leaks so many blocks, and caches fill slowly.
    """
    chance = random.Random(rounds)
    return [
        176_000
        + round(leak * CALLS_A_ROUND * n)
        + caches * (n + 1) // rounds
        + chance.randint(-tremble, tremble)
        for n in range(rounds)
    ]


def is_flat(series: list[int]) -> bool:
    return slope(series) <= most(len(series))


@pytest.mark.parametrize("rounds", [6, 9, 12, 40, 365])
def test_memory_that_trembles_is_flat(rounds: int) -> None:
    assert is_flat(weights(rounds, 0))
    assert abs(slope(weights(rounds, 0, tremble=0))) < 1e-9


def test_caches_that_fill_in_a_brief_soak_are_no_leak() -> None:
    assert is_flat(weights(9, 0, caches=1_100))


@pytest.mark.parametrize(
    ("rounds", "calls"), [(6, 20), (9, 20), (12, 30), (40, 80), (365, 140)]
)
def test_a_leak_in_some_calls_is_found(rounds: int, calls: int) -> None:
    assert not is_flat(weights(rounds, 1 / calls))


def test_a_long_soak_allows_what_is_promised() -> None:
    assert BLOCKS_A_ROUND < most(365) < BLOCKS_A_ROUND * 1.1
