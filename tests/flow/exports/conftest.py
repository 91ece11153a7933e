"""The feed of exports against the SFTP stand-in, as in tests/flow/test_export_feed.py."""

from __future__ import annotations

from tests.flow.test_export_feed import access, keys, rig, sandbox

__all__ = ["access", "keys", "rig", "sandbox"]
