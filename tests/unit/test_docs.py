"""The documents name what the code has, all of it and nothing else, and their links lead
somewhere."""

import re
from pathlib import Path
from typing import Any

import pytest

from melodyflow.contract import INPUTS, REQUEST, TRITONS_OWN
from melodyflow.serving.metrics import OUTCOMES, Metrics
from melodyflow.serving.settings import PREFIX, Settings
from melodyflow_client import EditOptions, GenerateOptions

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "client/README.md",
    ROOT / "gateway/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CONTRACT = (ROOT / "docs/contract.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
CONFIG = (ROOT / "model_repository/melodyflow/config.pbtxt").read_text()

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level or a higher one."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, title
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """Cells of the tables of a text whose first cell is a name in backticks; those taken off."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in line] for line in lines]


def tensors(kind: str) -> dict[str, tuple[str, str]]:
    """Name -> type and shape on the wire, of config.pbtxt's inputs or outputs."""
    block = re.search(rf"^{kind} \[\n(.*?)\n\]", CONFIG, re.MULTILINE | re.DOTALL)
    assert block
    found = re.findall(r'name: "(\w+)" +data_type: TYPE_(\w+) +dims: \[ (\d) \]', block[1])
    return {
        name: (datatype.replace("STRING", "BYTES"), f"[1,{dims}]") for name, datatype, dims in found
    }


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("title", "kind"), [("Inputs", "input"), ("Responses", "output")])
def test_the_contract_has_the_models_tensors(title: str, kind: str) -> None:
    written = {row[0]: (row[1], row[2]) for row in rows(section(CONTRACT, title))}
    assert written == tensors(kind)


def test_the_contract_has_the_inputs_and_parameters_that_are_read() -> None:
    assert tuple(row[0] for row in rows(section(CONTRACT, "Inputs"))) == tuple(INPUTS)
    parameters = section(CONTRACT, "Parameters")
    assert tuple(row[0] for row in rows(parameters)) == REQUEST
    assert re.findall(r"^- `(\w+)`", parameters, re.MULTILINE) == ["id", "priority", "timeout"]
    assert set(TRITONS_OWN) == {"id", "priority", "timeout"}


def test_operations_has_every_setting_with_its_default() -> None:
    written = {row[0]: (row[1], row[2]) for row in rows(section(OPERATIONS, "Settings"))}
    stated = dict(re.findall(r'key: "(\w+)" +value \{ string_value: "([^"]*)"', CONFIG))
    assert written.keys() == Settings.__dataclass_fields__.keys()
    assert written == {
        name: (PREFIX + name.upper(), value or "(needed)") for name, value in stated.items()
    }


def test_operations_has_the_queue_as_it_is_configured() -> None:
    queue = section(OPERATIONS, "Queue, slots, priorities, timeouts")
    for name, value in (row[:2] for row in rows(queue)):
        assert re.search(rf"^ *{name}: {value}$", CONFIG, re.MULTILINE), name


class PbUtils:
    """Notes the metrics that are made: name -> kind, labels and their values."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, dict[str, set[str]]]] = {}
        made = self.made

        class MetricFamily:
            COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

            def __init__(self, name: str, description: str, kind: str) -> None:
                self.labels: dict[str, set[str]] = {}
                made[name] = (kind, self.labels)

            def Metric(self, labels: dict[str, str], **_: Any) -> None:
                for label, value in labels.items():
                    self.labels.setdefault(label, set()).add(value)

        self.MetricFamily = MetricFamily


def test_operations_has_every_metric_with_its_labels() -> None:
    pb_utils = PbUtils()
    metrics = Metrics(pb_utils, "melodyflow_0_0", lambda action: None)
    metrics.checkpoint(name="name", sha256="sha256", licence="licence", precision="precision")
    for _, labels in pb_utils.made.values():
        assert labels.pop("model_instance") == {"melodyflow_0_0"}  # which is said for all of them
    made = {
        name + (f"{{{','.join(labels)}}}" if labels else ""): kind
        for name, (kind, labels) in pb_utils.made.items()
    }
    table = rows(section(OPERATIONS, "Metrics"))
    assert {row[0]: row[1] for row in table if row[0].startswith("melodyflow_")} == made
    meanings = {row[0].partition("{")[0]: row[2] for row in table}
    for name, (_, labels) in pb_utils.made.items():
        for label, values in labels.items():
            assert values in ({label}, set(re.findall(r"`(\w+)`", meanings[name])))
    assert pb_utils.made["melodyflow_edits_total"][1]["outcome"] == set(map(str, OUTCOMES))


def test_the_readme_has_every_option_of_an_edit() -> None:
    from melodyflow_client.cli.parser import build_parser

    options = EditOptions.__annotations__ | GenerateOptions.__annotations__
    written = {}
    for row in rows(section((ROOT / "README.md").read_text(), "Parameters")):
        names = re.findall(r"\w+", row[0])
        written |= dict(zip(names, re.findall(r"[\w-]+", row[1]), strict=True))
    assert written.keys() == options.keys()
    assert [*INPUTS][2:-1] == [name for name in INPUTS if name in options]
    for name, option in written.items():
        value = [] if name in ("new_take", "metadata", "loop") else ["1"]
        generate = ["generate", "--duration", "1"]
        command = generate if name == "duration" else ["transform", "in.wav"]
        build_parser({}).parse_args([*command, option, *value])


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pages
def test_scripts_and_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"(?<![\w/])((?:scripts|docs|tests|examples|melodyflow)/[\w./]*\w)", page.read_text()
    )
    for path in named:
        assert (ROOT / path).exists(), path


@pages
def test_flowsteps_direction_is_said_wherever_it_is_explained(page: Path) -> None:
    text = page.read_text()
    if "`flowstep`" in text or "flowstep:" in text:
        assert "0 = most change, towards 1 = the source is kept" in text
