"""The figures that training has noted, as curves over its minutes."""

import json
from pathlib import Path

CURVES = {
    "codec": ("mel", "convergence", "wave", "log_mel_db", "chroma", "divergence"),
    "decoder": ("log_mel_db", "chroma"),
    "text": ("loss", "held_out"),
    "flow": ("loss",),
    "judge": ("loss",),
}


def draw(work: Path, path: Path) -> None:
    """One small picture a figure, all in `path` (PNG)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    wanted = [
        (part, name, json.loads((work / f"{part}.json").read_text()))
        for part, names in CURVES.items()
        if (work / f"{part}.json").exists()
        for name in names
    ]
    rows = -(-len(wanted) // 4)
    figure, axes = pyplot.subplots(rows, 4, figsize=(12, 2.4 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, (part, name, noted) in zip(axes.flat, wanted, strict=False):
        axis.set_visible(True)
        noted = [n for n in noted if name in n]
        axis.plot([n["minute"] for n in noted], [n[name] for n in noted], linewidth=1.2)
        axis.set_title(f"{part}: {name}", fontsize=9)
        axis.set_xlabel("minutes", fontsize=8)
        axis.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
