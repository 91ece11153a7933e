"""`$batch` on the wire (dataverse.md §7.7): what is sent, and what answers may look like."""

from __future__ import annotations

import pytest

from bridge.dynamics.batch import BatchAnswer, Request, Unreadable, decode, encode

CREATE = Request("POST", "/api/data/v9.2/tasks", {"subject": "Zoë"})
DONE = Request("PATCH", "$1", {"statecode": 1})
GOOD = "Content-Type: application/http\nContent-Transfer-Encoding: binary\n\nHTTP/1.1 204 No Content\nOData-Version: 4.0\n\n"
BAD = (
    "content-type: application/http\ncontent-transfer-encoding: binary\n\nHTTP/1.1 412 Precondition Failed\nREQ_ID: x\n"
    'Content-Type: application/json\n\n{"error":{"code":"0x80040237","message":"A record with matching key values already exists."}}'
)


def answered(*parts: str, boundary: str = "batchresponse_1") -> bytes:
    text = "".join(f"--{boundary}\n{part}\n" for part in parts) + f"--{boundary}--\n"
    return text.replace("\n", "\r\n").encode()


def change_set(*parts: str) -> str:
    return "Content-Type: multipart/mixed; boundary=changesetresponse_2\n\n" + answered(
        *parts, boundary="changesetresponse_2"
    ).decode().replace("\r\n", "\n")


def test_every_line_ends_as_the_service_wants_it_and_ids_are_unique() -> None:
    kind, body = encode([(CREATE,), (CREATE, DONE), (CREATE, DONE)])
    text = body.decode()

    assert kind.startswith('multipart/mixed; boundary="batch_')
    assert "\n" not in text.replace("\r\n", "")
    ids = [line for line in text.split("\r\n") if line.startswith("Content-ID")]
    assert len(ids) == len(set(ids)) == 4
    assert [line for line in text.split("\r\n") if line.startswith("PATCH")] == ["PATCH $11 HTTP/1.1", "PATCH $21 HTTP/1.1"]


@pytest.mark.parametrize("kind", ["multipart/mixed; boundary=batchresponse_1", 'Multipart/Mixed; Boundary="batchresponse_1"'])
def test_answers_come_in_order_with_their_codes(kind: str) -> None:
    assert decode(kind, answered(GOOD, BAD, GOOD), 3) == [BatchAnswer(204), BatchAnswer(412, "0x80040237"), BatchAnswer(204)]


def test_a_change_set_is_answered_by_the_part_that_failed_nested_or_bare() -> None:
    kind = "multipart/mixed; boundary=batchresponse_1"

    assert decode(kind, answered(change_set(GOOD, GOOD), change_set(BAD), BAD), 3) == [
        BatchAnswer(204),
        BatchAnswer(412, "0x80040237"),
        BatchAnswer(412, "0x80040237"),
    ]


def test_a_single_operation_may_be_throttled() -> None:
    part = GOOD.replace("204 No Content", "429 Too Many Requests").replace("OData-Version: 4.0", "retry-after: 7")

    assert decode("multipart/mixed; boundary=batchresponse_1", answered(part), 1) == [BatchAnswer(429, "", "7")]


@pytest.mark.parametrize("body", [b"", b"<html>", answered(GOOD), answered(GOOD, GOOD)[:150], answered("garbage", "garbage")])
def test_what_cannot_be_told_apart_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode("multipart/mixed; boundary=batchresponse_1", body, 2)


@pytest.mark.parametrize("status", ["abc", "2", "20000", "\xb2\xb2\xb2", "-20", "000", "699"])
def test_a_part_with_a_status_that_is_none_is_unreadable(status: str) -> None:
    with pytest.raises(Unreadable):
        decode("multipart/mixed; boundary=batchresponse_1", answered(GOOD.replace("204", status)), 1)


@pytest.mark.parametrize("body", ["[" * 100_000, '{"error": ' * 100_000, '{"error": 3}', '{"error": {"code": 7}}', '{"error": NaN}'])
def test_a_part_without_an_error_that_can_be_read_has_no_code(body: str) -> None:
    part = BAD.partition("\n\n{")[0] + "\n\n" + body

    assert decode("multipart/mixed; boundary=batchresponse_1", answered(part), 1) == [BatchAnswer(412, "")]


def test_messages_in_messages_without_end_are_unreadable() -> None:
    deep = "".join(f"--b{number}\r\nContent-Type: multipart/mixed; boundary=b{number + 1}\r\n\r\n" for number in range(5000))

    with pytest.raises(Unreadable):
        decode("multipart/mixed; boundary=b0", deep.encode(), 1)


def test_a_code_that_is_left_open_is_one_all_the_same() -> None:
    """As in an answer by itself (dataverse.md §9.1): else it would be taken for a gateway's page."""
    part = BAD.replace('"0x80040237"', '""').replace("412 Precondition Failed", "400 Bad Request")

    assert decode("multipart/mixed; boundary=batchresponse_1", answered(part), 1) == [BatchAnswer(400, "0x0")]
