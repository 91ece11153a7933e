"""services.optin.resolve: what both systems showed of a contact's flags, and what each of them is then told (campaign.md §10.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from bridge.consent.words import LOOKED, Observation, Pair, Status
from bridge.model.events import OptStatusDecided, OptStatusObserved, System
from bridge.model.state import Digests
from services.optin.resolve import Direction, resolve
from services.optin.status import StatusCodec
from tests.unit.fakes import NOON

CONTACT = "c-1"
EMAIL = Pair("donotemail", "blackListEmail")
PHONE = Pair("donotphone", "blackListPhone")
PUSH = Pair("donotbulkemail", "blackListPushnotification")
ORDERS: list[tuple[System, System]] = [("campaign", "dynamics"), ("dynamics", "campaign")]

# (when Campaign's flag changed, when the contact changed) -> the four columns of the table: C=T,D=T  C=T,D=F  C=F,D=T  C=F,D=F
TABLE = {
    "Campaign later": ((20, 10), (True, True, False, False)),
    "equal": ((10, 10), (True, True, True, False)),
    "D365 later": ((10, 20), (True, True, True, False)),
}
CELLS = [
    pytest.param(campaign, dynamics, times, wanted, id=f"{relation}, C={str(campaign)[0]},D={str(dynamics)[0]}: {str(wanted)[0]}")
    for relation, (times, row) in TABLE.items()
    for (campaign, dynamics), wanted in zip(product((True, False), repeat=2), row, strict=True)
]
MISSING = [
    pytest.param(False, True, (None, 10), True, id="no time in Campaign, C=F,D=T: T"),
    pytest.param(True, False, (None, 10), True, id="no time in Campaign, C=T,D=F: T"),
    pytest.param(False, False, (None, 10), False, id="no time in Campaign, C=F,D=F: F"),
    pytest.param(False, True, (10, None), False, id="no time in D365, seen before Campaign's, C=F,D=T: F"),
    pytest.param(True, False, (10, None), True, id="no time in D365, C=T,D=F: T"),
    pytest.param(False, True, (None, None), True, id="no time at all, C=F,D=T: T"),
    pytest.param(True, False, (None, None), True, id="no time at all, C=T,D=F: T"),
]


def at(second: float | None) -> datetime | None:
    return None if second is None else NOON + timedelta(seconds=second)


def soon_after(second: float | None) -> datetime:
    return NOON + timedelta(seconds=second or 0, milliseconds=100)


def campaign(
    value: bool | None = None, changed: float | None = None, *, record: float | None = None, **others: tuple[bool, float | None]
) -> Observation:
    """A row of the export: `value` is blackListEmail's, `others` are further flags with their times."""
    flags = others | ({} if value is None else {EMAIL.campaign: (value, changed)})
    shown = {name: {"value": each, "changed_at": at(time)} for name, (each, time) in flags.items()}
    last = max((time for _, time in flags.values() if time is not None), default=None) if record is None else record
    return Observation(OptStatusObserved(CONTACT, "campaign", shown, at(last), soon_after(last), origin="somewhere"))


def dynamics(value: bool, changed: float | None, version: int | None = 1, *, own: bool = False, **others: bool) -> Observation:
    """A row of contact: `value` is donotemail's. `changed` is modifiedon, which any change of the row moves."""
    shown = {name: {"value": each, "changed_at": None} for name, each in {EMAIL.dynamics: value, **others}.items()}
    return Observation(OptStatusObserved(CONTACT, "dynamics", shown, at(changed), soon_after(changed)), version, own)


def ours(observation: Observation) -> Observation:
    """The same, last changed by our application user."""
    return replace(observation, event=replace(observation.event, ours=True))


def told_clock(observation: Observation) -> Observation:
    """The same, with the difference of the clocks: there is none."""
    return replace(observation, event=replace(observation.event, ahead_ms=0))


class Resolver:
    """Keeps the status from one observation to the next, each of which it hears soon after it was made."""

    def __init__(self, *pairs: Pair, direction: Direction = "bidirectional") -> None:
        self.pairs, self.direction = pairs or (EMAIL,), direction
        self.status = Status()
        self.now = NOON
        self.kept: frozenset[str] = frozenset()

    def hears(self, *observations: Observation) -> list[OptStatusDecided]:
        decided: list[OptStatusDecided] = []
        for each in observations:
            self.now = max(self.now, each.event.observed_at) + timedelta(milliseconds=100)
            resolved = resolve(self.status, each, self.pairs, self.direction, self.now)
            self.status = resolved.status
            self.kept |= resolved.kept
            decided += resolved.decisions
        return decided


def one_way(*pairs: Pair) -> Resolver:
    return Resolver(*pairs, direction="campaign-to-dynamics")


def told(decided: Sequence[OptStatusDecided], target: System) -> dict[str, bool]:
    """What a system is to become: of several decisions the latest counts, flag by flag."""
    return {name: value for each in decided if each.target == target for name, value in each.flags.items()}


# The table


@pytest.mark.parametrize("order", ORDERS, ids=" first, then ".join)
@pytest.mark.parametrize(("in_campaign", "in_dynamics", "times", "wanted"), CELLS + MISSING)
def test_both_systems_become_what_the_table_says(
    in_campaign: bool, in_dynamics: bool, times: tuple[float | None, float | None], wanted: bool, order: tuple[System, System]
) -> None:
    shown: dict[System, Observation] = {"campaign": campaign(in_campaign, times[0]), "dynamics": dynamics(in_dynamics, times[1])}

    decided = Resolver().hears(*(shown[system] for system in order))

    assert told(decided, "campaign").get(EMAIL.campaign, in_campaign) is wanted
    assert told(decided, "dynamics").get(EMAIL.dynamics, in_dynamics) is wanted


def test_a_salesperson_cannot_opt_in_again_who_is_opted_out_in_campaign() -> None:
    resolver = Resolver()
    resolver.hears(campaign(True, 10), dynamics(True, 10))

    decided = resolver.hears(dynamics(False, 30, 2))

    assert told(decided, "dynamics") == {EMAIL.dynamics: True}
    assert told(decided, "campaign") == {}


def test_a_person_who_opts_in_again_in_campaign_is_opted_in_in_dynamics() -> None:
    resolver = Resolver()
    resolver.hears(campaign(True, 10), dynamics(True, 10))

    decided = resolver.hears(campaign(False, 30))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}
    assert told(decided, "campaign") == {}


@pytest.mark.parametrize(("at_s", "value"), [(9.9, True), (10.001, True), (10.999, True), (11, False)])
def test_times_are_compared_by_the_second_which_is_all_that_dynamics_knows(at_s: float, value: bool) -> None:
    """An opt-out at 10.8 has the time 10: no opt-in of that second may undo it."""
    decided = Resolver().hears(dynamics(True, 10), campaign(False, at_s))

    assert told(decided, "dynamics") == ({} if value else {EMAIL.dynamics: False})
    assert told(decided, "campaign") == {EMAIL.campaign: value}


# What a decision says


def test_a_decision_is_its_own_proof() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 10))

    (decision,) = resolver.hears(campaign(True, 20))

    assert (decision.contact_key, decision.target, decision.flags) == (CONTACT, "dynamics", {EMAIL.dynamics: True})
    assert decision.inputs == {
        EMAIL.dynamics: {
            "campaign": True,
            "campaign_changed_at": at(20),
            "campaign_from": "somewhere",
            "dynamics": False,
            "dynamics_changed_at": at(10),
            "dynamics_from": None,
        }
    }
    assert decision.decided_at == resolver.now


def test_an_opt_out_in_dynamics_is_named_as_the_rule() -> None:
    resolver = Resolver()
    resolver.hears(campaign(False, 10))

    (decision,) = resolver.hears(dynamics(True, 20))

    assert (decision.target, decision.flags, decision.rule) == ("campaign", {EMAIL.campaign: True}, "opted-out-in-dynamics")


def test_a_later_opt_in_in_campaign_is_named_as_the_rule() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(True, 10), campaign(True, 10))

    (decision,) = resolver.hears(campaign(False, 20))

    assert (decision.target, decision.rule) == ("dynamics", "campaign-is-later")


def test_a_later_decision_has_a_later_time_even_if_the_clock_stands_still() -> None:
    resolver = Resolver()
    (first,) = resolver.hears(dynamics(False, 10), campaign(True, 20))
    resolver.now = first.decided_at - timedelta(seconds=30)  # another instance, another clock

    (second,) = resolver.hears(campaign(False, 30))

    assert second.decided_at >= first.decided_at


def test_equal_flags_need_no_decision() -> None:
    assert Resolver().hears(campaign(False, 10), dynamics(False, 20)) == []


def test_of_two_flags_only_the_one_that_differs_is_decided() -> None:
    resolver = Resolver(EMAIL, PHONE)
    resolver.hears(dynamics(False, 10, donotphone=True))

    decided = resolver.hears(campaign(True, 20, blackListPhone=(True, 20)))

    assert told(decided, "dynamics") == {EMAIL.dynamics: True}


def test_two_flags_can_be_decided_in_opposite_ways() -> None:
    resolver = Resolver(EMAIL, PHONE)
    resolver.hears(campaign(True, 10, blackListPhone=(False, 10)), dynamics(True, 10, donotphone=False))

    decided = resolver.hears(campaign(False, 20, blackListPhone=(True, 20)))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False, PHONE.dynamics: True}
    assert told(decided, "campaign") == {}


def test_any_later_change_of_the_contact_keeps_its_opt_outs() -> None:
    """Dynamics has one time for the whole contact, and the rule means it to the letter (campaign.md §10.4)."""
    resolver = Resolver(EMAIL, PHONE)
    resolver.hears(campaign(True, 10, blackListPhone=(False, 5)), dynamics(True, 10, 1, donotphone=False))

    decided = resolver.hears(dynamics(True, 30, 2, donotphone=True), campaign(False, 20, blackListPhone=(False, 5)))

    assert told(decided, "dynamics") == {}
    assert told(decided, "campaign") == {EMAIL.campaign: True, PHONE.campaign: True}


def test_a_flag_that_was_not_looked_at_is_left_as_it_was_known() -> None:
    resolver = Resolver(EMAIL, PHONE)
    resolver.hears(campaign(True, 10, blackListPhone=(True, 10)), dynamics(True, 10, 1, donotphone=True))

    assert resolver.hears(campaign(blackListPhone=(True, 10), record=40), dynamics(True, 40, 2)) == []


def test_a_flag_that_is_not_mapped_is_nobodys_business() -> None:
    assert Resolver(EMAIL).hears(dynamics(False, 10, donotphone=True), campaign(False, 20, blackListPhone=(False, 20))) == []


# What is no change


def test_an_edit_to_another_column_keeps_an_opt_out() -> None:
    resolver = Resolver()
    resolver.hears(campaign(True, 3), dynamics(True, 5, 1))
    resolver.hears(dynamics(True, 20, 2))

    decided = resolver.hears(campaign(False, 10))

    assert told(decided, "dynamics") == {}
    assert told(decided, "campaign") == {EMAIL.campaign: True}


def test_our_own_change_of_another_flag_does_not_keep_an_opt_out() -> None:
    resolver = Resolver()
    resolver.hears(campaign(True, 3), dynamics(True, 5, 1))
    resolver.hears(ours(dynamics(True, 20, 2)))

    decided = resolver.hears(campaign(False, 10))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


def test_an_edit_to_another_column_alone_decides_nothing() -> None:
    resolver = Resolver()
    resolver.hears(campaign(False, 10), dynamics(False, 5, 1))

    assert resolver.hears(dynamics(False, 20, 2)) == []


@pytest.mark.parametrize("own", [True, False], ids=["as the writer read it back", "as only the reader saw it"])
def test_our_own_opt_out_read_back_is_no_news(own: bool) -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(True, 10))

    assert resolver.hears(dynamics(True, 20, 2, own=own)) == []


def test_our_own_opt_out_read_back_does_not_make_the_flag_later() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(True, 10), dynamics(True, 20, 2, own=True))

    decided = resolver.hears(campaign(False, 15))  # clicked before our write

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


def test_an_opt_out_that_may_be_ours_or_a_persons_is_not_lost() -> None:
    resolver = Resolver()
    decided = resolver.hears(dynamics(False, 5, 1), campaign(True, 10), dynamics(True, 20, 2))

    decided += resolver.hears(campaign(False, 15))  # earlier than 20, should that have been a person

    assert told(decided, "dynamics") == {EMAIL.dynamics: True}


@pytest.mark.parametrize("own", [True, False], ids=["as the writer read it back", "as only the reader saw it"])
def test_our_own_opt_in_read_back_is_no_change(own: bool) -> None:
    resolver = Resolver()
    resolver.hears(dynamics(True, 5, 1), campaign(True, 5), campaign(False, 10))

    assert resolver.hears(dynamics(False, 20, 2, own=own)) == []


def test_our_own_opt_out_read_back_from_campaign_is_no_change() -> None:
    resolver = Resolver()
    resolver.hears(campaign(False, 5), dynamics(True, 10, 1))

    assert resolver.hears(campaign(True, 20)) == []


def test_the_same_row_read_by_writer_and_reader_is_seen_once() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(True, 10), dynamics(True, 20, 2, own=True))

    assert resolver.hears(dynamics(True, 20, 2)) == []


def test_an_opt_out_after_our_opt_in_counts_though_our_write_was_never_read_back() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(True, 5, 1), campaign(True, 5), campaign(False, 10))

    decided = resolver.hears(dynamics(True, 20, 3))  # 2 was our FALSE, seen by nobody

    assert told(decided, "campaign") == {EMAIL.campaign: True}


def test_an_opt_out_after_our_opt_in_calls_off_the_opt_in_that_may_still_wait() -> None:
    resolver = Resolver()
    decided = resolver.hears(dynamics(True, 5, 1), campaign(True, 5), campaign(False, 10))

    decided += resolver.hears(dynamics(True, 20, 3))

    assert told(decided, "dynamics") == {EMAIL.dynamics: True}


def test_an_opt_out_calls_off_an_opt_in_though_the_flag_was_off_meanwhile() -> None:
    resolver = Resolver()
    decided = resolver.hears(dynamics(True, 5, 1), campaign(True, 5), campaign(False, 10))

    decided += resolver.hears(dynamics(False, 8, 2), dynamics(True, 12, 3))  # 2 is older than the decision: not our write

    assert told(decided, "campaign") == {EMAIL.campaign: True}
    assert resolver.status.dynamics.order is not None and resolver.status.dynamics.order.version == 3  # the writer finds another row


def test_what_was_told_when_it_was_so_already_is_told_again_when_it_is_no_longer_so() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(True, 5), campaign(False, 10))  # FALSE: calls off the TRUE

    decided = resolver.hears(campaign(False, 30), dynamics(True, 20, 2))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


def test_an_opt_out_in_the_same_second_as_campaigns_opt_in_holds() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(True, 20), campaign(False, 30.5))

    decided = resolver.hears(dynamics(True, 30, 2))

    assert told(decided, "campaign") == {EMAIL.campaign: True}
    assert told(decided, "dynamics") in ({}, {EMAIL.dynamics: True})


def test_an_opt_out_that_our_opt_in_overwrote_counts_though_it_is_heard_after_our_write() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(True, 5, 1), campaign(True, 5), dynamics(False, 7, 2), campaign(False, 10), dynamics(False, 14, 4, own=True))

    decided = resolver.hears(dynamics(True, 12, 3))  # read before our write, published after it; 12 is later than 10

    assert told(decided, "campaign") == {EMAIL.campaign: True}
    assert told(decided, "dynamics") == {EMAIL.dynamics: True}


def test_a_salespersons_opt_in_over_our_unread_opt_out_is_told_again() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(True, 10))

    decided = resolver.hears(dynamics(True, 20, 2, own=True), dynamics(False, 30, 3))

    assert told(decided, "dynamics") == {EMAIL.dynamics: True}


# Late and twice


HISTORY = [
    campaign(False, 5),
    dynamics(False, 5, 1),
    campaign(True, 10),
    dynamics(True, 12, 2, own=True),
    campaign(False, 20),
    dynamics(False, 22, 3, own=True),
    dynamics(True, 30, 4),
    campaign(True, 33),
]


@pytest.mark.parametrize("place", range(len(HISTORY)))
def test_the_same_observation_at_once_again_changes_nothing(place: int) -> None:
    resolver = Resolver()
    resolver.hears(*HISTORY[: place + 1])
    before = resolver.status

    assert resolver.hears(HISTORY[place]) == []
    assert resolver.status == before


@pytest.mark.parametrize("place", range(len(HISTORY)))
def test_an_observation_that_comes_again_when_all_is_over_changes_nothing(place: int) -> None:
    resolver = Resolver()
    resolver.hears(*HISTORY)
    before = resolver.status

    assert resolver.hears(HISTORY[place]) == []
    assert resolver.status == before


def test_a_whole_history_read_again_changes_nothing() -> None:
    resolver = Resolver()
    resolver.hears(*HISTORY)
    before = resolver.status

    assert resolver.hears(*HISTORY) == []
    assert resolver.status == before


def test_a_row_of_dynamics_that_comes_late_does_not_undo_a_newer_one() -> None:
    resolver = Resolver()
    resolver.hears(campaign(False, 5), dynamics(False, 5, 1), dynamics(False, 30, 3))

    assert resolver.hears(dynamics(False, 20, 2)) == []


def test_rows_of_dynamics_without_a_version_are_ordered_by_their_time() -> None:
    resolver = Resolver()
    resolver.hears(campaign(True, 5), dynamics(True, 5, None), campaign(False, 40), dynamics(False, 50, None, own=True))
    before = resolver.status

    assert resolver.hears(dynamics(True, 5, None)) == []
    assert resolver.status == before


def test_of_several_rows_of_an_export_the_later_time_counts_not_the_later_row() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(True, 5))

    decided = resolver.hears(campaign(False, 20), campaign(True, 10))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


def test_a_state_that_lags_behind_its_decisions_decides_the_same_again() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5), campaign(False, 5))
    lagging = resolver.status
    first = resolver.hears(campaign(True, 10))

    resolver.status = lagging
    again = resolver.hears(campaign(True, 10))

    assert [(each.target, each.flags) for each in again] == [(each.target, each.flags) for each in first]


# The push flag, which has no time of its own: it comes with that of any flag's last change, or of the record's


def test_an_opt_in_of_push_is_never_a_word() -> None:
    """It may be a profile that was made again, as well as a change of another flag."""
    resolver = Resolver(PUSH)
    resolver.hears(dynamics(False, 5, 1, donotbulkemail=True), campaign(blackListPushnotification=(True, 7)))

    decided = resolver.hears(campaign(blackListPushnotification=(False, 20)))

    assert told(decided, "dynamics").get(PUSH.dynamics) is not False
    assert told(decided, "campaign") == {"blackListPushnotification": True}


def test_the_push_flags_time_does_not_count_when_another_flag_has_changed() -> None:
    resolver = Resolver(PUSH)
    resolver.hears(campaign(blackListPushnotification=(False, 5)), dynamics(False, 10, 1, donotbulkemail=True))

    decided = resolver.hears(campaign(blackListPushnotification=(False, 20)))

    assert told(decided, "dynamics").get(PUSH.dynamics) is not False


def test_a_push_flag_row_that_comes_late_changes_nothing() -> None:
    resolver = Resolver(PUSH)
    rows = [campaign(blackListPushnotification=each) for each in ((False, 5), (True, 10), (True, 20))]
    resolver.hears(dynamics(False, 1, 1, donotbulkemail=False), *rows)

    assert resolver.hears(rows[0]) == []


def test_an_opt_out_of_push_counts_though_its_row_comes_late() -> None:
    """FALSE without a time of its own is no word that it could be older than."""
    resolver = Resolver(PUSH)
    resolver.hears(dynamics(False, 1, 1, donotbulkemail=False), campaign(blackListPushnotification=(False, None), record=5))
    resolver.hears(campaign(blackListPushnotification=(False, 20)))

    assert told(resolver.hears(campaign(blackListPushnotification=(True, 10))), "dynamics") == {PUSH.dynamics: True}


def test_a_flag_with_a_time_of_its_own_is_later_though_it_looks_the_same() -> None:
    resolver = Resolver()
    resolver.hears(campaign(False, 5), dynamics(True, 10))

    decided = resolver.hears(campaign(False, 20))  # our TRUE came and went between the exports

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


# One way


@pytest.mark.parametrize("value", [True, False])
def test_one_way_campaign_overwrites_when_its_value_changes(value: bool) -> None:
    resolver = one_way()
    resolver.hears(campaign(not value, 5), dynamics(not value, 5))

    (decision,) = resolver.hears(campaign(value, 20))

    assert (decision.target, decision.flags, decision.rule) == ("dynamics", {EMAIL.dynamics: value}, "campaign-changed")


@pytest.mark.parametrize("value", [True, False])
def test_one_way_a_manual_change_in_dynamics_stays(value: bool) -> None:
    resolver = one_way()
    resolver.hears(campaign(not value, 5), dynamics(not value, 5, 1))

    assert resolver.hears(dynamics(value, 20, 2)) == []


@pytest.mark.parametrize("value", [True, False])
def test_one_way_a_manual_change_stays_when_the_same_row_of_campaign_comes_again(value: bool) -> None:
    resolver = one_way()
    resolver.hears(campaign(not value, 5), dynamics(not value, 5, 1), dynamics(value, 20, 2))

    assert resolver.hears(campaign(not value, 5), campaign(not value, 5, record=30)) == []


@pytest.mark.parametrize("value", [True, False])
def test_one_way_a_manual_change_lasts_until_the_value_changes_in_campaign(value: bool) -> None:
    resolver = one_way()
    resolver.hears(campaign(value, 5), dynamics(value, 5, 1), campaign(not value, 10), dynamics(not value, 12, 2, own=True))
    resolver.hears(dynamics(value, 20, 3))

    assert resolver.hears(campaign(value, 30)) == []  # as the manual change has it
    assert told(resolver.hears(campaign(not value, 40)), "dynamics") == {EMAIL.dynamics: not value}


def test_one_way_campaigns_change_overwrites_even_an_opt_out_ticked_by_hand() -> None:
    resolver = one_way()
    resolver.hears(campaign(True, 5), dynamics(False, 5, 1), dynamics(True, 20, 2))

    decided = resolver.hears(campaign(False, 30))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


def test_one_way_a_manual_change_that_was_made_earlier_but_seen_later_is_overwritten() -> None:
    resolver = one_way()
    resolver.hears(campaign(True, 5), dynamics(False, 5, 1), dynamics(False, 8, 2))
    decided = resolver.hears(campaign(False, 20))

    decided += resolver.hears(dynamics(True, 10, 3))

    assert told(decided, "dynamics") == {EMAIL.dynamics: False}


@pytest.mark.parametrize("value", [True, False])
def test_one_way_a_change_in_campaign_overwrites_an_earlier_one_in_dynamics_heard_later(value: bool) -> None:
    resolver = one_way()
    decided = resolver.hears(campaign(not value, None, record=1), dynamics(value, 1, 1), campaign(value, 6))

    decided += resolver.hears(dynamics(not value, 4, 2))

    assert told(decided, "dynamics") == {EMAIL.dynamics: value}


def test_one_way_a_flag_never_changed_in_campaign_overwrites_nothing() -> None:
    assert one_way().hears(dynamics(True, 10), campaign(False, None, record=20)) == []


def test_one_way_campaign_is_told_nothing() -> None:
    history = [campaign(False, 5), dynamics(True, 10), dynamics(False, 20, 2), campaign(True, 30), dynamics(True, 40, 3)]

    assert told(one_way().hears(*history), "campaign") == {}


def test_what_the_profile_itself_shows_is_believed_though_it_is_older_than_a_row() -> None:
    """Campaign was restored: to look again and again would show nothing else."""
    resolver = Resolver()
    resolver.hears(dynamics(True, 5, 1), campaign(False, 20), dynamics(True, 30, 2))
    shown = campaign(True, 10).event

    for moment in (40, 50):
        look = Observation(replace(shown, origin=LOOKED, observed_at=soon_after(moment)))
        assert told(resolver.hears(look), "campaign") == {}


def test_what_we_wrote_over_a_false_of_dynamics_is_nobodys_word() -> None:
    """A FALSE of Campaign has to be later than an opt-out, not than an opt-in of the same second."""
    resolver = Resolver()
    resolver.hears(dynamics(False, 1, 1), campaign(True, 5), dynamics(True, 6, 2, own=True), dynamics(False, 10, 3))
    resolver.hears(dynamics(True, 10, 4, own=True))

    (decision,) = [each for each in resolver.hears(campaign(False, 10.5)) if each.target == "dynamics"]

    assert decision.flags == {EMAIL.dynamics: False}
    assert (decision.inputs[EMAIL.dynamics]["dynamics"], decision.inputs[EMAIL.dynamics]["dynamics_changed_at"]) == (True, None)


def test_a_mapping_that_returns_may_have_missed_an_opt_out() -> None:
    """Between two of our own writes somebody may have edited the contact."""
    resolver = Resolver(EMAIL, PHONE)
    resolver.hears(dynamics(True, 5, 1, donotphone=False), campaign(False, 20))
    side = resolver.status.dynamics
    resolver.status = replace(resolver.status, dynamics=replace(side, facts={}, told={}))  # as for a flag that was not mapped

    decided = resolver.hears(ours(dynamics(True, 30, 4, donotphone=False)))

    assert told(decided, "dynamics") == {}
    assert told(decided, "campaign") == {EMAIL.campaign: True}


def test_a_mapping_that_returns_may_have_missed_it_though_we_have_just_told_the_same() -> None:
    """The edit came before a FALSE of Campaign's, and our own write has hidden it."""
    resolver = Resolver()
    resolver.hears(dynamics(False, 1, 1), campaign(True, 2), dynamics(True, 5, 2, own=True))
    side = resolver.status.dynamics
    resolver.status = replace(resolver.status, dynamics=replace(side, facts={}, told={EMAIL.dynamics: True}))

    resolver.hears(ours(dynamics(True, 30, 4)))

    assert told(resolver.hears(campaign(False, 20)), "dynamics") == {}


def test_what_was_read_while_it_was_mapped_is_heard_when_it_is_not() -> None:
    """The restart for the new mapping overtook it; the export is not read twice."""
    both, one = StatusCodec(Digests("secret"), (EMAIL, PHONE)), StatusCodec(Digests("secret"), (EMAIL,))
    resolver = Resolver(EMAIL)
    assert resolver.hears(campaign(False, None, blackListPhone=(True, 9)), dynamics(False, 5, 1, donotphone=False)) == []
    assert PHONE.campaign not in resolver.status.campaign.facts
    known = one.known(CONTACT, resolver.status)
    resolver.status = one.status(CONTACT, known)
    resolver.hears(campaign(False, None, blackListPhone=(False, 8)))  # of an older file
    known = one.known(CONTACT, resolver.status, known)

    resolver = Resolver(EMAIL, PHONE)
    resolver.status = both.status(CONTACT, known)

    assert told(resolver.hears(dynamics(False, 12, 2, donotphone=False)), "dynamics") == {PHONE.dynamics: True}


def test_an_import_that_sets_an_opt_out_back_is_not_older_than_the_last_look_whoever_looks_now() -> None:
    """The writer's look says nothing of the look before."""
    resolver = Resolver()
    resolver.hears(told_clock(dynamics(False, 30, 1)), campaign(False, 20))

    decided = resolver.hears(dynamics(True, -86_400, 2))

    assert told(decided, "dynamics") == {}
    assert told(decided, "campaign") == {EMAIL.campaign: True}


def test_an_edit_over_our_own_opt_out_is_not_older_than_the_opt_in_that_we_wrote_over() -> None:
    """Somebody opted in, then an import opted out again and set its time back; we saw the second only."""
    resolver = Resolver()
    resolver.hears(dynamics(True, 8, 1), campaign(True, 2), dynamics(False, 10, 2), dynamics(True, 11, 3, own=True))

    resolver.hears(dynamics(True, -86_400, 5))

    assert told(resolver.hears(campaign(False, 5)), "dynamics") == {}


@pytest.mark.parametrize("opted_in", [True, False], ids=["over an opt-in", "at first sight"])
def test_an_import_over_our_own_opt_out_is_not_older_than_our_write(opted_in: bool) -> None:
    """It sets its time back, but its version tells that it came after what we wrote, and so after the opt-in of Campaign."""
    resolver = Resolver()
    before = [told_clock(dynamics(True, 5, 1)), dynamics(False, 10, 2)] if opted_in else [told_clock(dynamics(False, 10, 2))]
    resolver.hears(campaign(True, 2), *before, dynamics(True, 30, 3, own=True))

    resolver.hears(dynamics(True, -86_400, 5))

    assert told(resolver.hears(campaign(False, 20)), "dynamics") == {}
    assert told(resolver.hears(campaign(False, 40)), "dynamics") == {EMAIL.dynamics: False}, "but of a later one it is"


def test_so_is_one_over_what_a_merged_contact_had_said() -> None:
    """What we wrote for that is TRUE in the row, though this contact's own words say nothing."""
    resolver = Resolver()
    resolver.hears(told_clock(dynamics(False, 1, 1)), campaign(False, None))
    assert told(resolver.hears(replace(dynamics(True, 5, None), carried=True)), "dynamics") == {EMAIL.dynamics: True}
    resolver.hears(dynamics(True, 30, 3, own=True))

    resolver.hears(dynamics(True, -86_400, 5))

    assert told(resolver.hears(campaign(False, 20)), "dynamics") == {}


def test_a_row_that_is_only_seen_again_says_nothing_anew() -> None:
    resolver = Resolver()
    resolver.hears(told_clock(dynamics(True, 5, 2)), campaign(True, 6))
    again = dynamics(True, 5, 2)
    resolver.hears(replace(again, event=replace(again.event, observed_at=soon_after(30))))
    resolver.hears(replace(again, event=replace(again.event, observed_at=soon_after(40))))

    assert told(resolver.hears(campaign(False, 20)), "dynamics") == {EMAIL.dynamics: False}


def test_what_we_wrote_before_all_was_lost_somebody_had_said_in_campaign() -> None:
    """Campaign does not show it any more, and nobody may opt in from Dynamics over it (campaign.md §10.4)."""
    resolver = Resolver()
    decided = resolver.hears(dynamics(True, 5, 2, own=True), campaign(False, None))
    assert told(decided, "campaign") == {EMAIL.campaign: True}

    assert told(resolver.hears(dynamics(False, 20, 3)), "dynamics") == {EMAIL.dynamics: True}


def test_one_way_what_is_changed_by_hand_stays_though_we_wrote_in_the_second_of_campaigns_word() -> None:
    """Dynamics has whole seconds only; but we have seen our write there, and it was changed after that."""
    resolver = one_way()
    resolver.hears(told_clock(dynamics(False, 1, 1)), campaign(True, 10.05), dynamics(True, 10, 2, own=True))

    assert resolver.hears(dynamics(False, 12, 3)) == []


def test_a_contact_that_is_restored_is_told_what_was_said_before() -> None:
    """What it shows then is no change of what it showed."""
    resolver = Resolver()
    resolver.hears(dynamics(True, 5, 1), campaign(True, 6))
    gone = dynamics(True, 8, 1)
    resolver.hears(replace(gone, event=replace(gone.event, flags={}, gone=True)))

    decided = resolver.hears(dynamics(False, 10, 2))

    assert told(decided, "dynamics") == {EMAIL.dynamics: True}
    assert resolver.status.dynamics.words[EMAIL.dynamics].value


def test_what_a_replay_shows_is_not_taken_back_by_a_word_of_long_ago() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(False, 5, 1), campaign(False, 20))

    decided = resolver.hears(replace(dynamics(True, 10, 2), live=False))

    assert told(decided, "dynamics") == {}


# The state that is kept


def test_what_was_said_of_a_flag_that_is_not_mapped_now_is_kept() -> None:
    resolver = Resolver(EMAIL, PHONE)
    resolver.hears(dynamics(True, 5, 7, donotphone=True), campaign(False, 10, blackListPhone=(True, 9)))
    both, one = StatusCodec(Digests("secret"), (EMAIL, PHONE)), StatusCodec(Digests("secret"), (EMAIL,))
    known = both.known(CONTACT, resolver.status)

    known = one.known(CONTACT, one.status(CONTACT, known), known)

    status, before = both.status(CONTACT, known), resolver.status
    assert (status.dynamics.words, status.campaign.words) == (before.dynamics.words, before.campaign.words)


def test_a_status_survives_being_kept() -> None:
    pairs = (EMAIL, PHONE, PUSH)
    resolver = Resolver(*pairs)
    resolver.hears(dynamics(True, 5, 7, donotphone=False, donotbulkemail=False), campaign(True, 5, blackListPhone=(True, None)))
    resolver.hears(campaign(False, 10, blackListPushnotification=(True, 10.25)))
    codec = StatusCodec(Digests("secret"), pairs)

    known = codec.known(CONTACT, resolver.status)

    assert codec.status(CONTACT, type(known).from_json(known.to_json())) == resolver.status


@pytest.mark.parametrize("direction", ["bidirectional", "campaign-to-dynamics"])
def test_a_resolver_that_forgets_all_but_the_kept_state_decides_the_same(direction: Direction) -> None:
    codec = StatusCodec(Digests("secret"), (EMAIL,))
    awake, forgetful = Resolver(direction=direction), Resolver(direction=direction)

    for each in HISTORY:
        assert forgetful.hears(each) == awake.hears(each)
        forgetful.status = codec.status(CONTACT, codec.known(CONTACT, forgetful.status))


def test_the_kept_state_shows_no_value() -> None:
    codec = StatusCodec(Digests("secret"), (EMAIL,))
    resolvers = {value: Resolver() for value in (True, False)}
    kept: dict[bool, bytes] = {}
    for value, resolver in resolvers.items():
        resolver.hears(dynamics(not value, 5), campaign(value, 10))
        kept[value] = codec.known(CONTACT, resolver.status).to_json()

    for text in kept.values():
        flags = text.partition(b'"digests":')[2].partition(b'"times":')[0]
        assert b"true" not in flags and b"false" not in flags.lower()


def test_the_kept_state_of_another_contact_with_the_same_flags_looks_different() -> None:
    codec, resolver = StatusCodec(Digests("secret"), (EMAIL,)), Resolver()
    resolver.hears(dynamics(True, 5), campaign(True, 10))

    mine, anothers = (codec.known(contact, resolver.status).digests for contact in (CONTACT, "c-2"))

    assert mine.keys() == anothers.keys()
    assert not set(mine.values()) & set(anothers.values())


def test_a_state_kept_with_another_secret_says_nothing_of_the_flags() -> None:
    resolver = Resolver()
    resolver.hears(dynamics(True, 5), campaign(True, 10))
    known = StatusCodec(Digests("secret"), (EMAIL,)).known(CONTACT, resolver.status)

    status = StatusCodec(Digests("another"), (EMAIL,)).status(CONTACT, known)

    assert not status.dynamics.facts and not status.campaign.facts and not status.dynamics.words and not status.campaign.words
