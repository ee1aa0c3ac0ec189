"""Reference for the BERT: Hugging Face's BertModel on the same weights.

    pip install -r tools/reference/requirements.txt
    cargo xtask fetch minilm
    python tools/reference/minilm.py

Writes crates/marginals-burn/tests/data/minilm.json: sentence embeddings (mean pooling, length 1)
of a few sentences, and the entropy of every row of every attention matrix, taken from the full
matrix, for one sentence; for the bundled text, their mean over rows.
"""

import torch
from transformers import AutoTokenizer, BertModel

from common import ROOT, TEXT, rounded, row_entropies, write

SENTENCES = [
    "The capital of France is Paris.",
    "A quick brown fox jumps over the lazy dog, twice!",
    "Naïve café: 1,024 tokens cost $3.50.",
    "hi",
]


def main():
    folder = ROOT / "models" / "minilm"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, attn_implementation="eager").double().eval()

    def run(text):
        tokens = tokenizer(text, return_tensors="pt", truncation=False, padding=False)
        with torch.no_grad():
            return tokens["input_ids"][0].tolist(), model(**tokens, output_attentions=True)

    sentences = []
    for text in SENTENCES:
        ids, output = run(text)
        mean = output.last_hidden_state[0].mean(0)
        embedding = torch.nn.functional.normalize(mean, dim=0)
        sentences.append({"text": text, "ids": ids, "embedding": rounded(embedding)})
    _, short = run(SENTENCES[0])
    ids, bundled = run(TEXT)
    write(
        "minilm.json",
        {
            "sentences": sentences,
            "first_sentence_entropy": rounded(row_entropies(short.attentions)),
            "bundled_ids": ids,
            "bundled_mean_entropy": rounded(row_entropies(bundled.attentions).mean(-1)),
        },
    )


if __name__ == "__main__":
    main()
