"""The Web API's routes: one call in, one answer out, whether it came alone or inside `$batch` [contract 2, 5, 7]."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.dynamics import metadata, reading, security, tracking, writing
from sandbox.dynamics.activity_tables import POINTER
from sandbox.dynamics.store import Store
from sandbox.dynamics.tables import APP_USER, ORGANIZATION, Table
from sandbox.dynamics.values import GUID
from sandbox.dynamics.wire import Answer, Call, ODataError, no_segment, query_error, unsupported

_PATH = re.compile(r"(?P<set>\w+)(?:\((?P<key>[^)]*)\))?(?:/(?P<rest>.+))?")


class Service:
    """Answers calls from a store; `unknown` is told of every path that leads nowhere, `struck` gives the answer of a fault that was
    injected for an operation of a batch."""

    def __init__(self, store: Store, unknown: Callable[[Call], None], struck: Callable[[Call], Answer | None]) -> None:
        self.store, self._unknown, self.struck = store, unknown, struck
        self.operations = 0  # answered so far

    def answer(self, call: Call) -> Answer:
        """Never raises for what a client may send: errors are answers."""
        self.operations += 1
        try:
            return self._routed(call)
        except ODataError as error:
            if error.status == 501 or (error.status, error.code) == (404, "0x8006088a"):
                self._unknown(call)
            return error.answer()

    def _routed(self, call: Call) -> Answer:
        if call.path.startswith("EntityDefinitions"):
            return metadata.answer(self.store, call)
        if call.path in ("WhoAmI", "WhoAmI()"):
            return self._who_am_i(call)
        if call.path.startswith("RetrieveTotalRecordCount("):
            return reading.total_record_count(self.store, call)
        if told := security.answer(self.store.secured, self.store.settings, call):
            return told
        found = _PATH.fullmatch(call.path)
        table = self.store.sets.get(found["set"]) if found else None
        if found is None or table is None:
            raise no_segment(found["set"] if found else call.path)
        if table.name == "organization":
            days = self.store.settings.retention_days
            self.store.data[table.name].rows[ORGANIZATION]["expirechangetrackingindays"] = days
        if table.name == POINTER and call.method != "GET":
            raise _not_allowed("GET")
        if found["key"] is None:
            return self._collection(call, table, found["rest"] or "")
        if not re.fullmatch(GUID, found["key"]):
            kind = f"Microsoft.Dynamics.CRM.{table.name}"
            raise query_error(f"The key in the request URI is not valid for resource '{kind}'.")
        return self._row(call, table, found["key"].lower(), found["rest"] or "")

    def _collection(self, call: Call, table: Table, rest: str) -> Answer:
        if rest == "$count" and call.method == "GET":
            return (tracking.count if "$deltatoken" in call.query else reading.counted)(self.store, call, table)
        if rest:
            raise unsupported(rest)
        if call.method == "GET":
            return (tracking.read if tracking.is_tracked(call) else reading.collection)(self.store, call, table)
        if call.method == "POST":
            return writing.create(self.store, call, table)
        raise _not_allowed("GET, POST")

    def _row(self, call: Call, table: Table, key: str, rest: str) -> Answer:
        if rest:
            if "/" in rest or call.method not in ("PUT", "DELETE"):
                raise unsupported(f"{call.method} of {rest}")
            return writing.put_column(self.store, call, table, key, rest)
        if call.method == "GET":
            return reading.single(self.store, call, table, key)
        if call.method in ("PATCH", "DELETE"):
            return (writing.patch if call.method == "PATCH" else writing.delete)(self.store, call, table, key)
        raise _not_allowed("GET, PATCH, DELETE")

    def _who_am_i(self, call: Call) -> Answer:
        if call.method != "GET":
            raise _not_allowed("GET")
        ids = {"BusinessUnitId": ORGANIZATION, "UserId": APP_USER, "OrganizationId": self.store.settings.organization}
        return Answer(200, {"@odata.context": f"{call.root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse", **ids})


def _not_allowed(allowed: str) -> ODataError:
    text = "Operation not supported on this resource."
    return ODataError(405, "0x80060888", text, {"Allow": allowed})
