"""Kubeconfig files: written for each identity of a sandbox, read for an existing cluster."""

import atexit
import base64
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wavegate_sandbox.certificates import Pair
from wavegate_sandbox.errors import SandboxError

CONTEXT = "wavegate-sandbox"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an apiserver as somebody: by client certificate or by token."""

    server: str
    ca: Path | None = None
    pair: Pair | None = None
    token: str | None = None
    context: str = CONTEXT


def write(path: Path, access: Access, namespace: str = "default") -> Path:
    """Write a kubeconfig with everything embedded, readable by its owner only."""
    user: dict[str, str] = {}
    if access.pair:
        user["client-certificate-data"] = _encoded(access.pair.certificate)
        user["client-key-data"] = _encoded(access.pair.key)
    if access.token:
        user["token"] = access.token
    cluster = {"server": access.server}
    if access.ca:
        cluster["certificate-authority-data"] = _encoded(access.ca)
    name = access.context
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}
        ],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def read(path: Path) -> Access:
    """The current context of a kubeconfig.

    Client certificates and tokens are understood, login programs (`exec`) are not. Embedded
    certificates are put into a private folder that is removed when Python ends.
    """
    document = yaml.safe_load(path.read_text())
    current = document.get("current-context") or ""
    context = _named(document, "contexts", current, path)["context"]
    cluster = _named(document, "clusters", context["cluster"], path)["cluster"]
    user = _named(document, "users", context["user"], path)["user"]
    if "exec" in user or "auth-provider" in user:
        raise SandboxError(
            f"{path}: the user of context {current!r} logs in by a program, which the sandbox "
            "cannot do. Give a kubeconfig with a client certificate or a token."
        )
    folder = Path(tempfile.mkdtemp(prefix="wavegate-access-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ca = _material(cluster, "certificate-authority", folder, path)
    certificate = _material(user, "client-certificate", folder, path)
    key = _material(user, "client-key", folder, path)
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = (path.parent / user["tokenFile"]).read_text().strip()
    return Access(
        server=cluster["server"],
        ca=ca,
        pair=Pair(certificate, key) if certificate and key else None,
        token=token,
        context=current,
    )


def _named(document: Mapping[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if entry["name"] == name:
            return dict(entry)
    raise SandboxError(f"{path}: no entry {name!r} in {section}.")


def _material(entry: Mapping[str, str], name: str, folder: Path, path: Path) -> Path | None:
    if data := entry.get(f"{name}-data"):
        made = folder / name
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64decode(data))
        return made
    return path.parent / entry[name] if name in entry else None


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
