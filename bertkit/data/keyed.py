"""Random numbers that depend on their key alone: no generator is drawn from, so no order can change them."""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(numbers: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 over uint64 numbers, which makes neighbours independent.

    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def uniform(*key: int | np.ndarray) -> np.ndarray:
    """Numbers of [0, 1) by their keys, whose parts are integers that broadcast together; float64.

    `uniform(seed, epoch, windows[:, None], positions)` gives each position of each window its own.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2 ** 64
        total = np.zeros((), np.uint64)
        for part in key:
            total = mixed((total + np.asarray(part).astype(np.uint64)) * GOLDEN + GOLDEN)
    return (total >> np.uint64(11)) * 2.0**-53
