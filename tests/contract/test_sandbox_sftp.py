"""sandbox.campaign, the SFTP server: who gets in, what the account may do, and faults, with a real client over loopback."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.campaign.sftp import EXPORTS, Access, SftpFault
from sandbox.web import serving

FILE = f"{EXPORTS}/d365_optout_20260131_100000.csv"


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest_asyncio.fixture
async def access(sandbox: CampaignSandbox, tmp_path: Path) -> AsyncIterator[Access]:
    async with sandbox.sftp_serving(tmp_path) as access:
        yield access


@pytest_asyncio.fixture
async def admin(sandbox: CampaignSandbox, access: Access) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=f"{url}/_admin") as client:
        yield client


async def connected(access: Access, key: Path | asyncssh.SSHKey | None = None, **other: str) -> asyncssh.SSHClientConnection:
    options = {"username": access.user, "known_hosts": str(access.known_hosts_file), "config": None, "agent_path": None, **other}
    return await asyncssh.connect(access.host, access.port, client_keys=[key or access.key_file], **options)


@asynccontextmanager
async def login(access: Access, key: Path | asyncssh.SSHKey | None = None, **other: str) -> AsyncIterator[asyncssh.SFTPClient]:
    async with await connected(access, key, **other) as connection, connection.start_sftp_client() as sftp:
        yield sftp


async def names(sftp: asyncssh.SFTPClient, folder: str = EXPORTS) -> list[str]:
    return sorted(str(name) for name in await sftp.listdir(folder) if name not in (".", ".."))


async def content(access: Access, path: str = FILE) -> bytes:
    async with login(access) as sftp, sftp.open(path, "rb") as file:
        return await file.read()


@pytest.mark.parametrize("key", ["client_key", "client_key_ed25519"])
async def test_s36_a_key_of_either_kind_logs_in(access: Access, tmp_path: Path, key: str) -> None:
    async with login(access, tmp_path / key) as sftp:
        assert await sftp.isdir(EXPORTS)


async def test_s36_the_key_is_rsa_2048_in_pem_and_nobody_elses_to_read(access: Access) -> None:
    key = asyncssh.read_private_key(access.key_file)

    assert access.key_file.read_text().startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert getattr(key.pyca_key, "key_size", 0) == 2048
    assert stat.S_IMODE(access.key_file.stat().st_mode) == 0o600


async def test_s36_another_key_another_user_and_passwords_are_refused(access: Access) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        async with login(access, asyncssh.generate_private_key("ssh-ed25519")):
            pass
    with pytest.raises(asyncssh.PermissionDenied):
        async with login(access, username="root"):
            pass
    with pytest.raises(asyncssh.PermissionDenied):
        async with login(access, asyncssh.generate_private_key("ssh-ed25519"), password="secret"):
            pass


async def test_s36_known_hosts_fit_only_this_host_key(access: Access) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    access.known_hosts_file.write_text(f"[{access.host}]:{access.port} {other}")

    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with login(access):
            pass


async def test_s36_keys_that_are_there_are_used_again(tmp_path: Path) -> None:
    names = ("host_key", "client_key", "client_key_ed25519")
    async with CampaignSandbox().sftp_serving(tmp_path):
        before = [(tmp_path / name).read_bytes() for name in names]
    async with CampaignSandbox().sftp_serving(tmp_path) as access, login(access):
        assert [(tmp_path / name).read_bytes() for name in names] == before


async def test_s36_addresses_outside_the_allow_list_are_cut_off(sandbox: CampaignSandbox, access: Access) -> None:
    sandbox.settings.sftp_allow_list = ["192.0.2.0/24"]
    with pytest.raises((asyncssh.Error, OSError)):
        await content(access)
    sandbox.settings.sftp_allow_list += ["127.0.0.1/32"]

    async with login(access):
        pass


async def test_s36_the_exports_folder_may_be_left_to_the_customer(sandbox: CampaignSandbox, tmp_path: Path) -> None:
    sandbox.put("profile", {"externalId": "c-1"})
    async with sandbox.sftp_serving(tmp_path, exports=False) as access, login(access) as sftp:
        assert await names(sftp, "/") == []
        with pytest.raises(ValueError, match="could not be written"):
            sandbox.exports.run()
        await sftp.makedirs(EXPORTS)
        assert sandbox.exports.run()["name"] in await names(sftp), "nothing was lost meanwhile"


async def test_an_emptied_account_has_the_folder_or_not(admin: httpx.AsyncClient, access: Access) -> None:
    await admin.post("/exports/file", json={"name": "x.csv", "content_base64": ""})
    async with login(access) as sftp:
        await admin.post("/sftp/empty", json={"exports": False})
        assert not await sftp.exists("d365_loads")
        await admin.post("/sftp/empty")
        assert await sftp.isdir(EXPORTS) and not await sftp.exists(f"{EXPORTS}/x.csv")


async def test_the_account_sees_nothing_outside_its_root(access: Access, tmp_path: Path) -> None:
    async with login(access) as sftp:
        assert await names(sftp, "/") == await names(sftp, "../..") == ["d365_loads"]
        assert not await sftp.exists("../client_key")
        assert await sftp.realpath(EXPORTS) == f"/{EXPORTS}"


async def test_no_shell_and_no_forwarding(access: Access) -> None:
    async with await connected(access) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.run("id")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", access.port)


async def test_an_account_may_read_move_and_remove(sandbox: CampaignSandbox, access: Access) -> None:
    sandbox.exports.write(FILE.rpartition("/")[2], b"externalId\nc-1\n")

    assert await content(access) == b"externalId\nc-1\n"
    async with login(access) as sftp:
        await sftp.mkdir(f"{EXPORTS}/processed")
        await sftp.rename(FILE, f"{EXPORTS}/processed/1.csv")
        await sftp.posix_rename(f"{EXPORTS}/processed/1.csv", FILE)
        await sftp.remove(FILE)
        assert await names(sftp) == ["processed"]


async def test_an_account_may_be_kept_from_moving_and_making_folders(admin: httpx.AsyncClient, access: Access) -> None:
    await admin.post("/exports/file", json={"name": FILE.rpartition("/")[2], "content_base64": "eA=="})
    await admin.patch("/settings", json={"sftp_may_move": False})

    async with login(access) as sftp:
        for attempt in (sftp.rename(FILE, "x"), sftp.posix_rename(FILE, "x"), sftp.mkdir(f"{EXPORTS}/processed")):
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await attempt
        assert await content(access) == b"x"
        await sftp.remove(FILE)


async def test_connections_can_be_refused_a_number_of_times(admin: httpx.AsyncClient, sandbox: CampaignSandbox, access: Access) -> None:
    await admin.post("/sftp/faults", json={"kind": "refuse", "times": 2})

    for _ in range(2):
        with pytest.raises((asyncssh.Error, OSError)):
            await content(access)
    async with login(access):
        assert sandbox.counts()["sftp_connections"] == 3


@pytest.mark.parametrize("times", [1, None])
async def test_a_connection_can_be_cut_while_a_file_is_read_once_or_always(
    admin: httpx.AsyncClient, sandbox: CampaignSandbox, access: Access, times: int | None
) -> None:
    sandbox.exports.write(FILE.rpartition("/")[2], b"x" * 300_000)
    await admin.post("/sftp/faults", json={"kind": "cut", "after": 100_000, "times": times})
    got = b""

    async def read() -> None:
        nonlocal got
        async with login(access) as sftp, sftp.open(FILE, "rb") as file:
            got = b""
            while piece := await file.read(10_000):
                got += piece if isinstance(piece, bytes) else piece.encode()

    with pytest.raises((asyncssh.Error, OSError)):
        await read()
    assert len(got) == 100_000
    if times is None:
        with pytest.raises((asyncssh.Error, OSError)):
            await read()
        assert (await admin.get("/sftp/faults")).json() == {"faults": [{"kind": "cut", "after": 100_000, "times": None}]}
        await admin.delete("/sftp/faults")
    await read()
    assert len(got) == 300_000


async def test_each_cut_breaks_one_connection_however_much_was_asked_for_at_once(sandbox: CampaignSandbox, access: Access) -> None:
    sandbox.exports.write(FILE.rpartition("/")[2], b"x" * 3_000_000)
    sandbox.sftp.faults.append(SftpFault("cut", after=100_000, times=2))

    for _ in range(2):
        with pytest.raises((asyncssh.Error, OSError)):
            await content(access)
    assert len(await content(access)) == 3_000_000


async def test_reads_can_be_slow_one_after_the_other(admin: httpx.AsyncClient, sandbox: CampaignSandbox, access: Access) -> None:
    sandbox.exports.write(FILE.rpartition("/")[2], b"x" * 300_000)
    await admin.post("/sftp/faults", json={"kind": "slow", "after": 30})
    clock = asyncio.get_running_loop()

    async with login(access) as sftp, sftp.open(FILE, "rb") as file:
        began = clock.time()
        pieces = await asyncio.gather(*(file.read(1000, offset) for offset in range(0, 5000, 1000)))

    assert clock.time() - began >= 0.15
    assert b"".join(each if isinstance(each, bytes) else each.encode() for each in pieces) == b"x" * 5000


async def test_a_connection_can_stop_to_answer_while_a_file_is_read(
    admin: httpx.AsyncClient, sandbox: CampaignSandbox, access: Access
) -> None:
    sandbox.exports.write(FILE.rpartition("/")[2], b"x" * 300_000)
    await admin.post("/sftp/faults", json={"kind": "stall", "after": 100_000, "times": 1})

    connection = await connected(access)
    sftp = await connection.start_sftp_client()
    file = await sftp.open(FILE, "rb")
    assert len(await file.read(100_000, 0)) == 100_000
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(file.read(1000, 100_000), 0.3)
    connection.abort()

    assert len(await content(access)) == 300_000, "it strikes once"


async def test_names_may_be_any_bytes(sandbox: CampaignSandbox, access: Access) -> None:
    (sandbox.sftp.exports / os.fsdecode(b"notes_M\xfcller.txt")).write_bytes(b"x")

    async with await connected(access) as connection, connection.start_sftp_client(path_encoding=None) as sftp:
        found = [each async for each in sftp.scandir(EXPORTS.encode())]

    assert b"notes_M\xfcller.txt" in [each.filename for each in found]


async def test_a_reset_heals_and_empties(admin: httpx.AsyncClient, sandbox: CampaignSandbox, access: Access) -> None:
    await admin.post("/exports/file", json={"name": "x.csv", "content_base64": "eA==", "partial": True})
    await admin.post("/sftp/faults", json={"kind": "refuse"})
    await admin.post("/exports/stop")
    await admin.post("/reset")

    async with login(access) as sftp:
        assert await names(sftp) == []
    assert sandbox.exports.state() == {"running": True, "last_run": "", "error": "", "partial": []}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sftp/faults", {"kind": "nonsense"}),
        ("/exports/file", {"name": "../x", "content_base64": ""}),
        ("/exports/file", {"name": "x", "content_base64": "?"}),
        ("/exports/run", {"dates": "roman"}),
        ("/exports/run", {"delimiter": ";;"}),
        ("/exports/run", {"without": ["nonsense"]}),
        ("/exports/run", {"nonsense": 1}),
        ("/exports/complete", {"name": "x"}),
        ("/opt-out", {"external_id": "nobody"}),
    ],
)
async def test_wrong_admin_requests_are_a_400(admin: httpx.AsyncClient, path: str, body: dict[str, object]) -> None:
    assert (await admin.post(path, json=body)).status_code == 400


async def test_s36_the_program_says_where_its_sftp_is(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "sandbox.campaign", "--port", "0", "--sftp-port", "0", "--sftp-home", str(tmp_path / "home"))
    program = await asyncio.create_subprocess_exec(*command, "--no-sftp-exports", stdout=asyncio.subprocess.PIPE)
    try:
        assert program.stdout is not None
        line = (await program.stdout.readline()).decode()
        said = dict(re.findall(r"CAMPAIGN_SFTP_(\w+)=(\S+)", line))
        files = Path(said["KEY_FILE"]), Path(said["KNOWN_HOSTS_FILE"])
        async with login(Access(said["HOST"], int(said["PORT"]), said["USER"], *files)) as sftp:
            assert await names(sftp, "/") == []
    finally:
        program.terminate()
        await program.wait()

    assert program.returncode == 0
