"""Signing in with a token, once: it is kept in a cookie that no script can read. And signing out."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from services.control.api.access import COOKIE, SESSION_S
from services.control.api.context import Control
from services.control.pages.frame import Frame

ACKNOWLEDGED = "bridge_privacy"
YEAR_S = 365 * 24 * 3600
UNKNOWN = "This token is not known, or it has been revoked. Check that it was copied completely, from cb_ to its end."
UNREAD = "Accept the privacy notice to continue."


def router(control: Control, frame: Frame) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    tokens = control.access.tokens

    @routes.get("/login")
    async def login_form(request: Request) -> Response:
        if tokens is None or request.state.who is not None:
            return RedirectResponse("/", 303)
        return _form(frame, request, ended="ended" in request.query_params)

    @routes.post("/login")
    async def login(request: Request) -> Response:
        if tokens is None:
            return RedirectResponse("/", 303)
        given = parse_qs((await request.body()).decode("utf-8", "replace"))
        token = given.get("token", [""])[0].strip()
        request.state.who = tokens.find(token)  # for the audit
        if request.state.who is None:
            return _form(frame, request, 401, error=UNKNOWN)
        if "privacy" not in given and ACKNOWLEDGED not in request.cookies:
            return _form(frame, request, 422, unread=UNREAD)
        secure = control.settings.https or request.url.scheme == "https"
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, token, max_age=SESSION_S, path="/", secure=secure, httponly=True, samesite="strict")
        response.set_cookie(ACKNOWLEDGED, "1", max_age=YEAR_S, path="/login", secure=secure, httponly=True, samesite="strict")
        return response

    @routes.post("/logout")
    async def logout() -> Response:
        """With a script, which sends the header that the door asks for."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    @routes.get("/favicon.ico")
    async def icon() -> FileResponse:
        return FileResponse(frame.folder / "static" / "icon.svg", media_type="image/svg+xml")

    return routes


def _form(frame: Frame, request: Request, status: int = 200, error: str = "", unread: str = "", ended: bool = False) -> HTMLResponse:
    return frame.render("login.html", status, error=error, unread=unread, ended=ended, acknowledged=ACKNOWLEDGED in request.cookies)
