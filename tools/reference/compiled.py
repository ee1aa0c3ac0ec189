"""Reference for the labels of heads: transformers compiled from programs, whose heads are known.

    python -m venv target/tracr
    target/tracr/bin/pip install tracr-pypi==1.0.0 safetensors==0.8.0
    target/tracr/bin/python tools/reference/compiled.py

Programs are written in RASP (Weiss et al. 2021, arXiv 2106.06981) and compiled by Tracr (Lindner et al. 2023,
arXiv 2301.05062). What Tracr makes is GPT-2 or BERT without layer normalisation. Here it becomes a GPT-2 (causal)
or a BERT with it: five coordinates are added, four of a large number with either sign and one of minus the sum
of Tracr's own, so that every normalisation divides by the same number to within one part in 10^5, and its weight
multiplies by it. What half precision holds exactly is written so.

Writes folders crates/marginals-cli/tests/data/compiled/NAME with config.json, model.safetensors and
tokenizer.json, and expected.json with the text, the label that the program gives each head, and measures of each
head from the attention matrices of Tracr's own model.
"""

import json
from pathlib import Path

import jax
import numpy
from safetensors.numpy import save_file
from tracr.compiler import compiling
from tracr.rasp import rasp

OUT = Path(__file__).resolve().parents[2] / "crates" / "marginals-cli" / "tests" / "data" / "compiled"

BEGIN, END = "<s>", "</s>"
WORDS = ["omega", ",", "apple", "river", "stone", "cloud", "green", "mouse", "table"]
# A sequence five times, as induction is looked for, after two words that come once.
TEXT = " ".join(WORDS[:2] + 5 * WORDS[2:])
LENGTH = 40
BALLAST = 1024.0
NEIGHBOURHOOD = 4
FEWEST = 8


def at(holds):
    """Reads the tokens at the positions that a comparison of positions selects."""
    return rasp.Aggregate(rasp.Select(rasp.indices, rasp.indices, holds), rasp.tokens)


def word(holds):
    """Reads the tokens that a comparison of tokens selects."""
    return rasp.Aggregate(rasp.Select(rasp.tokens, rasp.tokens, holds), rasp.tokens)


def induction():
    """Reads the token that came after the token of now."""
    before = at(lambda key, query: key == query - 1)
    return rasp.Aggregate(rasp.Select(before, rasp.tokens, rasp.Comparison.EQ), rasp.tokens)


# Programs by name: whether the model is causal, the labels of its layers' one head, the program.
PROGRAMS = {
    "shift": (True, ["previous-token"], lambda: at(lambda key, query: key == query - 1)),
    "induction": (True, ["previous-token", "induction"], induction),
    "identity": (True, ["same-token"], lambda: at(lambda key, query: key == query)),
    # Where nothing is selected Tracr's heads look at the beginning.
    "nothing": (True, ["first-token"], lambda: at(lambda key, query: False)),
    "window": (True, ["local"], lambda: at(lambda key, query: query - 5 < key <= query)),
    "everything": (True, ["diffuse"], lambda: at(lambda key, query: key <= query)),
    "omega": (True, ["sink"], lambda: word(lambda key, query: key == "omega")),
    "comma": (True, ["punctuation"], lambda: word(lambda key, query: key == ",")),
    "shift-back": (False, ["next-token"], lambda: at(lambda key, query: key == query + 1)),
    "histogram": (False, ["duplicate-token"], lambda: word(lambda key, query: key == query)),
    "end": (False, ["separator"], lambda: word(lambda key, query: key == END)),
}


def attention(model, tokens):
    """[layer][head] attention matrices of Tracr's own model."""
    causal = model.model_config.causal
    layers = []
    for logits in model.apply(tokens).attn_logits:
        scores = numpy.asarray(logits, numpy.float64)[0]
        if causal:
            scores = numpy.where(numpy.tril(numpy.ones(scores.shape[1:])), scores, -numpy.inf)
        weights = numpy.exp(scores - scores.max(-1, keepdims=True))
        layers.append(weights / weights.sum(-1, keepdims=True))
    return layers


def measures(p, tokens, causal):
    """What the audit measures, from its definition."""
    count = len(p)
    mass = p.mean(0)
    place = numpy.arange(count)
    distance = abs(place[:, None] - place[None, :])
    visible = numpy.tril(numpy.ones_like(p)) > 0 if causal else numpy.ones_like(p) > 0
    equal = numpy.array([[a == b for b in tokens] for a in tokens])

    def over(keys):
        keys = keys & visible
        sees = keys.any(1)
        return float((p * keys).sum(1)[sees].mean()) if sees.sum() >= FEWEST else None

    others = equal & ~numpy.eye(count, dtype=bool)
    follows = numpy.zeros_like(others)
    follows[:, 1:] = others[:, :-1]
    on = p > 0
    prior = visible / visible.sum(1, keepdims=True)
    inner = [i for i, token in enumerate(tokens) if token not in (BEGIN, END, ",") and 0 < i < count - 1]
    return {
        "previous_token_mass": float(numpy.diagonal(p, -1).mean()),
        "next_token_mass": None if causal else float(numpy.diagonal(p, 1).mean()),
        "same_token_mass": float(numpy.diagonal(p).mean()),
        "induction_mass": over(follows),
        "duplicate_token_mass": over(others),
        "first_token_mass": float(mass[0]),
        "separator_mass": float(mass[-1]) if tokens[-1] == END else None,
        "punctuation_mass": float(sum(mass[i] for i, token in enumerate(tokens) if token == ",")),
        "heaviest_word_mass": float(max(mass[i] for i in inner)),
        "neighbour_mass": float((p * (distance <= NEIGHBOURHOOD)).sum(1).mean()),
        "entropy": float(-(p[on] * numpy.log(p[on])).sum() / count),
        "kl": float((p[on] * numpy.log(p[on] / prior[on])).sum() / count),
    }


def halves(number):
    """Two factors of a number: half precision holds 50 and 100 of the first, which Tracr's queries have, and the
    second."""
    second = numpy.arange(1024, 2048) / 1024
    first = (50 * number / second).astype(numpy.float16).astype(numpy.float64) / 50
    best = abs(first * second / number - 1).argmin()
    return first[best], second[best]


def smallest(tensor):
    """A tensor in half precision where that holds it."""
    half = numpy.ascontiguousarray(tensor).astype(numpy.float16)
    exact = (half == tensor).all()
    return half if exact else numpy.ascontiguousarray(tensor).astype(numpy.float32)


class Weights:
    """Weights of a Tracr model of one head in a space with more coordinates."""

    def __init__(self, model):
        params = jax.tree_util.tree_map(lambda x: numpy.asarray(x, numpy.float64), model.params)
        self.params, self.config = params, model.model_config
        self.own = params["token_embed"]["embeddings"].shape[1]
        assert self.config.num_heads == 1
        self.width = self.own + 5
        # Root of the mean of the squares of all coordinates.
        self.norm = BALLAST * numpy.sqrt(4 / self.width)

    def written(self, matrix):
        """A map [inputs, own] into the space: what it adds sums to 0."""
        out = numpy.zeros((len(matrix), self.width))
        out[:, : self.own] = matrix
        out[:, self.own] = -matrix.sum(1)
        return out

    def read(self, matrix):
        """A map [own, outputs] from the space."""
        out = numpy.zeros((self.width, matrix.shape[1]))
        out[: self.own] = matrix
        return out

    def embeddings(self):
        places = self.written(self.params["pos_embed"]["embeddings"])
        for coordinate, sign in enumerate((1, 1, -1, -1)):
            places[:, self.own + 1 + coordinate] = sign * BALLAST
        return self.written(self.params["token_embed"]["embeddings"]), places

    def head(self, layer):
        """Queries, keys, values and output of the head, which is wider than Tracr's."""
        at = f"transformer/layer_{layer}/attn"
        size = self.config.key_size
        maps = []
        # Scores are divided by the root of the head's width.
        query, key = halves(numpy.sqrt(self.width / size))
        for name, factor in (("query", query), ("key", key), ("value", 1.0)):
            assert not self.params[f"{at}/{name}"]["b"].any()
            out = numpy.zeros((self.width, self.width))
            out[:, :size] = self.read(self.params[f"{at}/{name}"]["w"]) * factor
            maps.append(out)
        assert not self.params[f"{at}/linear"]["b"].any()
        linear = numpy.zeros((self.width, self.width))
        linear[:size] = self.written(self.params[f"{at}/linear"]["w"])
        return maps, linear

    def feed_forward(self, layer):
        at = f"transformer/layer_{layer}/mlp"
        up, down = self.params[f"{at}/linear_1"], self.params[f"{at}/linear_2"]
        return self.read(up["w"]), up["b"], self.written(down["w"]), self.written(down["b"][None])[0]


def gpt2(weights, vocabulary):
    width, layers = weights.width, weights.config.num_layers
    words, places = weights.embeddings()
    zero = numpy.zeros(width)
    scale = numpy.full(width, weights.norm)
    tensors = {"wte.weight": words, "wpe.weight": places, "ln_f.weight": scale, "ln_f.bias": zero}
    for layer in range(layers):
        maps, linear = weights.head(layer)
        up, up_bias, down, down_bias = weights.feed_forward(layer)
        for name, tensor in {
            "ln_1.weight": scale, "ln_1.bias": zero, "ln_2.weight": scale, "ln_2.bias": zero,
            "attn.c_attn.weight": numpy.concatenate(maps, 1), "attn.c_attn.bias": numpy.zeros(3 * width),
            "attn.c_proj.weight": linear, "attn.c_proj.bias": zero,
            "mlp.c_fc.weight": up, "mlp.c_fc.bias": up_bias,
            "mlp.c_proj.weight": down, "mlp.c_proj.bias": down_bias,
        }.items():
            tensors[f"h.{layer}.{name}"] = tensor
    config = {
        "model_type": "gpt2", "architectures": ["GPT2Model"], "vocab_size": vocabulary, "n_embd": width,
        "n_layer": layers, "n_head": 1, "n_positions": len(places),
        "n_inner": weights.config.mlp_hidden_size, "activation_function": "relu", "layer_norm_epsilon": 1e-5,
    }
    return config, tensors


def bert(weights, vocabulary):
    width, layers = weights.width, weights.config.num_layers
    words, places = weights.embeddings()
    zero = numpy.zeros(width)
    tensors = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": places,
        "embeddings.token_type_embeddings.weight": zero[None],
    }

    def add(name, matrix, bias):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = matrix.T, bias

    norms = ["embeddings"]
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        maps, linear = weights.head(layer)
        up, up_bias, down, down_bias = weights.feed_forward(layer)
        for name, matrix in zip(("query", "key", "value"), maps):
            add(f"{at}.attention.self.{name}", matrix, zero)
        add(f"{at}.attention.output.dense", linear, zero)
        add(f"{at}.intermediate.dense", up, up_bias)
        add(f"{at}.output.dense", down, down_bias)
        norms += [f"{at}.attention.output", f"{at}.output"]
    for norm in norms:
        tensors[f"{norm}.LayerNorm.weight"] = numpy.full(width, weights.norm)
        tensors[f"{norm}.LayerNorm.bias"] = zero
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": vocabulary, "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": 1,
        "intermediate_size": weights.config.mlp_hidden_size, "hidden_act": "relu",
        "max_position_embeddings": len(places), "type_vocab_size": 1, "layer_norm_eps": 1e-12,
    }
    return config, tensors


def tokenizer(vocabulary, added):
    special = lambda name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]}
    single = [
        {"Sequence": {"id": "A", "type_id": 0}} if name == "A" else {"SpecialToken": {"id": name, "type_id": 0}}
        for name in added
    ]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": single,
            "special_tokens": {name: special(name) for name in added if name != "A"},
        },
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": WORDS[0]},
    }


def main():
    expected = {"text": TEXT, "models": {}}
    for name, (causal, labels, program) in PROGRAMS.items():
        added = [BEGIN, "A"] if causal else [BEGIN, "A", END]
        words = WORDS if causal else WORDS + [END]
        model = compiling.compile_rasp_to_model(
            program(), set(words), LENGTH, causal=causal, compiler_bos=BEGIN, compiler_pad="<pad>"
        )
        tokens = [BEGIN, *TEXT.split()] + ([] if causal else [END])
        found = attention(model, tokens)
        assert len(found) == len(labels) and all(len(layer) == 1 for layer in found), (name, found)
        vocabulary = model.input_encoder.encoding_map
        weights = Weights(model)
        config, tensors = (gpt2 if causal else bert)(weights, len(vocabulary))
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config) + "\n")
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer(vocabulary, added)) + "\n")
        save_file({key: smallest(tensor) for key, tensor in tensors.items()}, folder / "model.safetensors")
        size = (folder / "model.safetensors").stat().st_size
        print(f"{name}: {weights.config.num_layers} layers, width {weights.width}, {size} bytes")
        expected["models"][name] = [
            {"label": label, "measures": measures(layer[0], tokens, causal)}
            for label, layer in zip(labels, found)
        ]
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
