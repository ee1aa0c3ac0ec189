"""Reference for the places of tokens in a text, derived from what the pieces say.

    pip install -r tools/reference/requirements.txt
    python tools/reference/token_places.py

Writes crates/marginals-burn/tests/data/token_places.json: small tokenizers of every make, as tokenizer.json
has them, texts, and for each token its id and the bytes of the text that it stands for. Those are found
without the tokenizers library's offsets: the text is normalised by Python, character by character, and the
pieces, which together spell what comes out, are laid along it. Where transformers' `offset_mapping` says
something else, it is printed.
"""

import io
import json
import tempfile
import unicodedata

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from common import write

TEXTS = [
    "It is a truth universally acknowledged, that a man in possession of 12345 things",
    "Naïve CAFÉ, e\u0301te\u0301 a\u0323\u0302 \u212bngström \u1100\u1161\u11a8 ﬁne ①② ｆｕｌｌ",
    "東京 🤖🦀 👩\u200d👩\u200d👧 ❤\ufe0f “q”  two\t\ttabs\n\n x = (y)\r\n",
    " begins with spaces,  İstanbul ǅ ½",
    "A, <mask> said.  <mask>b<mask> c <mask>",
    "東",
]
MASK = "<mask>"


def clusters(text):
    """Characters with the marks, joiners and letters of a syllable that follow them."""
    found = []
    for letter in text:
        joins = unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Mc") or letter == "\u200d"
        if found and (joins or "\u1161" <= letter <= "\u11ff"):
            found[-1] += letter
        else:
            found.append(letter)
    return found


def aligned(text, normalise):
    """Normalised characters of a text, each with the characters of the text that it is made of."""
    out, at = [], 0
    for cluster in clusters(text):
        normal = normalise(cluster)
        if normal == cluster:
            out += [(letter, at + i, at + i + 1) for i, letter in enumerate(cluster)]
        else:
            out += [(letter, at, at + len(cluster)) for letter in normal]
        at += len(cluster)
    return out


BYTES = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
BYTE_OF = {chr(byte): byte for byte in BYTES}
BYTE_OF.update({chr(256 + i): byte for i, byte in enumerate(b for b in range(256) if b not in BYTES)})


def spelled(piece, kind):
    """Bytes that a piece stands for; a space is one, whatever the vocabulary writes for it."""
    if kind == "bytes":
        return bytes(BYTE_OF[letter] for letter in piece)
    if kind == "words":
        return piece.removeprefix("##").encode()
    if len(piece) == 6 and piece.startswith("<0x"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()


def places(text, tokens, case):
    """Places in characters of the tokens of a text."""
    found, at, rest, first = [], 0, [], True

    def cut(upto):
        """Lays out the text between added tokens."""
        nonlocal rest, at
        chunk = text[at:upto]
        rest = []
        leads = case["leads"] if first or case["leads"] != "first" else None
        if chunk and leads and not (leads != "always" and chunk.startswith(" ")):
            rest.append((0x20, at, at))
        for letter, start, end in aligned(chunk, case["normalise"]):
            rest += [(byte, at + start, at + end) for byte in letter.encode()]
        at = upto

    masks, chunks, position = [], [], 0
    if case["mask"]:
        while (start := text.find(MASK, position)) >= 0:
            end = start + len(MASK)
            left = len(text[position:start]) - len(text[position:start].rstrip()) if case["lstrip"] else 0
            right = len(text[end:]) - len(text[end:].lstrip()) if case["rstrip"] else 0
            masks.append((start - left, end + right))
            position = end + right
    edges = [start for start, _ in masks] + [len(text)]
    cut(edges[0])
    for token in tokens:
        if case["mask"] and MASK in token:
            assert all(byte in b" \t\n\r" for byte, _, _ in rest), (text, token, rest)
            start, end = masks.pop(0)
            found.append((start, end))
            at, first = end, False
            edges.pop(0)
            cut(edges[0])
            continue
        piece = spelled(token, case["kind"])
        if case["kind"] == "words":
            while rest and chr(rest[0][0]).isspace():
                rest.pop(0)
        # Of several spaces that a normaliser makes one of, that is the last.
        spaces = 1 if piece.startswith(b" ") else 0
        while case["squeezes"] and len(rest) > spaces and rest[0][0] == rest[spaces][0] == 0x20:
            rest.pop(0)
        covered, rest = rest[: len(piece)], rest[len(piece) :]
        assert bytes(byte for byte, _, _ in covered) == piece, (text, token, covered)
        real = [(start, end) for _, start, end in covered if start < end]
        if real:
            found.append((real[0][0], real[-1][1]))
        else:
            found.append((covered[0][1], covered[0][1]))
    assert all(byte in b" \t\n\r" for byte, _, _ in rest) and not masks, (text, rest)
    if case["trims"]:
        for index, (start, end) in enumerate(found):
            covered = text[start:end]
            if covered.strip(" "):
                lead = len(covered) - len(covered.lstrip(" "))
                found[index] = (start + lead, end - (len(covered) - len(covered.rstrip(" "))))
    return found


def decomposed(text):
    bare = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in bare if unicodedata.category(c) != "Mn")


def cleaned(text):
    return decomposed("".join(c for c in text if unicodedata.category(c) != "Cf"))


def trained(normalizer, cut, byte_level, vocabulary, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    if cut:
        tokenizer.pre_tokenizer = cut
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def byte_level(normalizer=None, leads=False, post=None, vocabulary=320):
    cut = pre_tokenizers.ByteLevel(add_prefix_space=leads)
    tokenizer = trained(normalizer, cut, True, vocabulary)
    if post:
        tokenizer.post_processor = post
    return tokenizer


def with_bytes(tokenizer):
    """The tokenizer with pieces for single bytes, for what is in no piece."""
    content = json.loads(tokenizer.to_str())
    kept = [piece for piece in content["model"]["vocab"] if all(letter.isascii() or letter == "▁" for letter in piece)]
    pieces = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)] + kept
    content["model"]["vocab"] = {piece: index for index, piece in enumerate(pieces)}
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair) in kept and all(part in kept for part in pair)]
    content["model"].update(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    return Tokenizer.from_str(json.dumps(content))


def word_pieces():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


# Rules of a SentencePiece normaliser: what stands for what.
RULES = {"e\u0301": "é", "a\u0323\u0302": "ậ", "\u212b": "Å", "ﬁ": "fi", "①": "1", "②": "2", "\t": " ", "\n": " ", "\r": ""}


def unigram():
    """Unigram pieces behind a SentencePiece table of characters, as in XLM-R."""
    code = lambda letters: " ".join(f"{ord(letter):X}" for letter in letters)
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(f"{code(left)}\t{code(right)}\n" for left, right in RULES.items())
        file.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=150, hard_vocab_limit=False,
            model_type="unigram", character_coverage=1.0, normalization_rule_tsv=file.name, minloglevel=2,
        )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=0))
    table = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.normalizer = normalizers.Sequence([table, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return tokenizer


def ruled(text):
    for left, right in RULES.items():
        text = text.replace(left, right)
    return text


def nf(form):
    return lambda text: unicodedata.normalize(form, text)


def same(text):
    return text


def cases():
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    trim = processors.ByteLevel(trim_offsets=True)
    roberta = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    roberta_led = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True, add_prefix_space=True)
    base = dict(kind="bytes", normalise=same, leads=None, trims=False, mask=False, lstrip=False, rstrip=False, squeezes=False)

    def case(name, tokenizer, mask=None, **changed):
        if mask is not None:
            tokenizer.add_special_tokens([AddedToken(MASK, special=True, **mask)])
            changed.update(mask=True, lstrip=mask.get("lstrip", False), rstrip=mask.get("rstrip", False))
        return name, tokenizer, {**base, **changed}

    yield case("byte-level", byte_level(), mask={})
    yield case("byte-level, trimmed", byte_level(post=trim), mask={"lstrip": True}, trims=True)
    yield case("byte-level, trimmed twice", byte_level(post=processors.Sequence([trim, template, trim])), trims=True)
    yield case("byte-level, a space first, trimmed", byte_level(leads=True, post=trim), mask={"rstrip": True}, leads="unless", trims=True)
    yield case("RoBERTa", byte_level(post=roberta), mask={"lstrip": True}, trims=True)
    yield case("RoBERTa, a space first", byte_level(leads=True, post=roberta_led), mask={"lstrip": True}, leads="unless", trims=True)
    for form, normalizer in (("NFC", normalizers.NFC()), ("NFD", normalizers.NFD()), ("NFKC", normalizers.NFKC())):
        yield case(f"byte-level, {form}", byte_level(normalizer), mask={"normalized": True}, normalise=nf(form))
    bare = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFD(), normalizers.StripAccents()])
    yield case("byte-level, lower case without accents", byte_level(bare, post=trim), normalise=decomposed, trims=True)
    spaced = lambda scheme: trained(None, pre_tokenizers.Metaspace(prepend_scheme=scheme), False, 150)
    yield case("Metaspace first", spaced("first"), mask={}, kind="pieces", leads="first")
    yield case("Metaspace always", spaced("always"), mask={}, kind="pieces", leads="unless")
    llama = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    yield case("Llama 2", with_bytes(trained(llama, None, False, 150)), mask={}, kind="pieces", leads="always")
    yield case("BERT", word_pieces(), kind="words", normalise=cleaned)
    yield case("XLM-R", unigram(), kind="pieces", normalise=ruled, leads="unless", squeezes=True)


def in_bytes(text, places):
    at = [0]
    for letter in text:
        at.append(at[-1] + len(letter.encode()))
    return [[at[start], at[end]] for start, end in places]


def main():
    written = []
    for name, tokenizer, case in cases():
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        texts = []
        for text in TEXTS:
            if MASK in text and not case["mask"] and case["kind"] != "bytes":
                continue
            read = fast(text, return_offsets_mapping=True, return_special_tokens_mask=True)
            tokens = fast.convert_ids_to_tokens(read["input_ids"])
            added = [index for index, token in enumerate(tokens) if token in ("<s>", "</s>", "[CLS]", "[SEP]")]
            own = [token for index, token in enumerate(tokens) if index not in added]
            found = places(text, own, case)
            for index in added:
                found.insert(index, (0, 0))
            for token, ours, theirs in zip(tokens, found, read["offset_mapping"]):
                if ours != theirs:
                    print(f"{name}: {token!r} is {text[slice(*ours)]!r}, transformers says {text[slice(*theirs)]!r}")
            texts.append({"text": text, "ids": read["input_ids"], "places": in_bytes(text, found)})
        written.append({"name": name, "tokenizer": json.loads(tokenizer.to_str()), "texts": texts})
    write("token_places.json", written)


if __name__ == "__main__":
    main()
