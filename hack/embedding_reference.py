"""Writes the reference vectors that our NumPy transformer is tested against.

Run once, with a Python that has torch and sentence-transformers (neither is a dependency of ours), in a virtual
environment V to be thrown away: `V/bin/pip install torch sentence-transformers`, then
`V/bin/python hack/embedding_reference.py "$(hack/model)" > memory_runtime/tests/unit/embedding_reference.json`.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

TEXTS = [
    "hello",
    "",
    "The cat sat on the mat.",
    "When did Caroline go to the LGBTQ support group?",
    "Melanie: Hey Caroline! Last night was amazing! We celebrated my daughter's birthday with a concert.",
    "Der Schäfer küsst die Möwe; naïve façade — “quoted” text… 北京大学 is in 海淀, привет мир",
    "emoji 🎉🚀 and zero\u200bwidth, tab\tnewline\n, e-mail a@b.example, 3.14159, $1,000.00, C++ & C#",
    "antidisestablishmentarianism " * 20,
    "word " * 400,
    "The retention sweep moves memories between tiers at night. " * 12,
]


def main() -> None:
    """Prints the fixture: how it was made, and one vector a text."""
    # By name, as neither is installed where the project's types are checked.
    sentence_transformers, torch = import_module("sentence_transformers"), import_module("torch")
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    vectors = [model.encode(text, normalize_embeddings=True).tolist() for text in TEXTS]
    fixture = {
        "generated": "by hack/embedding_reference.py; do not edit",
        "model": "all-MiniLM-L6-v2",
        "torch": torch.__version__,
        "sentence_transformers": sentence_transformers.__version__,
        "max_seq_length": model.max_seq_length,
        "texts": TEXTS,
        "vectors": [[round(x, 7) for x in vector] for vector in vectors],
    }
    json.dump(fixture, sys.stdout, ensure_ascii=True, indent=None, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
