"""Errors of the API as RFC 9457 problems: one shape for what we refuse, what FastAPI refuses, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bridge.model.errors import HaltError, RetryError
from services.control.models.workflow_json import Problem
from services.control.rules.validation import Finding
from services.control.systems.connections import NotAnswered

TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Content too large",
    422: "Invalid input",
    428: "Precondition required",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


class Refused(Exception):
    """A request we do not carry out, with the problem to answer."""

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[Finding] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.errors, self.headers = status, code, detail, errors, headers or {}


def not_there(exc: HaltError) -> Refused:
    """A table that was asked for by name and does not exist is a 404, not a fault of the system."""
    if exc.code in ("source_table_missing", "target_resource_missing"):
        return Refused(404, "unknown_table", str(exc))
    return Refused(503, exc.code, str(exc))


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These problems, for the OpenAPI description of an operation."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, exc: Refused) -> JSONResponse:
        request.state.refusal = exc.code
        return refusal(exc)

    @app.exception_handler(NotAnswered)
    async def not_answered(request: Request, exc: NotAnswered) -> JSONResponse:
        request.state.refusal = exc.code
        return answer(503, exc.code, str(exc))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        request.state.refusal = "invalid_input"
        findings = [Finding(_pointer(each["loc"]), each["type"], each["msg"]) for each in exc.errors()]
        return answer(422, "invalid_input", "The request does not fit the API's description.", findings)

    @app.exception_handler(HTTPException)
    async def http(_: Request, exc: HTTPException) -> JSONResponse:
        if exc.status_code == 400:  # a body that is no text at all
            return answer(422, "invalid_input", "The body is not JSON.")
        made = answer(exc.status_code, TITLES.get(exc.status_code, "error").lower().replace(" ", "_"), str(exc.detail))
        made.headers.update(exc.headers or {})
        return made

    @app.exception_handler(RetryError)
    @app.exception_handler(HaltError)
    async def away(_: Request, exc: RetryError | HaltError) -> JSONResponse:
        return answer(503, exc.code, str(exc))


def refusal(exc: Refused) -> JSONResponse:
    made = answer(exc.status, exc.code, exc.detail, exc.errors)
    made.headers.update(exc.headers)
    return made


def answer(status: int, code: str, detail: str, errors: Sequence[Finding] | None = None) -> JSONResponse:
    problem = Problem(
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        errors=None if errors is None else [{"path": e.path, "code": e.code, "message": e.message} for e in errors],
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, media_type="application/problem+json")


def _pointer(location: Sequence[int | str]) -> str:
    """Where in the body, or the parameter's name."""
    parts = location[1:] if location and location[0] == "body" else location
    return "".join(f"/{part}" for part in parts)
