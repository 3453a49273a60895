"""Reads kubeconfigs as kubectl does, and refuses in a sentence what is not supported. Called by credentials.py.

The kubernetes package has a reader too, which is not used: it continues without credentials where a plugin fails, lets the
last of several files win instead of the first, ignores impersonation, and keeps private keys in temporary files.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from embedding_operator.api_access.access import Access, AccessRefused, ClientCertificate, ExecPlugin

EXEC_VERSIONS = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1"))
SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")


@dataclass(frozen=True)
class Entry:
    """A cluster, user or context of a kubeconfig. Relative paths are relative to the folder of its file."""

    what: str
    values: Mapping[str, Any] = field(repr=False)
    folder: Path

    def text(self, key: str) -> str | None:
        """The string at this key; None where there is none or an empty one."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise AccessRefused(f"{self.what} has a {key} that is no string: correct the file")
        return value or None

    def content(self, key: str) -> str | None:
        """What `<key>-data` contains in base64, or else the file that `<key>` names."""
        if (data := self.text(f"{key}-data")) is not None:
            try:
                return base64.b64decode("".join(data.split()), validate=True).decode()
            except ValueError:
                raise AccessRefused(f"{self.what} has a {key}-data that is no base64: correct the file") from None
        name = self.text(key)
        return None if name is None else self.file(key, name)

    def file(self, key: str, name: str) -> str:
        path = self.folder / name
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise AccessRefused(
                f"{self.what} has the {key} {str(path)!r}, which cannot be read ({type(exc).__name__}): correct it"
            ) from None


def read_kubeconfig(paths: str, *, context: str | None = None, terminal: bool = False) -> Access:
    """The access of this context, or of the current one. `paths` may be several, separated as in KUBECONFIG.

    `terminal`: an exec plugin may ask the user, as when kubectl runs it. Raises AccessRefused.
    """
    try:
        return _read(paths, context, terminal=terminal)
    except (KeyError, TypeError, AttributeError, ValueError) as exc:  # a list where a mapping belongs, and the like
        raise AccessRefused(
            f"it cannot be used to connect: a part of it has no usable form ({type(exc).__name__})"
        ) from None


def _read(paths: str, wanted: str | None, *, terminal: bool) -> Access:
    files = [Path(path) for path in paths.split(os.pathsep) if path and Path(path).is_file()]
    if not files:
        raise AccessRefused("there is no such file: set it to the path of a kubeconfig")
    loaded = [(_load(path), path.absolute().parent) for path in files]
    context = _entry(loaded, "contexts", _current(loaded) if wanted is None else _known(loaded, wanted))
    cluster = _entry(loaded, "clusters", context.values.get("cluster"))
    user = context.text("user")
    known = _entry(loaded, "users", user) if user else Entry("no user", {}, Path())
    return _access(context, cluster, known, terminal=terminal)


def _current(loaded: list[tuple[dict[str, Any], Path]]) -> object:
    current = next((content["current-context"] for content, _ in loaded if content.get("current-context")), None)
    if current is None:
        raise AccessRefused("it cannot be used to connect: it has no current-context, which says which cluster to use")
    return current


def _known(loaded: list[tuple[dict[str, Any], Path]], wanted: str) -> str:
    names = [str(entry["name"]) for content, _ in loaded for entry in content.get("contexts") or ()]
    if wanted not in names:
        raise AccessRefused(f"it has no context {wanted!r}: it has {', '.join(sorted(set(names))) or 'none'}")
    return wanted


def _load(path: Path) -> dict[str, Any]:
    """The content of a file. The parser's own messages are not quoted, because they show a part of the file."""
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.MarkedYAMLError as exc:
        line = f" in line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise AccessRefused(f"it cannot be used to connect: {path} is no YAML{line}") from None
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise AccessRefused(f"it cannot be used to connect: {path} cannot be read ({type(exc).__name__})") from None
    if not isinstance(content, dict):
        raise AccessRefused(f"it cannot be used to connect: {path} contains no kubeconfig")
    return content


def _entry(loaded: list[tuple[dict[str, Any], Path]], section: str, name: object) -> Entry:
    """The first entry of this name. In several files, the first one wins, as with kubectl."""
    kind = SECTIONS[section]
    for content, folder in loaded:
        entries = content.get(section)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("name") == name:
                values = entry.get(kind)
                return Entry(f"its {kind} {str(name)!r}", values if isinstance(values, dict) else {}, folder)
    raise AccessRefused(f"it cannot be used to connect: it has no {kind} {name!r}, which its current-context names")


def _access(context: Entry, cluster: Entry, user: Entry, *, terminal: bool) -> Access:
    server = (cluster.text("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise AccessRefused(f"its server {server!r} is not a URL: correct the file")
    insecure, authority = bool(cluster.values.get("insecure-skip-tls-verify")), cluster.content("certificate-authority")
    if insecure and authority is not None:
        raise AccessRefused(
            f"{cluster.what} has a certificate-authority and insecure-skip-tls-verify: remove one of the two"
        )
    _refuse_unsupported(cluster, user)
    return Access(
        server,
        context.text("namespace"),
        authority,
        verify=not insecure,
        server_name=cluster.text("tls-server-name"),
        proxy=cluster.text("proxy-url"),
        authorization=_authorization(user),
        certificate=_certificate(user),
        plugin=_plugin(cluster, user, authority, terminal=terminal),
    )


def _refuse_unsupported(cluster: Entry, user: Entry) -> None:
    if isinstance(provider := user.values.get("auth-provider"), dict):
        raise AccessRefused(
            f"{user.what} has the auth-provider {provider.get('name')!r}, which is not supported: use an exec plugin, "
            "a token or a client certificate"
        )
    if used := [key for key in IMPERSONATION if user.values.get(key)]:
        raise AccessRefused(
            f"{user.what} has the field {used[0]!r}, and impersonation is not supported: use credentials of that user"
        )
    proxy = cluster.text("proxy-url")
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise AccessRefused(f"{cluster.what} has a proxy-url that is no http:// or https:// URL: use such a proxy")
    if proxy and cluster.text("tls-server-name"):
        raise AccessRefused(f"{cluster.what} has a proxy-url and a tls-server-name, which is not supported: remove one")


def _authorization(user: Entry) -> str | None:
    """A token's file is used rather than a token, as by kubectl: a file can be replaced."""
    if (name := user.text("tokenFile")) is not None:
        return f"Bearer {user.file('tokenFile', name).strip()}"
    if (token := user.text("token")) is not None:
        return f"Bearer {token}"
    if (name := user.text("username")) is not None:
        both = f"{name}:{user.text('password') or ''}"
        return f"Basic {base64.b64encode(both.encode()).decode()}"
    return None


def _certificate(user: Entry) -> ClientCertificate | None:
    certificate, key = user.content("client-certificate"), user.content("client-key")
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise AccessRefused(f"{user.what} has only one of client-certificate and client-key: add the other one")
    return ClientCertificate(certificate, key)


def _plugin(cluster: Entry, user: Entry, authority: str | None, *, terminal: bool) -> ExecPlugin | None:
    if not isinstance(values := user.values.get("exec"), dict):
        return None
    entry = Entry(f"the exec plugin of {user.what}", values, user.folder)
    if (command := entry.text("command")) is None:
        raise AccessRefused(f"{entry.what} has no command: correct the file")
    if (version := entry.text("apiVersion")) not in EXEC_VERSIONS:
        raise AccessRefused(f"{entry.what} has the apiVersion {version!r}: use {' or '.join(EXEC_VERSIONS)}")
    mode = entry.text("interactiveMode")
    if mode == "Always" and not terminal:
        raise AccessRefused(
            f"{entry.what} needs a terminal (interactiveMode: Always), which an operator does not have: use another one"
        )
    return ExecPlugin(
        command,
        tuple(str(argument) for argument in values.get("args") or ()),
        tuple((str(item["name"]), str(item["value"])) for item in values.get("env") or ()),
        str(version),
        tuple(_told(cluster, authority).items()) if values.get("provideClusterInfo") else None,
        user.folder,
        terminal=terminal and mode != "Never",
    )


def _told(cluster: Entry, authority: str | None) -> dict[str, Any]:
    """What a plugin that asks for it is told of the cluster. `config` is meant for the plugin, and for nothing else."""
    kept = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
    told = {key: cluster.values[key] for key in kept if key in cluster.values}
    if authority is not None:
        told["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
    for extension in cluster.values.get("extensions") or ():
        if extension.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = extension.get("extension")
    return told
