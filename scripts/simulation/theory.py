"""Closed forms that the model is held against: Erlang's C, Che's approximation, a cache with lifetimes."""

from math import exp

import numpy as np

from scripts.simulation.world import Floats


def erlang_c(servers: int, erlangs: float) -> float:
    """Probability that a call has to wait in M/M/c. erlangs: arrival rate times mean service time, below `servers`."""
    blocked = 1.0  # Erlang's B by its recursion, which does not overflow
    for count in range(1, servers + 1):
        blocked = erlangs * blocked / (count + erlangs * blocked)
    return blocked / (1 - erlangs / servers * (1 - blocked))


def mean_wait_s(servers: int, arrivals_per_s: float, service_s: float) -> float:
    erlangs = arrivals_per_s * service_s
    return erlang_c(servers, erlangs) * service_s / (servers - erlangs)


def che_hit_rate(shares: Floats, capacity: int) -> float:
    """Of an LRU cache with room for so many of the keys, requested independently with these probabilities."""
    low, high = 0.0, 1.0
    while np.sum(-np.expm1(-shares * high)) < capacity:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.sum(-np.expm1(-shares * middle)) < capacity else (low, middle)
    return float(np.sum(shares * -np.expm1(-shares * high)))


def lifetime_hit_rate(rates_per_s: Floats, ttl_s: float, swr_s: float) -> float:
    """Of one store for all, in which entries live for ttl_s, and swr_s longer for the request that refreshes them.

    A key's cycle is its lifetime and the wait for the next request; it has one miss, unless that comes within swr_s.
    """
    misses = np.exp(-rates_per_s * swr_s) / (1 + rates_per_s * ttl_s)
    return float(np.sum(rates_per_s * (1 - misses)) / np.sum(rates_per_s))


def quantile_of_misses(quantile: float, hit_rate: float) -> float:
    """Which quantile of the misses is that quantile of all, when hits are faster than any miss."""
    return (quantile - hit_rate) / (1 - hit_rate)


def sigma_for_drop(before_s: float, after_s: float, z_before: float, z_after: float) -> float:
    """How wide log-normal times must be for their quantile to fall so far when it moves from z_before to z_after."""
    return float(np.log(before_s / after_s) / (z_before - z_after))


def median_of(quantile_s: float, sigma: float, z: float) -> float:
    return quantile_s * exp(-sigma * z)
