"""Addresses of stores and databases: what of them may be shown, and what must not be written down."""

from __future__ import annotations

import re

#: Names of query parameters whose values are secrets.
SECRET = re.compile(r"pass|pwd|secret|token|key|credential|auth|sig", re.IGNORECASE)
HIDDEN = "..."


def without_secrets(address: str) -> str:
    """The address with the password, everything up to the last @ in doubt, and secret query values hidden."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    place, question, query = rest.partition("?")
    user, at, host = place.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        place = f"{name}{f':{HIDDEN}' if colon else ''}@{host}"
    pairs = []
    for pair in re.split(r"[&;]", query) if query else []:
        name, equals, value = pair.partition("=")
        # an @ that follows the ? was part of a password, too
        pairs.append(f"{name}={HIDDEN}" if equals and (SECRET.search(name) or "@" in value) else pair)
    return f"{scheme}{separator}{place}{question}{'&'.join(pairs)}"


def secrets_of(address: str) -> list[str]:
    """The parts of an address that must not be shown, longest first."""
    rest = address.partition("://")[2] or address
    place, _, query = rest.partition("?")
    user, at, _ = place.rpartition("@")
    found = [user.partition(":")[2]] if at else []
    found += [
        value
        for pair in re.split(r"[&;]", query)
        if SECRET.search((parts := pair.partition("="))[0]) and (value := parts[2])
    ]
    found += [part for secret in found if "@" in secret for part in secret.split("@")]  # as other programs read it
    return sorted(filter(None, found), key=len, reverse=True)


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
