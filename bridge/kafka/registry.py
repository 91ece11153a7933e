"""The schema registry, by the part of Confluent's API that we need. Synchronous: it is asked at start and once per new schema id."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from bridge.errors import HaltError, RejectError, RetryError
from bridge.settings import KafkaSettings

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = "BACKWARD_TRANSITIVE"
CONFLICT_WAITS_S = (0.3, 1.0)


class HttpRegistry:
    """Registers our schemas and gives those of others by id."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._url = settings.registry_url
        self._password = settings.registry_password
        self._username = settings.registry_username
        self._schemas: dict[int, Any] = {}

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        for wait_s in CONFLICT_WAITS_S:
            try:
                return self._register(subject, schema)
            except HaltError as exc:  # two instances that start together conflict as well (Apicurio answers 409 to the second)
                if exc.code != "schema_incompatible":
                    raise
                time.sleep(wait_s)
        return self._register(subject, schema)

    def _register(self, subject: str, schema: dict[str, Any]) -> int:
        self._call("PUT", f"/config/{subject}", {"compatibility": COMPATIBILITY})
        return int(self._call("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(schema)})["id"])

    def schema(self, schema_id: int) -> Any:
        if schema_id not in self._schemas:
            self._schemas[schema_id] = json.loads(self._call("GET", f"/schemas/ids/{schema_id}")["schema"])
        return self._schemas[schema_id]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._asked(method, path, body)
        if answer.status_code == 401 and self._password.reload():
            answer = self._asked(method, path, body)
        return self._answer(answer, path)

    def _asked(self, method: str, path: str, body: Any) -> httpx.Response:
        auth = httpx.BasicAuth(self._username, self._password.value()) if self._username else None
        try:
            headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
            return httpx.request(method, self._url + path, json=body, headers=headers, auth=auth, timeout=10, trust_env=False)
        except httpx.TransportError as exc:
            raise RetryError(f"schema registry: {type(exc).__name__}", code="registry_unavailable") from exc

    def _answer(self, answer: httpx.Response, path: str) -> Any:
        where = f"schema registry: {answer.request.method} {path} -> {answer.status_code}"
        match answer.status_code:
            case 200:
                try:
                    return answer.json()
                except ValueError as exc:
                    raise RetryError(f"{where}: not JSON", code="registry_unavailable") from exc
            case 404 if path.startswith("/schemas/ids/"):
                raise RejectError(f"{where}: nobody registered this schema id", code="unknown_schema", stage="decode")
            case 401 | 403:
                hint = "Check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD."
                raise HaltError(where, code="registry_refused", hint=hint, origin="registry", status=answer.status_code)
            case 409 | 422:
                hint = "The subject holds a schema this version cannot follow; was a newer version of the product here?"
                raise HaltError(where, code="schema_incompatible", hint=hint, origin="registry", status=answer.status_code)
            case 404:
                hint = "Check SCHEMA_REGISTRY_URL: it must lead to Confluent's API (Apicurio: …/apis/ccompat/v7)."
                raise HaltError(where, code="registry_refused", hint=hint, origin="registry", status=404)
            case _:
                raise RetryError(where, code="registry_unavailable", status=answer.status_code)
