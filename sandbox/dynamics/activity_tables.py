"""The activity tables: Adobe's four under guessed names, `task`, and their base `activitypointer` [contract 3.6, 7.5, 10.3]."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.dynamics.tables import APP_USER, Column, Table, choice, date, lookup, table, text

POINTER, TASK = "activitypointer", "task"
CLOSED = (1, 2)  # the states Completed and Canceled, of every activity
_STATES = ("Open", "Completed", "Canceled", "Scheduled")
_TASK_STATUS = ("Not Started", "In Progress", "Waiting on someone else", "Completed", "Canceled", "Deferred")


def activity_tables() -> dict[str, Table]:
    """Fresh definitions, by logical name."""
    tracking = text(500, "adobe_trackingurl=Tracking URL", custom=True)
    every = [
        _activity(POINTER, "Activity", 4200, length=400),
        _activity(TASK, "Task", 4212, _task_states()),
        _adobe("send", "Send", 10101, "adobe_datesent=Date Sent"),
        _adobe("open", "Open", 10102, "adobe_dateopened=Date Opened"),
        _adobe("urlclick", "URL Click", 10103, "adobe_dateclicked=Date Clicked", tracking, role="click"),
        _adobe("bounce", "Bounce", 10104, "adobe_datebounced=Date Bounced", role="bounce"),
    ]
    return {one.name: one for one in every}


def _adobe(kind: str, label: str, code: int, when: str, more: Iterable[Column] = (), role: str = "") -> Table:
    columns = [
        *text(100, "adobe_campaignname=Campaign Name, adobe_deliveryname=Delivery Name", custom=True),
        *date(when, "UserLocal", custom=True),
        *more,
        *text(500, "adobe_mirrorpageurl=Mirror Page URL", custom=True),
    ]
    return _activity(f"adobe_email{kind}", f"Adobe Campaign Email {label}", code, columns, role=role)


def _activity(name: str, label: str, code: int, columns: Iterable[Column] = (), length: int = 200, role: str = "") -> Table:
    """The base names its navigation without a suffix, all others with their own name."""
    suffix = "" if name == POINTER else f"_{name}"
    every = [
        *text(length, "subject"),
        Column("description", "Memo", "Description", length=2000),
        *date("scheduledstart=Start Date, scheduledend=Due Date, actualstart=Actual Start, actualend=Actual End", "UserLocal"),
        *choice("prioritycode=Priority", "Low", "Normal", "High", first=0, default=1),
        *lookup("regardingobjectid=Regarding", "contact", "account", nav=f"regardingobjectid_{{target}}{suffix}"),
        *lookup("ownerid=Owner", "systemuser", "team", kind="Owner", default=APP_USER, nav=f"ownerid{suffix}"),
        Column("activitytypecode", "EntityName", "Activity Type", readonly=True, default=name),
        *choice("statecode=Activity Status", *_STATES, first=0, kind="State", default=0),
        *choice("statuscode=Status Reason", *_STATES, kind="Status", states={n + 1: n for n in range(4)}, default=1),
        *columns,
    ]
    return table(name, f"{name}s", label, code, "subject", every, key="activityid", tracked=False, activity=True, role=role)


def _task_states() -> list[Column]:
    states = {2: 0, 3: 0, 4: 0, 5: 1, 6: 2, 7: 0}
    return [
        *choice("statecode=Activity Status", *_STATES[:3], first=0, kind="State", default=0),
        *choice("statuscode=Status Reason", *_TASK_STATUS, first=2, kind="Status", states=states, default=2),
    ]
