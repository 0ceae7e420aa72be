"""Puts presets.json into the wheel, from the root of the repository or from an unpacked sdist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PresetsHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout reads the root's file: no copy that could grow old
            return
        here = Path(self.root)
        candidates = [here.parent / "presets.json", here / "presets.json"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            places = " or ".join(str(path) for path in candidates)
            raise FileNotFoundError(f"presets.json is neither at {places}")
        build_data["force_include"][str(found)] = "melodyflow_client/presets.json"
