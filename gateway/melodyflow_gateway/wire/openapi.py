"""The parts of the OpenAPI document that FastAPI can't see, because bodies are read by hand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from melodyflow_client.contract import SEEDS

from . import examples
from .models import SEED_HEADER, WARNINGS_HEADER, ErrorBody
from .requests import EditFields

_MEANINGS = {
    400: "A field or the audio is invalid; the message names it.",
    401: "No valid token.",
    403: "A page of another site sent the request.",
    404: "No such variation or session.",
    413: "The body is too large.",
    415: "Neither JSON nor a multipart form.",
    421: "The Host is not a name of this gateway.",
    429: "Too many edits for this token; see Retry-After.",
    500: "The gateway or the server failed.",
    503: "The server is full, starting or down; see Retry-After.",
    504: "The deadline passed.",
}
_ALWAYS = (403, 421)  # the door's
DECODE = (400, 401, 413, 415, 429, 500, 503, 504)
EDIT = (*DECODE, 404)


def errors(*codes: int, model: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route."""
    answers: dict[int | str, dict[str, Any]] = {}
    for code in sorted({*codes, *_ALWAYS}):
        # The door's answers have one form everywhere.
        body = ErrorBody if code in (*_ALWAYS, 413) else model
        example: dict[str, object] = {"error": examples.ERRORS[code]}
        if body is not ErrorBody:
            example = {"success": False, **example}
        answers[code] = {
            "model": body,
            "description": _MEANINGS[code],
            "content": {"application/json": {"example": example}},
        }
        if code in (429, 503):
            answers[code]["headers"] = {
                "Retry-After": {"description": "seconds", "schema": {"type": "integer"}}
            }
    return answers


def body(model: type[BaseModel], form: type[EditFields] | None = None) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a JSON body, or a form with the file `audio`."""
    example = examples.OF_MODEL[model.__name__]
    content: dict[str, Any] = {
        "application/json": {"schema": model.model_json_schema(), "example": example}
    }
    if form is not None:
        schema = _with_file(form, "An audio file. Required without a `duration`.")
        content["multipart/form-data"] = {"schema": schema}
    return {"requestBody": {"required": True, "content": content}}


def file_body(form: type[BaseModel]) -> dict[str, Any]:
    """The same of a route that reads a form alone, which must have the file."""
    schema = {**_with_file(form, "An audio file."), "required": ["audio"]}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def _with_file(form: type[BaseModel], description: str) -> dict[str, Any]:
    schema = form.model_json_schema()
    file = {"type": "string", "format": "binary", "description": description}
    return {**schema, "properties": {"audio": file, **schema["properties"]}}


def complete(api: FastAPI) -> None:
    """Adds examples, and removes FastAPI's answer to invalid parameters, which is a 400 here."""
    make = api.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        for methods in document["paths"].values():
            for route in methods.values():
                route["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        for name, schema in document["components"]["schemas"].items():
            if name in examples.OF_MODEL:
                schema["examples"] = [examples.OF_MODEL[name]]
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


WARNINGS_HEADER_DOC = {
    WARNINGS_HEADER: {
        "description": "What was guessed or repaired in the clip: a JSON list of sentences, in "
        "ASCII. Absent if nothing was, and with JSON answers, which have a field for it.",
        "schema": {"type": "string"},
    }
}
RESULT_HEADERS = {
    SEED_HEADER: {
        "description": "The seed that was used.",
        "schema": {"type": "integer", "minimum": 0, "maximum": SEEDS - 1},
    },
    **WARNINGS_HEADER_DOC,
}
