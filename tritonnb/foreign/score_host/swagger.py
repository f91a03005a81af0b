"""The tier's description of itself, in OpenAPI 2.0, 3.0 and 3.1."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .messages import JSON, Answer

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
OBJECT = {"type": "object", "example": {}}
ERROR = {"type": "object", "properties": {"message": {"type": "string"}}}
BEARER = {
    "type": "apiKey",
    "name": "Authorization",
    "in": "header",
    "description": "Bearer, a space, and a key of the deployment",
}
WORKS, FAILS = "the result", "there is no result; the message says why"


class Swagger:
    """The documents of one script.

    Parameters
    ----------
    run
        The script's function; its schemas are described where it was decorated by inference-schema.
    folder
        Where the user may have put documents of his own: ``swagger.json``, ``swagger2.json``, ``swagger3.json``.
    """

    def __init__(self, run: Any, folder: Path) -> None:
        given, returned, versions = _schemas(run)
        self._documents: dict[str, bytes] = {}
        for version in ("2", "3", "3.1"):
            own = [folder / f"swagger{version}.json"]
            if version == "2":
                own.insert(0, folder / "swagger.json")
            if found := next((path for path in own if path.is_file()), None):
                document = json.loads(found.read_text())
            elif versions.isdisjoint(alias for alias, of in VERSIONS.items() if of == version):
                continue
            else:
                document = _second(given, returned) if version == "2" else _third(given, returned, version)
            self._documents[version] = json.dumps(document).encode()

    def answer(self, query: bytes) -> Answer:
        """Return the document of the version that a query names."""
        version = parse_qs(query.decode("latin-1")).get("version", ["2"])[0]
        supported = f"Supported versions: [{', '.join(self._documents)}]."
        if version not in VERSIONS:
            return Answer.refusal(404, f"Swagger version [{version}] is not valid. {supported}")
        if not (document := self._documents.get(VERSIONS[version])):
            supported = f"Supported swagger versions: [{', '.join(self._documents)}]."
            return Answer.refusal(
                404, f"Swagger version [{version}] is not supported for the scoring script. {supported}"
            )
        return Answer(200, document, [JSON, (b"x-ms-run-function-failed", b"False")])


def _schemas(run: Any) -> tuple[dict, dict, set[str]]:
    """Return what a script takes and returns, and which versions can say so."""
    schema = sys.modules.get("inference_schema.schema_util")
    if not schema:
        return OBJECT, OBJECT, set(VERSIONS)
    versions = set(schema.get_supported_versions(run))
    if not schema.is_schema_decorated(run):
        return OBJECT, OBJECT, versions
    return schema.get_input_schema(run), schema.get_output_schema(run), versions


def _information() -> dict[str, str]:
    name = os.environ.get("SERVICE_NAME", "ML service")
    return {
        "title": name,
        "description": f"The entry script of {name}, served by tritonnb",
        "version": os.environ.get("SERVICE_VERSION", "1.0"),
    }


def _routes(health: dict, score: dict, swagger: dict) -> dict[str, dict]:
    prefix = os.environ.get("SERVICE_PATH_PREFIX", "").strip("/")
    prefix = f"/{prefix}" if prefix else ""
    return {
        f"{prefix}/": {"get": {"operationId": "ServiceHealthCheck", "description": "Is a worker up?", **health}},
        f"{prefix}/score": {
            "post": {"operationId": "RunMLService", "description": "Calls run() with the data", **score}
        },
        f"{prefix}/swagger.json": {"get": {"operationId": "GetSwaggerSpec", "description": "This document", **swagger}},
    }


def _second(given: dict, returned: dict) -> dict[str, Any]:
    failure = {"description": FAILS, "schema": {"$ref": "#/definitions/ErrorResponse"}}

    def responses(schema, **more):
        return {"responses": {"200": {"description": WORKS, "schema": schema, **more}, "default": failure}}

    payload = {"name": "serviceInputPayload", "in": "body", "schema": {"$ref": "#/definitions/ServiceInput"}}
    version = {"name": "version", "in": "query", "required": False, "type": "integer", "enum": [2, 3]}
    return {
        "swagger": "2.0",
        "info": _information(),
        "schemes": ["http"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {"Bearer": BEARER},
        "paths": _routes(
            responses({"type": "string"}, examples={"application/json": "Healthy"}),
            {"security": [{"Bearer": []}], "parameters": [payload]}
            | responses({"$ref": "#/definitions/ServiceOutput"}),
            {"parameters": [version]} | responses({"type": "string"}),
        ),
        "definitions": {"ServiceInput": given, "ServiceOutput": returned, "ErrorResponse": ERROR},
    }


def _third(given: dict, returned: dict, version: str) -> dict[str, Any]:
    def content(schema, kind="application/json"):
        return {"content": {kind: {"schema": schema}}}

    def named(name):
        return {"$ref": f"#/components/schemas/{name}"}

    failure = {"description": FAILS} | content(named("ErrorResponse"))

    def responses(schema, kind):
        return {"responses": {"200": {"description": WORKS} | content(schema, kind), "default": failure}}

    which = {"name": "version", "in": "query", "required": False, "schema": {"type": "integer", "enum": [2, 3]}}
    return {
        "openapi": "3.1.0" if version == "3.1" else "3.0.3",
        "info": _information(),
        "security": [{"Bearer": []}],
        "paths": _routes(
            responses({"type": "string", "example": "Healthy"}, "text/plain"),
            {"security": [{"Bearer": []}], "requestBody": content(named("ServiceInput"))}
            | responses(named("ServiceOutput"), "application/json"),
            {"parameters": [which]} | responses({"type": "string"}, "text/plain"),
        ),
        "components": {
            "schemas": {"ServiceInput": given, "ServiceOutput": returned, "ErrorResponse": ERROR},
            "securitySchemes": {"Bearer": BEARER},
        },
    }
