"""Load on a server of this machine: many clients ask one row after the other, and every answer is counted.

bertkit serve runs/reviews --port 8000 &
python recipes/serve_load.py http://127.0.0.1:8000 --data bundled:reviews.csv --clients 64 --seconds 60
"""

import argparse
import asyncio
import time
from collections import Counter
from itertools import count

import httpx
import numpy as np

from bertkit.data.rules import Columns
from bertkit.data.sources import read_rows
from bertkit.splits import path_of


async def ask(
    client: httpx.AsyncClient, texts: list[str], until: float, turns: count, seen: list, kinds: Counter
) -> None:
    """Ask until the time is over; note how long each answer took, and what came back."""
    while time.perf_counter() < until:
        text = texts[next(turns) % len(texts)]
        began = time.perf_counter()
        try:
            response = await client.post("/predict", json={"rows": [text]})
            kinds[str(response.status_code)] += 1
        except httpx.HTTPError as error:
            kinds[type(error).__name__] += 1
            continue
        seen.append(time.perf_counter() - began)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--data", default="bundled:reviews.csv", help="rows with a column `text`")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    texts = [row["text"] for row in read_rows(path_of(asked.data), Columns(text=("text",))).rows]
    seen, kinds, turns, limits = [], Counter(), count(), httpx.Limits(max_connections=asked.clients)
    async with httpx.AsyncClient(base_url=asked.address, limits=limits, timeout=120) as client:
        began = time.perf_counter()
        asking = (ask(client, texts, began + asked.seconds, turns, seen, kinds) for _ in range(asked.clients))
        await asyncio.gather(*asking)
        took = time.perf_counter() - began
        lines = (await client.get("/metrics")).text.splitlines()
    sums = dict(
        line.split() for line in lines if line.startswith(("bertkit_batch_rows_sum", "bertkit_batch_rows_count"))
    )
    median, most, worst = (1000 * np.percentile(seen, share) for share in (50, 90, 99))
    print(f"{asked.clients} clients, {took:.0f} s: {sum(kinds.values()):,} requests sent, answered {dict(kinds)}")
    print(f"{len(seen) / took:.1f} requests/s; latency p50 {median:.0f} ms, p90 {most:.0f} ms, p99 {worst:.0f} ms")
    print(f"{float(sums['bertkit_batch_rows_sum']) / float(sums['bertkit_batch_rows_count']):.1f} rows a batch")


if __name__ == "__main__":
    asyncio.run(main())
