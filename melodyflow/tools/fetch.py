"""Downloads the released weights from the Hugging Face hub, verifies and converts them.

A file is downloaded as NAME.part and renamed once its checksum matches, so a file with its final
name is complete. An interrupted download resumes, also in a later run.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

LICENCE = """\
The MelodyFlow weights (facebook/melodyflow-t24-30secs, Meta) are under CC-BY-NC 4.0: no commercial
use, attribution required (https://creativecommons.org/licenses/by-nc/4.0/). They are not covered
by the licence of this code. T5 (google-t5/t5-base) is licensed under Apache-2.0."""
CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"


class FetchError(Exception):
    """A failed download. The message says what went wrong and what to do."""


@dataclass(frozen=True)
class Repository:
    """The files we need from a repository on the hub, and what we know about them."""

    name: str
    revision: str  # a commit
    files: tuple[str, ...]
    if_there: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    census: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # file: tensors, values


MELODYFLOW = Repository(
    "facebook/melodyflow-t24-30secs",
    "77bcfce24371bf29a06152c72169162c6f2791de",
    ("compression_state_dict.bin", "state_dict.bin"),
    sha256={
        "compression_state_dict.bin": (
            "c075ee7c5b13d50937d1e4f197f3e940c3f3b74207857cb0e1e17891010fdc6d"
        )
    },
    census={
        "compression_state_dict.bin": (126, 59_677_956),
        "state_dict.bin": (334, 962_425_632),
    },
)
T5 = Repository(
    "google-t5/t5-base",
    "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1",
    ("config.json", "spiece.model", "tokenizer.json", "model.safetensors"),
    if_there=("tokenizer_config.json", "special_tokens_map.json"),
    sha256={
        "model.safetensors": "a90903540cc02cbeb7ff9f823f1a80eb778c7e22426a0e620b01c77a5ec8f5b4"
    },
)


def fetch(out: Path, source: Path, *, model: Repository = MELODYFLOW, t5: Repository = T5) -> None:
    """Makes the converted checkpoint `out`; the downloaded files stay in `source`.

    Does nothing if `out` exists, and needs no network if `source` is complete. Raises FetchError,
    or CheckpointError from the conversion.
    """
    if (out / "config.json").is_file():
        say(f"{out}: already there")
        return
    download(model, source)
    download(t5, source / "t5")
    from melodyflow.tools.convert import census, convert  # torch: seconds, and only needed here

    for file, (tensors, values) in model.census.items():
        found = census(source / file)
        if found != (tensors, values):
            raise FetchError(
                f"{source / file}: {found[0]} tensors of {found[1]:,} values; "
                f"expected {tensors} of {values:,}. This is a different model."
            )
        say(f"{file}: {tensors} tensors, {values:,} values, as expected")
    say(f"{out}: converting")
    convert(source, out, t5=source / "t5", name=model.name.partition("/")[2])
    say(f"{out}: converted; {source} is no longer needed")


def download(repository: Repository, folder: Path) -> None:
    """Downloads the repository's files to `folder` and verifies the hub's checksums."""
    if all((folder / file).is_file() for file in repository.files):
        say(f"{folder}: {repository.name} is already there")
        return
    listing = _listing(repository)
    missing = [file for file in repository.files if file not in listing]
    if missing:
        raise FetchError(f"{repository.name}: the hub does not have {', '.join(missing)}")
    for file, known in repository.sha256.items():
        lfs = listing[file].lfs
        if lfs is None or lfs.sha256 != known:
            raise FetchError(
                f"{repository.name}: the hub announces {file} with sha256 "
                f"{lfs.sha256 if lfs else 'none'}; expected {known}. Nothing was downloaded."
            )
    folder.mkdir(parents=True, exist_ok=True)
    # optional files first: if the others exist, nothing is left to do
    for file in [name for name in repository.if_there if name in listing] + [*repository.files]:
        if not (folder / file).is_file():
            _download_file(repository, listing[file], folder / file)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _listing(repository: Repository) -> "dict[str, RepoSibling]":
    from huggingface_hub import HfApi

    say(f"{repository.name} at {repository.revision}")
    try:
        # no token: the files are public
        info = HfApi(endpoint=_endpoint(), token=False).model_info(
            repository.name, revision=repository.revision, files_metadata=True, timeout=60
        )
    except Exception as error:  # the HTTP client and its errors differ between hub versions
        raise FetchError(f"{repository.name}: {_reason(error)}") from error
    if info.sha != repository.revision:
        raise FetchError(
            f"{repository.name}: the hub returned revision {info.sha}, expected "
            f"{repository.revision}"
        )
    return {sibling.rfilename: sibling for sibling in info.siblings or []}


def _download_file(repository: Repository, wanted: "RepoSibling", path: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get

    size = wanted.lfs.size if wanted.lfs else wanted.size
    if size is None:
        raise FetchError(f"{repository.name}: the hub doesn't report the size of {path.name}")
    url = hf_hub_url(repository.name, path.name, revision=repository.revision, endpoint=_endpoint())
    part = path.with_name(path.name + ".part")
    there = part.stat().st_size if part.exists() else 0
    if there > size:
        part.unlink()
        there = 0
    if there:
        say(f"{path.name}: resuming at {there:,} of {size:,} bytes")
    try:
        # not hf_hub_download: it discards interrupted downloads
        with part.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=there,
                headers={"Accept-Encoding": "identity"},  # ranges count bytes of the file
                expected_size=size,
                displayed_filename=path.name,
            )
    except Exception as error:  # as above
        got = part.stat().st_size
        raise FetchError(
            f"{path.name}: interrupted at {got:,} of {size:,} bytes ({_reason(error)}); "
            "run the same command again to resume"
        ) from error
    _verify(part, wanted)
    part.rename(path)


def _verify(part: Path, wanted: "RepoSibling") -> None:
    """Deletes `part` and raises FetchError if its hash isn't the hub's: sha256 for large files,
    git's blob hash for small ones."""
    if wanted.lfs:
        expected, digest = wanted.lfs.sha256, hashlib.sha256()
    else:
        expected, digest = wanted.blob_id or "", hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {part.stat().st_size}\0".encode())
    with part.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        part.unlink()
        raise FetchError(
            f"{part.stem}: {digest.name} is {digest.hexdigest()}, expected "
            f"{expected or 'none'}; deleted. Run the same command again to retry."
        )
    say(f"{part.stem}: {digest.name} {expected} verified")


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def say(message: Any) -> None:
    print(message, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fetch_weights",
        description="Downloads the released MelodyFlow weights and T5 from the Hugging Face hub "
        "(5 GB), verifies and converts them. Resumes where an earlier run stopped, and "
        "needs no network once everything is there. Set HF_ENDPOINT to use a mirror.",
        epilog=LICENCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "out",
        type=Path,
        nargs="?",
        default=CHECKPOINTS / "melodyflow-t24-30secs",
        help="the converted checkpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=CHECKPOINTS / "sources" / "melodyflow-t24-30secs",
        help="the downloaded files (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    try:
        fetch(given.out, given.source)
    except (FetchError, OSError, ValueError) as error:
        say(f"fetch_weights: {error}")
        return 1
    except KeyboardInterrupt:
        say("fetch_weights: stopped; run the same command again to resume")
        return 130
    say(LICENCE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
