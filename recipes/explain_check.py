"""Do attributions name the words that count? Take words away, and see how far the probability of the answer falls.

    python recipes/explain_check.py RUN --rows 200     # RUN: a finished run of one text and one class

For each row, the words that speak most for the answer are left out, then as many drawn at random, then those that
speak least for it; the probability of the first answer is measured each time.
Source: DeYoung et al. 2020 (comprehensiveness).
"""

import argparse
import json

import numpy as np

import bertkit
from bertkit.rundir import RunDir


def without(text: str, words: list[dict]) -> str:
    """The text with some of its words left out."""
    gone = {index for word in words for index in range(word["start"], word["end"])}
    return " ".join("".join("" if index in gone else letter for index, letter in enumerate(text)).split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.2, help="of the words, at least one")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = np.random.default_rng(asked.seed)
    records = list(RunDir(asked.run).read_jsonl("predictions.jsonl"))
    chosen = sorted(draw.permutation(len(records))[: asked.rows])
    predictor = bertkit.load(asked.run, ["hardware.precision=fp32"])
    explained = list(predictor.explain([records[number]["text"] for number in chosen]))
    before = np.array([one["probabilities"][one["label"]] for one in explained])
    ways = {"that speak most for it": [], "drawn at random": [], "that speak least for it": []}
    for one in explained:
        words = sorted(one["attributions"]["text"], key=lambda word: -word["weight"])
        count = max(1, round(asked.share * len(words)))
        for texts, some in zip(
            ways.values(), (words[:count], draw.choice(words, count, replace=False), words[-count:]), strict=True
        ):
            texts.append(without(one["text"], some))
    error = [
        abs(sum(word["weight"] for word in one["attributions"]["text"]) - one["evidence"] + one["baseline"])
        / max(abs(one["evidence"] - one["baseline"]), 1)
        for one in explained
    ]
    print(
        f"{len(explained)} rows; weights miss the difference of the evidence by {100 * np.median(error):.2f} % (median)"
    )
    falls = {}
    for name, texts in ways.items():
        after = predictor.predict(texts)
        found = np.array([new["probabilities"][one["label"]] for new, one in zip(after, explained, strict=True)])
        falls[name] = before - found
    means = draw.integers(0, len(before), (1000, len(before)))
    for name, fall in falls.items():
        low, high = np.percentile(fall[means].mean(1), [2.5, 97.5])
        changed = np.mean([before[n] - fall[n] < 0.5 for n in range(len(before))])
        print(json.dumps({
            "words left out": name, "probability falls by": round(fall.mean(), 3),
            "95 % interval": [round(low, 3), round(high, 3)], "below one half": round(float(changed), 3),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
