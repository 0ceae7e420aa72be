"""The text condition: a frozen T5 encoder and a linear projection (MODEL.md section 5)."""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Prompt -> [tokens, dim]. Stays fp32 whatever the network's precision, as the reference's
    does.

    The empty prompt has no embedding: it is the null condition, which the network knows without any
    text.
    """

    def __init__(self, t5: nn.Module, tokenizer: Any, dim: int) -> None:
        super().__init__()
        self.t5 = t5
        self.tokenizer = tokenizer
        self.output_proj = nn.Linear(cast(Any, t5).config.d_model, dim)

    def forward(self, prompt: str) -> Tensor:
        """Embedding [tokens, dim], fp32, of a prompt that is not empty. No truncation and no
        normalisation."""
        if not prompt:
            raise ValueError("prompt: '' is the null condition and has no embedding")
        tokens = self.tokenizer([prompt], return_tensors="pt")
        device = self.output_proj.weight.device
        ids, mask = tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
        hidden = self.t5(input_ids=ids, attention_mask=mask).last_hidden_state
        return cast(Tensor, self.output_proj(hidden)[0])


def load_t5(folder: Path) -> tuple[nn.Module, Any]:
    """T5 encoder (fp32) and tokenizer from a local folder; nothing is ever fetched and no code of
    the folder is run.

    Raises ValueError that names tensors which are missing, extra or misshapen.
    """
    from transformers import AutoTokenizer, T5Config, T5EncoderModel  # seconds: only where needed

    with torch.device("meta"):
        encoder = T5EncoderModel(T5Config.from_pretrained(folder, local_files_only=True))
    tensors = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    tied = "encoder.embed_tokens.weight"
    tensors.setdefault(tied, tensors.get("shared.weight", torch.empty(0)))
    try:
        encoder.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return cast(nn.Module, encoder), tokenizer
