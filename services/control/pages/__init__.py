"""The pages people work with: server-rendered frames, filled by ES modules that use the REST API. No build step."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from services.control.api.context import Control
from services.control.pages import routes, sign_in
from services.control.pages.frame import Frame


class Checked(StaticFiles):
    """A browser asks whether its copy is still the one there is, so that a new version is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def install(app: FastAPI, control: Control) -> None:
    frame = Frame(control.settings, control.access)
    app.mount("/static", Checked(directory=frame.folder / "static"), name="static")
    app.include_router(sign_in.router(control, frame))
    app.include_router(routes.router(frame))
