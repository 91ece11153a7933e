"""What the consent guard holds, of ingress and of Opt In/Out: listed, released, discarded; decisions with what came of them."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.kafka.partitioner import partition_for
from bridge.kafka.settings import KafkaSettings
from services.control.rules import actions
from services.control.rules.actions import By
from tests.contract.broker import content, eventually, latest
from tests.contract.consenting import Bench, consenting, decided
from tests.unit.control_app import AT, bearer


def key() -> str:
    return str(uuid.uuid4())


@pytest.fixture
async def bench(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Bench]:
    async with consenting(kafka_settings, tmp_path) as made:
        yield made


async def test_held_items_tell_kind_flags_rule_and_what_both_systems_said(bench: Bench) -> None:
    ada, car = key(), key()
    release = await bench.held("ingress", ada)
    delete = await bench.held_delete(car, "new_vehicle")

    found = await bench.get("ingress/held")

    assert (found["total"], found["next"]) == (2, None)
    first, second = found["items"]
    assert {name: first[name] for name in ("id", "kind", "table", "key", "target", "flags", "rule")} == {
        "id": release,
        "kind": "release",
        "table": "contact",
        "key": ada,
        "target": "campaign",
        "flags": ["blackListEmail"],
        "rule": "campaign-is-later",
    }
    assert first["words"] == {
        "blackListEmail": {
            "campaign": True,
            "campaign_changed_at": "2026-03-01T10:00:00Z",
            "campaign_from": "d365_optout_1.csv row 12",
            "dynamics": False,
            "dynamics_changed_at": None,
            "dynamics_from": "version 915244",
        }
    }
    assert (second["id"], second["kind"], second["table"], second["key"]) == (delete, "delete", "new_vehicle", car)
    assert (second["flags"], second["rule"], second["words"]) == (["delete"], "filtered-out", {})
    assert (await bench.get("optin/held"))["items"] == []
    assert [(await bench.get(each))["backlog"]["held"] for each in ("ingress", "optin", "egress")] == [2, 0, 0]


async def test_held_items_come_by_page(bench: Bench) -> None:
    ids = [await bench.held("optin", key()) for _ in range(3)]

    first = await bench.get("optin/held?limit=2")
    rest = await bench.get(f"optin/held?limit=2&after={first['next']}")

    assert [each["id"] for each in first["items"] + rest["items"]] == ids
    assert (first["total"], rest["next"]) == (3, None)


async def test_a_released_item_of_ingress_goes_to_the_writer_in_the_partition_of_its_key(bench: Bench) -> None:
    ada, car = key(), key()
    release, delete = await bench.held("ingress", ada), await bench.held_delete(car, "new_vehicle")

    assert await bench.settle("ingress", "release", all=True) == {"released": 2, "discarded": 0, "skipped": 0}

    ((number, found, event, headers),) = await bench.changes()
    assert (number, found) == (partition_for(ada.encode(), 3), ada)
    assert (event.table, event.key, event.op, event.lane, event.version, dict(event.fields)) == ("contact", ada, "upsert", "live", None, {})
    told = {name: headers[name] for name in ("guard", "kind", "flags", "held")}
    assert told == {"guard": "released", "kind": "release", "flags": "blackListEmail", "held": release}
    ((number, found, event, headers),) = await bench.changes("new_vehicle")
    assert (number, found, event.table) == (partition_for(car.encode(), 3), car, "new_vehicle")
    assert (headers["kind"], headers["flags"], headers["held"]) == ("delete", "delete", delete)
    assert await bench.items() == []
    assert (await bench.get("ingress/decisions"))["decisions"][0]["outcome"] == "released"


async def test_what_is_released_twice_is_published_once(bench: Bench) -> None:
    id = await bench.held("ingress", key())

    first = await bench.settle("ingress", "release", ids=[id])
    second = await bench.settle("ingress", "release", ids=[id])

    assert (first["released"], second["released"], second["skipped"]) == (1, 0, 1)
    assert len(await bench.changes()) == 1


async def test_another_instance_of_control_that_has_not_heard_of_the_first_ones_release_publishes_nothing(bench: Bench) -> None:
    id = await bench.held("ingress", key())
    mark = actions.settle_held("ingress", "discarded", {id: []}, By("bert", None, AT), "elsewhere")
    await bench.store.run(mark)
    bench.decisions._db.execute("DELETE FROM marks")
    bench.decisions._counts.clear()

    assert await bench.settle("ingress", "release", ids=[id]) == {"released": 0, "discarded": 0, "skipped": 1}
    assert await bench.changes() == []


async def test_a_released_item_of_optin_is_published_again_marked_so(bench: Bench) -> None:
    ada = key()
    id = await bench.held("optin", ada)

    await bench.settle("optin", "release", contacts=[ada.upper()])

    held, released = sorted((each for each in content(bench.kafka, "optin.decisions")), key=lambda each: each.offset() or 0)
    assert (held.value(), held.key(), held.partition()) == (released.value(), released.key(), released.partition())
    assert dict(released.headers() or [])["guard"] == b"released"
    assert await bench.changes() == []
    marks = {name: mark for name, mark in latest(bench.kafka, "control.workflows").items() if name.startswith("optin/held/")}
    assert [(mark["action"], mark["ids"]) for mark in marks.values()] == [("released", [id])]


async def test_only_what_was_chosen_is_settled_and_the_rest_is_counted_as_passed_over(bench: Bench) -> None:
    ada, bob = key(), key()
    of_ada, of_bob = await bench.held("ingress", ada), await bench.held("ingress", bob)
    of_optin = await bench.held("optin", ada)

    assert await bench.settle("ingress", "discard", ids=[of_ada, "2-999999"]) == {"released": 0, "discarded": 1, "skipped": 1}
    assert await bench.settle("ingress", "discard", contacts=[key()]) == {"released": 0, "discarded": 0, "skipped": 0}

    assert (await bench.items(), await bench.items("optin")) == ([of_bob], [of_optin])
    assert await bench.changes() == []


async def test_contacts_are_contacts_and_no_records_of_other_tables(bench: Bench) -> None:
    same = key()
    person, car = await bench.held_delete(same), await bench.held_delete(same, "new_vehicle")

    await bench.settle("ingress", "discard", contacts=[same])

    assert person not in await bench.items() and await bench.items() == [car]


async def test_an_item_whose_table_has_no_topic_stays_held_and_holds_up_nothing(bench: Bench) -> None:
    gone, there = await bench.held_delete(key(), "new_gone"), await bench.held("ingress", key())

    assert await bench.settle("ingress", "release", all=True) == {"released": 1, "discarded": 0, "skipped": 1}

    assert there not in await bench.items() and await bench.items() == [gone]


VOID = [
    {"flags": "blackListEmail", "outcome": "kept"},
    {"flags": "blackListEmail", "outcome": "executed"},
    {"flags": "", "outcome": "voided", "voids": "release"},
]


@pytest.mark.parametrize("headers", VOID)
async def test_an_item_that_is_decided_again_or_made_void_is_not_held_any_more(bench: Bench, headers: dict[str, str]) -> None:
    ada = key()
    mail, fax = await bench.held("ingress", ada), await bench.held("ingress", ada, "blackListFax")
    delete, other = await bench.held_delete(ada), await bench.held("ingress", key())
    assert await bench.items() == [mail, fax, delete, other]

    await bench.decided("ingress", decided(ada), **headers)

    left = [delete, other] if headers.get("voids") else [fax, delete, other]
    assert await bench.items() == left
    shown = {each["id"]: each["outcome"] for each in (await bench.get("ingress/decisions"))["decisions"]}
    assert (shown[mail], shown[delete]) == ("voided", "held")
    assert (await bench.settle("ingress", "release", ids=[mail]))["released"] == 0


@pytest.mark.parametrize("headers", [{"flags": "delete", "outcome": "executed"}, {"flags": "", "outcome": "voided", "voids": "delete"}])
async def test_a_delete_that_was_carried_out_or_made_void_is_not_held_any_more(bench: Bench, headers: dict[str, str]) -> None:
    ada = key()
    release, _ = await bench.held("ingress", ada), await bench.held_delete(ada)

    await bench.decided("ingress", decided(ada), **headers)

    assert await bench.items() == [release]


@pytest.mark.parametrize("header", ["parked-since", "dlq.redriven"])
async def test_an_older_decision_that_is_published_again_makes_no_held_item_void(bench: Bench, header: str) -> None:
    """It waited for a profile, or was a dead letter."""
    contact = key()
    first = await bench.decided("optin", decided(contact, "dynamics"))
    held = await bench.held("optin", contact)

    again = await bench.decided("optin", decided(contact, "dynamics"), **{header: "1", "parked-from": first})

    assert await bench.items("optin") == [held]
    last = [(each.id, f"{each.part}-{each.last_at}") for each in await bench.decisions.page("optin", contact, None, 10)]
    assert (first, again if header == "parked-since" else first) in last
    listed = [each["id"] for each in (await bench.get(f"optin/decisions?contact={contact}"))["decisions"]]
    assert listed == ([held, first] if header == "parked-since" else [again, held, first])


async def test_of_an_item_with_two_flags_only_the_one_that_is_still_held_is_released(bench: Bench) -> None:
    ada = key()
    await bench.decided("ingress", decided(ada), guard="held", kind="release", flags="blackListEmail,blackListFax")
    await bench.decided("ingress", decided(ada), flags="blackListEmail", outcome="written")

    assert [each["flags"] for each in (await bench.get("ingress/held"))["items"]] == [["blackListFax"]]
    await bench.settle("ingress", "release", all=True)

    assert [headers["flags"] for *_, headers in await bench.changes()] == ["blackListFax"]


async def test_decisions_tell_what_came_of_them_when_it_was_written_and_with_which_answer(bench: Bench) -> None:
    ada = key()
    first = await bench.decided("optin", decided(ada, "dynamics", "donotemail"))
    await bench.came_of(ada, first)
    await bench.came_of(ada, first, "unchanged", None)  # it came again after a crash
    second = await bench.decided("optin", decided(ada, "campaign"))
    await bench.came_of(ada, second, "dead_lettered", 400)
    mine = await bench.decided("ingress", decided(ada), outcome="written", status="200", origin="version 915244")
    await bench.decided("ingress", decided(ada), outcome="kept", status="", origin="version 915245")

    of_optin = {each["id"]: each for each in (await bench.get(f"optin/decisions?contact={ada}"))["decisions"]}
    kept, written = (await bench.get(f"ingress/decisions?contact={ada.upper()}"))["decisions"]

    facts = ("outcome", "status", "written_at")
    assert [of_optin[first][name] for name in facts] == ["written", 204, "2026-03-01T10:00:05Z"]
    assert [of_optin[second][name] for name in facts] == ["dead_lettered", 400, None]
    assert of_optin[first]["inputs"]["donotemail"]["campaign_from"] == "d365_optout_1.csv row 12"
    assert (written["id"], written["outcome"], written["status"], written["origin"]) == (mine, "written", 200, "version 915244")
    assert written["written_at"] is not None
    assert (kept["outcome"], kept["status"], kept["written_at"]) == ("kept", None, None)


async def test_a_file_has_a_line_for_each_flag_and_one_for_a_delete(bench: Bench) -> None:
    ada = key()
    await bench.held_delete(ada)
    await bench.decided("ingress", decided(ada), outcome="written", status="204")

    answer = await bench.http.get(f"/api/v1/workflows/ingress/decisions?contact={ada}", headers={"Accept": "text/csv"})
    lines = list(csv.DictReader(io.StringIO(answer.text)))

    assert [(each["flag"], each["value"], each["outcome"], each["status"]) for each in lines] == [
        ("blackListEmail", "False", "written", "204"),
        ("delete", "", "held", ""),
    ]
    assert lines[0]["dynamics_from"] == "version 915244" and lines[0]["written_at"]


ODD: list[tuple[str, bytes | None, dict[str, str]]] = [
    ("ingress.decisions", b"{}", {"guard": "held", "kind": "release"}),
    ("ingress.decisions", b"{}", {"guard": "held", "kind": "delete", "flags": "blackListEmail"}),
    ("ingress.decisions", b"{}", {"guard": "held", "kind": "\x00\xff", "flags": "x"}),
    ("ingress.decisions", None, {"flags": "blackListEmail"}),
    ("optin.outcomes", b"\xff\x00", {}),
    ("optin.outcomes", b"[" * 100_000, {}),
    ("optin.outcomes", b'{"decision": "x", "outcome": "updated"}', {}),
    ("optin.outcomes", b'{"decision": "0-1", "outcome": ["updated"]}', {}),
    ("optin.outcomes", b"[1]", {}),
]


async def test_odd_records_are_passed_over_and_counted(bench: Bench) -> None:
    for topic, value, headers in ODD:
        await bench.put(topic, key(), value, **headers)
    id = await bench.held("ingress", key())

    assert await bench.items() == [id]
    assert bench.decisions.odd == {"ingress.decisions": 4, "optin.outcomes": 5}
    told = (await bench.http.get("/metrics")).text
    assert 'bridge_records_passed_over_total{topic="ingress.decisions"} 4.0' in told


async def test_a_decision_that_cannot_be_read_is_marked_and_blinds_no_list(bench: Bench) -> None:
    ada = key()
    for topic in ("ingress.decisions", "optin.decisions"):
        await bench.put(
            topic, ada, b"\x00\x00\x0f\xff\xffnonsense", guard="held", kind="release", flags="blackListEmail", target="campaign"
        )
    id = await bench.held("ingress", ada, "blackListFax")

    items = (await bench.get("ingress/held"))["items"]
    shown = (await bench.get(f"ingress/decisions?contact={ada}"))["decisions"]

    assert [(each["rule"], each["flags"], each["words"] != {}) for each in items] == [
        ("", ["blackListEmail"], False),
        ("campaign-is-later", ["blackListFax"], True),
    ]
    assert [(each["target"], each["outcome"]) for each in shown] == [("campaign", "held"), (None, "held")]
    assert len((await bench.get(f"optin/decisions?contact={ada}"))["decisions"]) == 1
    assert (await bench.settle("ingress", "discard", ids=[items[0]["id"]]))["discarded"] == 1
    assert await bench.items() == [id]


async def test_a_command_needs_a_reason_one_way_to_choose_and_the_role_admin(bench: Bench) -> None:
    path, id = "/api/v1/workflows/ingress/held/release", await bench.held("ingress", key())
    wrong = [
        {"all": True},
        {"all": True, "reason": " "},
        {"reason": "x"},
        {"reason": "x", "all": True, "ids": [id]},
        {"reason": "x", "ids": [id], "contacts": [key()]},
        {"reason": "x", "ids": []},
        {"reason": "x", "ids": ["x"]},
    ]

    assert {(await bench.http.post(path, json=each)).status_code for each in wrong} == {422}
    operator = bearer(bench.tokens.add("olga", "operator", AT))
    refused = await bench.http.post(path, json={"all": True, "reason": "x"}, headers=operator)

    assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")
    assert await bench.items() == [id]
    assert (await bench.http.get("/api/v1/workflows/egress/held")).status_code == 404


async def test_who_saved_the_running_configuration_may_not_release_but_discard(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path, CONSENT_SECOND_PERSON=True) as bench:
        bert = bearer(bench.tokens.add("bert", "admin", AT))
        first, second = await bench.held("optin", key()), await bench.held("optin", key())
        path, body = "/api/v1/workflows/optin/held/release", {"ids": [first], "reason": "x"}
        by, config = By("anna", None, AT), bench.store.saved("optin").config
        await bench.store.run(actions.save("optin", config, 1, by, None))

        refused = await bench.http.post(path, json=body)

        assert (refused.status_code, refused.json()["code"]) == (403, "second_person_needed")
        assert bench.refusals[-1][0] == "anna" and bench.refusals[-1][3] == "second_person_needed"
        assert len(await bench.items("optin")) == 2
        assert (await bench.settle("optin", "discard", ids=[second]))["discarded"] == 1
        assert (await bench.http.post(path, json=body, headers=bert)).json()["released"] == 1
        await eventually(lambda: len(content(bench.kafka, "optin.decisions")) == 3)
