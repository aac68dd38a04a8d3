"""Answers rows with the model in this folder; needs onnxruntime, tokenizers and numpy.

    python answer.py < rows.jsonl > answers.jsonl

A row is a JSON object with the columns of the task: text, text and second, words (a list), or question and context.
"""

import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer


class Model:
    """`Model().answer({"text": "..."})` answers one row, however long."""

    def __init__(self, folder=Path(__file__).parent):
        self.task, self.windows = (json.loads((folder / name).read_bytes()) for name in ("task.json", "windows.json"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        self.inputs = [entry.name for entry in self.session.get_inputs()]

    def answer(self, row):
        texts, head = [row[column] for column in self.windows["columns"]], self.windows["head"]
        if head == "span":
            texts[0] = texts[0].strip()
        is_split = head == "token"
        encoded = [self.tokenizer.encode(t, is_pretokenized=is_split, add_special_tokens=False) for t in texts]
        long = {None: 0, "first": 0, "second": 1, "longer": int(len(encoded[0].ids) <= len(encoded[-1].ids))}[
            self.windows["long"]
        ]
        read = list(self.read([encoding.ids for encoding in encoded], long))
        if head == "token":
            return self.tags(texts[0], encoded[0].word_ids, read)
        if head == "span":
            return self.span(texts[long], encoded[long].offsets, read)
        logits = np.mean([outputs[0] for _, outputs in read], axis=0, dtype=np.float64)
        if head == "number":
            return {"label": float(logits[0])}
        shares, labels = softmax(logits) if head == "class" else 1 / (1 + np.exp(-logits)), self.task["labels"]
        probabilities, limit = dict(zip(labels, shares.tolist(), strict=True)), self.task["threshold"]
        if head == "class" and limit is None:
            return {"label": max(probabilities, key=probabilities.get), "probabilities": probabilities}
        limits = limit if isinstance(limit, dict) else dict.fromkeys(labels, 0.5 if limit is None else limit)
        chosen = [label for label, share in probabilities.items() if share >= limits.get(label, 0.5)]
        if head == "class":
            positive = self.task["positive"]
            chosen = next(label for label in labels if (label == positive) == (positive in chosen))
        return {"label": chosen, "probabilities": probabilities}

    def read(self, pieces, long):
        """For each window: where it stands in the long text (start, stop, first and last token that it owns, the
        position of `start` in the window), and the model's outputs."""
        most, frame = self.windows["max_short_length"], self.windows["frame"]
        total = self.windows["max_length"] - sum(text is None for _, _, text in frame)
        size, short = len(pieces[long]), sum(map(len, pieces)) - len(pieces[long])
        if short and short + size > total:
            pieces[1 - long] = pieces[1 - long][: total // 2 if most is None else min(most, total - 1)]
            short = len(pieces[1 - long])
        room = total - short
        overlap, own = min(self.windows["stride"], room - 1), 0
        for start in range(0, max(1, size - overlap), room - overlap):
            stop = min(start + room, size)
            own_stop = size if stop == size else (start + room - overlap + stop + 1) // 2
            ids, types, lead = [], [], 0
            for token, kind, text in frame:
                lead = len(ids) if text == long else lead
                ids += [token] if text is None else pieces[text][start:stop] if text == long else pieces[text]
                types += [kind] * (len(ids) - len(types))
            fed = {"input_ids": ids, "token_type_ids": types, "attention_mask": [1] * len(ids)}
            outputs = self.session.run(None, {name: np.array([fed[name]]) for name in self.inputs})
            yield (start, stop, own, own_stop, lead), [array[0] for array in outputs]
            own = own_stop

    def tags(self, words, word_of, read):
        """A tag a word, from the window that owns its first piece."""
        labels = self.task["labels"]
        usual = self.task["fallback"] or next((tag for tag in ("X", "O") if tag in labels), labels[0])
        tags, certainty = [usual] * len(words), [0.0] * len(words)
        for (start, _, own, own_stop, lead), (logits,) in read:
            for piece in range(own, own_stop):
                if word_of[piece] is not None and (piece == 0 or word_of[piece - 1] != word_of[piece]):
                    shares = softmax(logits[lead + piece - start])
                    tags[word_of[piece]], certainty[word_of[piece]] = labels[int(shares.argmax())], float(shares.max())
        return {"words": words, "tags": tags, "probabilities": certainty}

    def span(self, context, offsets, read):
        """The best span of all windows; nothing where the surest window finds none, if that may be."""
        spans, found, nothing = list(trimmed(context, offsets)), [], np.inf
        for (start, stop, _, _, lead), (first, last) in read:
            nothing = min(nothing, float(first[0]) + float(last[0]))
            held = [piece for piece in range(start, stop) if spans[piece][0] < spans[piece][1]]
            first, last = ([scores[lead + piece - start] for piece in held] for scores in (first, last))
            for more in range(min(self.task["max_answer_length"], len(held))):
                scores = np.array(first[: len(held) - more]) + np.array(last[more:])
                at = int(scores.argmax())
                found.append((-float(scores[at]), spans[held[at]][0], spans[held[at + more]][1]))
        score, start, end = min(found, default=(np.inf, None, None))
        if start is None or (self.task["unanswerable"] and nothing + score > self.task["no_answer_threshold"]):
            return {"answer": "", "start": None, "end": None}
        return {"answer": context[start:end], "start": start, "end": end}


def trimmed(text, offsets):
    """Characters of each piece: no space before it, and the marks after it that no piece covers."""
    covered = {place for start, end in offsets for place in range(start, end)}
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        while start < end < len(text) and end not in covered and unicodedata.category(text[end])[0] == "M":
            end += 1
        yield start, end


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return shifted / shifted.sum()


if __name__ == "__main__":
    model = Model()
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8")  # whatever the terminal says
    for line in filter(str.strip, sys.stdin):
        print(json.dumps(model.answer(json.loads(line)), ensure_ascii=False), flush=True)
