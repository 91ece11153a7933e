"""Times in exports: every form of Campaign's activity "Extract file" (campaign.md §7.4), local times, and what is never guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.campaign.settings import DateFormat
from bridge.model.settings import SettingsError
from sandbox.campaign.exports import ORDERS, SEPARATORS, Form
from services.optin.export import Export
from services.optin.export_times import TimeColumn, TimeSpan
from tests.unit.export_settings import export_settings

EXPORTED = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
ANN, BOB = "60c4e274-0d87-e711-80e5-00155db19e6d", "0ba7b810-9dad-11d1-80b4-00c04fd430c8"
AT = datetime(2026, 2, 28, 9, 8, 7, tzinfo=UTC)
DAY = timedelta(days=1)


def column(*values: str, form: DateFormat | None = None, zone: str | None = "UTC") -> TimeColumn:
    made = TimeColumn(form, zone, EXPORTED)
    for each in values:
        made.hear(each)
    return made


def read(*values: str, form: DateFormat | None = None, zone: str | None = "UTC") -> list[TimeSpan | None]:
    """Each of the values, None for one that cannot be read."""
    found, whole = [], column(*values, form=form, zone=zone)
    for each in values:
        try:
            found.append(whole.read(each))
        except ValueError:
            found.append(None)
    return found


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def exactly(moment: datetime) -> TimeSpan:
    return TimeSpan(moment, moment)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "clock", [" 09:08:07", " 9:08:07.000", " 090807", "T09:08:07", "T09:08:07.000Z", " 09:08:07 +0000", " 10:08:07+01:00", "_090807"]
)
def test_every_form_is_read_with_its_setting(order: DateFormat, separator: str, clock: str) -> None:
    written = Form(dates=f"{order}{separator}").cell("lastModified", "2026-02-28 09:08:07.000Z").split()[0]
    if order == "yyyyddmm" and separator == "-" and clock[0] == "T":
        assert read(written + clock, form=order) == [None], "the XML form has another order"
        return

    assert read(written + clock, form=order) == [exactly(AT)]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("order", [each for each in ORDERS if each != "yyyyddmm"])
def test_every_form_is_told_from_a_column_in_which_one_day_is_beyond_the_twelfth(order: str, separator: str) -> None:
    form = Form(dates=f"{order}{separator}")
    values = [form.cell("lastModified", f"2026-{day} 09:08:07.000Z") for day in ("03-04", "02-28", "12-01")]

    assert read(*values) == [exactly(datetime(2026, *day, 9, 8, 7, tzinfo=UTC)) for day in ((3, 4), (2, 28), (12, 1))]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("order", ["mmddyyyy", "ddmmyyyy", "mmyyyydd", "ddyyyymm"])
def test_day_and_month_that_cannot_be_told_apart_are_never_guessed(order: str, separator: str) -> None:
    form = Form(dates=f"{order}{separator}")
    values = [form.cell("lastModified", f"2026-{day} 09:08:07.000Z") for day in ("03-04", "02-02", "12-01")]

    assert (read(*values), column(*values).undecided()) == ([None] * 3, True)


@pytest.mark.parametrize(
    "values",
    [
        ("28/02/2026", "02/28/2026", "01/02/2026"),
        ("28.02.2026 09:00:00", "02-28-2026", "01/02/2026"),
        ("28022026", "02282026"),
        ("2026-28-02", "2026-02-03"),
        ("20262802", "20260203"),
        ("28-2026-02", "02-2026-28"),
        ("28/02/26", "02/28/26"),
        ("28/02/26", "03/02/26"),
    ],
)
def test_values_that_contradict_each_other_or_may_be_two_things_are_not_read(values: tuple[str, ...]) -> None:
    assert (read(*values), column(*values).undecided()) == ([None] * len(values), True)


@pytest.mark.parametrize(
    ("text", "form", "day"),
    [
        ("28/02/26", "ddmmyyyy", date(2026, 2, 28)),
        ("02/28/26", "mmddyyyy", date(2026, 2, 28)),
        ("26-02-28", "yyyymmdd", date(2026, 2, 28)),
        ("26.28.02", "yyyyddmm", date(2026, 2, 28)),
        ("280226", "ddmmyyyy", date(2026, 2, 28)),
        ("022628", "mmyyyydd", date(2026, 2, 28)),
        ("28-26-02", "ddyyyymm", date(2026, 2, 28)),
        ("01/02/1970", "ddmmyyyy", date(1970, 2, 1)),
        ("01/02/70", "ddmmyyyy", date(1970, 2, 1)),
        ("2026-03-02", "yyyyddmm", date(2026, 2, 3)),
        ("2026-02-03", "xml", date(2026, 2, 3)),
    ],
)
def test_two_digit_years_and_doubtful_orders_take_the_setting(text: str, form: DateFormat, day: date) -> None:
    (span,) = read(f"{text} 00:00:00Z", form=form)

    assert span is not None and span.first.date() == day


@pytest.mark.parametrize("form", [None, *ORDERS, "xml"])
def test_the_xml_form_is_what_it_is_whatever_is_set(form: DateFormat | None) -> None:
    assert read("2026-02-28T09:08:07.123Z", "01/02/2026", form=form)[0] == exactly(AT.replace(microsecond=123000))


@pytest.mark.parametrize(
    "text",
    [
        "00/00/0000", "2026-02-29", "31/04/2026", "2026-02-28 24:00:00", "2026-02-28 09:60:00", "2026-02-28 09:08:60", "2026-02-28 9:8:7",
        "2026-02-28 09:08:07 PM", "2026-02-28 09:08:07 CET", "2026-02-28 09:08:07+15:00", "2026-02-28 09:08:07+01:75", "Feb 28, 2026",
        "2026-2", "2026/02-28", "20260228T", "202602281", "2026-02-28 10030", "1969-12-31", "2100-01-01", "0026-02-28", "9" * 400,
        "२०२६-०२-२८",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [None, "yyyymmdd", "ddmmyyyy"])
def test_what_is_no_time_is_none_and_says_nothing_of_the_others(text: str, form: DateFormat | None) -> None:
    assert read(text, form=form) == [None]
    assert read("28/02/2026 00:00:00", text, form=form)[0] == (None if form == "yyyymmdd" else exactly(at(2026, 2, 28)))


@pytest.mark.parametrize("text", ["", "  ", "\xa0"])
def test_an_empty_cell_has_no_time(text: str) -> None:
    assert column().read(text) is None


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-02-20", at(2026, 2, 20), at(2026, 2, 21) - timedelta(milliseconds=1)),
        ("2026-02-20 09:08", at(2026, 2, 20, 9, 8), at(2026, 2, 20, 9, 9) - timedelta(milliseconds=1)),
        ("2026-03-01", at(2026, 3, 1), EXPORTED),
        ("2026-04-01", at(2026, 4, 1), at(2026, 4, 1)),
    ],
)
def test_what_a_time_leaves_open_is_a_span_up_to_the_files_own_time(text: str, first: datetime, last: datetime) -> None:
    assert read(text) == [TimeSpan(first, last)]


@pytest.mark.parametrize(
    ("text", "zone", "first", "last"),
    [
        ("2026-07-01 10:00:00", "Europe/Paris", at(2026, 7, 1, 8), at(2026, 7, 1, 8)),
        ("2026-01-01 10:00:00", "Europe/Paris", at(2026, 1, 1, 9), at(2026, 1, 1, 9)),
        ("2026-01-01 10:00:00", "Asia/Kolkata", at(2026, 1, 1, 4, 30), at(2026, 1, 1, 4, 30)),
        ("2026-01-01 10:00:00Z", "Europe/Paris", at(2026, 1, 1, 10), at(2026, 1, 1, 10)),
        ("2025-10-26 02:30:00", "Europe/Paris", at(2025, 10, 26, 0, 30), at(2025, 10, 26, 1, 30)),
        ("2026-10-25 02:30:00", "Europe/Paris", at(2026, 10, 25, 0, 30), at(2026, 10, 25, 1, 30)),
        ("2026-03-29 02:30:00", "Europe/Paris", at(2026, 3, 29, 0, 30), at(2026, 3, 29, 1, 30)),
        ("2025-11-02 01:30:00", "America/New_York", at(2025, 11, 2, 5, 30), at(2025, 11, 2, 6, 30)),
    ],
)
def test_local_times_are_in_the_zone_that_is_set_and_may_be_two_instants(text: str, zone: str, first: datetime, last: datetime) -> None:
    assert read(text, zone=zone) == [TimeSpan(first, last)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-02-01 10:00:00", at(2026, 1, 31, 20), at(2026, 2, 1, 22)),
        ("2026-03-01 10:00:00", at(2026, 2, 28, 20), EXPORTED),
        ("2026-04-01 10:00:00", at(2026, 3, 31, 20), at(2026, 3, 31, 20)),
    ],
)
def test_a_local_time_in_no_known_zone_is_anywhere_between_the_date_lines(text: str, first: datetime, last: datetime) -> None:
    assert read(text, zone=None) == [TimeSpan(first, last, sure=False)]


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,4}([-/.]?)[0-9]{1,4}\1[0-9]{1,4}([ T][0-9:]{0,9})?Z?", fullmatch=True))
def test_whatever_a_cell_holds_nothing_but_value_error_is_raised(text: str) -> None:
    for zone in ("Europe/Paris", None):
        for span in read(text, "28/02/2026", zone=zone):
            assert span is None or (span.first <= span.last and span.first.utcoffset() == timedelta(0))


def flag(tmp_path: Path, cells: str, **settings: str) -> tuple[object, datetime | None]:
    """What the only row of a file says of email, and when it was changed; its record's time beside it."""
    path = tmp_path / "export"
    path.write_text(f"externalId,blackListEmail,blackListEmailLastModified,lastModified\n{ANN},{cells}\n")
    export = Export(path, ["blackListEmail"], export_settings(**settings), EXPORTED)
    list(export.surveyed())
    (row,) = export.rows(0, EXPORTED)
    assert row.event is not None
    return row.event.flags["blackListEmail"], row.event.record_changed_at


def said(value: bool, changed_at: datetime | None) -> dict[str, object]:
    return {"value": value, "changed_at": changed_at}


@pytest.mark.parametrize(
    ("cells", "zone", "expected", "record_at"),
    [
        ("false,2026-02-01 10:00:00,2026-02-01 10:00:00", "Europe/Paris", said(False, at(2026, 2, 1, 9)), at(2026, 2, 1, 9)),
        ("false,2026-02-01 10:00:00,2026-02-01 10:00:00", "", said(False, None), EXPORTED),
        ("true,2026-02-01 10:00:00,2026-02-01 10:00:00", "", said(True, at(2026, 2, 1, 22)), EXPORTED),
        ("true,2026-03-01 10:00:00,", "", said(True, EXPORTED), EXPORTED),
        ("false,2025-10-26 02:30:00,", "Europe/Paris", said(False, at(2025, 10, 26, 0, 30)), EXPORTED),
        ("true,2025-10-26 02:30:00,", "Europe/Paris", said(True, at(2025, 10, 26, 1, 30)), EXPORTED),
        ("false,2026-02-01,", "UTC", said(False, at(2026, 2, 1)), EXPORTED),
        ("true,2026-02-01,", "UTC", said(True, at(2026, 2, 2) - timedelta(milliseconds=1)), EXPORTED),
    ],
)
def test_true_is_no_older_than_it_can_be_and_false_no_younger(
    tmp_path: Path, cells: str, zone: str, expected: dict[str, object], record_at: datetime
) -> None:
    assert flag(tmp_path, cells, TIME_ZONE=zone) == (expected, record_at)


def test_the_case_of_a_local_time(tmp_path: Path) -> None:
    """10:00 in Paris is before 08:30 UTC; without the zone it takes no opt-out back."""
    cells = "false,2026-07-01 10:00:00,2026-07-01 10:00:00"

    assert flag(tmp_path, cells)[0] == said(False, None)
    assert flag(tmp_path, cells, TIME_ZONE="Europe/Paris")[0] == said(False, at(2026, 7, 1, 8))


def test_the_case_of_days_first(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(
        f"externalId,blackListEmail,blackListEmailLastModified\n{ANN},true,28/02/2026 09:00:00\n{BOB},true,27/02/2026 18:30:00\n"
    )
    export = Export(path, ["blackListEmail"], export_settings(TIME_ZONE="UTC"), EXPORTED)
    list(export.surveyed())

    found = [row.event.flags["blackListEmail"] for row in export.rows(0, EXPORTED) if row.event]

    assert found == [said(True, at(2026, 2, 28, 9)), said(True, at(2026, 2, 27, 18, 30))]


def test_a_column_that_cannot_be_told_leaves_its_flags_without_times_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(
        "externalId,blackListEmail,blackListEmailLastModified,blackListFax,blackListFaxLastModified\n"
        f"{ANN},true,01/02/2026 09:00:00,false,28/02/2026 09:00:00\n{BOB},false,02/02/2026 18:30:00,true,01/02/2026 09:00:00\n"
    )
    export = Export(path, ["blackListEmail", "blackListFax"], export_settings(TIME_ZONE="UTC"), EXPORTED)
    list(export.surveyed())

    first, second = [row.event.flags for row in export.rows(0, EXPORTED) if row.event]

    assert (first["blackListEmail"], second["blackListEmail"]) == (said(True, None), said(False, None))
    assert (first["blackListFax"], second["blackListFax"]) == (said(False, at(2026, 2, 28, 9)), said(True, at(2026, 2, 1, 9)))
    assert export.undecided() == ["blackListEmailLastModified"]


def test_rows_that_are_bad_decide_nothing(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(
        "externalId,blackListEmail,blackListEmailLastModified\n"
        f"{ANN},x,true,28/02/2026 09:00:00\n{BOB},true,28/02/2026 09:00:00,\n{ANN},true,01/02/2026 09:00:00\n"
    )
    export = Export(path, ["blackListEmail"], export_settings(), EXPORTED)
    list(export.surveyed())

    assert export.undecided() == ["blackListEmailLastModified"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"YES": "no"}, "CAMPAIGN_EXPORT_YES"),
        ({"NO": "Oui"}, "CAMPAIGN_EXPORT_NO"),
        ({"YES": "a, B", "NO": "x,b "}, "CAMPAIGN_EXPORT_NO"),
        ({"TIME_ZONE": "Paris"}, "CAMPAIGN_EXPORT_TIME_ZONE"),
        ({"TIME_ZONE": "Europe"}, "CAMPAIGN_EXPORT_TIME_ZONE"),
        ({"TIME_ZONE": "../../etc/localtime"}, "CAMPAIGN_EXPORT_TIME_ZONE"),
        ({"DATE_FORMAT": "dd/mm/yyyy"}, "CAMPAIGN_EXPORT_DATE_FORMAT"),
    ],
)
def test_settings_of_exports_that_are_wrong_are_refused_by_name(settings: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        export_settings(**settings)

    assert [each.split(":")[0] for each in caught.value.problems] == [named]


def test_further_words_for_yes_and_no(tmp_path: Path) -> None:
    words = {"YES": "tak, Igen", "NO": "nie,ÁNO"}

    assert [flag(tmp_path, f"{word},,", **words)[0] for word in ("TAK", " igen", "nie", "áno", "true", "nein")] == [
        said(value, None) for value in (True, True, False, False, True, False)
    ]
