"""Reference for the GGUF Llama: transformers reads the same file by its own loader.

    pip install -r tools/reference/requirements.txt
    cargo xtask fetch smollm2
    python tools/reference/smollm2.py

Writes crates/marginals-burn/tests/data/smollm2.json: for a few prompts the token ids, the twenty
likeliest next tokens and a few fixed ones with their log-probabilities in nats; and for the
beginning of the bundled text the entropy of each head, from the full matrices, averaged over rows.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import ROOT, TEXT, rounded, row_entropies, write

PROMPTS = [
    "The capital of France is",
    "In 2024, 3 + 14 = 17 and",
    "It's a truth universally acknowledged, that a single man in possession of",
    "def fibonacci(n):\n    if n < 2:\n        return",
    "Ünïcödé, 漢字 &  tabs\t\tand <|im_start|>user\nspaces   ",
]
FIXED = [0, 1, 17, 100, 1000, 10000, 49151]
TEXT_TOKENS = 96


def main():
    folder = ROOT / "models" / "smollm2"
    file = next(folder.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, attn_implementation="eager", dtype=torch.float32
    )
    model = model.double().eval()

    prompts = []
    for text in PROMPTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            scores = model(ids).logits[0, -1]
        log_probabilities = torch.log_softmax(scores.double(), -1)
        chosen = log_probabilities.topk(20).indices.tolist() + FIXED
        prompts.append(
            {
                "text": text,
                "ids": ids[0].tolist(),
                "likeliest": tokenizer.decode(chosen[:1]),
                "next": chosen,
                "log_probability": rounded(log_probabilities[chosen]),
            }
        )
        print(repr(text), "->", repr(prompts[-1]["likeliest"]))

    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    all_ids = ids[0].tolist()
    ids = ids[:, :TEXT_TOKENS]
    with torch.no_grad():
        output = model(ids, output_attentions=True)
    write(
        "smollm2.json",
        {
            "prompts": prompts,
            "bundled_ids": all_ids,
            "bundled_tokens": TEXT_TOKENS,
            "bundled_mean_entropy": rounded(row_entropies(output.attentions).mean(-1)),
        },
    )


if __name__ == "__main__":
    main()
