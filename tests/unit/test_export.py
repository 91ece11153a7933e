"""An export file: everything that Campaign's files are known to vary in, bad rows and bad files (campaign.md §10.3)."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.config import OPT_OUT_FLAGS
from bridge.events import OptStatusObserved
from services.optin.export import LABELS, BadExport, BadRow, Export

ANN, BOB = "60c4e274-0d87-e711-80e5-00155db19e6d", "0ba7b810-9dad-11d1-80b4-00c04fd430c8"
EXPORTED = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AT = datetime(2026, 2, 28, 9, 8, 7, 123000, tzinfo=UTC)
STAMP = "2026-02-28 09:08:07.123Z"
MAPPED = ("blackListEmail", "blackListPhone")
HEADER = "externalId,blackListEmail,blackListEmailLastModified,blackListPhone,blackListPhoneLastModified,lastModified"
ROW = f"{ANN},true,{STAMP},false,,{STAMP}"
OTHER = f"{BOB},false,{STAMP},true,{STAMP},{STAMP}"
Row = OptStatusObserved | BadRow


class Files:
    """Writes a file and reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "export"

    def export(
        self,
        content: bytes | str,
        flags: Sequence[str] = MAPPED,
        key: str = "externalId",
        encoding: str = "utf-8-sig",
        labels: Mapping[str, str] = LABELS,
    ) -> Export:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Export(self.path, flags, key, encoding, EXPORTED, labels)

    def rows(self, content: bytes | str, flags: Sequence[str] = MAPPED, skip: int = 0) -> list[Row]:
        return list(self.export(content, flags).rows(skip, NOW))

    def one(self, content: bytes | str, flags: Sequence[str] = MAPPED) -> OptStatusObserved:
        (row,) = self.rows(content, flags)
        assert isinstance(row, OptStatusObserved)
        return row

    def flag(self, name: str, header: str, cells: str) -> Mapping[str, object]:
        """This flag, in a file of one row of Ann's."""
        return self.one(f"externalId,{header}\n{ANN},{cells}\n", [name]).flags[name]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def keys(rows: Sequence[Row]) -> list[str | int]:
    return [row.number if isinstance(row, BadRow) else row.contact_key for row in rows]


def seen(email: bool = True, phone: bool = False, phone_at: datetime | None = None) -> dict[str, dict[str, object]]:
    return {"blackListEmail": {"value": email, "changed_at": AT}, "blackListPhone": {"value": phone, "changed_at": phone_at}}


def test_a_row_is_an_observation_of_campaign_with_the_time_of_each_flag(files: Files) -> None:
    observed = files.one(f"{HEADER}\n{ROW}\n")

    assert observed == OptStatusObserved(ANN, "campaign", seen(), AT, NOW)


def quoted(text: str, delimiter: str) -> str:
    return "\n".join(delimiter.join(f'"{cell}"' for cell in line.split(delimiter)) for line in text.split("\n"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["no BOM", "BOM"])
@pytest.mark.parametrize("quotes", [False, True], ids=["bare", "quoted"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_every_form_of_a_file_says_the_same(
    files: Files, delimiter: str, quotes: bool, bom: bytes, newline: str, pack: Callable[[bytes], bytes]
) -> None:
    text = f"{HEADER}\n{ROW}\n{OTHER}".replace(",", delimiter)
    text = quoted(text, delimiter) if quotes else text

    rows = files.rows(pack(bom + text.replace("\n", newline).encode()))

    assert rows == [
        OptStatusObserved(ANN, "campaign", seen(), AT, NOW),
        OptStatusObserved(BOB, "campaign", seen(False, True, AT), AT, NOW),
    ]


def test_the_last_line_needs_no_end(files: Files) -> None:
    assert keys(files.rows(f"{HEADER}\n{ROW}\n{OTHER}")) == [ANN, BOB]


def test_a_byte_order_mark_is_no_part_of_the_header_in_plain_utf_8_either(files: Files) -> None:
    export = files.export("\ufeff" + quoted(f"{HEADER}\n{ROW}", ","), encoding="utf-8")

    assert keys(list(export.rows(0, NOW))) == [ANN]


def test_another_encoding_can_be_set(files: Files) -> None:
    export = files.export(f"externalId;blackListEmail;city\n{ANN};1;Köln\n".encode("latin-1"), encoding="latin-1")

    assert keys(list(export.rows(0, NOW))) == [ANN]


def test_other_columns_may_hold_delimiters_quotes_and_line_ends_in_quotes(files: Files) -> None:
    text = f'externalId,note,blackListEmail\n{ANN},"one, ""two""\nthree",true\n{BOB},"",true\n'

    assert keys(files.rows(text)) == [ANN, BOB]


@pytest.mark.parametrize(
    "header",
    [
        "externalId,blackListEmail,blackListEmailLastModified",
        "EXTERNALID,BLACKLISTEMAIL,BLACKLISTEMAILLASTMODIFIED",
        "externalid,blacklistemail,blacklistemaillastmodified",
        " externalId , blackListEmail , blackListEmailLastModified ",
        "externalId,denyListEmail,denyListEmailLastModified",
        "externalId,DENYLISTEMAIL,denylistemaillastmodified",
        "External Resource ID,No longer contact by email,blackListEmailLastModified",
        "external resource id,NO LONGER CONTACT BY EMAIL,denyListEmailLastModified",
    ],
)
def test_the_header_has_internal_names_in_any_case_or_labels(files: Files, header: str) -> None:
    observed = files.one(f"{header}\n{ANN},true,{STAMP}\n")

    assert observed.flags == {"blackListEmail": {"value": True, "changed_at": AT}}


@pytest.mark.parametrize("flag", OPT_OUT_FLAGS)
def test_every_flag_is_found_by_its_label(files: Files, flag: str) -> None:
    labels = [label for label, name in LABELS.items() if name == flag]

    assert labels
    for label in labels:
        assert files.flag(flag, label, "Yes")["value"] is True


@pytest.mark.parametrize("flag", [name for name in OPT_OUT_FLAGS if name.startswith("blackList")])
def test_every_flag_is_found_by_the_name_of_the_documentation(files: Files, flag: str) -> None:
    assert files.flag(flag, flag.replace("blackList", "denyList"), "1")["value"] is True


def test_labels_that_campaign_told_are_known_as_well(files: Files) -> None:
    labels = {**LABELS, "Identifiant externe": "externalId", "Ne plus contacter (e-mail)": "blackListEmail"}
    export = files.export(f"identifiant externe;Ne plus contacter (e-mail)\n{ANN};1\n", labels=labels)

    (row,) = export.rows(0, NOW)

    assert isinstance(row, OptStatusObserved)
    assert row.flags == {"blackListEmail": {"value": True, "changed_at": None}}


def test_the_contact_may_be_in_another_column(files: Files) -> None:
    export = files.export(f"externalId,cusContact,blackListEmail\n42,{ANN},1\n", key="cusContact")

    assert keys(list(export.rows(0, NOW))) == [ANN]


@pytest.mark.parametrize(("header", "understood"), [
    (HEADER, True),
    (f"city;{HEADER}".replace(",", ";"), True),
    ("Identifiant,Courriel", False),
    ("externalId,blackListEmail,blackListEmailLastModified,Telephone,blackListPhoneLastModified", False),
    ("externalId,blackListEmail,Courriel le,blackListPhone,blackListPhoneLastModified", False),
    ("", False),
])  # fmt: skip
def test_a_first_line_is_understood_when_each_mapped_flag_and_its_time_is_found(files: Files, header: str, understood: bool) -> None:
    """Else Campaign is asked for its labels: a flag under a name that we do not know is not a missing one."""
    assert files.export(f"{header}\n").understood() is understood


@pytest.mark.parametrize("name", ["blackListPushnotification", "ccpaOptOut", "blackList"])
def test_a_first_line_of_the_contracts_columns_is_understood_for_every_flag(files: Files, name: str) -> None:
    times = "" if name == "blackListPushnotification" else f",{name}LastModified"

    assert files.export(f"externalId,{name}{times},blackListAllLastModified,lastModified\n", [name]).understood()


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes", "Yes", "YES", " true ", '"true"'])
def test_true_in_all_its_words(files: Files, text: str) -> None:
    assert files.flag("blackListEmail", "blackListEmail", text)["value"] is True


@pytest.mark.parametrize("text", ["false", "FALSE", "False", "0", "no", "No", "NO", " false ", '"false"'])
def test_false_in_all_its_words(files: Files, text: str) -> None:
    assert files.flag("blackListEmail", "blackListEmail", text)["value"] is False


def test_an_empty_flag_is_no_answer(files: Files) -> None:
    """It must not take an opt-out away."""
    observed = files.one(f"{HEADER}\n{ANN},,{STAMP},true,,\n")

    assert observed.flags == {"blackListPhone": {"value": True, "changed_at": None}}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-28 09:08:07.123Z", AT),
        ("2026-02-28T09:08:07.123Z", AT),
        ("2026-02-28T09:08:07Z", AT.replace(microsecond=0)),
        ("2026/02/28 09:08:07", AT.replace(microsecond=0)),
        ("2026-02-28T10:08:07.123+01:00", AT),
        ('"2026-02-28 09:08:07.123Z"', AT),
        ("2026-02-28 09:08:07.123999Z", AT),
        ("", None),
        ("  ", None),
    ],
)
def test_times_come_in_three_forms_or_not_at_all(files: Files, text: str, moment: datetime | None) -> None:
    assert files.flag("blackListEmail", "blackListEmail,blackListEmailLastModified", f"true,{text}")["changed_at"] == moment


def test_a_flag_whose_column_is_missing_is_not_evaluated(files: Files) -> None:
    observed = files.one(f"externalId,blackListEmail,blackListEmailLastModified\n{ANN},true,{STAMP}\n")

    assert list(observed.flags) == ["blackListEmail"]


def test_a_flag_that_is_not_mapped_is_not_looked_at(files: Files) -> None:
    observed = files.one(f"externalId,blackListEmail,blackListFax\n{ANN},true,perhaps\n")

    assert list(observed.flags) == ["blackListEmail"]


def test_a_flag_without_its_time_was_changed_nobody_knows_when(files: Files) -> None:
    """However late the profile was: that may have been another flag."""
    flag = files.flag("blackListEmail", "blackListEmail,blackListAllLastModified,lastModified", f"true,{STAMP},{STAMP}")

    assert flag == {"value": True, "changed_at": None}


@pytest.mark.parametrize(
    ("cells", "moment"),
    [
        (f"1,{STAMP},2026-02-28 23:00:00.000Z", AT),
        (f"1,,{STAMP}", AT),
        ("1,,", None),
    ],
)
def test_push_has_the_time_of_any_flags_change_else_of_the_record(files: Files, cells: str, moment: datetime | None) -> None:
    flag = files.flag("blackListPushnotification", "blackListPushnotification,blackListAllLastModified,lastModified", cells)

    assert flag == {"value": True, "changed_at": moment}


@pytest.mark.parametrize(
    ("header", "cells", "moment"),
    [
        ("lastModified,blackListAllLastModified", f"{STAMP},2026-01-01 00:00:00.000Z", AT),
        ("lastModified,blackListAllLastModified", f",{STAMP}", AT),
        ("blackListAllLastModified", STAMP, AT),
        ("lastModified,blackListAllLastModified", ",", EXPORTED),
        ("city", "Rome", EXPORTED),
    ],
)
def test_a_record_was_changed_when_it_says_so_else_when_the_file_was_written(
    files: Files, header: str, cells: str, moment: datetime
) -> None:
    assert files.one(f"externalId,blackListEmail,{header}\n{ANN},1,{cells}\n").record_changed_at == moment


def test_several_rows_of_a_profile_come_in_their_order(files: Files) -> None:
    older = f"{ANN},false,2026-01-01 00:00:00.000Z,false,,2026-01-01 00:00:00.000Z"

    rows = files.rows(f"{HEADER}\n{older}\n{OTHER}\n{ROW}\n")

    assert keys(rows) == [ANN, BOB, ANN]
    assert [row.flags["blackListEmail"]["value"] for row in rows if isinstance(row, OptStatusObserved)] == [False, False, True]


@pytest.mark.parametrize("key", [ANN.upper(), f"{{{ANN}}}", f"{{{ANN.upper()}}}", f" {ANN} "])
def test_a_contacts_id_may_have_capitals_and_braces(files: Files, key: str) -> None:
    assert files.one(f"externalId,blackListEmail\n{key},1\n").contact_key == ANN


@pytest.mark.parametrize("key", ["", "c-1", ANN[:-1], ANN + "0", ANN.replace("-", ""), f"x{ANN}", "%%garbage\x00"])
def test_a_row_without_a_contacts_id_is_told_by_its_number_and_the_next_one_goes_on(files: Files, key: str) -> None:
    assert files.rows(f"externalId,blackListEmail\n{key},1\n{ANN},1\n")[0] == BadRow(1, "no key of a contact")
    assert keys(files.rows(f"externalId,blackListEmail\n{key},1\n{ANN},1\n")) == [1, ANN]


@pytest.mark.parametrize("cells", [
    f"hush,{STAMP},false,,{STAMP}",
    "true,hush,false,,",
    "true,2026-13-28 09:08:07.123Z,false,,",
    "true,,false,,hush",
    "true,0001-01-01T00:00:00+23:59,false,,",
    "true,9999-12-31T23:59:59-23:59,false,,",
    "2,,false,,",
])  # fmt: skip
def test_a_bad_row_is_told_by_its_number_without_its_values_and_the_next_one_goes_on(files: Files, cells: str) -> None:
    first, bad, last = files.rows(f"{HEADER}\n{ROW}\n{ANN},{cells}\n{OTHER}\n")

    assert keys([first, last]) == [ANN, BOB]
    assert isinstance(bad, BadRow)
    assert bad.number == 2
    assert not [part for part in (*cells.split(","), ANN) if len(part) > 1 and part not in ("true", "false") and part in bad.why]


def test_flags_that_a_short_row_does_not_reach_are_not_evaluated(files: Files) -> None:
    assert files.one(f"{HEADER}\n{ANN},1").flags == {"blackListEmail": {"value": True, "changed_at": None}}


@pytest.mark.parametrize("stray", ['"', '"oh,', f'"{BOB},true', '%%"garbage;\x00'])
def test_a_stray_quote_spoils_its_own_row_only(files: Files, stray: str) -> None:
    """Read as a cell over many lines it would swallow the opt-outs of everybody after it."""
    assert keys(files.rows(f"{HEADER}\n{stray}\n{ROW}\n{OTHER}\n")) == [1, ANN, BOB]
    assert keys(files.rows(f"{HEADER}\n{stray}\n" + quoted(f"{ROW}\n{OTHER}", ","))) == [1, ANN, BOB]


def test_an_endless_cell_is_a_bad_row(files: Files) -> None:
    assert keys(files.rows(f"{HEADER}\n{'x' * 200_000},1,,,,\n{ROW}\n")) == [1, ANN]


def test_empty_lines_are_no_rows(files: Files) -> None:
    text = f"{HEADER}\n\n{ROW}\n\n\n{OTHER}\nbad,,,,,\n\n"

    assert keys(files.rows(text)) == [ANN, BOB, 3]


@pytest.mark.parametrize("skip", range(6))
def test_reading_resumes_after_any_number_of_rows(files: Files, skip: int) -> None:
    text = f'{HEADER}\n{ROW}\n\nbad,,,,,\n"oh\n{OTHER}\n{ROW}\n'
    whole = files.rows(text)

    assert keys(whole) == [ANN, 2, 3, BOB, ANN]
    assert files.rows(text, skip=skip) == whole[skip:]


HALF = gzip.compress(f"{HEADER}\n{ROW}\n".encode() * 50)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\xef\xbb\xbf",
        f"{ROW}\n".encode(),
        b"name,blackListEmail\nx,true\n",
        f"externalId,city\n{ANN},Rome\n".encode(),
        f"externalId,blackListFax\n{ANN},1\n".encode(),
        f"externalId|blackListEmail\n{ANN}|1\n".encode(),
        HALF[:-12],
        HALF[:40] + b"\x00" * 40 + HALF[80:],
        b"\x1f\x8b",
        b"\x1f\x8bnonsense",
        f"{HEADER}\n{ROW}\n".encode("utf-16"),
        f"externalId,blackListEmail,city\n{ANN},1,Köln\n".encode("latin-1"),
    ],
    ids=[
        "empty",
        "an empty line",
        "a byte order mark",
        "no header",
        "no key column",
        "no flag",
        "no mapped flag",
        "another delimiter",
        "gzip breaks off",
        "gzip is broken",
        "gzip without anything",
        "no gzip after all",
        "utf-16",
        "latin-1",
    ],
)
def test_a_file_that_cannot_be_read_is_a_bad_export_that_shows_nothing_of_it(files: Files, content: bytes) -> None:
    with pytest.raises(BadExport) as caught:
        files.rows(content)

    assert ANN not in str(caught.value) and "Rome" not in str(caught.value) and "K" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-99", "rot13"])
def test_an_encoding_that_does_not_exist_is_a_bad_export(files: Files, encoding: str) -> None:
    with pytest.raises(BadExport):
        list(files.export(f"{HEADER}\n{ROW}\n", encoding=encoding).rows(0, NOW))


def test_a_file_that_is_gone_is_a_bad_export(files: Files) -> None:
    export = files.export("")
    files.path.unlink()

    with pytest.raises(BadExport):
        list(export.rows(0, NOW))


CELLS = st.text(st.sampled_from("0123456789abcdef-{}/:. TZ+,;\t\"'\r\n\0\ufeffé"), max_size=40) | st.sampled_from([ANN, STAMP, "true", ""])
TEXTS = st.lists(st.lists(CELLS, max_size=8).map(",".join), max_size=8).map(lambda lines: "\n".join([HEADER, *lines]).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=st.binary(max_size=300) | TEXTS | TEXTS.map(gzip.compress) | st.binary(max_size=60).map(lambda each: b"\x1f\x8b\x08" + each))
@example(content=f"{HEADER}\n{ANN},true,0001-01-01T00:00:00+23:59,,,\n".encode())
def test_whatever_a_file_holds_nothing_but_bad_export_is_raised(files: Files, content: bytes) -> None:
    """And what is observed is fit for its schema: a lower-case key, times in UTC."""
    export = files.export(content, OPT_OUT_FLAGS)
    assert export.understood() in (True, False)
    try:
        rows = list(export.rows(0, NOW))
    except BadExport:
        return

    for row in rows:
        if isinstance(row, OptStatusObserved):
            times = [row.record_changed_at, *(flag["changed_at"] for flag in row.flags.values())]
            assert row.contact_key == row.contact_key.lower()
            assert len(row.contact_key) == 36
            assert all(at is None or at.utcoffset() == timedelta(0) for at in times)
