"""Where a channel's checks are asked, and with which credentials.

Credentials are files that whoever runs the operator mounts into it, one folder for each connection.
The address lies beside them, so that nobody who may only write a channel can have them sent
elsewhere, and the operator needs no right to read Secrets. Files are read at each use: a rotated
one acts with the next query.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests

from wavegate.rollout.names import DNS_LABEL

_MAX_FILE = 64 * 1024
_LONG = 6
"""A header's value that is shorter names a tenant, and would be cut out of every message."""
_HEADER = re.compile(r"([A-Za-z0-9-]+):[ \t]*([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)")


class ConnectionUnusable(ValueError):  # noqa: N818 (it is named as the person on call would say it)
    """The files of a connection can't be used; the message names them, and never quotes one."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a plan says of its Prometheus: a `url` without credentials, or the name of a
    `connection`; and the channel's `namespace`.
    """

    url: str = ""
    connection: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Where it is asked, for a person; never with a password."""
        return f"connection {self.connection}" if self.connection else without_password(self.url)


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one Prometheus. `cert` is paths of certificate and key."""

    url: str
    authorization: "Authorization" = field(default_factory=lambda: Authorization(""))
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""
    cert: tuple[str, str] | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must never be shown, whoever says it."""

    def clean(self, text: str) -> str:
        """The text without any of the secrets in it."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


class Authorization(requests.auth.AuthBase):
    """The header Authorization; empty = none. Given so, requests looks into no .netrc for one."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to one request."""
        if self._value:
            request.headers["Authorization"] = self._value
        return request


def connect(folder: Path, source: Source) -> Connection:
    """Read what `source` means now. Raises ConnectionUnusable, which says what to correct."""
    if not source.connection:
        return Connection(source.url)
    name = source.connection
    here = folder / name
    if not DNS_LABEL.fullmatch(name) or not here.is_dir():
        raise ConnectionUnusable(
            f"the operator has no Prometheus connection {name!r}: add it to the chart's value "
            "prometheusConnections, or correct spec.prometheus.connection"
        )
    # Kubernetes swaps all files at once by this link; what we read must be of one version.
    newest = here / "..data"
    files = _Files(newest.resolve() if newest.exists() else here, name)
    allowed = re.split(r"[\s,]+", files.text("namespaces"))
    if files.has("namespaces") and source.namespace not in allowed:
        raise ConnectionUnusable(
            f"connection {name} is not for channels of namespace {source.namespace}: its file "
            "`namespaces` does not name it"
        )
    return _connection(files)


def without_password(url: str) -> str:
    """The URL without user, password and query, as it may be shown."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    except ValueError:
        return "an address that can't be read"


class _Files:
    """The files of one connection."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self.name = folder, name

    def text(self, file: str) -> str:
        """What a file holds, without white space around it; empty when there is none."""
        try:
            with (self._folder / file).open("rb") as opened:
                raw = opened.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self.unusable(f"its file {file} can't be read ({error.strerror})") from None
        if len(raw) > _MAX_FILE:
            raise self.unusable(f"its file {file} is larger than {_MAX_FILE} bytes")
        try:
            return raw.decode().strip()
        except UnicodeDecodeError:
            raise self.unusable(f"its file {file} is no UTF-8 text") from None

    def has(self, file: str) -> bool:
        """Whether the file is there, be it empty."""
        return (self._folder / file).exists()

    def path(self, file: str) -> str:
        """The path of a file; empty when there is none, or nothing in it."""
        return str(self._folder / file) if self.text(file) else ""

    def unusable(self, why: str) -> ConnectionUnusable:
        """The error that says why."""
        return ConnectionUnusable(f"connection {self.name} can't be used: {why}")


def _connection(files: _Files) -> Connection:
    url = files.text("url")
    if not re.fullmatch(r"https?://[^\s/?#@]+[^\s?#@]*", url):
        raise files.unusable(
            "its file url must hold an http or https URL without user, password or query"
        )
    ca, cert = files.path("ca.crt"), (files.path("tls.crt"), files.path("tls.key"))
    if bool(cert[0]) != bool(cert[1]):
        raise files.unusable("it needs both files tls.crt and tls.key, or neither")
    if (ca or cert[0]) and not url.startswith("https:"):
        raise files.unusable("ca.crt, tls.crt and tls.key act only with an https URL")
    authorization, secrets = _authorization(files)
    headers = dict(_headers(files))
    return Connection(
        url.rstrip("/"),
        authorization,
        headers,
        ca,
        cert if cert[0] else None,
        (*secrets, *(value for value in headers.values() if len(value) >= _LONG)),
    )


def _authorization(files: _Files) -> tuple[Authorization, tuple[str, ...]]:
    """The header, and what of it must not be shown."""
    token, user, password = (files.text(name) for name in ("token", "username", "password"))
    if token and (user or password):
        raise files.unusable("it has a token and a username or password: remove one of the two")
    if token:
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise files.unusable("its file token holds more than one word of ASCII characters")
        return Authorization(f"Bearer {token}"), (token,)
    if bool(user) != bool(password):
        raise files.unusable("it needs both files username and password, or neither")
    if not user:
        return Authorization(""), ()
    if ":" in user:
        raise files.unusable("its file username holds a colon, which basic auth can't send")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Authorization(f"Basic {basic}"), (basic, password)


def _headers(files: _Files) -> list[tuple[str, str]]:
    """The lines `Name: value` of the file headers."""
    lines = [line.strip() for line in files.text("headers").splitlines() if line.strip()]
    found = [_HEADER.fullmatch(line) for line in lines]
    pairs = [(match[1], match[2]) for match in found if match is not None]
    if len(pairs) < len(lines):
        raise files.unusable("a line of its file headers is not of the form `Name: value`")
    if any(name.lower() in ("authorization", "host", "content-length") for name, _ in pairs):
        raise files.unusable(
            "its file headers may not set Authorization, Host or Content-Length: use the files "
            "token, or username and password"
        )
    return pairs
