"""Reference for the audit's measures: full attention matrices of transformers, and SciPy's fits.

    pip install -r tools/reference/requirements.txt
    cargo xtask fetch minilm smollm2
    python tools/reference/audit_measures.py

Writes crates/marginals-cli/tests/data/audit_measures.json: for the bundled text the measures of every
head that say on which tokens its mass lies, and how far the best priors of distance are from it, each
from its definition over the matrix.
"""

import json
import unicodedata

import numpy
import torch
from scipy.optimize import minimize
from transformers import AutoModelForCausalLM, AutoTokenizer, BertModel

from common import ROOT, TEXT

OUT = ROOT / "crates" / "marginals-cli" / "tests" / "data" / "audit_measures.json"
FEWEST = 8


def is_punctuation(text):
    text = text.strip()
    ascii_mark = lambda c: c.isascii() and c.isprintable() and not c.isalnum() and c != " "
    mark = lambda c: ascii_mark(c) or unicodedata.category(c).startswith("P")
    return text != "" and all(map(mark, text))


def mean_kl(p, weights, visible):
    """Mean over queries of KL(p_i ‖ weights_i, normalised over the visible keys)."""
    prior = numpy.where(visible, weights, 0.0)
    prior = prior / prior.sum(1, keepdims=True)
    on = p > 0
    return float((p[on] * numpy.log(p[on] / prior[on])).sum() / len(p))


def smallest_kl(p, statistic, visible, sink):
    """Smallest KL over θ ≥ 0 and, where there is a sink, β ≥ 0."""
    column = numpy.zeros(len(p))
    if sink is not None:
        column[sink] = 1.0

    def of(numbers):
        theta, beta = numbers
        score = -theta * statistic + beta * column
        score = numpy.where(visible, score, -numpy.inf)
        score = score - score.max(1, keepdims=True)
        logs = score - numpy.log(numpy.exp(score).sum(1, keepdims=True))
        on = p > 0
        kl = (p[on] * (numpy.log(p[on]) - logs[on])).sum() / len(p)
        q = numpy.exp(logs)
        slope = [((p - q) * statistic).sum() / len(p), -((p - q) * column).sum() / len(p)]
        return kl, numpy.array(slope if sink is not None else [slope[0], 0.0])

    # θ in units of the statistic, or the two numbers would differ by orders of magnitude.
    size = statistic[visible].mean()
    best = None
    for start in (0.1, 1.0, 5.0):
        scaled = lambda x: (of([x[0] / size, x[1]])[0], of([x[0] / size, x[1]])[1] * [1 / size, 1])
        found = minimize(
            scaled,
            [start, 1.0 if sink is not None else 0.0],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, None), (0.0, 50.0)],
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
        )
        if best is None or found.fun < best[0]:
            best = (float(found.fun), float(found.x[0] / size))
    return best


def measures(p, ids, spans, text, visible):
    n = len(p)
    i, j = numpy.indices((n, n))
    distance = abs(i - j)
    ids = numpy.array(ids)
    same = (ids[:, None] == ids[None, :]) & (i != j)
    after = numpy.zeros_like(same)
    after[:, 1:] = same[:, :-1]

    def over_queries_that_see(relation):
        sees = (relation & visible).any(1)
        mass = (p * relation).sum(1)[sees]
        return float(mass.mean()) if sees.sum() >= FEWEST else None

    columns = p.sum(0) / n
    added = [index for index, (start, end) in enumerate(spans) if start == end and index > 0]
    marks = [index for index, (start, end) in enumerate(spans) if is_punctuation(text[start:end])]
    words = [index for index in range(1, n - 1) if index not in added and index not in marks]
    sees_ahead = bool(visible[0].all())
    out = {
        "previous_token_mass": float(numpy.diagonal(p, -1).mean()),
        "next_token_mass": float(numpy.diagonal(p, 1).mean()) if sees_ahead else None,
        "same_token_mass": float(numpy.diagonal(p).mean()),
        "neighbour_mass": float((p * (distance <= 4)).sum() / n),
        "expected_distance": float((p * distance).sum() / n),
        "induction_mass": over_queries_that_see(after),
        "duplicate_token_mass": over_queries_that_see(same),
        "first_token_mass": float(columns[0]),
        "last_token_mass": float(columns[-1]),
        "heaviest_key_mass": float(columns.max()),
        "heaviest_word_mass": float(columns[words].max()) if words else None,
        "separator_mass": float(columns[added].sum()) if added else None,
        "punctuation_mass": float(columns[marks].sum()) if marks else None,
    }

    reaches = [0] + [1 << power for power in range(20) if 1 << power < n]
    part = lambda a, b: a * numpy.log(a / b) if a > 0 else 0.0
    best, most = 0, 0.0
    for reach in reaches:
        near = distance <= reach
        inside = float((p * near).sum() / n)
        flat = float(((near & visible).sum(1) / visible.sum(1)).mean())
        if inside > flat and flat < 1:
            gain = part(inside, flat) + part(1 - inside, 1 - flat)
            if gain > most:
                best, most = reach, gain
    families = {
        "geometric": distance.astype(float),
        "power-law": numpy.log1p(distance),
        "window": (distance > best).astype(float),
    }
    sink = int(columns.argmax())
    flat = mean_kl(p, numpy.ones_like(p), visible)
    alone = {name: smallest_kl(p, t, visible, None) for name, t in families.items()}
    with_sink = [smallest_kl(p, t, visible, sink)[0] for t in families.values()]
    name = min(alone, key=lambda name: alone[name][0])
    out["distance_kl"] = min(alone[name][0], flat)
    out["distance_share"] = 1 - out["distance_kl"] / flat
    out["content_kl"] = min(*with_sink, out["distance_kl"])
    # The family only where it is clear: the next best is not as good.
    others = [kl for other, (kl, _) in alone.items() if other != name] + [flat]
    out["prior"] = name if min(others) - alone[name][0] > 1e-4 else None
    out["theta"] = alone[name][1]
    return out


def write_all(models):
    digits = lambda x: x if x is None or isinstance(x, str) else float(f"{x:.7g}")
    tidy = {
        model: [[{k: digits(v) for k, v in head.items()} for head in layer] for layer in layers]
        for model, layers in models.items()
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(tidy, separators=(",", ":")) + "\n")
    print(f"wrote {OUT.relative_to(ROOT)} ({OUT.stat().st_size} bytes)")


def of_model(attentions, encoding, text, causal):
    n = len(encoding["input_ids"])
    visible = numpy.tril(numpy.ones((n, n), bool)) if causal else numpy.ones((n, n), bool)
    layers = []
    for matrix in attentions:
        matrix = matrix[0].double().numpy()
        layers.append(
            [
                measures(p, encoding["input_ids"], encoding["offset_mapping"], text, visible)
                for p in matrix
            ]
        )
        print("layer", len(layers), flush=True)
    return layers


def main():
    folder = ROOT / "models" / "minilm"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, attn_implementation="eager").double().eval()
    encoding = tokenizer(TEXT, return_offsets_mapping=True)
    # Quadratic by hand: the beginning is enough.
    ids, spans = encoding["input_ids"], encoding["offset_mapping"]
    ids, spans = ids[:127] + ids[-1:], spans[:127] + spans[-1:]
    encoding = {"input_ids": ids, "offset_mapping": spans}
    with torch.no_grad():
        attentions = model(torch.tensor([ids]), output_attentions=True).attentions
    minilm = of_model(attentions, encoding, TEXT, causal=False)

    folder = ROOT / "models" / "smollm2"
    file = next(folder.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, attn_implementation="eager", dtype=torch.float32
    )
    model = model.double().eval()
    encoding = tokenizer(TEXT, return_offsets_mapping=True)
    encoding = {name: encoding[name][:96] for name in ("input_ids", "offset_mapping")}
    with torch.no_grad():
        ids = torch.tensor([encoding["input_ids"]])
        attentions = model(ids, output_attentions=True).attentions
    smollm2 = of_model(attentions, encoding, TEXT, causal=True)
    write_all({"minilm": minilm, "smollm2": smollm2})


if __name__ == "__main__":
    main()
