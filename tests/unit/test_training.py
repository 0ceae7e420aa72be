"""Training end to end in seconds: not good music, but a checkpoint that the service takes."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from melodyflow.edit import Parameters, edit
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow_client import measures as client
from training import captions, codec, compositions, data, flow, judge, measures, plots, text
from training.export import export

HELD_OUT = 6  # in place of 60


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "HELD_OUT", HELD_OUT)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of tones: 16 compositions of two classes, the last HELD_OUT held out."""
    folder = tmp_path_factory.mktemp("training")
    samples = round(data.SECONDS * data.RATE)
    time = np.arange(samples) / data.RATE
    labels = [(seed, label) for seed in range(10 + HELD_OUT) for label in (0, 1)]
    tones = [
        0.2 * np.sin(2 * np.pi * 220 * 2 ** (seed % 12 / 12) * (1 + label) * time)
        for seed, label in labels
    ]
    np.save(folder / "audio.npy", np.asarray(np.array(tones) * 32767, np.int16))
    seed, label = np.array(labels).T
    np.savez(folder / "clips.npz", seed=seed, label=label, compositions=10 + HELD_OUT)
    return folder


def test_training_makes_a_checkpoint_that_edits(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "CHECKED", 4)
    monkeypatch.setattr(flow, "PROMPTS", 2)
    monkeypatch.setattr(data, "CLASSES", data.CLASSES[:2])
    monkeypatch.setattr(flow, "CLASSES", data.CLASSES)
    seconds = 0.4 / 60
    trained_codec = codec.train(work, 2 * seconds)
    trained_text = text.train(work, 2 * seconds)
    trained_flow = flow.train(work, trained_codec, trained_text, 2 * seconds)
    out = tmp_path / "checkpoint"
    export(trained_codec, trained_text, trained_flow, out)

    model = load(open_checkpoint(out, verify=True))
    clip = torch.from_numpy(np.load(work / "audio.npy")[0, : data.RATE].astype(np.float32) / 32768)
    made = edit(model, clip[None], Parameters("piano", seed=1, steps=2, guidance=2.0))
    assert made.isfinite().all()
    assert made.abs().max() > 0

    listener = judge.train(work, trained_codec, seconds, count=4)
    assert listener.hears(clip[None]).shape == (1,)
    plots.draw(work, tmp_path / "training.png")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")

    # A second run of the same folder goes on where the first one ended, and has nothing to do.
    steps = json.loads((work / "codec.json").read_text())[-1]["step"]
    again = codec.train(work, 2 * seconds)
    assert json.loads((work / "codec.json").read_text())[-1]["step"] == steps
    for one, other in zip(again.parameters(), trained_codec.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_codec_learns(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "CHECKED", 4)
    for name in ("audio.npy", "clips.npz"):
        (tmp_path / name).symlink_to(work / name)
    codec.train(tmp_path, 1 / 60)
    codec.train(tmp_path, 8 / 60)
    first, *_, last = json.loads((tmp_path / "codec.json").read_text())
    assert last["log_mel_db"] < first["log_mel_db"]


def test_compositions_repeat_and_differ() -> None:
    assert compositions.compose(5, 5.12) == compositions.compose(5, 5.12)
    assert compositions.compose(5, 5.12) != compositions.compose(6, 5.12)
    for seed in range(50):
        made = compositions.compose(seed, 5.12)
        assert made.lead
        assert all(0 <= note.start < made.seconds < 6 for note in made.lead)
        assert all(note.end > note.start and 20 < note.pitch < 110 for note in made.lead)


def test_every_variation_has_an_arrangement_and_words_of_its_own() -> None:
    assert set(data.CLASSES) == set(captions.PHRASES)
    assert set(captions.presets()) < set(data.CLASSES)
    assert set(captions.HELD_OUT) == set(captions.PHRASES)
    known = [*captions.PHRASES.values(), *captions.HELD_OUT.values()]
    everything = [phrase for phrases in known for phrase in phrases]
    assert len(set(everything)) == len(everything)


def test_no_training_prompt_has_all_the_words_of_a_held_out_wording() -> None:
    rng = random.Random(0)
    for name in data.CLASSES:
        for _ in range(300):
            made = set(captions.recombined(name, rng).split())
            assert not any(
                set(wording.replace(",", "").split()) <= made for wording in captions.HELD_OUT[name]
            )


def test_measures_know_the_same_from_another() -> None:
    time = torch.arange(5 * data.RATE) / data.RATE
    beats = (torch.sin(2 * torch.pi * 440 * time) * (time % 0.5 < 0.25))[None] * 0.3
    faster = (torch.sin(2 * torch.pi * 440 * time) * (time * 1.03 % 0.5 < 0.25))[None] * 0.3
    nearly = (torch.sin(2 * torch.pi * 440 * time) * (time * 1.01 % 0.5 < 0.25))[None] * 0.3
    octave = (torch.sin(2 * torch.pi * 880 * time) * (time % 0.5 < 0.25))[None] * 0.3
    third = (torch.sin(2 * torch.pi * 554 * time) * (time % 0.5 < 0.25))[None] * 0.3
    assert measures.chroma_correlation(beats, octave) > 0.95
    assert measures.chroma_correlation(beats, third) < 0.6
    assert measures.onset_correlation(beats, third) > 0.9
    assert measures.onset_correlation(beats, faster) < 0.5
    kept = [measures.tempo_kept(beats, other) for other in (beats, third, nearly, faster)]
    assert kept == [1, 1, 1, 0]
    assert measures.log_mel_distance(beats, beats) == 0
    noise = 0.1 * torch.randn(1, data.RATE, generator=torch.Generator().manual_seed(0))
    assert measures.log_mel_distance(noise, 2 * noise) == pytest.approx(20 * np.log10(2), abs=1e-3)


def test_the_spectrograms_with_gradients_are_those_of_the_figures() -> None:
    assert data.RATE == client.RATE
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, data.RATE, generator=rng) * torch.tensor([[0.3], [1e-5]])
    for size, hop, bands in ((1024, 256, 64), (512, 256, 40)):
        for batched, x in zip(measures.log_mel(noise, size, hop, bands), noise, strict=True):
            single = torch.from_numpy(client.log_mel(x.numpy(), size, hop, bands))
            torch.testing.assert_close(batched, single, atol=2e-3, rtol=0)


def test_rendering_plays_every_arrangement() -> None:
    pytest.importorskip("fluidsynth", reason="libfluidsynth is not there")
    pytest.importorskip("pedalboard")
    if not any(path.is_file() for path in data.SOUNDFONTS):
        pytest.skip("fluid-soundfont-gm is not there")
    for name in data.CLASSES:
        x = data.clip(3, name, 2.0)
        assert x.shape == (2 * data.RATE,)
        assert np.isfinite(x).all()
        assert 0.02 < np.sqrt(np.mean(x**2)) < 0.2, name
