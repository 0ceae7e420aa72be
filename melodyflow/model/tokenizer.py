"""Prompt -> token ids, identical to transformers' T5Tokenizer and ByT5Tokenizer, which take seconds
to import."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A prompt's ids, the end-of-sequence token last; neither truncated nor padded.
Tokenize = Callable[[str], list[int]]

CONFIG, VOCABULARY = "tokenizer_config.json", "tokenizer.json"


def load_tokenizer(folder: Path) -> Tokenize:
    """Loads the tokenizer of a T5 folder. Raises ValueError or OSError if it is missing or
    unsupported; the tokenizers library raises plain Exceptions for damaged files."""
    config = _read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    kind = config.get("tokenizer_class") or "T5Tokenizer"
    if kind == "ByT5Tokenizer":
        return byte_ids
    if kind.removesuffix("Fast") != "T5Tokenizer":
        raise ValueError(
            f"{folder / CONFIG}: tokenizer_class is {kind!r}; T5Tokenizer and ByT5Tokenizer are "
            "supported"
        )
    tokenizer = _t5_tokenizer(_read_json(folder / VOCABULARY), config)
    return lambda prompt: list(tokenizer.encode(prompt).ids)


END = 1
BYTES = 3  # id of byte 0
SENTINELS = 125  # of them, after the bytes
# A prompt that spells these out gets the token; the first three also consume the whitespace around
# them.
_STRIPPING = {"<pad>": 0, "</s>": END, "<unk>": 2}
_SPECIAL = _STRIPPING | {f"<extra_id_{i}>": BYTES + 256 + i for i in range(SENTINELS)}
_SPECIAL_PATTERN = re.compile(f"({'|'.join(map(re.escape, _SPECIAL))})")


def byte_ids(prompt: str) -> list[int]:
    """ByT5 (arXiv 2105.13626): one id per byte of UTF-8."""
    parts = _SPECIAL_PATTERN.split(prompt)  # text, token, text, token ... text
    ids: list[int] = []
    for i, part in enumerate(parts):
        if i % 2:
            ids.append(_SPECIAL[part])
            continue
        if i and parts[i - 1] in _STRIPPING:
            part = part.lstrip()
        if i + 1 < len(parts) and parts[i + 1] in _STRIPPING:
            part = part.rstrip()
        ids += [BYTES + byte for byte in part.encode()]
    return ids if ids[-1:] == [END] else [*ids, END]


def _t5_tokenizer(described: dict[str, Any], config: dict[str, Any]) -> "Tokenizer":
    """Builds a tokenizer from a tokenizer.json's vocabulary, character map and added tokens. The
    file's other parts depend on the version that wrote it, so they are built here: runs of
    whitespace count as one space, as in SentencePiece."""
    from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram

    model = described["model"]
    if model.get("type", "Unigram") != "Unigram":
        raise ValueError(f"{VOCABULARY}: its model is {model['type']!r}; T5's is Unigram")
    tokenizer = Tokenizer(Unigram([tuple(piece) for piece in model["vocab"]], unk_id=2))
    charsmap = _charsmap(described.get("normalizer"))
    if charsmap is not None:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    added = config.get("added_tokens_decoder")
    if added is None:
        added = {token.pop("id"): token for token in described["added_tokens"]}
    tokenizer.add_tokens([AddedToken(**added[id]) for id in sorted(added, key=int)])
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", end)]
    )
    return tokenizer


def _charsmap(normalizer: dict[str, Any] | None) -> bytes | None:
    """SentencePiece's own normalisation, such as replacing a ligature by its letters."""
    if normalizer is None:
        return None
    for part in normalizer.get("normalizers", [normalizer]):
        if part["type"] == "Precompiled":
            return base64.b64decode(part["precompiled_charsmap"])
    return None


def _read_json(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a JSON object")
    return values
