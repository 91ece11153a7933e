"""An export file: everything that Campaign's files are known to vary in, bad rows and bad files (campaign.md §10.3)."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.model.events import OptStatusObserved
from bridge.model.flags import OPT_OUT_FLAGS
from bridge.model.settings import SettingsError
from services.optin.export import LABELS, Export, ExportRow
from services.optin.export_rows import BadExport
from tests.unit.export_settings import export_settings

ANN, BOB = "60c4e274-0d87-e711-80e5-00155db19e6d", "0ba7b810-9dad-11d1-80b4-00c04fd430c8"
EXPORTED = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AT = datetime(2026, 2, 28, 9, 8, 7, 123000, tzinfo=UTC)
STAMP = "2026-02-28 09:08:07.123Z"
MAPPED = ("blackListEmail", "blackListPhone")
HEADER = "externalId,blackListEmail,blackListEmailLastModified,blackListPhone,blackListPhoneLastModified,lastModified"
ROW = f"{ANN},true,{STAMP},false,,{STAMP}"
OTHER = f"{BOB},false,{STAMP},true,{STAMP},{STAMP}"


class Files:
    """Writes a file and reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "export"

    def export(
        self,
        content: bytes | str,
        flags: Sequence[str] = MAPPED,
        labels: Mapping[str, str] = LABELS,
        **settings: str,
    ) -> Export:
        """`settings`: those that begin with CAMPAIGN_EXPORT_, without that. The file is surveyed."""
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        export = Export(self.path, flags, export_settings(**settings), EXPORTED, labels, "x.csv")
        assert all(each is None for each in export.surveyed())
        return export

    def rows(self, content: bytes | str, flags: Sequence[str] = MAPPED, skip: int = 0, **settings: str) -> list[ExportRow]:
        return list(self.export(content, flags, LABELS, **settings).rows(skip, NOW))

    def one(self, content: bytes | str, flags: Sequence[str] = MAPPED, **settings: str) -> OptStatusObserved:
        (row,) = self.rows(content, flags, 0, **settings)
        assert row.event is not None
        return row.event

    def flag(self, name: str, header: str, cells: str, **settings: str) -> Mapping[str, object]:
        """This flag, in a file of one row of Ann's."""
        return self.one(f"externalId,{header}\n{ANN},{cells}\n", [name], **settings).flags[name]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def keys(rows: Sequence[ExportRow]) -> list[str | int]:
    """Whose each row is, or its number, if nothing of it could be read."""
    return [row.number if row.event is None else row.event.contact_key for row in rows]


def events(rows: Sequence[ExportRow]) -> list[OptStatusObserved]:
    return [row.event for row in rows if row.event is not None]


def seen(email: bool = True, phone: bool = False, phone_at: datetime | None = None) -> dict[str, dict[str, object]]:
    return {"blackListEmail": {"value": email, "changed_at": AT}, "blackListPhone": {"value": phone, "changed_at": phone_at}}


def test_a_row_is_an_observation_of_campaign_with_the_time_of_each_flag(files: Files) -> None:
    observed = files.one(f"{HEADER}\n{ROW}\n")

    assert observed == OptStatusObserved(ANN, "campaign", seen(), AT, NOW, origin="x.csv row 1")


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

    assert events(rows) == [
        OptStatusObserved(ANN, "campaign", seen(), AT, NOW, origin="x.csv row 1"),
        OptStatusObserved(BOB, "campaign", seen(False, True, AT), AT, NOW, origin="x.csv row 2"),
    ]
    assert [row.bad for row in rows] == [None, None]


def test_the_last_line_needs_no_end(files: Files) -> None:
    assert keys(files.rows(f"{HEADER}\n{ROW}\n{OTHER}")) == [ANN, BOB]


def test_a_byte_order_mark_is_no_part_of_the_header_in_plain_utf_8_either(files: Files) -> None:
    export = files.export("\ufeff" + quoted(f"{HEADER}\n{ROW}", ","), ENCODING="utf-8")

    assert keys(list(export.rows(0, NOW))) == [ANN]


def test_another_encoding_can_be_set(files: Files) -> None:
    export = files.export(f"externalId;blackListEmail;city\n{ANN};1;Köln\n".encode("latin-1"), ENCODING="latin-1")

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

    (row,) = events(list(export.rows(0, NOW)))

    assert row.flags == {"blackListEmail": {"value": True, "changed_at": None}}


def test_the_contact_may_be_in_another_column(files: Files) -> None:
    export = files.export(f"externalId,cusContact,blackListEmail\n42,{ANN},1\n", KEY_COLUMN="cusContact")

    assert keys(list(export.rows(0, NOW))) == [ANN]


@pytest.mark.parametrize("cut", [12, 30])
def test_the_rows_before_a_break_in_gzip_are_read(files: Files, cut: int) -> None:
    people = [f"00000000-0000-4000-8000-{n:012}" for n in range(3000)]
    packed = gzip.compress("\n".join([HEADER, *(f"{each},true,{STAMP},,,{STAMP}" for each in people)]).encode())
    rows, read = files.export(packed[: len(packed) - len(packed) * cut // 100]).rows(0, NOW), list[ExportRow]()

    with pytest.raises(BadExport):
        read.extend(rows)

    assert 500 < len(read) < 3000
    assert keys(read) == people[: len(read)]


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


@pytest.mark.parametrize("text", [
    "true", "TRUE", "True", "1", "yes", "Yes", "YES", " true ", '"true"', "\xa0true\xa0", "y", "Y", "t", "T", "oui", "Oui", "ja", "JA",
    "si", "SI", "sí", "SÍ", "si\u0301",
])  # fmt: skip
def test_true_in_all_its_words(files: Files, text: str) -> None:
    assert files.flag("blackListEmail", "blackListEmail", text)["value"] is True


@pytest.mark.parametrize("text", [
    "false", "FALSE", "False", "0", "no", "No", "NO", " false ", '"false"', "\xa0false", "n", "N", "f", "F", "non", "NON", "nein", "Nein",
])  # fmt: skip
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
        ("2026/02/28 09:08:07Z", AT.replace(microsecond=0)),
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
    assert [row.flags["blackListEmail"]["value"] for row in events(rows)] == [False, False, True]


@pytest.mark.parametrize("key", [ANN.upper(), f"{{{ANN}}}", f"{{{ANN.upper()}}}", f" {ANN} "])
def test_a_contacts_id_may_have_capitals_and_braces(files: Files, key: str) -> None:
    assert files.one(f"externalId,blackListEmail\n{key},1\n").contact_key == ANN


@pytest.mark.parametrize("key", ["", "c-1", ANN[:-1], ANN + "0", ANN.replace("-", ""), f"x{ANN}", "%%garbage\x00"])
def test_a_row_without_a_contacts_id_is_told_by_its_number_and_the_next_one_goes_on(files: Files, key: str) -> None:
    assert files.rows(f"externalId,blackListEmail\n{key},1\n{ANN},1\n")[0] == ExportRow(1, bad="no key of a contact")
    assert keys(files.rows(f"externalId,blackListEmail\n{key},1\n{ANN},1\n")) == [1, ANN]


@pytest.mark.parametrize(("cells", "read"), [
    (f"hush,{STAMP},true,{STAMP},{STAMP}", {"blackListPhone": {"value": True, "changed_at": AT}}),
    (f"2,,false,{STAMP},", {"blackListPhone": {"value": False, "changed_at": AT}}),
    (f"true,{STAMP},hush,,", {"blackListEmail": {"value": True, "changed_at": AT}}),
])  # fmt: skip
def test_a_flag_that_is_neither_yes_nor_no_spoils_only_itself_and_its_row_counts_as_bad(
    files: Files, cells: str, read: dict[str, object]
) -> None:
    first, bad, last = files.rows(f"{HEADER}\n{ROW}\n{ANN},{cells}\n{OTHER}\n")

    assert keys([first, bad, last]) == [ANN, ANN, BOB]
    assert bad.event is not None and bad.event.flags == read
    assert bad.bad is not None and "neither yes nor no" in bad.bad and "hush" not in bad.bad


def test_a_row_of_which_no_flag_can_be_read_is_no_observation(files: Files) -> None:
    (row,) = files.rows(f"{HEADER}\n{ANN},hush,,hush,,\n")

    assert (row.event, row.bad) == (None, "blackListEmail is neither yes nor no")


@pytest.mark.parametrize(
    "time", ["hush", "2026-13-28 09:08:07.123Z", "00/00/0000", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_a_time_that_cannot_be_read_spoils_only_itself(files: Files, time: str) -> None:
    """TRUE beside it is TRUE all the same, and FALSE is no word without its time."""
    (row,) = files.rows(f"{HEADER}\n{ANN},true,{time},false,{time},{time}\n")

    assert row.event is not None
    assert row.event.flags == {
        "blackListEmail": {"value": True, "changed_at": None},
        "blackListPhone": {"value": False, "changed_at": None},
    }
    assert (row.event.record_changed_at, row.bad) == (EXPORTED, None)
    assert row.spoiled == ("blackListEmailLastModified", "blackListPhoneLastModified", "lastModified")


def test_the_case_of_one_bad_cell(files: Files) -> None:
    header = "externalId,blackListEmail,blackListEmailLastModified,blackListFax,blackListFaxLastModified"
    text = f"{header}\n{ANN},true,2026-02-28 09:00:00.000Z,false,00/00/0000\n"

    observed = files.one(text, ["blackListEmail", "blackListFax"])

    assert observed.flags == {
        "blackListEmail": {"value": True, "changed_at": datetime(2026, 2, 28, 9, tzinfo=UTC)},
        "blackListFax": {"value": False, "changed_at": None},
    }


@pytest.mark.parametrize(
    "row",
    [
        f"{ANN},1",
        ANN,
        f"{ANN},true,{STAMP},false,",
        f"{ANN},true,{STAMP},false,,{STAMP},",
        f"{ANN},no, false,true,{STAMP},true,{STAMP}",
        f'{ANN},"true",{STAMP},false,,"{STAMP}",x',
    ],
)
def test_a_row_with_more_or_fewer_cells_than_the_header_is_bad(files: Files, row: str) -> None:
    """Nobody can say which cell is too many, or missing."""
    rows = files.rows(f"{HEADER}\n{row}\n{ROW}\n")

    assert keys(rows) == [1, ANN]
    assert rows[0].bad is not None and "cells" in rows[0].bad


@pytest.mark.parametrize("header", [
    "externalId,No longer contact by email,blackListEmail,blackListEmailLastModified",
    "externalId,blackListEmail,denyListEmail,blackListEmailLastModified",
    "externalId,blackListEmail,BLACKLISTEMAIL,blackListEmailLastModified",
    "externalId,blackListEmail,External Resource ID,blackListEmailLastModified",
    "externalId,externalId,blackListEmail,blackListEmailLastModified",
    "externalId,blackListEmailLastModified,blackListEmail,denyListEmailLastModified",
    "externalId,blackListEmail,lastModified,Last modified",
    "externalId,blackListEmail,blackListFax,denyListFax",
])  # fmt: skip
def test_two_columns_of_one_meaning_make_the_file_bad(files: Files, header: str) -> None:
    with pytest.raises(BadExport, match="two columns that mean"):
        files.rows(f"{header}\n{ANN},true,false,{STAMP}\n")


def test_other_columns_may_have_the_same_name(files: Files) -> None:
    assert keys(files.rows(f"externalId,city,city,blackListEmail\n{ANN},a,b,1\n")) == [ANN]


def test_labels_in_another_alphabet_are_told_apart(files: Files) -> None:
    labels = {"メール拒否": "blackListEmail", "都市": "location"}
    (row,) = events(list(files.export(f"externalId,都市,メール拒否\n{ANN},0,1\n", labels=labels).rows(0, NOW)))

    assert row.flags == {"blackListEmail": {"value": True, "changed_at": None}}


@pytest.mark.parametrize("stray", ['"', '"oh,', f'"{BOB},true', '%%"garbage;\x00'])
def test_a_stray_quote_spoils_its_own_row_only(files: Files, stray: str) -> None:
    """Read as a cell over many lines it would swallow the opt-outs of everybody after it."""
    assert keys(files.rows(f"{HEADER}\n{stray}\n{ROW}\n{OTHER}\n")) == [1, ANN, BOB]
    assert keys(files.rows(f"{HEADER}\n{stray}\n" + quoted(f"{ROW}\n{OTHER}", ","))) == [1, ANN, BOB]


@pytest.mark.parametrize("lines", [1, 2, 10, 18, 19, 25])
@pytest.mark.parametrize("last", ['"', 'x"', f'{BOB},true,,"x",,', f'{BOB},true,"",,,', f'"{BOB}",true,,,,'])
def test_what_an_open_quote_swallows_is_read_or_counted(files: Files, lines: int, last: str) -> None:
    """A later quote would close it, and the row would look whole."""
    text = f'{HEADER}\n{ANN},true,"oh,,,\n' + f"{BOB},true,{STAMP},,,\n" * lines + f"{last}\n{ROW}\n"

    rows = files.rows(text)

    assert keys(rows)[: lines + 1] == [1, *[BOB] * lines]
    assert keys(rows)[-1] == ANN
    assert len(rows) == lines + 3


def test_a_swallowing_cell_of_the_right_width_is_seen_through(files: Files) -> None:
    rows = files.rows(f'externalId,blackListEmail,note\n{ANN},false,"oh\n{BOB},true,"\n{ANN},true,x\n', ["blackListEmail"])

    assert keys(rows) == [1, 2, ANN]
    assert all(row.bad for row in rows[:2])


def test_what_may_be_written_in_a_cell_takes_no_opt_out_back(files: Files) -> None:
    """Lines that stand between quotes may be somebody's note: TRUE counts, in doubt, and FALSE has no time."""
    text = (
        f'externalId,blackListEmail,blackListEmailLastModified,note\n{ANN},true,,"oh\n{BOB},false,{STAMP},x\n{BOB},true,{STAMP},x\nend"\n'
    )

    rows = files.rows(text, ["blackListEmail"])

    assert keys(rows) == [1, BOB, BOB, 4]
    assert [each.flags["blackListEmail"]["changed_at"] for each in events(rows)] == [None, AT]


def test_an_endless_line_is_a_bad_row_and_not_kept(files: Files) -> None:
    rows = files.rows(f"{HEADER}\n{'x' * 3_000_000}\n{ROW}\n")

    assert keys(rows) == [1, ANN]


def test_wrong_bytes_are_never_replaced_in_a_key_or_a_flag(files: Files) -> None:
    header = b"externalId,blackListEmail,city\n"
    rows = files.rows(header + f"{ANN},true,K\xf6ln\n".encode("latin-1") + f"{BOB},s\xed,x\n".encode("latin-1") + f"{ANN},1,x\n".encode())

    assert keys(rows) == [ANN, 2, ANN]
    assert [row.bad for row in rows] == ["it has bytes that are no text in this encoding", "blackListEmail is neither yes nor no", None]
    wrong_key = files.rows(header + ANN.encode()[:-1] + b"\xfc,true,x\n")
    assert wrong_key == [ExportRow(1, bad="no key of a contact")]


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
    ],
)
def test_a_file_that_cannot_be_read_is_a_bad_export_that_shows_nothing_of_it(files: Files, content: bytes) -> None:
    with pytest.raises(BadExport) as caught:
        files.rows(content)

    assert ANN not in str(caught.value) and "Rome" not in str(caught.value) and "K" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-99", "rot13"])
def test_an_encoding_that_does_not_exist_is_no_setting(encoding: str) -> None:
    with pytest.raises(SettingsError):
        export_settings(ENCODING=encoding)


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

    for row in events(rows):
        times = [row.record_changed_at, *(flag["changed_at"] for flag in row.flags.values())]
        assert row.contact_key == row.contact_key.lower()
        assert len(row.contact_key) == 36
        assert all(at is None or at.utcoffset() == timedelta(0) for at in times)


NOISE = st.text(st.sampled_from("0123456789abcdef-{}/:. TZ+,;\t\"'\r\n\0é"), max_size=60).map(str.encode) | st.binary(max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    before=st.lists(NOISE, max_size=6), after=st.lists(NOISE, max_size=6), time=NOISE.filter(lambda each: not set(each) & set(b'",;\t\r\n'))
)
def test_a_clear_true_in_a_whole_row_is_published_whatever_is_around_it(
    files: Files, before: list[bytes], after: list[bytes], time: bytes
) -> None:
    row = BOB.encode() + b",true," + time
    content = b"\n".join([b"externalId,blackListEmail,blackListEmailLastModified", *before, row, *after])

    rows = files.rows(content, ["blackListEmail"])

    assert any(each.contact_key == BOB and each.flags["blackListEmail"]["value"] for each in events(rows))
