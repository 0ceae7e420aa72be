"""Evaluates edits through the real service, on compositions that were never used in training.

    training/evaluate CHECKPOINT [--judge WORK] -o DIR

Writes evaluation.json, evaluation.md, spectrograms.png and the riff's edits as WAV files into DIR.
Every edit uses the service's defaults.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
from torch import Tensor

from melodyflow.embedded import EmbeddedServer
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.model.codec import Codec
from melodyflow_client import MelodyFlowClient
from training import captions, measures
from training.arrangements import ARRANGEMENTS, INSTRUMENTS
from training.compositions import Composition, Note, compose
from training.data import CLASSES, HELD_OUT, LEVEL, RATE, SECONDS, clip, render
from training.judge import Judge, through

Waveform = npt.NDArray[np.float32]
RIFF = Path(__file__).resolve().parent.parent / "examples" / "riff.wav"
RIFF_CLASSES = ("strings_quartet", "church_organ", "chiptune", "synth_ambient")
SEEDS = 5  # pairs of each class, each of another composition, source and seed
HELD_OUT_FROM = 10_000  # compositions that no training run has: seeds from here on
CONCURRENT = 4


def wav(x: Waveform) -> bytes:
    """A float WAV file of a mono waveform at RATE."""
    file = io.BytesIO()
    soundfile.write(file, x, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Service:
    """A checkpoint served by its own tritonserver."""

    def __init__(self, checkpoint: Path) -> None:
        self.server = EmbeddedServer(checkpoint, http_port=0, grpc_port=0, metrics_port=0)

    def __enter__(self) -> "Service":
        self.server.start()
        self.client = MelodyFlowClient(self.server.grpc_url)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.stop()

    def edit(self, source: Waveform, prompt: str, seed: int) -> Waveform:
        """Edits the source with the prompt; the result has the same rate and length."""
        result = self.client.transform(wav(source), prompt=prompt, seed=seed, format="wav32f")
        return np.asarray(result.waveform.mean(0), np.float32)

    def edits(self, tasks: Iterable[tuple[Waveform, str, int]]) -> list[Waveform]:
        tasks = list(tasks)
        with ThreadPoolExecutor(CONCURRENT) as pool:
            done = []
            for made in pool.map(lambda task: self.edit(*task), tasks):
                done.append(made)
                if len(done) % 20 == 0:
                    print(f"evaluate: {len(done)}/{len(tasks)} edits", file=sys.stderr, flush=True)
            return done


def stack(waveforms: Iterable[Waveform]) -> Tensor:
    return torch.from_numpy(np.stack(list(waveforms)))


def round_trip(codec: Codec, x: Tensor) -> Tensor:
    """Passes waveforms [batch, samples] at RATE through a codec of any rate and channels."""
    config = codec.config
    own = stack(
        np.asarray(soxr.resample(y.numpy(), RATE, config.sample_rate), np.float32) for y in x
    )
    made = through(codec, own)
    back = [
        np.asarray(soxr.resample(y.numpy(), config.sample_rate, RATE), np.float32) for y in made
    ]
    return stack(y[: x.shape[1]] for y in back)


def levelled(x: Tensor) -> Tensor:
    """Scales to the loudness of the training data, so that distances don't depend on the level."""
    return x * (LEVEL / x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4))


def compared(made: Tensor, source: Tensor, target: Tensor) -> dict[str, list[float]]:
    """The figures of each clip [batch, samples]."""
    made, source, target = (levelled(x) for x in (made, source, target))
    return {
        "chroma": measures.chroma_correlation(source, made).tolist(),
        "onsets": measures.onset_correlation(source, made).tolist(),
        "tempo_kept": measures.tempo_kept(source, made).tolist(),
        "distance": measures.log_mel_distance(target, made).tolist(),
    }


def pairs() -> list[tuple[int, str, str]]:
    """(composition, source class, target class): SEEDS of each target."""
    rng = np.random.default_rng(7)
    made = []
    for index, target in enumerate(CLASSES):
        for number in range(SEEDS):
            sources = [name for name in INSTRUMENTS if name != target]
            made.append((HELD_OUT_FROM + index * SEEDS + number, str(rng.choice(sources)), target))
    return made


def held_out(service: Service, judge: Judge | None, codec: Codec) -> dict[str, Any]:
    """Edits and controls over all classes, and by class."""
    tasks = pairs()
    source = stack(clip(seed, name) for seed, name, _ in tasks)
    target = stack(clip(seed, name) for seed, _, name in tasks)
    other = target.roll(SEEDS + 1, 0)
    prompts = [captions.PROMPTS[name] for _, _, name in tasks]
    result = stack(
        service.edits((source[i].numpy(), prompt, i) for i, prompt in enumerate(prompts))
    )
    rows = {
        "edit": result,
        "source itself": source,
        "another clip": other,
        "true target": target,
        "true target through the codec": round_trip(codec, target),
        "source through the codec": round_trip(codec, source),
    }
    figures = {name: compared(x, source, target) for name, x in rows.items()}
    classes = torch.tensor([CLASSES.index(name) for _, _, name in tasks])
    if judge is not None:
        for name, x in rows.items():
            figures[name]["judged"] = (judge.hears(levelled(x)) == classes).float().tolist()
    return {"target": [name for *_, name in tasks], "rows": figures}


def paraphrases(service: Service, judge: Judge | None) -> dict[str, dict[str, float]]:
    """One pair of each class, with its own prompt and with wordings never used in training."""
    import random

    tasks = pairs()[::SEEDS]
    source = stack(clip(seed, name) for seed, name, _ in tasks)
    target = stack(clip(seed, name) for seed, _, name in tasks)
    rng = random.Random(3)
    wordings: dict[str, Callable[[str], str]] = {
        "trained prompts": captions.PROMPTS.__getitem__,
        "held-out paraphrases": lambda name: captions.held_out(name, rng),
    }
    found = {}
    for wording, prompt in wordings.items():
        made = stack(
            service.edits(
                (source[i].numpy(), prompt(name), i) for i, (_, _, name) in enumerate(tasks)
            )
        )
        found[wording] = means(compared(made, source, target))
        if judge is not None:  # the tasks are in the order of the classes
            right = judge.hears(levelled(made)) == torch.arange(len(CLASSES))
            found[wording]["judged"] = float(right.float().mean())
    return found


def lengths(service: Service) -> dict[str, dict[str, float]]:
    """Guitar to strings, 5 to 30 seconds long: the mean of two compositions."""
    found = {}
    for seconds in (5.0, 15.0, 30.0):
        scores = [compose(HELD_OUT_FROM + 500 + number, seconds) for number in range(2)]
        source, target = (
            stack(render(ARRANGEMENTS[name], score) for score in scores)
            for name in ("nylon_guitar", "strings_quartet")
        )
        prompt = captions.PROMPTS["strings_quartet"]
        made = stack(service.edits((x.numpy(), prompt, i) for i, x in enumerate(source)))
        found[f"{seconds:g} s"] = means(compared(made, source, target)) | {
            "source_distance": means(compared(source, source, target))["distance"]
        }
    return found


def riff_score() -> Composition:
    """The example riff's notes, for rendering its true targets."""
    sys.path.insert(0, str(RIFF.parent))
    import riff

    eighth = 0.3
    lead = []
    score = riff.score()
    for index, (at, string, note, strength) in enumerate(score):
        following = [later for later, other, *_ in score[index + 1 :] if other == string]
        end = following[0] if following else 32.0
        lead.append(Note(at * eighth, end * eighth, note, strength))
    chords = tuple(
        Note(8 * bar * eighth, 8 * (bar + 1) * eighth, pitch, 0.6)
        for bar, chord in enumerate(riff.CHORDS)
        for pitch in chord[2:]
    )
    bass = tuple(
        Note((8 * bar + t) * eighth, (8 * bar + t + 2) * eighth, chord[0], 0.8)
        for bar, chord in enumerate(riff.CHORDS)
        for t in (0, 4)
    )
    return Composition(tuple(lead), chords, bass, bpm=100.0, first_bar=0.0, seconds=9.6)


def riffs(service: Service, judge: Judge | None, out: Path) -> dict[str, dict[str, float]]:
    """The riff to four classes: figures, WAV files, and a picture."""
    played, rate = soundfile.read(RIFF, dtype="float32")
    source = np.asarray(soxr.resample(played.mean(1), rate, RATE), np.float32)
    score = riff_score()
    found, pictures = {}, [("the riff", source)]
    for name in RIFF_CLASSES:
        result = service.client.transform(RIFF, prompt=captions.PROMPTS[name], seed=1)
        (out / f"riff-{name}.wav").write_bytes(result.audio)
        made = np.asarray(soxr.resample(result.waveform.mean(0), rate, RATE), np.float32)
        target = render(ARRANGEMENTS[name], score)
        length = min(len(source), len(made), len(target))
        cut = [stack([x[:length]]) for x in (made, source, target)]
        found[name] = means(compared(*cut)) | {
            "source_distance": means(compared(cut[1], cut[1], cut[2]))["distance"],
            "true_onsets": means(compared(cut[2], cut[1], cut[2]))["onsets"],
        }
        if judge is not None:
            heard = int(judge.hears(levelled(cut[0])))
            found[name]["judged"] = float(heard == CLASSES.index(name))
        pictures.append((name.replace("_", " "), made))
    draw(pictures, out / "spectrograms.png")
    return found


def draw(clips: list[tuple[str, Waveform]], path: Path) -> None:
    """Log-mel spectrograms, one above the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(clips), 1, figsize=(9, 1.55 * len(clips)), sharex=True)
    for axis, (name, x) in zip(axes, clips, strict=True):
        mel = measures.log_mel(levelled(stack([x])))[0]
        axis.imshow(
            mel, origin="lower", aspect="auto", vmin=-70, vmax=-15, cmap="magma",
            extent=(0, len(x) / RATE, 0, mel.shape[0]),
        )  # fmt: skip
        axis.set_yticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        for spine in axis.spines.values():
            spine.set_visible(False)
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def means(figures: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in figures.items()}


def summary(found: dict[str, Any]) -> dict[str, float]:
    """The figures of the edits in one line each."""
    rows, targets = found["rows"], np.array(found["target"])
    edit, source = rows["edit"], rows["source itself"]
    distance, before = np.array(edit["distance"]), np.array(source["distance"])
    better = [
        distance[targets == name].mean() < before[targets == name].mean() for name in INSTRUMENTS
    ]
    line = means(edit) | {
        "true_onsets": float(np.mean(rows["true target"]["onsets"])),
        "distance_ratio": float(distance.mean() / before.mean()),
        "instruments_nearer": float(sum(better)),
    }
    if "judged" in edit:
        line["judge_on_codec"] = float(np.mean(rows["true target through the codec"]["judged"]))
    return line


def page(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""

    def table(rows: dict[str, dict[str, float]], first: str) -> list[str]:
        names = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines = [f"| {first} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for name, row in rows.items():
            cells = (f"{row[key]:.3f}" if key in row else "" for key in names)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return [*lines, ""]

    found = report["held_out"]
    targets = np.array(found["target"])
    by_class = {
        name: {
            key: float(np.array(values)[targets == name].mean())
            for key, values in found["rows"]["edit"].items()
        }
        | {
            "source_distance": float(
                np.array(found["rows"]["source itself"]["distance"])[targets == name].mean()
            )
        }
        for name in dict.fromkeys(found["target"])
    }
    lines = [f"# Evaluation of {report['checkpoint']}", ""]
    lines += table({name: means(row) for name, row in found["rows"].items()}, "all classes")
    lines += table({"edits": report["summary"]}, "in short")
    lines += table({"codec": report["codec"]}, "round trip")
    lines += table(report["riff"], "the riff to") + table(report["lengths"], "length")
    lines += table(report["paraphrases"], "wording") + table(by_class, "target")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="training/evaluate", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--judge", type=Path, metavar="WORK", help="where training.judge kept its own"
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = open_checkpoint(given.checkpoint)
    codec = load(checkpoint).codec
    judge = None
    if given.judge:
        judge = Judge()
        judge.load_state_dict(torch.load(given.judge / "judge.pt", weights_only=True)["module"])
        judge.eval()
    source = stack(clip(HELD_OUT_FROM + 900 + i, name) for i, name in enumerate(CLASSES))
    back = round_trip(codec, source)
    report: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "seconds": SECONDS,
        "seeds": SEEDS,
        "compositions_held_out": HELD_OUT,
        "codec": {
            "log_mel_db": float(measures.log_mel_distance(source, back).mean()),
            "chroma": float(measures.chroma_correlation(source, back).mean()),
            "onsets": float(measures.onset_correlation(source, back).mean()),
        },
    }
    with Service(given.checkpoint) as service:
        report["riff"] = riffs(service, judge, given.out)
        report["lengths"] = lengths(service)
        report["paraphrases"] = paraphrases(service, judge)
        report["held_out"] = held_out(service, judge, codec)
    report["summary"] = summary(report["held_out"])
    (given.out / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    (given.out / "evaluation.md").write_text(page(report) + "\n")
    print(page(report))


if __name__ == "__main__":
    main()
