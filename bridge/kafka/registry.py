"""The schema registry, by the part of Confluent's API that we need. Synchronous: it is asked at start and once per new schema id."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from bridge.http.answers import BAD_ANSWER_TRIES, is_page, is_unauthorized
from bridge.http.transport import LARGEST_ANSWER
from bridge.kafka.avro import parsed
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import HaltError, RejectError, RetryError
from bridge.model.json_text import loads

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = "BACKWARD_TRANSITIVE"
CONFLICT_WAITS_S = (0.3, 1.0)
UNKNOWN_ID = 40403
NEWS_WAIT_S = 60.0  # a registry of several instances knows a new id everywhere by then
MOST_IDS = 2**32  # an id has four bytes in front of an event


class HttpRegistry:
    """Registers our schemas and gives those of others by id. `monotonic`: seconds on a clock that is never set. `patience_s`: how long an
    id that the registry does not know may be news that has not reached the instance that answers."""

    def __init__(self, settings: KafkaSettings, monotonic: Callable[[], float] = time.monotonic, patience_s: float = NEWS_WAIT_S) -> None:
        self._url = settings.registry_url
        self._password = settings.registry_password
        self._username = settings.registry_username
        self._monotonic, self._patience_s = monotonic, patience_s
        self._schemas: dict[int, Any] = {}
        self._unknown_since: dict[int, float] = {}

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
        path = f"/subjects/{subject}/versions"
        number = self._call("POST", path, {"schema": json.dumps(schema)}).get("id")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_IDS:
            raise _away(f"POST {path}: no id in the answer")
        return number

    def schema(self, schema_id: int) -> Any:
        if schema_id not in self._schemas:
            path = f"/schemas/ids/{schema_id}"
            try:
                answer = self._call("GET", path)
            except RejectError as exc:
                raise self._not_known(schema_id, exc) from exc
            self._unknown_since.pop(schema_id, None)
            self._schemas[schema_id] = _schema(answer, f"GET {path}")
        return self._schemas[schema_id]

    def _not_known(self, schema_id: int, exc: RejectError) -> RejectError | RetryError:
        """For a while it is no fault of the record."""
        now = self._monotonic()
        if now - self._unknown_since.setdefault(schema_id, now) >= self._patience_s:
            return exc
        return RetryError(str(exc), code="registry_unavailable", status=exc.status, attempts=BAD_ANSWER_TRIES)  # only this key waits

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The JSON object of the answer."""
        answer = self._asked(method, path, body)
        if answer.status_code == 401 and self._password.reload():
            answer = self._asked(method, path, body)
        return self._answer(answer, path)

    def _asked(self, method: str, path: str, body: Any) -> httpx.Response:
        auth = httpx.BasicAuth(self._username, self._password.value()) if self._username else None
        headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
        try:
            with httpx.stream(method, self._url + path, json=body, headers=headers, auth=auth, timeout=10, trust_env=False) as answer:
                parts, size = [], 0
                for part in answer.iter_bytes():
                    size += len(part)
                    if size > LARGEST_ANSWER:
                        raise _away(f"{method} {path}: an answer of more than {LARGEST_ANSWER // 1024**2} MB")
                    parts.append(part)
        except RetryError:
            raise
        except Exception as exc:  # whatever bytes lead httpx and its parsers to, as in bridge/http/transport.py
            raise _away(type(exc).__name__) from exc
        answer._content = b"".join(parts)
        return answer

    def _answer(self, answer: httpx.Response, path: str) -> dict[str, Any]:
        """Only what the registry itself says, a JSON object, is an answer; the page of a proxy is waited out."""
        where = f"schema registry: {answer.request.method} {path} -> {answer.status_code}"
        body = _object(answer)
        match answer.status_code:
            case 200 if body is not None:
                return body
            case 401 | 403 if is_unauthorized(answer) or not is_page(answer):
                hint = "Check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD."
                raise HaltError(where, code="registry_refused", hint=hint, origin="registry", status=answer.status_code)
            case 404 if body is not None and path.startswith("/schemas/ids/") and body.get("error_code") == UNKNOWN_ID:
                raise RejectError(f"{where}: nobody registered this schema id", code="unknown_schema", stage="decode", status=404)
            case 409 | 422 if body is not None:
                hint = "The subject holds a schema this version cannot follow; was a newer version of the product here?"
                raise HaltError(where, code="schema_incompatible", hint=hint, origin="registry", status=answer.status_code)
            case 404:
                what = (
                    "not Confluent's API, or not there at the moment; if this lasts check SCHEMA_REGISTRY_URL (Apicurio: …/apis/ccompat/v7)"
                )
                raise RetryError(f"{where}: {what}", code="registry_unavailable", status=404)
            case _:
                raise RetryError(where, code="registry_unavailable", status=answer.status_code)


def _object(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        found = loads(answer.content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _schema(answer: dict[str, Any], place: str) -> Any:
    """The schema in an answer. Raises RetryError if it is none."""
    try:
        schema = json.loads(answer["schema"])
        parsed(schema)
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise _away(f"{place}: no schema in the answer") from exc
    return schema


def _away(what: str) -> RetryError:
    return RetryError(f"schema registry: {what}", code="registry_unavailable")
