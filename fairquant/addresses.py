"""Addresses of stores and databases: what of them may be shown, and what must not be written down."""

from __future__ import annotations

import re

#: Names of query parameters whose values are secrets.
SECRET = re.compile(r"pass|pwd|secret|token|key|credential|auth|sig", re.IGNORECASE)
HIDDEN = "..."
#: As in a list of settings: host=... password=...
PAIR = re.compile(r"\b(pass\w*|pwd|token|secret)=([^\s&;]+)", re.IGNORECASE)


def _parts(address: str) -> tuple[str, str, str, str]:
    """scheme and ://, what stands before the host, host and path, the query. A password may hold any sign, also a ? or a /."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    at = rest.rfind("@")
    path = rest.find("/")
    if at >= 0 and path >= 0 and path < at and not separator:
        at = -1  # a path of files
    if at >= 0 and path >= 0 and path < at and "?" not in rest[:at] and ":" not in rest[:path]:
        at = -1  # an @ in the name of a file
    user, rest = (rest[:at], rest[at + 1 :]) if at >= 0 else ("", rest)
    place, _, query = rest.partition("?")
    return f"{scheme}{separator}", user, place, query


def without_secrets(address: str) -> str:
    """The address with the password, everything up to the last @ in doubt, and secret query values hidden."""
    scheme, user, place, query = _parts(address)
    shown = ""
    if user:
        name, colon, _ = user.partition(":")
        shown = f"{name.partition('?')[0]}{f':{HIDDEN}' if colon or '?' in name else ''}@"
    pairs = []
    for pair in re.split(r"[&;]", query) if query else []:
        name, equals, _ = pair.partition("=")
        pairs.append(f"{name}={HIDDEN}" if equals and SECRET.search(name) else pair)
    text = f"{scheme}{shown}{place}{'?' if query else ''}{'&'.join(pairs)}"
    return PAIR.sub(rf"\1={HIDDEN}", text)


def secrets_of(address: str) -> list[str]:
    """The parts of an address that must not be shown, longest first."""
    _, user, _, query = _parts(address)
    found = [user.partition(":")[2] or user.partition("?")[2]] if user else []
    for pair in re.split(r"[&;]", query):
        name, _, value = pair.partition("=")
        found += [value] if SECRET.search(name) else []
    found += [match.group(2) for match in PAIR.finditer(address)]
    found += [part for secret in found for part in re.split(r"[@?/]", secret)]  # as other programs read it
    return sorted({each for each in found if each and each != HIDDEN}, key=len, reverse=True)


def scrubbed(text: str, address: str) -> str:
    """A library's message without the secrets of an address that it was given."""
    text = text.replace(address, without_secrets(address))
    for secret in secrets_of(address):
        text = text.replace(secret, HIDDEN)
    return text


def secret_problem(address: str) -> str:
    """Why an address cannot stand in a recipe, which is written down and handed on; "" where it can."""
    if not secrets_of(address):
        return ""
    return (
        f"{without_secrets(address)}: a recipe is written to files and logs and must hold no password. Leave it out, and set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN or the database's own (PGPASSWORD, ~/.pgpass)"
    )
