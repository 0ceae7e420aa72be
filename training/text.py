"""Trains the text encoder: bytes of a prompt -> the class of sound it names. It is then frozen, and
the velocity network reads its states. The network attends to single states, so each of them must
name the class and point where all states of that class point. Otherwise unknown words would affect
it by their spelling.

    python -m training.text WORK --minutes 8
"""

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from training import captions
from training.budget import Run, quick_products, rate
from training.data import CLASSES

WIDTH = 128
BATCH = 24
PEAK = 1e-3


class Classifier(nn.Module):
    """T5's encoder over bytes, and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.t5 = transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=384, d_model=WIDTH, d_kv=32, d_ff=384, num_heads=4, num_layers=2,
                is_encoder_decoder=False, use_cache=False, dropout_rate=0.1,
            )
        )  # fmt: skip
        self.head = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, length] -> states [batch, length, WIDTH] and the scores of each
        [batch, length, classes]."""
        states = self.t5(input_ids=ids, attention_mask=mask).last_hidden_state
        return states, self.head(states)


def over_prompts(values: Tensor, mask: Tensor) -> Tensor:
    """Mean [batch, ...] over each prompt's own states of values [batch, length, ...]."""
    mask = mask.reshape(*mask.shape, *(1,) * (values.ndim - 2))
    return (values * mask).sum(1) / mask.sum(1)


def misspelt(prompt: str, rng: random.Random) -> str:
    """Randomly drops a letter or words, reorders words, lowers the case or adds nonsense words, so
    that each word counts on its own and new wordings of known words are understood."""
    if rng.random() < 0.2:
        prompt = prompt.lower()
    if rng.random() < 0.2 and len(prompt) > 4:
        at = rng.randrange(len(prompt))
        prompt = prompt[:at] + prompt[at + 1 :]
    if rng.random() < 0.5:
        words = prompt.split()
        kept = [word for word in words if rng.random() < 0.6]
        prompt = " ".join(kept or words)
    if rng.random() < 0.2:
        words = prompt.split()
        at = rng.randrange(len(words))
        prompt = " ".join(words[at:] + words[:at])
    if rng.random() < 0.3:
        words = prompt.split()
        for _ in range(rng.randint(1, 4)):
            letters = rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))
            words.insert(rng.randint(0, len(words)), "".join(letters))
        prompt = " ".join(words)
    return prompt


@torch.no_grad()
def accuracy(model: Classifier, prompts: list[tuple[str, int]], device: str) -> float:
    """Share of the prompts whose class is found."""
    model.eval()
    tokenizer = transformers.ByT5Tokenizer()
    right = 0
    for at in range(0, len(prompts), 64):
        part = prompts[at : at + 64]
        tokens = tokenizer([p for p, _ in part], padding=True, return_tensors="pt").to(device)
        mask = tokens["attention_mask"]
        _, scores = model(tokens["input_ids"], mask)
        found = over_prompts(scores, mask).argmax(1).tolist()
        right += sum(a == b for a, (_, b) in zip(found, part, strict=True))
    model.train()
    return right / len(prompts)


def train(work: Path, minutes: float, device: str = "cpu") -> Classifier:
    """Trains for `minutes` in all, going on with what `work` holds."""
    torch.manual_seed(0)
    model = Classifier().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0.01)
    run = Run(work, "text", model, optimizer, minutes, decay=0.995)
    tokenizer = transformers.ByT5Tokenizer()
    rng = random.Random(run.progress.step)
    loss = torch.zeros(())
    noted = run.progress.spent
    fresh = random.Random(0)
    held = [(captions.held_out(n, fresh), i) for i, n in enumerate(CLASSES) for _ in range(8)]
    begun = run.progress.step
    for share in run.turns():
        for group in optimizer.param_groups:
            group["lr"] = rate(share, PEAK)
        classes = [rng.randrange(len(CLASSES)) for _ in range(BATCH)]
        prompts = [misspelt(captions.training(CLASSES[c], rng), rng) for c in classes]
        tokens = tokenizer(prompts, padding=True, return_tensors="pt").to(device)
        mask = tokens["attention_mask"]
        right = torch.tensor(classes, device=device)[:, None].expand_as(mask)
        with quick_products(device):
            states, scores = model(tokens["input_ids"], mask)
            wrong = F.cross_entropy(
                scores.transpose(1, 2), right, label_smoothing=0.05, reduction="none"
            )
            astray = 1 - F.cosine_similarity(states, model.head.weight[right], dim=-1)
            loss = over_prompts(wrong + astray, mask).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if run.progress.spent - noted >= 0.5:
            noted = run.progress.spent
            run.note(loss=loss.item(), held_out=accuracy(model, held, device))
    final = Classifier().to(device).eval()
    final.load_state_dict(run.average.state(model))
    if run.progress.step > begun:
        run.note(loss=loss.item(), held_out=accuracy(final, held, device))
        run.save()
    return final.eval()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.text", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    given = parser.parse_args()
    train(given.work, given.minutes, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
