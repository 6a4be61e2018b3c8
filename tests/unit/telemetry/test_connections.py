"""Credentials are files, read at each use, sent only to their own address, and never shown."""

import base64
import logging
import ssl

import pytest

from support.bad_prometheus import NODES, BadPrometheus
from wavegate.evidence import CheckSpec
from wavegate.telemetry import connections
from wavegate.telemetry.connections import ConnectionUnusable, Source, connect
from wavegate.telemetry.prometheus import PrometheusReader
from wavegate_sandbox.certificates import Authority

MOVED = frozenset(NODES)
NAMED = Source(connection="thanos", namespace="agents")
TOKEN = "s3cr3t-t0ken"
SPEC = CheckSpec("c", "q", True, "node", 1.0, 30.0, 5.0)


@pytest.fixture
def bad():
    with BadPrometheus() as server:
        yield server


@pytest.fixture
def reader(tmp_path):
    made = PrometheusReader(tmp_path)
    yield made
    made.close()


@pytest.fixture
def give(tmp_path):
    """Write the files of the connection thanos; those that are not named are gone."""

    def write(**files):
        folder = tmp_path / "thanos"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)

    return write


async def ask(reader, source=NAMED):
    return await reader.ask(source, SPEC, "up", MOVED, 1.0)


async def test_a_rotated_token_is_sent_with_the_next_query(reader, bad, give):
    give(url=bad.url, token=f"{TOKEN}\n")
    assert (await ask(reader)).error == ""
    give(url=bad.url, token="newer")
    assert (await ask(reader)).error == ""
    sent = [asked.headers["Authorization"] for asked in bad.asked]
    assert sent == [f"Bearer {TOKEN}", "Bearer newer"]


async def test_files_are_read_of_one_version_as_kubernetes_swaps_them(reader, bad, tmp_path):
    """The kubelet writes a folder, and lets the link `..data` point to it in one step."""
    folder = tmp_path / "thanos"
    for version in ("..1", "..2"):
        (folder / version).mkdir(parents=True)
        (folder / version / "url").write_text(bad.url)
        (folder / version / "token").write_text(version)
        (folder / "new").symlink_to(version)
        (folder / "new").rename(folder / "..data")
        assert (await ask(reader)).error == ""
    assert [a.headers["Authorization"] for a in bad.asked] == ["Bearer ..1", "Bearer ..2"]


async def test_user_and_password_are_basic_auth_and_headers_are_sent(reader, bad, give):
    give(url=bad.url, username="me", password="pass:word", headers="X-Scope-OrgID: a\n\nX-B:c d")
    assert (await ask(reader)).error == ""
    (asked,) = bad.asked
    kind, _, encoded = asked.headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(encoded)) == ("Basic", b"me:pass:word")
    assert (asked.headers["X-Scope-OrgID"], asked.headers["X-B"]) == ("a", "c d")


async def test_a_plain_url_is_asked_without_any_credential(
    reader, bad, give, tmp_path, monkeypatch
):
    (tmp_path / "netrc").write_text("default login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    give(url=bad.url, token=TOKEN)
    await ask(reader, Source(bad.url))
    (asked,) = bad.asked
    assert "Authorization" not in asked.headers
    bad.asked.clear()
    await ask(reader)
    assert bad.asked[0].headers["Authorization"] == f"Bearer {TOKEN}", "no .netrc replaces it"


@pytest.mark.parametrize("mood", ["tells all", "redirects", "down", "503", "login page", "hangs"])
async def test_no_secret_is_in_an_error_a_log_or_a_repr(reader, bad, give, mood, caplog):
    """`tells all` answers with the headers that it got."""
    caplog.set_level(logging.DEBUG)
    give(url=bad.url, username="me", password="pass-word-1", headers="X-Key: key-of-tenant")
    bad.behave(mood)
    spec = CheckSpec("c", "q", True, "node", 1.0, 30.0, 0.3)
    result = await reader.ask(NAMED, spec, "up", MOVED, 1.0)
    basic = base64.b64encode(b"me:pass-word-1").decode()
    shown = f"{result} {caplog.text} {connect(reader._folder, NAMED)!r}"
    assert result.error
    for secret in ("pass-word-1", basic, "key-of-tenant"):
        assert secret not in shown
    if mood == "tells all":
        assert "***" in result.error


async def test_a_redirect_gets_no_credential(reader, bad, give):
    give(url=bad.url, token=TOKEN)
    bad.behave("redirects")
    assert "which is not followed" in (await ask(reader)).error
    assert len(bad.asked) == 1


async def test_a_connection_is_only_for_the_namespaces_that_its_file_names(reader, bad, give):
    give(url=bad.url, namespaces="agents\nedr")
    assert (await ask(reader)).error == ""
    result = await ask(reader, Source(connection="thanos", namespace="else"))
    assert "is not for channels of namespace else" in result.error
    give(url=bad.url, namespaces="")
    assert "is not for channels of namespace agents" in (await ask(reader)).error
    assert len(bad.asked) == 1


@pytest.fixture
def ours(tmp_path):
    """An authority, and a server that asks for certificates by it."""
    authority = Authority(tmp_path / "pki")
    pair = authority.server("prometheus")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(pair.certificate, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    with BadPrometheus(tls=context) as server:
        yield authority, server


async def test_ca_and_client_certificate_are_read_anew_for_each_query(reader, ours, give, tmp_path):
    authority, server = ours
    client = authority.client("reader", "reader")
    ca, crt, key = (
        path.read_text() for path in (authority.certificate, client.certificate, client.key)
    )
    give(url=server.url, ca_crt=ca, tls_crt=crt, tls_key=key)
    assert (await ask(reader)).error == ""
    give(url=server.url, tls_crt=crt, tls_key=key)
    assert "certificate verify failed" in (await ask(reader)).error
    give(url=server.url, ca_crt=ca)
    assert (await ask(reader)).error
    stranger = Authority(tmp_path / "other").client("reader", "reader")
    foreign = {"tls_crt": stranger.certificate.read_text(), "tls_key": stranger.key.read_text()}
    give(url=server.url, ca_crt=ca, **foreign)
    assert (await ask(reader)).error
    give(url=server.url, ca_crt="no certificate", tls_crt=crt, tls_key=key)
    assert (await ask(reader)).error
    give(url=server.url, ca_crt=ca, tls_crt=crt, tls_key=key)
    assert (await ask(reader)).error == ""
    assert len(server.asked) == 2, "nobody else got through"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "its file url must hold"),
        ({"url": "ftp://a"}, "its file url must hold"),
        ({"url": "http://me:pw@a"}, "its file url must hold"),
        ({"url": "http://a", "token": "x", "username": "y"}, "a token and a username or password"),
        ({"url": "http://a", "token": "two words"}, "more than one word"),
        ({"url": "http://a", "token": "sécret"}, "more than one word"),
        ({"url": "http://a", "username": "y"}, "both files username and password"),
        ({"url": "http://a", "password": "y"}, "both files username and password"),
        ({"url": "http://a", "username": "a:b", "password": "y"}, "a colon"),
        ({"url": "https://a", "tls_crt": "x"}, "both files tls.crt and tls.key"),
        ({"url": "https://a", "tls_key": "x"}, "both files tls.crt and tls.key"),
        ({"url": "http://a", "ca_crt": "x"}, "act only with an https URL"),
        ({"url": "http://a", "headers": "no colon"}, "not of the form"),
        ({"url": "http://a", "headers": "Authorization: mine"}, "may not set Authorization"),
        ({"url": "http://a", "token": "x" * 70_000}, "larger than"),
    ],
)
def test_files_that_can_t_be_used_are_refused_in_words_without_quoting_them(
    give, tmp_path, files, words
):
    give(**files)
    with pytest.raises(ConnectionUnusable, match="connection thanos can't be used") as caught:
        connect(tmp_path, NAMED)
    assert words in str(caught.value)
    for secret in ("two words", "sécret", "mine", "me:pw"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("name", ["other", "../thanos", "..", "thanos/..data"])
async def test_a_connection_that_the_operator_does_not_have_holds_in_words(reader, give, name):
    give(url="http://a")
    result = await ask(reader, Source(connection=name))
    assert f"has no Prometheus connection {name!r}" in result.error
    assert "prometheusConnections" in result.error


def test_a_password_in_a_url_of_an_old_plan_is_not_shown():
    assert str(Source("http://me:pass@host:9090/p?token=x")) == "http://host:9090/p"
    assert connections.without_password("http://[broken") == "an address that can't be read"
