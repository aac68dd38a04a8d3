"""Seconds and peak memory of predicting for one document of 5 kB, 500 kB and 5 MB, each in a process of its own.

python recipes/long_document.py RUN
"""

from __future__ import annotations

import subprocess
import sys

SIZES = (5_000, 500_000, 5_000_000)
SENTENCE = "The keeper walked up to the lighthouse and lit the lamp before the storm came in from the sea ."


def document(size: int) -> str:
    """English words, now and then a number, to `size` characters."""
    words = SENTENCE.split()
    numbered = (f"{words[place % len(words)]}{place if place % 7 == 0 else ''}" for place in range(size // 4))
    return " ".join(numbered)[:size]


def measure(run: str, size: int) -> None:
    """Print one row of the table."""
    import resource
    import time

    import bertkit

    predictor = bertkit.load(run)
    text = document(size)
    began = time.perf_counter()
    next(predictor.predict([("Who lit the lamp?", text) if predictor.task.name == "qa" else text]))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {predictor.task.name} | {size:,} | {len(text.split()):,} | {seconds:.1f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        print("| task | characters | words | seconds | peak MB |\n|---|---|---|---|---|", flush=True)
        for size in SIZES:
            subprocess.run([sys.executable, __file__, sys.argv[1], str(size)], check=True)  # noqa: S603
