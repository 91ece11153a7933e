"""bridge.consent.meaning: a column whose TRUE means *may be contacted* is no opt-out (K18), at save, at start, and by its looks."""

from __future__ import annotations

import pytest

from bridge.consent.meaning import UNSHOWN, ShownColumn, doubts_of_optin, doubts_of_table, means_yes, refuse
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.doubts import check_flags
from bridge.model.config import TableMapping
from bridge.model.desired import Desired
from bridge.model.errors import HaltError
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.tables import yes_no
from services.optin.running import running_config

TURNED = [("true", "false"), ("false", "true")]


def table(source: str, target: str = "blackListEmail", replaced: list[tuple[str, str]] | None = None, to: str = "profile") -> TableMapping:
    return TableMapping.model_validate(
        {
            "source": "contact",
            "target": to,
            "key": {"source": "contactid", "target": "externalId"},
            "fields": [{"source": "lastname", "target": "lastName"}, {"source": source, "target": target}],
            "replacements": [{"source": source, "from": old, "to": new} for old, new in replaced or ()],
        }
    )


@pytest.mark.parametrize(
    ("column", "label", "true"),
    [
        ("new_emailoptin", "", ""),
        ("new_email_opt_in", "", ""),
        ("cr1f3_newsletter", "Newsletter", "Yes"),
        ("new_x", "E-mail opt-in", "Yes"),
        ("new_x", "GDPR consent", "Ja"),
        ("new_x", "X", "Allow"),
        ("new_x", "X", "Subscribed"),
        ("new_x", "X", "Opted in"),
        ("new_x", "Send Marketing Materials", "Send"),
        ("new_marketingpermission", "", ""),
        ("new_notificationallowed", "", "Yes"),
        ("new_maymail", "", "1"),
        ("new_einwilligung", "Einwilligung", "Ja"),
        ("donotsomething", "X", "Allow"),  # the label of TRUE says most
    ],
)
def test_a_column_that_looks_as_if_true_meant_yes(column: str, label: str, true: str) -> None:
    assert means_yes(column, ShownColumn(label, true)) == "looks"


@pytest.mark.parametrize(
    ("column", "label", "true"),
    [
        ("donotemail", "", ""),
        ("donotemail", "Do not allow Emails", "Do Not Allow"),
        ("donotsendmm", "Send Marketing Materials", "Do Not Send"),
        ("new_unsubscribed", "Unsubscribed", "Yes"),
        ("new_optout", "Opt out", "Yes"),
        ("new_x", "E-mail consent", "Opted out"),
        ("new_consentwithdrawn", "", ""),
        ("msdyn_gdproptout", "GDPR Optout", "Yes"),
        ("new_active", "Active", "Yes"),
        ("merged", "Merged", "Yes"),
    ],
)
def test_a_column_that_says_no_or_nothing_of_contact(column: str, label: str, true: str) -> None:
    assert means_yes(column, ShownColumn(label, true)) is None


def test_no_column_of_dynamics_own_opt_outs_is_doubted(sandbox: DynamicsSandbox) -> None:
    columns = {name: each for name, each in sandbox.store.tables["contact"].columns.items() if name.startswith("donot")}

    assert len(columns) == 7
    assert {
        means_yes(name, shown) for name, each in columns.items() for shown in (UNSHOWN, ShownColumn(each.label, each.options[1] or ""))
    } == {None}


def test_followemail_is_documented_whatever_it_is_called() -> None:
    assert means_yes("followemail", ShownColumn("Do not follow", "Do Not Allow")) == "documented"


@pytest.mark.parametrize("target", ["blackListEmail", "denyListEmail", "ccpaOptOut"])
def test_only_flags_of_a_profile_that_nothing_turns_round_are_doubted(target: str) -> None:
    def doubted(mapping: TableMapping) -> list[tuple[int, str]]:
        return [(each.place, each.certainty) for each in doubts_of_table(mapping, {})]

    assert doubted(table("followemail", target)) == [(1, "documented")]
    assert doubted(table("followemail", target, TURNED)) == []
    assert doubted(table("followemail", target, TURNED[:1])) == [(1, "documented")]  # nobody would be opted out
    assert doubted(table("followemail", target, [("true", "true"), ("false", "false")])) == [(1, "documented")]
    assert doubted(table("followemail", "cusFollow")) == []
    assert doubted(table("followemail", target, to="cusPerson")) == []


async def test_at_start_the_contact_mapping_is_refused(client: DynamicsClient) -> None:
    mapping = table("followemail")
    with pytest.raises(HaltError) as caught:
        await check_flags(client, "contact", lambda columns: doubts_of_table(mapping, columns))

    assert (caught.value.code, caught.value.origin) == ("flag_means_yes", "configuration")
    assert "followemail" in str(caught.value) and "replacements" in caught.value.hint


async def test_at_start_all_roles_of_opt_in_out_are_refused() -> None:
    desired = Desired("RUNNING", 1, 1, {"direction": "bidirectional", "mappings": [{"source": "followemail", "target": "blackListEmail"}]})

    with pytest.raises(HaltError) as caught:
        running_config(desired)

    assert caught.value.code == "flag_means_yes"


async def test_at_start_a_look_alike_is_logged_by_its_labels(
    client: DynamicsClient, sandbox: DynamicsSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    for column in [*yes_no("new_a=Marketing", "Send", "Do not send"), *yes_no("new_b=Newsletter off", "Blocked", "Sent")]:
        sandbox.add_column("contact", column)
    pairs = [("new_a", "blackListEmail"), ("new_b", "blackListFax"), ("donotemail", "blackList")]

    await check_flags(client, "contact", lambda columns: doubts_of_optin(pairs, columns))

    lines = [line for line in "".join(capsys.readouterr()).splitlines() if "flag_may_mean_yes" in line]
    assert len(lines) == 1 and "new_a" in lines[0] and "blackListEmail" in lines[0]


def test_only_what_is_certain_halts() -> None:
    assert [each.certainty for each in refuse(doubts_of_optin([("new_optin", "blackListEmail")], {}))] == ["looks"]
