"""training/run: from nothing to a checkpoint, within a budget of minutes."""

import argparse
import json
from pathlib import Path

import torch

from training import codec, data, flow, judge, plots, text
from training.export import export

# Of the minutes.
SHARES = {"codec": 0.4, "decoder": 0.1, "text": 0.1, "flow": 0.35, "judge": 0.05}
MOST = 1200  # compositions: 3.4 GB
A_MINUTE = 15  # of them, where the run is short: it could not hear more


def main() -> None:
    parser = argparse.ArgumentParser(prog="training/run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=180.0, help="of training proper (180)")
    parser.add_argument(
        "--work", type=Path, default=Path("out/training"), help="state; goes on with it"
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="the checkpoint")
    parser.add_argument(
        "--compositions", type=int, help=f"rendered ({A_MINUTE} a minute, at most {MOST}: 3.4 GB)"
    )
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    minutes = {name: share * given.minutes for name, share in SHARES.items()}
    if not (given.work / "audio.npy").exists():
        few = max(2 * data.HELD_OUT, min(MOST, round(A_MINUTE * given.minutes)))
        data.make(given.work, given.compositions or few)
    trained_codec = codec.train(given.work, minutes["codec"], device)
    trained_codec = codec.refine(given.work, trained_codec, minutes["decoder"], device)
    trained_text = text.train(given.work, minutes["text"], device)
    trained_flow = flow.train(given.work, trained_codec, trained_text, minutes["flow"], device)
    export(trained_codec, trained_text, trained_flow, given.out)
    judge.train(given.work, trained_codec.cpu(), minutes["judge"])
    plots.draw(given.work, given.out / "training.png")
    record = {"minutes": minutes, "device": device, "threads": torch.get_num_threads()}
    (given.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{given.out}: made. Next: training/evaluate {given.out} --judge {given.work} -o DIR")


if __name__ == "__main__":
    main()
