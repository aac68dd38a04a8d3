"""The rows that come with the package, by the task that reads them."""

BUNDLED = {"sentiment": "sentiment.csv", "nli": "nli.jsonl", "pos": "pos.conllu", "ner": "ner.jsonl", "qa": "qa.json"}
TASKS = ("sentiment", "nli", "pos", "qa")  # one for each head that they have; `ner` has that of `pos`
