"""Run by another commit's code, which is on its path: python earlier.py FOLDER.

Of each file of the folder, what the server of that commit reads of what its SDK sends: N.npy,
float32 `[channels, samples]`, and N.json, its rate, or why there is nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from melodyflow.audio import AudioError, Limits, read
from melodyflow_client import AudioError as NotLoaded
from melodyflow_client.audio import load

for file in Path(sys.argv[1]).glob("*.file"):
    try:
        clip = load(file.read_bytes())
        sound = read(clip.data, Limits(), model_rate=48_000, max_model_samples=48_000 * 600)
        np.save(file.with_suffix(".npy"), sound.samples)
        said: dict[str, object] = {"rate": sound.sample_rate}
    except (AudioError, NotLoaded) as error:
        said = {"refused": str(error)}
    except Exception as error:
        said = {"failed": f"{type(error).__name__}: {error}"}
    file.with_suffix(".json").write_text(json.dumps(said))
