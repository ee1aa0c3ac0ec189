"""Reference for the families of published transformers: tiny random models of each, run in double precision.

    pip install -r tools/reference/requirements.txt
    python tools/reference/families.py

BERT's relative positions are in no newer version of transformers than 4:

    pip install --target target/transformers4 transformers==4.46.3
    PYTHONPATH=target/transformers4 python tools/reference/families.py relative

Writes folders crates/marginals-burn/tests/data/families/NAME with config.json and model.safetensors, as
`save_pretrained` leaves them, the weights rounded to half precision, and expected.safetensors:

    ids, type_ids   the tokens of a text of odd length
    hidden          [layer, token, width], after each layer
    entropy         [layer, head, token], in nats
    largest         [layer, head, token], the largest probability
    logits          [token, vocabulary], of language models

Attention is `eager` and everything is computed in float64, what transformers computes in float32 for speed
(angles, softmax, normalisations) too.
"""

import contextlib
import json
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

from common import DATA

FOLDER = DATA / "families"
VOCABULARY = 48
TOKENS = 21
WINDOW = 6
LAYERS = 3

SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=64,
)
GROUPED = dict(**SIZES, num_key_value_heads=2, head_dim=8)
LONGROPE = dict(
    rope_type="longrope",
    rope_theta=10_000.0,
    # The text is longer than the first models', so that the long factors are used.
    original_max_position_embeddings=16,
    partial_rotary_factor=0.75,
    short_factor=[1.0, 1.1, 1.2],
    long_factor=[1.0, 1.5, 2.5],
)
# Spread of what a linear map makes of numbers of spread 1.
GAIN = 1.1
# How far rounding may take transformers' own float32 from float64: half of what the Rust tests allow. A
# model that is worse conditioned would test the rounding and not the code.
ROUNDING = 5e-6
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)

# Name, class of the model, settings. The class decides on the prefix of the names.
CASES = {
    "bert": ("BertForMaskedLM", "BertConfig", dict(**SIZES, type_vocab_size=2)),
    "bert_decoder": ("BertLMHeadModel", "BertConfig", dict(**SIZES, is_decoder=True)),
    "roberta": ("RobertaModel", "RobertaConfig", dict(**SIZES, type_vocab_size=1)),
    "xlm_roberta": ("XLMRobertaForMaskedLM", "XLMRobertaConfig", dict(**SIZES, type_vocab_size=1)),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        dict(vocab_size=VOCABULARY, dim=32, n_layers=LAYERS, n_heads=4, hidden_dim=40, max_position_embeddings=64),
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        dict(**SIZES, **SPECIAL, cls_token_id=1, sep_token_id=2, local_attention=WINDOW, global_attn_every_n_layers=2),
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        dict(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=LAYERS, n_head=4, n_inner=40,
             scale_attn_by_inverse_layer_idx=True),
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", dict(**GROUPED, attention_bias=True)),
    "mistral": ("MistralForCausalLM", "MistralConfig", dict(**GROUPED, sliding_window=WINDOW)),
    "qwen2": (
        "Qwen2ForCausalLM",
        "Qwen2Config",
        dict(**GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, tie_word_embeddings=True),
    ),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", dict(**GROUPED, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=16))),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", dict(
        **{**GROUPED, "max_position_embeddings": 48}, **SPECIAL, sliding_window=WINDOW, rope_parameters=LONGROPE,
        original_max_position_embeddings=16)),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", dict(
        **GROUPED, sliding_window=WINDOW, query_pre_attn_scalar=12, attn_logit_softcapping=3.0,
        final_logit_softcapping=5.0)),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", dict(
        **GROUPED, sliding_window=WINDOW, sliding_window_pattern=2, query_pre_attn_scalar=12,
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
            sliding_attention=dict(rope_type="default", rope_theta=1e3)))),
    "gemma3_both_ways": ("Gemma3TextModel", "Gemma3TextConfig", dict(
        **GROUPED, sliding_window=WINDOW, sliding_window_pattern=2, use_bidirectional_attention=True)),
}
RELATIVE = {
    name: ("BertModel", "BertConfig", dict(**{**SIZES, "max_position_embeddings": 32}, position_embedding_type=name))
    for name in ["relative_key", "relative_key_query"]
}


@contextlib.contextmanager
def in_double():
    """Lets everything that asks for single precision get double."""
    kept = torch.float, torch.float32, torch.Tensor.float, torch.get_default_dtype()
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = kept[:3]
        torch.set_default_dtype(kept[3])


def randomised(model):
    """Weights that make sharp attention, no norm or bias at its default, all exact in half precision."""
    generator = torch.Generator().manual_seed(7)

    def normal(parameter):
        return torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * normal(parameter)
            elif "embed" in name or "wte" in name or "wpe" in name:
                parameter.copy_(normal(parameter) / (4.0 if "gemma" in model.config.model_type else 1.0))
            else:
                parameter.copy_(normal(parameter) * GAIN / parameter.shape[-1] ** 0.5)
            parameter.copy_(parameter.half().double())


def layers_of(base):
    for path in ["layers", "h", "encoder.layer", "transformer.layer"]:
        found = base
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise ValueError("the layers are nowhere")


def record(name, model_class, config_class, settings):
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with in_double():
        config = getattr(transformers, config_class)(**settings)
        config._attn_implementation = "eager"
        torch.manual_seed(0)
        model = getattr(transformers, model_class)(config).double().eval()
        randomised(model)
        ids = torch.randint(3, VOCABULARY, [TOKENS], generator=torch.Generator().manual_seed(1))
        types = torch.zeros_like(ids)
        if "roberta" in name:
            # A token of padding in the text has the position of padding.
            ids[9] = config.pad_token_id
        if getattr(config, "type_vocab_size", 1) > 1:
            types[TOKENS // 2 :] = 1
        base = getattr(model, model.base_model_prefix, model)
        hidden = []

        def keep(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            hidden.append(output.reshape(TOKENS, -1))

        for layer in layers_of(base):
            layer.register_forward_hook(keep)
        more = {"token_type_ids": types[None]} if types.any() else {}
        with torch.no_grad():
            found = model(ids[None], output_attentions=True, **more)
        exact, hidden = torch.stack(hidden), []
        attentions = torch.stack([matrix[0] for matrix in found.attentions])
        assert attentions.dtype == torch.float64 and exact.dtype == torch.float64
        expected = {
            "ids": ids,
            "type_ids": types,
            "entropy": -torch.special.xlogy(attentions, attentions).sum(-1),
            "largest": attentions.max(-1).values,
            "hidden": exact,
        }
        if "CausalLM" in model_class or model_class == "GPT2LMHeadModel":
            expected["logits"] = found.logits[0]
        spread = expected["entropy"].mean().item()
    with torch.no_grad():
        # In single precision from the beginning, angles included.
        single = getattr(transformers, model_class)(config).eval()
        single.load_state_dict(model.state_dict())
        for layer in layers_of(getattr(single, single.base_model_prefix, single)):
            layer.register_forward_hook(keep)
        single(ids[None], **more)
    error = ((torch.stack(hidden).double() - exact).abs() / (1 + exact.abs())).max().item()
    assert error <= ROUNDING, f"{name}: {error}"
    model.half().save_pretrained(folder)
    for kept in folder.iterdir():
        if kept.name not in ["config.json", "model.safetensors"]:
            kept.unlink()
    # What rounding leaves of the numbers suffices for their comparison with those of single precision.
    expected = {key: x.float() if x.is_floating_point() else x for key, x in expected.items()}
    save_file({key: x.contiguous() for key, x in expected.items()}, folder / "expected.safetensors")
    weights = load_file(folder / "model.safetensors")
    assert all(x.dtype == torch.float16 for x in weights.values())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {size} bytes, entropy {spread:.2f} nats on average, float32 {error:.1e}, {next(iter(weights))} …")


def main():
    for name, case in (RELATIVE if "relative" in sys.argv else CASES).items():
        record(name, *case)


if __name__ == "__main__":
    main()
