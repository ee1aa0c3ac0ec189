"""Reference for models in GGUF files: tiny random models of each architecture, run in double precision.

    pip install -r tools/reference/requirements.txt
    python tools/reference/gguf_models.py

Writes folders crates/marginals-burn/tests/data/gguf/NAME with expected.safetensors, recorded from
transformers as in families.py, and model.gguf, the same weights under the names of the `gguf` package, with
the changes that converters make: rows of Llama's queries and keys in another order, one added to the weights
of Gemma's norms, GPT-2's linear maps the other way round.
"""

import math

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Format
from safetensors.torch import load_file

import families
from common import DATA
from families import GROUPED, SIZES, SPECIAL, WINDOW, record

FOLDER = DATA / "gguf"
LONGROPE = dict(
    rope_type="longrope",
    rope_theta=10_000.0,
    original_max_position_embeddings=16,
    partial_rotary_factor=0.75,
    short_factor=[1.0, 1.1, 1.2],
    long_factor=[1.0, 1.5, 2.5],
)
LLAMA_3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


def linear(writer, config):
    """A factor without a type, which is linear."""
    writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def older_linear(writer, config):
    writer.add_float32("llama.rope.scale_linear", config.rope_parameters["factor"])


def divided(writer, config):
    """Llama 3's frequencies, as divisors of those without a scaling."""
    scaling = config.rope_parameters
    width, original = config.head_dim, scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    divisors = []
    for pair in range(width // 2):
        wavelength = 2 * math.pi * scaling["rope_theta"] ** (2 * pair / width)
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(scaling["factor"])
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    assert 1.0 < max(divisors) and len({*divisors}) > 2
    writer.add_tensor("rope_freqs.weight", np.array(divisors, np.float32))


def yarn(writer, config):
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    writer.add_rope_scaling_orig_ctx_len(config.rope_parameters["original_max_position_embeddings"])


def longrope(writer, config):
    scaling = config.rope_parameters
    original = scaling["original_max_position_embeddings"]
    factor = config.max_position_embeddings / original
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(factor) / math.log(original)))
    for name in ["long", "short"]:
        writer.add_tensor(f"rope_factors_{name}.weight", np.array(scaling[f"{name}_factor"], np.float32))
    writer.add_sliding_window(config.sliding_window)


def gemma_2(writer, config):
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)


def gemma_3(writer, config):
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(config.rope_parameters["full_attention"]["factor"])


GEMMA_3 = dict(
    full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
    sliding_attention=dict(rope_type="default", rope_theta=10_000.0),
)
LLAMA = ("LlamaForCausalLM", "LlamaConfig")

# Name, architecture, class of the model, settings, and what else the file says.
CASES = {
    "llama": ("llama", *LLAMA, dict(
        **GROUPED, attention_bias=True,
        rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.0)), older_linear),
    "llama_linear": ("llama", *LLAMA, dict(
        **GROUPED, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=4.0)), linear),
    "llama3": ("llama", *LLAMA, dict(**GROUPED, rope_parameters=LLAMA_3), divided),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", "Qwen2Config", dict(
        **GROUPED, tie_word_embeddings=True, rope_parameters=dict(
            rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=16)), yarn),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", "Qwen3Config", dict(**{**GROUPED, "head_dim": 16}), None),
    "phi3": ("phi3", "Phi3ForCausalLM", "Phi3Config", dict(
        **{**GROUPED, "max_position_embeddings": 48}, **SPECIAL, sliding_window=WINDOW, rope_parameters=LONGROPE,
        original_max_position_embeddings=16), longrope),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", "Gemma2Config", dict(
        **GROUPED, sliding_window=WINDOW, query_pre_attn_scalar=8, attn_logit_softcapping=3.0,
        final_logit_softcapping=5.0), gemma_2),
    "gemma3": ("gemma3", "Gemma3ForCausalLM", "Gemma3TextConfig", dict(
        **{**GROUPED, "num_hidden_layers": 6}, sliding_window=WINDOW, query_pre_attn_scalar=8,
        rope_parameters=GEMMA_3), gemma_3),
    "gpt2": ("gpt2", "GPT2LMHeadModel", "GPT2Config", dict(
        vocab_size=SIZES["vocab_size"], n_positions=64, n_embd=32, n_layer=3, n_head=4, n_inner=40), None),
}


def neighbouring(weights, heads):
    """Rows whose coordinates i and i + width/2 turn together, put so that 2i and 2i + 1 do."""
    return weights.reshape(heads, 2, len(weights) // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def write(name, architecture, config, more):
    """Writes model.gguf from what `record` left, and removes that."""
    folder = FOLDER / name
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    weights = load_file(folder / "model.safetensors")
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", heads)
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(heads)
    if architecture == "gpt2":
        writer.add_feed_forward_length(config.n_inner)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(key_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        rotary = config.rope_parameters
        rotary = rotary.get("full_attention", rotary)
        writer.add_rope_freq_base(rotary["rope_theta"])
        writer.add_rope_dimension_count(int(head_width * rotary.get("partial_rotary_factor", 1.0)))
        writer.add_vocab_size(config.vocab_size)
        if head_width * heads != config.hidden_size or architecture.startswith(("gemma", "qwen3")):
            writer.add_key_length(head_width)
            writer.add_value_length(head_width)
    if more:
        more(writer, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH_NAMES_BY_NAME[architecture], config.num_hidden_layers)
    for published, weight in weights.items():
        if published == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = names.get_name(published, try_suffixes=(".weight", ".bias"))
        assert stored, published
        weight = weight.float().numpy()
        if architecture == "llama" and ".q_proj." in published:
            weight = neighbouring(weight, heads)
        if architecture == "llama" and ".k_proj." in published:
            weight = neighbouring(weight, key_heads)
        if architecture.startswith("gemma") and published.endswith("norm.weight"):
            weight = weight + np.float32(1)
        if architecture == "gpt2" and weight.ndim == 2 and ".c_" in published:
            weight = weight.T
        weight = np.ascontiguousarray(weight)
        # Exact: the weights have been rounded to half precision.
        writer.add_tensor(stored, weight.astype(np.float16) if weight.ndim == 2 else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for left in ["config.json", "generation_config.json", "model.safetensors"]:
        (folder / left).unlink(missing_ok=True)


def main():
    import transformers

    gguf.MODEL_ARCH_NAMES_BY_NAME = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    families.FOLDER = FOLDER
    for name, (architecture, model_class, config_class, settings, more) in CASES.items():
        record(name, model_class, config_class, settings)
        config = getattr(transformers, config_class).from_pretrained(FOLDER / name)
        write(name, architecture, config, more)
        print(name, (FOLDER / name / "model.gguf").stat().st_size)


if __name__ == "__main__":
    main()
