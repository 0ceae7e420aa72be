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
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("*/README.md")),
    ROOT / "checkpoints/demo/README.md",
    ROOT / "examples/gary/README.md",
    ROOT / "tests/data/parity/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# Where a path in a document may begin, and the paths that are only there once a command has run.
FOLDERS = (
    "checkpoints",
    "client",
    "contract",
    "deploy",
    "docs",
    "examples",
    "gateway",
    "melodyflow",
    "model_repository",
    "scripts",
    "tests",
    "training",
)
MADE_LATER = ("checkpoints/melodyflow-t24-30secs", "client/dist", "gateway/dist")
EXPLAINS_FLOWSTEP = ("contract", "gateway", "migration", "model", "options")
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


def make_metrics() -> PbUtils:
    pb_utils = PbUtils()
    metrics = Metrics(pb_utils, "melodyflow_0_0", lambda action: None)
    metrics.checkpoint(name="name", sha256="sha256", licence="licence", precision="precision")
    return pb_utils


def made_metrics() -> dict[str, str]:
    """The model's metrics: name -> kind."""
    return {name: kind for name, (kind, _) in make_metrics().made.items()}


def test_operations_has_every_metric_with_its_labels() -> None:
    pb_utils = make_metrics()
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


def test_the_options_are_all_there_and_the_command_takes_them() -> None:
    from melodyflow_client.cli.parser import build_parser

    options = EditOptions.__annotations__ | GenerateOptions.__annotations__
    written = {}
    for row in rows((ROOT / "docs/options.md").read_text()):
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
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)", page.read_text())
    for path in named:
        assert path.startswith(MADE_LATER) or (ROOT / path).exists(), path


def test_walks_name_functions_that_are_there() -> None:
    walks = section((ROOT / "docs/architecture.md").read_text(), "Walks")
    steps = re.findall(r"^\| \w+ \| `([^`]+\.py)`(?: \(([^)|]*)\))? \|", walks, re.MULTILINE)
    assert len(steps) > 20
    for file, names in steps:
        code = (ROOT / file).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            for part in name.split("."):
                assert re.search(rf"^ *(?:async )?(?:def|class) {part}\b", code, re.MULTILINE), (
                    file,
                    name,
                )


def test_the_code_cites_pages_and_sections_that_are_there() -> None:
    cited = 0
    for file in (*ROOT.glob("melodyflow/**/*.py"), *ROOT.glob("*/melodyflow_*/**/*.py")):
        text = " ".join(file.read_text().split())
        for page, title in re.findall(r'(docs/\w+\.md)(?:, (?:from )?"([^"]+)")?', text):
            cited += 1
            assert (ROOT / page).exists(), file
            assert not title or section((ROOT / page).read_text(), title), (file, title)
    assert cited >= 5


@pytest.mark.parametrize(
    "page", ["README.md", "client/README.md", *(f"docs/{name}.md" for name in EXPLAINS_FLOWSTEP)]
)
def test_flowsteps_direction_is_said_where_it_is_explained(page: str) -> None:
    text = (ROOT / page).read_text()
    assert re.search(r"\b0\b[^.|]*\bmost change\b[^.|]*\b1\b[^.|]*\bsource\b[^.|]*\bkept\b", text)
