"""How much of an array goes through at a time, so that it stays in the cache."""


def largest_divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`; at least 1."""
    return next(n for n in range(max(1, min(count, most)), 0, -1) if count % n == 0)
