"""A stand-in for Microsoft Dynamics 365: the part of the Dataverse Web API v9.2 that the product uses."""

from sandbox.dynamics.server import DynamicsSandbox
from sandbox.dynamics.settings import Settings

__all__ = ["DynamicsSandbox", "Settings"]
