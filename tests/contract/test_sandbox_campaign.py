"""sandbox.campaign, reading side: tokens, gateway, collections, PKeys, filters and metadata, over real HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.web import serving

EXT = "/sandbox/campaign/profileAndServicesExt"
BASE = "/sandbox/campaign/profileAndServices"
FORM = {
    "client_id": "sandbox-campaign",
    "client_secret": "sandbox-secret",
    "grant_type": "client_credentials",
    "scope": "campaign_sdk, openid, AdobeID",
}


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest_asyncio.fixture
async def api(sandbox: CampaignSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url, headers=sandbox.headers()) as client:
        yield client


def people(sandbox: CampaignSandbox, number: int) -> None:
    for n in range(number):
        sandbox.put("profile", {"externalId": f"c-{n}", "lastName": f"Name{n % 10}", "email": f"p{n}@example.com"})


@pytest.mark.parametrize("place", ["data", "params"])
async def test_s1_a_token_is_given_for_the_four_fields_in_body_or_query(api: httpx.AsyncClient, place: str) -> None:
    answer = await api.post("/ims/token/v3", **{place: FORM})  # type: ignore[arg-type]

    assert answer.status_code == 200
    assert {**answer.json(), "access_token": ""} == {"access_token": "", "token_type": "bearer", "expires_in": 86399}


@pytest.mark.parametrize("name", list(FORM))
async def test_s1_every_field_is_mandatory(api: httpx.AsyncClient, name: str) -> None:
    answer = await api.post("/ims/token/v3", data={key: value for key, value in FORM.items() if key != name})

    assert (answer.status_code, "error" in answer.json()) == (400, True)


@pytest.mark.parametrize(
    ("change", "error", "description"),
    [
        ({"client_secret": "x"}, "invalid_client", "invalid client_secret parameter"),
        ({"client_id": "x"}, "invalid_client", "invalid client_id parameter"),
        ({"scope": "campaign_sdk,other"}, "invalid_scope", "invalid scope parameter"),
    ],
)
async def test_s2_wrong_credentials(api: httpx.AsyncClient, change: dict[str, str], error: str, description: str) -> None:
    answer = await api.post("/ims/token/v3", data={**FORM, **change})

    assert (answer.status_code, answer.json()) == (400, {"error": error, "error_description": description})


async def test_s3_tokens_expire_with_the_clock(api: httpx.AsyncClient) -> None:
    assert (await api.get(f"{EXT}/profile")).status_code == 200

    await api.post("/_admin/clock", json={"advance_s": 86400})

    assert (await api.get(f"{EXT}/profile")).json()["error_code"] == "401013"


async def test_s3_token_requests_can_be_throttled(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.tokens_per_minute = 2  # one is spent by sandbox.headers()

    answers = [(await api.post("/ims/token/v3", data=FORM)).status_code for _ in range(3)]

    assert answers == [200, 429, 429]


async def test_s4_gateway_errors_come_in_the_order_key_token_profile(sandbox: CampaignSandbox) -> None:
    good = sandbox.headers()
    key, path = {"X-Api-Key": good["X-Api-Key"]}, "/elsewhere/campaign/profileAndServicesExt/profile"
    tries: list[dict[str, str]] = [{}, {"X-Api-Key": "x"}, key, {**key, "Authorization": "Bearer x"}, good]

    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url) as client:
        answers = [await client.get(path, headers=headers) for headers in tries]

    found = [(answer.status_code, answer.json()["error_code"], answer.json()["message"]) for answer in answers]
    assert found == [
        (403, "403000", "Api Key is required"),
        (403, "403003", "Api Key is invalid"),
        (403, "403010", "Oauth token is missing."),
        (401, "401013", "Oauth token is not valid"),
        (403, "403023", "Profile is not valid"),
    ]
    assert all(answer.headers["X-Request-Id"] for answer in answers), "S5"


async def test_s4_routing_errors_by_switch(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.wrong_organization = "500"
    wrong = await api.get("/elsewhere/campaign/profileAndServicesExt/profile")
    sandbox.settings.cname_missing = True
    missing = await api.get(f"{EXT}/profile")

    assert (wrong.status_code, wrong.json()["code"]) == (500, 500)
    assert (missing.status_code, missing.json()["code"]) == (502, 502)
    assert wrong.json()["message"] == "Oops. Something went wrong. Check your URI and try again."


async def test_s4_revoked_tokens_are_refused(api: httpx.AsyncClient) -> None:
    await api.post("/_admin/revoke-tokens")

    assert (await api.get(f"{EXT}/profile")).status_code == 401


async def test_s5_injected_faults_strike_and_carry_a_request_id(api: httpx.AsyncClient) -> None:
    await api.post("/_admin/faults", json={"kind": "status", "status": 503, "path": "/campaign/", "times": 1})

    first, second = await api.get(f"{EXT}/profile"), await api.get(f"{EXT}/profile")

    assert (first.status_code, bool(first.headers["X-Request-Id"]), second.status_code) == (503, True, 200)


async def test_s5_the_rate_limit_asks_to_wait_and_counts_who_does_not(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.change({"calls_per_second": 1})

    answers = [await api.get(f"{EXT}/profile") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert (answers[1].json()["error_code"], answers[1].headers["Retry-After"]) == ("429050", "1")
    assert sandbox.counts()["early_calls"] == 1


async def test_a_call_that_was_on_the_wire_when_the_wait_began_is_not_early(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.change({"calls_per_second": 0.1, "retry_after_s": 10, "early_grace_ms": 200})
    for _ in range(3):
        await api.get(f"{EXT}/profile")
    at_once = sandbox.counts()["early_calls"]
    await asyncio.sleep(0.3)

    await api.get(f"{EXT}/profile")

    assert (at_once, sandbox.counts()["early_calls"]) == (0, 1)


async def test_a_call_that_is_held_up_is_run_although_its_client_is_gone(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    await api.post("/_admin/faults", json={"kind": "latency", "method": "POST", "seconds": 0.3})

    with pytest.raises(httpx.ReadTimeout):
        await api.post(f"{EXT}/profile", json={"externalId": "c-1", "lastName": "Lovelace"}, timeout=0.1)
    await asyncio.sleep(0.4)

    assert sandbox.get("profile", "c-1") is not None


async def test_s6_s7_collections_page_by_25_with_the_double_slash(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 60)
    pages = [(await api.get(f"{EXT}/profile")).json()]
    while "next" in pages[-1]:
        pages.append((await api.get(pages[-1]["next"]["href"])).json())

    assert [len(page["content"]) for page in pages] == [25, 25, 10]
    assert len({row["externalId"] for page in pages for row in page["content"]}) == 60
    assert f"{api.base_url}{EXT}/profile//_count?_lineStart=@" in pages[0]["count"]["href"]
    assert pages[0]["serverSidePagination"] is True
    assert (await api.get(pages[0]["count"]["href"])).json() == {"count": 60}, "S11"


async def test_s7_line_count_is_kept_and_a_hand_made_line_start_is_refused(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 5)
    page = (await api.get(f"{EXT}/profile?_lineCount=2")).json()

    assert (len(page["content"]), "_lineCount=2" in page["next"]["href"]) == (2, True)
    refused = [await api.get(f"{EXT}/profile?_lineStart={start}") for start in ("25", "@MjU", "@" + "A" * 48, "@é")]
    assert {answer.status_code for answer in refused} == {500}


async def test_s8_above_the_big_table_threshold_next_has_to_be_forced(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 30)
    sandbox.settings.big_table = 29

    assert "next" not in (await api.get(f"{EXT}/profile")).json()
    assert "next" in (await api.get(f"{EXT}/profile?_forcePagination=true")).json()


async def test_s9_pkeys_depend_on_the_context_and_die_with_the_session(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 1)
    sandbox.put("cusVehicle", {"cusVehicleId": "v-1", "cusContactId": "c-0"})
    pkeys = [(await api.get(f"{family}/profile")).json()["content"][0]["PKey"] for family in (BASE, EXT)]
    pkeys.append((await api.get(f"{EXT}/cusVehicle/v-1")).json()["cusOwner"]["PKey"])

    assert len(set(pkeys)) == 3
    assert all(re.fullmatch(r"@[A-Za-z0-9_-]{80,100}", pkey) for pkey in pkeys)
    assert {(await api.get(f"{EXT}/profile/{pkey}")).json()["externalId"] for pkey in pkeys} == {"c-0"}
    await api.post("/_admin/new-session")
    assert {(await api.get(f"{EXT}/profile/{pkey}")).status_code for pkey in pkeys} == {500}


async def test_s10_items_have_empties_and_an_href_only_in_collections(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 1)
    listed = (await api.get(f"{EXT}/profile")).json()["content"][0]
    single = (await api.get(f"{EXT}/profile/c-0")).json()

    assert (set(listed) - set(single), listed["href"].endswith(listed["PKey"])) == ({"href"}, True)
    assert list(single) == sorted(single)
    assert (single["birthDate"], single["age"], single["blackList"], single["gender"]) == ("", 0, False, "unknown")
    assert None not in single.values()


async def test_s11_order_both_ways(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 4)
    query = f"{EXT}/profile?_lineCount=3&_order=externalId"
    down = (await api.get(f"{query}%20desc")).json()
    rest = (await api.get(down["next"]["href"])).json()

    assert [row["externalId"] for row in down["content"] + rest["content"]] == ["c-3", "c-2", "c-1", "c-0"]
    assert (await api.get(query)).json()["content"][0]["externalId"] == "c-0"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ("byEmail?email=p3@example.com", 1),
        ("byText?text=Name1", 2),
        ("byText?text=name1", 0),
        ("byText?text=ame1", 0),
        ("byText?text=p1&filterType=email", 3),
        ("byText/byEmail?text=Name1&email=p11@example.com", 1),
        ("byExternalId?externalId_parameter=c-7", 1),
    ],
)
async def test_s12_filters(api: httpx.AsyncClient, sandbox: CampaignSandbox, filters: str, found: int) -> None:
    people(sandbox, 12)
    answer = (await api.get(f"{EXT}/profile/{filters}")).json()

    assert len(answer["content"]) == found
    assert (await api.get(answer["count"]["href"])).json() == {"count": found}


@pytest.mark.parametrize("chain", ["", "byText/"])
async def test_s12_custom_filters_are_taken_for_numbers_outside_ext(api: httpx.AsyncClient, chain: str) -> None:
    answer = await api.get(f"{BASE}/profile/{chain}byExternalId?externalId_parameter=c-7")

    assert answer.status_code == 500
    assert "BAS-010040 Cannot convert 'byExternalId' (text type) to 32-bit integer type" in answer.text


MEMBERS = """PKey apiName category dataPolicy desc help displayFormat label lazyLoaded length mandatory metadata privacy
    queryable sortable readOnly resName resType type"""


async def test_s13_metadata_has_19_members_by_field_and_text_lengths(api: httpx.AsyncClient) -> None:
    about = (await api.get(f"{EXT}/resourceType/profile")).json()
    content = about["content"]

    assert {name for name, field in content.items() if not set(MEMBERS.split()) <= set(field)} == set()
    assert (set(content["firstName"]), content["firstName"]["length"]) == (set(MEMBERS.split()), "30")
    assert (about["schema"], about["name"], about["pkgStatus"]) == ("nms:recipient", "profile", "never")
    assert set(content["gender"]["values"]) == {"unknown", "male", "female", "__Invalid_value__"}
    assert content["location"]["content"]["city"]["resType"] == "string"
    assert (content["subscriptions"]["type"], content["country"]["resTarget"]) == ("collection", "countries")
    assert "byText" in (await api.get(about["filters"]["href"])).json()
    vehicle = (await api.get(f"{EXT}/cusVehicle/metadata")).json()["content"]
    kinds = {name: vehicle[name]["resType"] for name in ("cusMileage", "cusPrice", "cusServiceDue", "cusOwner")}
    assert kinds == {"cusMileage": "long", "cusPrice": "float", "cusServiceDue": "datetime", "cusOwner": "link"}


async def test_s14_nothing_found(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    empty = (await api.get(f"{EXT}/profile/byEmail?email=nobody")).json()
    paths = ("profile/nobody", "profile/@nonsense", "cusNothing")
    unknown, malformed, resource = [await api.get(f"{EXT}/{path}") for path in paths]

    assert (empty["content"], empty["count"]["value"]) == ([], 0)
    assert (unknown.status_code, malformed.status_code, resource.status_code) == (404, 500, 404)
    assert unknown.text == (
        "RST-360011 An error has occurred - please contact your administrator. Unable to find document with path "
        "'Profile' from key 'nobody:0' (document with schema 'profile' and name 'nobody')"
    )
    assert malformed.text == (
        "'nonsense' attribute unknown (see definition of 'Profiles (nms:recipient)' schema). "
        "XTK-170036 Unable to parse expression '@id = @nonsense'."
    )
    assert resource.text.endswith("Error rc=-2003")
    assert sandbox.ledger.unknown_routes == [f"GET {EXT}/cusNothing"]


async def test_s15_attribute_collections(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    people(sandbox, 3)
    answer = (await api.get(f"{EXT}/profile/email?_lineCount=2")).json()

    assert (set(answer), answer["content"]) == ({"content", "next"}, ["p0@example.com", "p1@example.com"])
    assert (await api.get(answer["next"]["href"])).json() == {"content": ["p2@example.com"]}
