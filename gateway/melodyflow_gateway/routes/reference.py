"""The OpenAPI document as a page of plain HTML: no script, nothing from another host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from .pages import PAGE_HEADERS

Schema = Mapping[str, Any]

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MelodyFlow gateway: API</title>
<link rel="stylesheet" href="/static/reference.css">
</head>
<body>
<main>
<h1>{title} {version}</h1>
<p>{description}</p>
<p><a href="/openapi.json">The same as an OpenAPI document</a></p>
{routes}
</main>
</body>
</html>
"""


@router.get("/docs")
async def reference(request: Request) -> Response:
    document = request.app.openapi()
    info = document["info"]
    page = _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        description=_text(info["description"]),
        routes="\n".join(_routes(document)),
    )
    return HTMLResponse(page, headers=PAGE_HEADERS)


def _routes(document: Schema) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            yield f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p><strong>{escape(route['summary'])}.</strong></p>"
            yield f"<p>{_text(route.get('description', ''))}</p>"
            for parameter in route.get("parameters", []):
                yield f"<p><code>{escape(parameter['name'])}</code>, in the {parameter['in']}</p>"
            for kind, content in route.get("requestBody", {}).get("content", {}).items():
                yield f"<h3>Request, <code>{escape(kind)}</code></h3>"
                yield _fields(content["schema"], document)
            yield "<h3>Answers</h3>"
            for status, answer in route["responses"].items():
                yield f"<p><code>{status}</code> {escape(answer['description'])}</p>"
                schema = answer.get("content", {}).get("application/json", {}).get("schema")
                if schema and status == "200":
                    yield _fields(schema, document)
            yield "</section>"


def _fields(schema: Schema, document: Schema) -> str:
    resolved = _resolve(schema, document)
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field, document))}</td>"
        f"<td>{'needed' if name in resolved.get('required', ()) else ''}</td>"
        f"<td>{_text(field.get('description', ''))}</td></tr>"
        for name, field in resolved.get("properties", {}).items()
    ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _kind(field: Schema, document: Schema) -> str:
    """A field's type and bounds in one line."""
    field = _resolve(field, document)
    either = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
    if either:
        return " or ".join(_kind(one, document) for one in either)
    if "const" in field or "enum" in field:
        return ", ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    return " ".join([str(field.get("type", "")), *bounds])


def _resolve(schema: Schema, document: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _text(text: str) -> str:
    """Escaped; `code`, **strong**, blank lines and indented blocks become HTML."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            blocks.append(f"<pre>{escape(block)}</pre>")
            continue
        block = escape(block)
        for mark, tag in (("`", "code"), ("**", "strong")):
            parts = enumerate(block.split(mark))  # every second one stands between two marks
            block = "".join(f"<{tag}>{part}</{tag}>" if n % 2 else part for n, part in parts)
        blocks.append(block)
    return "<br><br>".join(blocks)
