"""Reference for the tokenizers of GGUF files and of tokenizer.model.

    pip install -r tools/reference/requirements.txt
    python tools/reference/gguf_tokenizers.py

Writes files crates/marginals-burn/tests/data/gguf_tokenizers/NAME.gguf that hold nothing but a tokenizer, a
tokenizer.model of SentencePiece beside them, and ids.json: for each of them the tokens of some texts.
SentencePiece's are read by the `sentencepiece` package, the byte-level ones by rules that transformers has. Rules
that it has not are those of the models' own tokenizer.json, or llama.cpp's where there is no model; the texts are cut
by them with the package `regex`.
"""

import inspect
import io
import json

import gguf
import regex
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2

from common import DATA, TEXT

FOLDER = DATA / "gguf_tokenizers"
CORPUS = TEXT[:6000].splitlines() + ["naïve café 12345 67 don't HelloWorld (x) += 1;\n\n\tindented   x"] * 3
TEXTS = [
    "It is a truth universally acknowledged, that a single man",
    "Don't DON'T HelloWorld ABCdef 1234567 x+=1;\n\n\tindented   three spaces\r\n",
    "naïve café e\u0301 東京 🤖 “q” ½ //path/to\n/x",
    " begins and ends with spaces  ",
    "\n",
    "東",
    "a▁b c",
    "Привет мир, Ωμέγα ＡＢ ｃｄ １２３４567 ①② 「東京タワー」 한국어 日本語です…  ‘so’ ￥5 $x^2+y$ ~|~ ʻokina ⅣⅤ  \n  ß ǅ ა ƻ  ",
]
LLAMA_3 = inspect.signature(TikTokenConverter).parameters["pattern"].default
BEGIN, END = "<|begin|>", "<|end|>"

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Every expression cuts what those before it have left in one piece, into what it finds and what lies between.
CUTS = {
    # SmolLM's, of other models: every digit alone.
    "refact": [r"\p{N}", GPT_2],
    "seed-coder": [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-llm": [
        r"[\r\n]",
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ"
        r"ὐ-ὗὙὛὝ\u1F5F-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBEῂ-ῄῆ-ῌ\u1FD0-\u1FD3\u1FD6-\u1FDBῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴ"
        r"ℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        "[一-龥ࠀ-一가-퟿]+",
        r"\p{N}",
    ],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


class Cut:
    """Byte-level BPE of words that were cut out of a text before."""

    def __init__(self, expressions):
        self.expressions = [regex.compile(expression) for expression in expressions]
        self.bpe = merging(models.BPE())

    def words(self, text):
        words = [text]
        for expression in self.expressions:
            words = [part for word in words for part in parts(expression, word)]
        return words

    def to_str(self):
        return self.bpe.to_str()

    def ids(self, text):
        return [id for word in self.words(text) for id in self.bpe.encode(word, add_special_tokens=False).ids]


def parts(expression, word):
    """What is found in a word, and what lies between."""
    at = 0
    for found in expression.finditer(word):
        yield from filter(None, (word[at : found.start()], found.group()))
        at = found.end()
    if at < len(word):
        yield word[at:]


def merging(model):
    """A tokenizer that was trained on whole lines, so that its tokens go over every cut that is not made."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[BEGIN, END],
        max_token_length=6, show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3 + CORPUS, trainer)
    return tokenizer


def byte_level(pattern=None, normalizer=None, digits=False, whole_words=False):
    tokenizer = merging(models.BPE(ignore_merges=whole_words))
    if normalizer:
        tokenizer.normalizer = normalizer
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    before = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern:
        before = [pre_tokenizers.Split(Regex(pattern), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, bytes_alone])
    if whole_words:
        # A word that no merges make: it is one token all the same.
        content = json.loads(tokenizer.to_str())
        content["model"]["vocab"]["Ġindented"] = len(content["model"]["vocab"])
        tokenizer = Tokenizer.from_str(json.dumps(content))
    return tokenizer


def write_byte_level(name, rule, tokenizer, flags):
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    pieces = sorted(vocabulary, key=vocabulary.get)
    writer = gguf.GGUFWriter(FOLDER / f"{name}.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(pieces)
    types = {BEGIN: gguf.TokenType.CONTROL, END: gguf.TokenType.CONTROL}
    writer.add_token_types([types.get(piece, gguf.TokenType.NORMAL) for piece in pieces])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    finish(writer, flags, (0, 1))


def finish(writer, flags, ends):
    begins, ends_with = flags
    writer.add_bos_token_id(ends[0])
    writer.add_eos_token_id(ends[1])
    if begins is not None:
        writer.add_add_bos_token(begins)
    if ends_with is not None:
        writer.add_add_eos_token(ends_with)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def trained(space_first, user_defined=()):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe", vocab_size=400, byte_fallback=True,
        character_coverage=0.99, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=space_first, user_defined_symbols=list(user_defined), allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    return model.getvalue()


def write_scored(name, model, flags):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    writer = gguf.GGUFWriter(FOLDER / f"{name}.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.piece for piece in proto.pieces])
    writer.add_token_scores([piece.score for piece in proto.pieces])
    writer.add_token_types([piece.type for piece in proto.pieces])
    if not proto.normalizer_spec.add_dummy_prefix:
        writer.add_add_space_prefix(False)
    finish(writer, flags, (1, 2))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    ids = {}
    llama_3 = byte_level(LLAMA_3, whole_words=True)
    qwen = byte_level(QWEN2, normalizers.NFC())
    gpt_4o = byte_level(GGUF_PRE_TOKENIZER_SPLITS["gpt-4o"])
    tekken = byte_level(GGUF_PRE_TOKENIZER_SPLITS["tekken"], whole_words=True)
    # What files leave out is as llama.cpp has it: Llama 3's and Mistral's texts have a beginning, the others' not.
    for name, rule, tokenizer, flags, ends in [
        ("gpt-2", "gpt-2", byte_level(), (None, None), ([], [])),
        ("smollm", "smollm", byte_level(digits=True), (True, None), ([0], [])),
        ("llama-bpe", "llama-bpe", llama_3, (None, None), ([0], [])),
        ("llama-v3", "llama-v3", llama_3, (False, True), ([], [1])),
        ("dbrx", "dbrx", byte_level(LLAMA_3), (None, None), ([], [])),
        ("qwen2", "qwen2", qwen, (None, None), ([], [])),
        ("tekken", "tekken", tekken, (None, None), ([0], [])),
        ("gpt-4o", "gpt-4o", gpt_4o, (None, None), ([], [])),
        ("smaug-bpe", "smaug-bpe", byte_level(GGUF_PRE_TOKENIZER_SPLITS["smaug-bpe"]), (None, None), ([], [])),
        ("falcon3", "falcon3", byte_level(GGUF_PRE_TOKENIZER_SPLITS["falcon3"], whole_words=True), (None, None), ([0], [])),
    ]:
        write_byte_level(name, rule, tokenizer, flags)
        ids[f"{name}.gguf"] = [ends[0] + tokenizer.encode(text, add_special_tokens=False).ids + ends[1] for text in TEXTS]
    for name, expressions in CUTS.items():
        tokenizer = Cut(expressions)
        write_byte_level(name, name, tokenizer, (None, None))
        ids[f"{name}.gguf"] = [tokenizer.ids(text) for text in TEXTS]
    runs = ["▁▁", "▁▁▁", "\n\n", "<table>"]
    for name, model, flags, ends in [
        ("spaced", trained(True), (None, None), ([1], [])),
        ("unspaced", trained(False, runs), (True, True), ([1], [2])),
    ]:
        write_scored(name, model, flags)
        (FOLDER / f"{name}.model").write_bytes(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        plain = [processor.encode(text) for text in TEXTS]
        ids[f"{name}.gguf"] = [ends[0] + tokens + ends[1] for tokens in plain]
        ids[f"{name}.model"] = [[1] + tokens for tokens in plain]
    content = {"texts": TEXTS, "ids": ids}
    (FOLDER / "ids.json").write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(sum(file.stat().st_size for file in FOLDER.iterdir()), "bytes")


if __name__ == "__main__":
    main()
