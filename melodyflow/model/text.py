"""The text condition: a frozen T5 encoder and a linear projection (docs/model.md, "The text")."""

import json
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from melodyflow.model.linear import Linear
from melodyflow.model.t5 import T5Config, T5Encoder
from melodyflow.model.tokenizer import Tokenize, load_tokenizer


class TextEncoder(nn.Module):
    """Prompt -> [tokens, dim]. Stays fp32 whatever the network's precision, as the reference's
    does.

    The empty prompt has no embedding: it is the null condition, which the network knows without any
    text.
    """

    def __init__(self, t5: T5Encoder, tokenize: Tokenize, dim: int) -> None:
        super().__init__()
        self.t5 = t5
        self.tokenize = tokenize
        self.output_proj = Linear(t5.config.d_model, dim)

    def forward(self, prompt: str) -> Tensor:
        """Embedding [tokens, dim], fp32, of a prompt that is not empty. No truncation and no
        normalisation."""
        if not prompt:
            raise ValueError("prompt: '' is the null condition and has no embedding")
        ids = torch.tensor([self.tokenize(prompt)], device=self.output_proj.weight.device)
        return cast(Tensor, self.output_proj(self.t5(ids))[0])


def load_t5(folder: Path) -> tuple[T5Encoder, Tokenize]:
    """T5 encoder (fp32) and tokenizer from a local folder; nothing is ever fetched and no code of
    the folder is run.

    Raises ValueError that names tensors which are missing, extra or misshapen.
    """
    with torch.device("meta"):
        encoder = T5Encoder(T5Config.read(json.loads((folder / "config.json").read_text())))
    tensors = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    # Some files have the embedding under this name, or under both.
    tied = tensors.pop("encoder.embed_tokens.weight", None)
    if tied is not None:
        tensors["shared.weight"] = tied
    try:
        encoder.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return encoder, load_tokenizer(folder)
