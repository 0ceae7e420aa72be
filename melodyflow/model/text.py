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
    """Prompt -> [tokens, dim]. Always fp32, as in the reference.

    The empty prompt has no embedding: it is the null condition, for which the network needs no
    text.
    """

    def __init__(self, t5: T5Encoder, tokenize: Tokenize, dim: int) -> None:
        super().__init__()
        self.t5 = t5
        self.tokenize = tokenize
        self.output_proj = Linear(t5.config.d_model, dim)

    def forward(self, prompt: str) -> Tensor:
        """The fp32 embedding [tokens, dim] of a non-empty prompt, neither truncated nor
        normalised."""
        if not prompt:
            raise ValueError("prompt: '' is the null condition and has no embedding")
        ids = torch.tensor([self.tokenize(prompt)], device=self.output_proj.weight.device)
        return cast(Tensor, self.output_proj(self.t5(ids))[0])


def load_t5(folder: Path) -> tuple[T5Encoder, Tokenize]:
    """Loads a T5 encoder (fp32) and its tokenizer from a local folder. Downloads nothing and runs
    no code from the folder.

    Raises ValueError naming tensors that are missing, unexpected or of the wrong shape.
    """
    with torch.device("meta"):
        encoder = T5Encoder(T5Config.read(json.loads((folder / "config.json").read_text())))
    tensors = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    # Some files store the embedding under this name, or under both names.
    tied = tensors.pop("encoder.embed_tokens.weight", None)
    if tied is not None:
        tensors["shared.weight"] = tied
    try:
        encoder.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return encoder, load_tokenizer(folder)
