"""The trained parts as a converted checkpoint, in float16."""

import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from melodyflow.model.checkpoint import CODEC, FLOW, T5, TEXT_PROJECTION
from melodyflow.model.codec import Codec
from melodyflow.tools.convert import describe
from training.codec import CONFIG
from training.flow import FLOW as FLOW_CONFIG
from training.flow import Trained
from training.text import Classifier

NAME, LICENCE = "melodyflow-triton-demo", "MIT"
# Statistics and rotary frequencies stay exact: they are few.
EXACT = ("latent_mean", "latent_std", "transformer.rope.frequencies")


def export(codec: Codec, text: Classifier, trained: Trained, out: Path) -> None:
    """Writes the checkpoint folder `out` in place of an older one; other files in it, such as its
    card, stay."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        made = Path(work) / "made"
        (made / T5).mkdir(parents=True)
        save_file(_half(codec.state_dict()), made / CODEC)
        flow = _half(trained.flow.state_dict())
        flow |= _half(trained.projection.state_dict(prefix=TEXT_PROJECTION))
        save_file(flow, made / FLOW)
        text.t5.config.save_pretrained(made / T5)
        weights = {n: t for n, t in text.t5.state_dict().items() if "embed_tokens" not in n}
        save_file(_half(weights), made / T5 / "model.safetensors", metadata={"format": "pt"})
        transformers.ByT5Tokenizer().save_pretrained(made / T5)
        describe(made, NAME, LICENCE, CONFIG, FLOW_CONFIG)
        for path in sorted(made.iterdir()):
            target = out / path.name
            if target.is_dir():
                shutil.rmtree(target)
            out.mkdir(exist_ok=True)
            shutil.move(path, target)


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach()
        .cpu()
        .to(torch.float32 if name in EXACT else torch.float16)
        .contiguous()
        for name, tensor in tensors.items()
    }
