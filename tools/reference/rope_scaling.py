"""Reference for scaled rotary embeddings: the frequencies that transformers makes of their settings.

    pip install -r tools/reference/requirements.txt
    python tools/reference/rope_scaling.py

Writes crates/marginals-burn/tests/data/rope_scaling.json: settings, base, longest text, length of the text
read, and for each the frequency of every pair of coordinates and the factor of the turned rows.
"""

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from common import write

WIDTH = 32
LONG = [1.0 + 0.5 * pair for pair in range(WIDTH // 2)]
SHORT = [1.0 + 0.1 * pair for pair in range(WIDTH // 2)]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

# Settings, base, longest text, length of the text.
CASES = [
    ({"rope_type": "linear", "factor": 2.0}, 1e4, 256, 100),
    ({"rope_type": "dynamic", "factor": 2.0}, 1e4, 256, 100),
    ({"rope_type": "dynamic", "factor": 2.0}, 1e4, 256, 400),
    ({"rope_type": "dynamic", "factor": 8.0}, 5e5, 256, 2000),
    ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 1e4, 256, 100),
    ({"rope_type": "yarn", "factor": 4.0}, 1e6, 4096, 100),
    ({"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 16, "beta_slow": 2,
      "original_max_position_embeddings": 4096}, 1e4, 163840, 100),
    ({"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "truncate": False,
      "original_max_position_embeddings": 2048}, 1e4, 8192, 100),
    ({**LLAMA3, "original_max_position_embeddings": 8192}, 5e5, 131072, 100),
    ({**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 64}, 1e4, 2048, 100),
    ({"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG,
      "original_max_position_embeddings": 128}, 1e4, 1024, 100),
    ({"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG,
      "original_max_position_embeddings": 128}, 1e4, 1024, 200),
    ({"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 3.0, "attention_factor": 1.25,
      "original_max_position_embeddings": 128}, 1e4, 1024, 200),
]


def main():
    recorded = []
    for settings, base, context, nodes in CASES:
        config = LlamaConfig(
            hidden_size=WIDTH,
            num_attention_heads=1,
            max_position_embeddings=context,
            rope_parameters={"rope_theta": base, **settings},
        )
        make = ROPE_INIT_FUNCTIONS[settings["rope_type"]]
        frequencies, magnitude = make(config, device="cpu", seq_len=nodes)
        recorded.append({
            "settings": settings,
            "base": base,
            "context": context,
            "nodes": nodes,
            "frequencies": [float(x) for x in frequencies.double()],
            "magnitude": magnitude,
        })
    write("rope_scaling.json", recorded)


if __name__ == "__main__":
    main()
