"""Reference for effects of heads on the loss: each head of tiny language models changed, one at a time.

    pip install -r tools/reference/requirements.txt
    python tools/reference/effects.py

Reads the models that `families.py` left in crates/marginals-burn/tests/data/families and writes
crates/marginals-burn/tests/data/effects.json: for each model `losses`, −log P(next token) in nats, and
`effects`, [layer][head][change], by how much the mean loss rises. The changes, in their order: only the likeliest key; zero
output; the mean output over queries; without the heaviest key, renormalised; keys fewer than WINDOW positions
away, renormalised. Everything is computed in float64, with whole matrices of attention.
"""

import torch
import transformers
from safetensors.torch import load_file
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from common import write
from families import FOLDER, in_double

MODELS = ["llama", "mistral", "gpt2", "gemma2"]
WINDOW = 4
CHANGED = {}


def only_likeliest(weights, values):
    return torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights) @ values


def zero(weights, values):
    return 0 * (weights @ values)


def mean_output(weights, values):
    output = weights @ values
    return output.mean(0, keepdim=True).expand_as(output)


def renormalised(weights, kept, values):
    left = weights * kept
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, weights) @ values


def without_sink(weights, values):
    kept = torch.ones_like(weights)
    kept[:, weights.sum(0).argmax()] = 0
    return renormalised(weights, kept, values)


def windowed(weights, values):
    at = torch.arange(len(weights))
    return renormalised(weights, ((at[:, None] - at).abs() < WINDOW).to(weights), values)


CHANGES = [only_likeliest, zero, mean_output, without_sink, windowed]


def attention(module, query, key, value, mask, scaling, dropout=0.0, softcap=None, **_):
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * scaling
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + mask).softmax(-1)
    output = weights @ value
    if CHANGED.get("layer") == module.layer_idx:
        head = CHANGED["head"]
        output[0, head] = CHANGED["change"](weights[0, head], value[0, head])
    return output.transpose(1, 2).contiguous(), weights


def losses(model, ids):
    with torch.no_grad():
        log_p = model(ids[None]).logits[0].log_softmax(-1)
    return -log_p[:-1].gather(1, ids[1:, None])[:, 0]


def main():
    transformers.AttentionInterface.register("changed", attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register("changed", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    found = {}
    for name in MODELS:
        CHANGED.clear()
        weights = load_file(FOLDER / name / "model.safetensors")
        expected = load_file(FOLDER / name / "expected.safetensors")
        with in_double():
            config = transformers.AutoConfig.from_pretrained(FOLDER / name)
            config._attn_implementation, config.dtype = "changed", torch.float64
            model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
            model.load_state_dict({key: x.double() for key, x in weights.items()}, strict=False)
            model.tie_weights()
            ids = expected["ids"]
            with torch.no_grad():
                logits = model(ids[None]).logits[0]
            error = (logits - expected["logits"]).abs().max().item()
            assert error < 1e-5, f"{name}: {error}"
            usual = losses(model, ids)
            effects = []
            for layer in range(config.num_hidden_layers):
                effects.append([])
                for head in range(config.num_attention_heads):
                    each = []
                    for change in CHANGES:
                        CHANGED.update(layer=layer, head=head, change=change)
                        each.append((losses(model, ids).mean() - usual.mean()).item())
                    effects[-1].append(each)
        print(name, usual.mean().item(), effects[0][0])
        found[name] = {"losses": usual.tolist(), "effects": effects}
    write("effects.json", found)


if __name__ == "__main__":
    main()
