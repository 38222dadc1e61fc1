"""A sentence encoder from its published weights: the tokens of sentences, the network in torch, and its ONNX file.

    python bench/compress/minilm.py FOLDER FILE.onnx

FOLDER holds `config.json`, `model.safetensors` and `vocab.txt` of a BERT encoder with mean pooling (all-MiniLM-L6-v2).
The file takes `input_ids` and `attention_mask` (rows, tokens) and gives `sentence_embedding` (rows, 384), of length 1.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 128


class Tokens:
    """Words in pieces, as uncased BERT cuts them."""

    def __init__(self, vocabulary: Path) -> None:
        self.numbers = {word: number for number, word in enumerate(vocabulary.read_text().splitlines())}

    def __call__(self, sentences: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
        """`input_ids` and `attention_mask` (rows, tokens) int64; shorter sentences are filled up with zeros."""
        rows = [self.row(sentence) for sentence in sentences]
        width = max(map(len, rows))
        ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
        return {"input_ids": ids, "attention_mask": mask}

    def row(self, sentence: str) -> list[int]:
        pieces = [piece for word in words(sentence) for piece in self.pieces(word)]
        return [self.numbers["[CLS]"], *pieces[: LONGEST - 2], self.numbers["[SEP]"]]

    def pieces(self, word: str) -> list[int]:
        """The longest known pieces of a word, from the left."""
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                number = self.numbers.get(("##" if start else "") + word[start:end])
                if number is not None:
                    break
            else:
                return [self.numbers["[UNK]"]]
            found.append(number)
            start = end
        return found


def words(sentence: str) -> list[str]:
    """Lower-case words without accents; a mark is a word by itself."""
    plain = unicodedata.normalize("NFD", sentence.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in plain).split()


def network(folder: Path) -> Any:
    """The encoder in torch, with its weights."""
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.nn.functional import gelu, normalize

    config = json.loads((folder / "config.json").read_text())
    width, heads, inner = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
            self.first, self.last = nn.Linear(width, inner), nn.Linear(inner, width)
            self.norm, self.end = (nn.LayerNorm(width, config["layer_norm_eps"]) for _ in range(2))

        def forward(self, x, shut):
            def cut(value):
                return value.unflatten(2, (heads, width // heads)).transpose(1, 2)

            query, key, value = cut(self.query(x)), cut(self.key(x)), cut(self.value(x))
            weights = (query @ key.transpose(2, 3) * (width // heads) ** -0.5 + shut).softmax(3)
            x = self.norm(x + self.mixed((weights @ value).transpose(1, 2).flatten(2)))
            return self.end(x + self.last(gelu(self.first(x))))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(config["vocab_size"], width)
            self.places = nn.Embedding(config["max_position_embeddings"], width)
            self.kinds = nn.Embedding(config["type_vocab_size"], width)
            self.norm = nn.LayerNorm(width, config["layer_norm_eps"])
            self.layers = nn.ModuleList(Layer() for _ in range(config["num_hidden_layers"]))

        def forward(self, input_ids, attention_mask):
            places = torch.arange(input_ids.shape[1])
            x = self.norm(self.words(input_ids) + self.places(places) + self.kinds.weight[0])
            mask = attention_mask.to(x.dtype)
            shut = (1 - mask)[:, None, None, :] * -10000.0
            for layer in self.layers:
                x = layer(x, shut)
            mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1e-9)
            return normalize(mean, dim=1)

    made = Encoder().eval()
    made.load_state_dict(_renamed(load_file(folder / "model.safetensors")))
    return made


def _renamed(weights: dict[str, Any]) -> dict[str, Any]:
    parts = {
        "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "places",
        "embeddings.token_type_embeddings": "kinds", "embeddings.LayerNorm": "norm", "encoder.layer": "layers",
        "attention.self.": "", "attention.output.dense": "mixed", "attention.output.LayerNorm": "norm",
        "intermediate.dense": "first", "output.dense": "last", "output.LayerNorm": "end",
    }  # fmt: skip
    found = {}
    for name, value in weights.items():
        if name.startswith("pooler") or name.endswith("position_ids"):
            continue
        for old, new in parts.items():
            name = name.replace(old, new)
        found[name] = value
    return found


def export(folder: Path, target: Path) -> float:
    """Write the file; how far its answers are off torch's."""
    import onnxruntime
    import torch

    encoder, tokens = network(folder), Tokens(folder / "vocab.txt")
    sample = tokens(["A sentence to trace with.", "Another one, which is rather longer than the first."])
    given = tuple(torch.from_numpy(value) for value in sample.values())
    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=512)}
    program = torch.onnx.export(
        encoder, given, input_names=list(sample), output_names=["sentence_embedding"], dynamo=True, external_data=False,
        dynamic_shapes=(axes, axes), opset_version=20, verbose=False,
    )  # fmt: skip
    program.save(str(target))
    other = tokens(["The cat sat on the mat.", "Rain is likely tomorrow.", "Sums of squares, and no more than that."])
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = encoder(*(torch.from_numpy(value) for value in other.values())).numpy()
    return float(np.abs(session.run(None, other)[0] - wanted).max())


if __name__ == "__main__":
    print(f"off by {export(Path(sys.argv[1]), Path(sys.argv[2])):.2g}")
