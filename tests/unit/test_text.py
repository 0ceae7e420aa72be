"""The text encoder against transformers', which it stands in for: same ids, same states."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from melodyflow.errors import CheckpointError
from melodyflow.model import tokenizer as tokenizing
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.model.t5 import position_buckets
from melodyflow.model.text import load_t5
from melodyflow.tools.make_checkpoint import make_checkpoint

SPECIAL = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_99>", "<extra_id_124>"]
NEARLY_SPECIAL = ["<extra_id_125>", "<extra_id_", "<", "</s", "/s>", "▁"]
WHITE = [" ", "  ", "\t", "\n", "\x1f", "\x85", "\u00a0", "\u200b", "\u2003", "\u3000", "\ufeff"]
WORDS = ["a", "Solo cello, ", "sad & slow", "é", "e\u0301", "ﬁ", "½", "①", "ａ", "ß", "İ", "ﷺ"]
FURTHER = ["日本", "🎸", "👩‍🎤", "\x00", "\u202e", "\ud7ff", "\U0010ffff"]


def prompts() -> list[str]:
    """Awkward ones, the same every time."""
    rng = random.Random(0)
    pieces = SPECIAL + NEARLY_SPECIAL + WHITE + WORDS + FURTHER
    planes = [range(256), range(0xD800), range(0xE000, 0x110000)]
    made = ["", "   ", "\t\n", "a" * 5000, "word " * 400, *pieces]
    made += ["".join(rng.choices(pieces, k=rng.randint(1, 14))) for _ in range(1500)]
    made += [
        "".join(chr(rng.choice(rng.choice(planes))) for _ in range(rng.randint(1, 20)))
        for _ in range(1500)
    ]
    return made


@pytest.fixture(params=["checkpoints/demo/t5", "tests/data/parity/t5", "made"], scope="module")
def folder(request: pytest.FixtureRequest, root: Path, tmp_path_factory: Any) -> Path:
    """T5 folders of every kind: the demo's bytes, SentencePiece, and a random one."""
    if request.param != "made":
        return root / str(request.param)
    out: Path = tmp_path_factory.mktemp("made") / "tiny"
    make_checkpoint("tiny", out)
    return out / "t5"


def reference_tokenizer(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.filterwarnings("ignore:This sequence already has </s>")
def test_ids_are_those_of_transformers(folder: Path) -> None:
    reference, tokenize = reference_tokenizer(folder), tokenizing.load_tokenizer(folder)
    for prompt in prompts():
        assert tokenize(prompt) == reference(prompt)["input_ids"], repr(prompt)


@torch.inference_mode()
def test_states_are_those_of_transformers(folder: Path) -> None:
    reference = transformers.T5EncoderModel.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    encoder, tokenize = load_t5(folder)
    for prompt in ("strings", "solo cello, sad and slow", "x" * 300, "</s> \u3000", "word " * 200):
        ids = torch.tensor([tokenize(prompt)])
        expected = reference(input_ids=ids).last_hidden_state
        assert (encoder(ids) - expected).abs().max() <= 1e-6 * expected.abs().max(), prompt[:30]


def test_position_buckets_are_those_of_transformers() -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-600, 601)
    for buckets, farthest in ((32, 128), (16, 64)):
        expected = T5Attention._relative_position_bucket(
            distances, num_buckets=buckets, max_distance=farthest
        )
        assert torch.equal(position_buckets(distances, buckets, farthest), expected)


def as_released(folder: Path) -> None:
    """t5-base's own files: written by older versions, without `added_tokens_decoder`."""
    extra = [f"<extra_id_{i}>" for i in range(100)]
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    change(folder / "tokenizer_config.json", lambda config: config.pop("added_tokens_decoder"))
    (folder / "special_tokens_map.json").write_text(
        json.dumps(named | {"additional_special_tokens": extra})
    )
    (folder / "added_tokens.json").unlink()

    def older(described: dict[str, Any]) -> None:
        described["normalizer"] = described["normalizer"]["normalizers"][0]
        described["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
            ],
        }
        for token in described["added_tokens"]:
            token.update(lstrip=False, rstrip=False)

    change(folder / "tokenizer.json", older)


def without_a_map(folder: Path) -> None:
    as_released(folder)
    (folder / "special_tokens_map.json").unlink()


def without_a_config(folder: Path) -> None:
    without_a_map(folder)
    (folder / "tokenizer_config.json").unlink()


def of_the_fast_class(folder: Path) -> None:
    change(folder / "tokenizer_config.json", lambda c: c.update(tokenizer_class="T5TokenizerFast"))


def without_normalisation(folder: Path) -> None:
    change(folder / "tokenizer.json", lambda described: described.update(normalizer=None))


def change(path: Path, by: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    by(values)
    path.write_text(json.dumps(values))


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """A SentencePiece folder that a test may change."""
    return Path(shutil.copytree(root / "tests/data/parity/t5", tmp_path / "t5"))


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda folder: None,
        as_released,
        without_a_map,
        without_a_config,
        of_the_fast_class,
        without_normalisation,
    ],
)
def test_the_tokenizer_is_built_as_transformers_builds_it(
    copied: Path, rewrite: Callable[[Path], None]
) -> None:
    """Everything but the decoder is equal, so the ids are for every text."""
    rewrite(copied)
    config_file = copied / tokenizing.CONFIG
    config = json.loads(config_file.read_text()) if config_file.exists() else {}
    described = json.loads((copied / tokenizing.VOCABULARY).read_text())
    ours = json.loads(tokenizing._t5_tokenizer(described, config).to_str())
    theirs = json.loads(reference_tokenizer(copied).backend_tokenizer.to_str())
    for state in (ours, theirs):
        del state["decoder"]  # ids to text
    assert ours == theirs


def test_the_embedding_goes_by_two_names(copied: Path) -> None:
    weights = copied / "model.safetensors"
    tensors = load_file(weights)
    expected = load_t5(copied)[0].state_dict()["shared.weight"]
    tied = tensors["shared.weight"]
    for names in (
        ["encoder.embed_tokens.weight"],
        ["encoder.embed_tokens.weight", "shared.weight"],
    ):
        del tensors["shared.weight"]
        save_file(tensors | {name: tied.clone() for name in names}, weights)
        assert torch.equal(load_t5(copied)[0].state_dict()["shared.weight"], expected)
        tensors["shared.weight"] = tied


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def another_tokenizer(folder: Path) -> None:
    change(folder / "tokenizer_config.json", lambda c: c.update(tokenizer_class="BertTokenizer"))


def damaged_vocabulary(folder: Path) -> None:
    change(folder / "tokenizer.json", lambda described: described["model"].update(vocab=[]))


def gated(folder: Path) -> None:
    change(folder / "config.json", lambda c: c.update(feed_forward_proj="gated-gelu"))


def no_sizes(folder: Path) -> None:
    change(folder / "config.json", lambda c: c.pop("d_kv"))


def other_sizes(folder: Path) -> None:
    change(folder / "config.json", lambda c: c.update(d_ff=129))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (no_tokenizer, "tokenizer.json"),
        (another_tokenizer, "tokenizer_class is 'BertTokenizer'"),
        (damaged_vocabulary, "not a T5 encoder with its tokenizer"),
        (gated, "feed_forward_proj is 'gated-gelu'; only 'relu' is supported"),
        (no_sizes, "d_kv"),
        (other_sizes, r"DenseReluDense\.wi\.weight"),
    ],
)
def test_a_t5_that_cannot_be_used_is_refused_by_name(
    checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None], named: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    spoil(folder / "t5")
    change(folder / "config.json", lambda config: forget(config["files"]))
    with pytest.raises(CheckpointError, match=named):
        load(open_checkpoint(folder))


def forget(files: dict[str, Any]) -> None:
    """Drops the recorded facts of the text encoder's files."""
    for name in [name for name in files if name.startswith("t5/")]:
        del files[name]


@pytest.mark.parametrize("kind", ["checkpoints/demo", "converted"])
def test_the_service_imports_no_more_than_it_needs(kind: str, root: Path, checkpoint: Path) -> None:
    """transformers and PyTorch's compiler would each take as long as PyTorch itself."""
    code = (
        "import sys; from melodyflow.model.checkpoint import load, open_checkpoint; "
        "import melodyflow.serving.service; "
        "load(open_checkpoint(sys.argv[1])).read_text('strings'); "
        "print(*{'transformers', 'huggingface_hub', 'torch._dynamo'} & sys.modules.keys())"
    )
    folder = checkpoint if kind == "converted" else root / kind
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
