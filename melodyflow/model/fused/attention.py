"""One attention call for packed sequences of any lengths."""

import math
from functools import cache

import torch
from torch import Tensor


@torch.library.custom_op("melodyflow::attend", mutates_args=())
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    extent: Tensor,
) -> tuple[Tensor, Tensor]:
    """Attention of packed sequences, each to its own keys.

    q, k, v: [tokens, heads, head_dim]; starts: [sequences + 1] int32, where each sequence starts
    and the last one ends; extent, on the CPU: upper bounds of the longest sequence of q and of k,
    and the common length if all sequences of both are equally long and fill the tokens, else 0.
    Returns the result, shaped like q, and the log of each softmax's denominator, [heads, tokens]
    fp32. Values after the last sequence are arbitrary.
    """
    if q.is_cuda:
        most_q, most_k, frames = extent.tolist()
        if frames and has_dense_kernel(q.device):
            return attend_dense(q, k, v, frames)
        from torch.nn.attention.varlen import AuxRequest, varlen_attn

        aux = AuxRequest(lse=True)
        out, lse = varlen_attn(q, k, v, starts_q, starts_k, most_q, most_k, return_aux=aux)
        return out, lse if lse.shape[0] == q.shape[1] else lse.T.contiguous()
    out, lse = torch.zeros_like(q), q.new_zeros((q.shape[1], len(q)), dtype=torch.float32)
    begins, reads = starts_q.tolist(), starts_k.tolist()
    for i in range(len(begins) - 1):
        here, there = slice(begins[i], begins[i + 1]), slice(reads[i], reads[i + 1])
        scores = torch.einsum("qhd,khd->hqk", q[here].float(), k[there].float())
        scores /= math.sqrt(q.shape[-1])
        lse[:, here] = scores.logsumexp(-1)
        out[here] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[there].float()).to(q.dtype)
    return out, lse


@attend.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    extent: Tensor,
) -> tuple[Tensor, Tensor]:
    # No len(): it would fix the number of tokens.
    return torch.empty_like(q), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@cache
def has_dense_kernel(device: torch.device) -> bool:
    """Whether cuDNN's kernel, which needs sequences of equal length, is faster: from Hopper on. It
    needs a plan for each shape, so it is only used for windows."""
    return torch.cuda.get_device_capability(device) >= (9, 0)


def attend_dense(q: Tensor, k: Tensor, v: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    _, heads, head_dim = q.shape
    q, k, v = (x.reshape(-1, frames, heads, head_dim).transpose(1, 2) for x in (q, k, v))
    out: Tensor
    lse: Tensor
    out, lse = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)[:2]
    packed = out.transpose(1, 2).reshape(-1, heads, head_dim)
    return packed, lse.reshape(-1, heads, frames).transpose(0, 1).reshape(heads, -1)
