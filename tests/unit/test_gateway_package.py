"""The gateway's distribution, and the command without and with it."""

import email
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from melodyflow_client import __version__
from melodyflow_client.cli import main
from melodyflow_client.cli.command import GROUP, AddCommand
from melodyflow_gateway.cli import add

INSTALL = 'pip install "melodyflow-client[gateway]"'


@pytest.fixture(scope="module")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", folder, root / "client", root / "gateway"], check=True, timeout=240)
    return {
        wheel.name.partition("-")[0].removeprefix("melodyflow_"): zipfile.ZipFile(wheel)
        for wheel in folder.glob("*.whl")
    }


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    [name] = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_carries_the_page(root: Path, wheels: dict[str, zipfile.ZipFile]) -> None:
    page = root / "gateway/web"
    served = [page / "index.html", *page.glob("style/*"), *page.glob("src/**/*.js")]
    assert len(served) > 30
    carried = {
        name: wheels["gateway"].read(name)
        for name in wheels["gateway"].namelist()
        if name.startswith("melodyflow_gateway/web/")
    }
    assert carried == {
        f"melodyflow_gateway/web/{file.relative_to(page)}": file.read_bytes() for file in served
    }
    assert "melodyflow_gateway/py.typed" in wheels["gateway"].namelist()


def test_the_sdk_has_no_gateway_in_it(wheels: dict[str, zipfile.ZipFile]) -> None:
    assert not [name for name in wheels["client"].namelist() if "gateway" in name]
    plain = [
        need for need in metadata(wheels["client"]).get_all("Requires-Dist", []) if ";" not in need
    ]
    assert plain
    assert not [need for need in plain if need.startswith(("fastapi", "uvicorn", "redis"))]


def test_both_are_of_one_version_and_the_extra_brings_the_gateway(
    wheels: dict[str, zipfile.ZipFile],
) -> None:
    client, gateway = metadata(wheels["client"]), metadata(wheels["gateway"])
    assert client["Version"] == gateway["Version"] == __version__
    assert f"melodyflow-client[av]=={__version__}" in gateway.get_all("Requires-Dist", [])
    extra = f"melodyflow-gateway=={__version__}; extra == 'gateway'"
    assert extra in client.get_all("Requires-Dist", [])


def test_its_entry_point_leads_to_the_command(wheels: dict[str, zipfile.ZipFile]) -> None:
    [name] = (name for name in wheels["gateway"].namelist() if name.endswith("entry_points.txt"))
    value = "melodyflow_gateway.cli:add"
    assert wheels["gateway"].read(name).decode().split("\n")[:2] == [
        f"[{GROUP}]",
        f"gateway = {value}",
    ]
    assert EntryPoint("gateway", value, GROUP).load() is add


@pytest.mark.parametrize("arguments", [[], ["--host", "0.0.0.0", "--port", "0"], ["--json"]])
def test_without_it_the_command_says_what_to_install(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gateway", *arguments], {}) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"melodyflow: gateway is not installed: {INSTALL}\n"


def test_without_it_help_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["gateway", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments, {})
        assert ended.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "the old service's API and a page for browsers, in front of a server" in text
    assert INSTALL in text


def test_a_wrong_option_is_wrong_with_it_and_of_other_commands_without(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments, plugins in (
        (["gateway", "--hots", "x"], {"gateway": add}),
        (["status", "x"], {}),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments, plugins)
        assert ended.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


def test_another_packages_command_runs_with_its_arguments() -> None:
    def add_sing(add_command: AddCommand) -> None:
        parser = add_command("sing", lambda arguments: len(arguments.song), "sing a song", "")
        parser.add_argument("song")

    assert main(["sing", "la"], {"sing": add_sing}) == 2


def test_the_command_is_light_until_it_runs() -> None:
    code = (
        "import sys, melodyflow_gateway.cli;"
        "print([m for m in ('fastapi', 'uvicorn', 'melodyflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
