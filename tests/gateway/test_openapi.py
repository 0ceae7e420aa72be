"""The OpenAPI document is true: requests made from it are answered as it says, never with 500."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Part
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from melodyflow.embedded import EmbeddedServer
from melodyflow_gateway.wire import models

from .conftest import PATIENCE, Running, Start, base64_of, until, wav

load_all_checks()
CONFORMANCE = CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)


@pytest.fixture(scope="module")
def generous(server: EmbeddedServer, start_gateway: Start) -> Running:
    """A gateway that does not refuse for mere number."""
    return start_gateway(server.grpc_url, server.metrics_url, EDITS_PER_MINUTE="1000000")


@pytest.fixture(scope="module")
def api(generous: Running) -> Any:
    return schemathesis.openapi.from_url(f"{generous.url}/openapi.json")


ROUTES = [
    ("POST", "/transform"),
    ("GET", "/variations"),
    ("POST", "/transform/stream"),
    ("GET", "/preview/{name}/{step}"),
    ("POST", "/decode"),
    ("POST", "/api/juce/transform_audio"),
    ("GET", "/api/juce/poll_status/{session_id}"),
    ("POST", "/api/juce/undo_transform"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/limits"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_answers_are_as_the_document_says(api: Any, method: str, path: str) -> None:
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Part.explicit, Part.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        for attempt in variants(case):
            answer = attempt.call(timeout=PATIENCE)
            # 503 and 504 are right answers to a full server and to a deadline of a microsecond.
            assert answer.status_code in (503, 504) or answer.status_code < 500, answer.text
            attempt.validate_response(answer, checks=CONFORMANCE)

    ask()


def test_polls_are_as_the_document_says_from_first_to_last(api: Any, generous: Running) -> None:
    body = {"audio_data": base64_of(wav(0.3)), "variation": "celtic", "session_id": "polled"}
    assert generous.post("/api/juce/transform_audio", json=body).status_code == 200
    case = api["/api/juce/poll_status/{session_id}"]["GET"].Case(
        path_parameters={"session_id": "polled"}
    )
    seen = set()

    def done() -> bool:
        answer = case.call(timeout=PATIENCE)
        case.validate_response(answer, checks=CONFORMANCE)
        seen.add(answer.json()["status"])
        return "completed" in seen

    assert until(done)


def test_no_route_is_left_out(api: Any) -> None:
    document = api.raw_schema["paths"]
    assert {(m.upper(), path) for path in document for m in document[path]} == set(ROUTES)


def variants(case: schemathesis.Case) -> Iterator[schemathesis.Case]:
    """A case as it was made, and again with a sound that can be edited in little time."""
    yield case
    for name in ("audio", "audio_data"):
        body = case.body
        if isinstance(body, dict) and name in body:
            form = case.media_type == "multipart/form-data"
            sound = wav(0.15) if form else base64_of(wav(0.15))
            case.body = {**body, name: sound, "steps": 2}
            yield case


def test_the_failures_of_this_test_are_found(api: Any, generous: Running) -> None:
    """The checks do check: an answer that the document does not have is a failure."""
    case = api["/health"]["GET"].Case()
    answer = case.call(headers={"Host": "evil.example"})
    answer.status_code = 418
    with pytest.raises(FailureGroup):
        case.validate_response(answer, checks=CONFORMANCE)


@pytest.mark.parametrize("path", ["/transform", "/transform/stream", "/api/juce/transform_audio"])
def test_the_document_says_what_flowstep_means(generous: Running, path: str) -> None:
    """0 = most change, towards 1 = the source is kept; the old service had it wrong."""
    document = generous.get("/openapi.json").json()
    for content in document["paths"][path]["post"]["requestBody"]["content"].values():
        said = content["schema"]["properties"]["flowstep"]["description"]
        assert re.match(r"0\b[^,]*most change\b.*\b1\b[^,]*\bkept\b", said), said
    assert "most change" in document["info"]["description"]


def test_examples_of_requests_can_be_sent_as_they_stand(generous: Running) -> None:
    document = generous.get("/openapi.json").json()
    for path in ("/transform", "/transform/stream", "/api/juce/transform_audio"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        answer = generous.post(path, json=body["example"])
        assert answer.status_code == 200, answer.text
        assert "event: error" not in answer.text


def test_answers_and_errors_have_examples_of_their_form(generous: Running) -> None:
    document = generous.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    checked = 0
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            for status, answer in route["responses"].items():
                content = answer.get("content", {}).get("application/json")
                if content is None:
                    continue
                name = content["schema"]["$ref"].rpartition("/")[2]
                example = content.get("example") or schemas[name]["examples"][0]
                model = getattr(models, name)
                assert model.model_validate(example), (path, method, status)
                assert example.keys() <= model.model_fields.keys()
                checked += 1
    assert checked > 50
