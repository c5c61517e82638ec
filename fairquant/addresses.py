"""Addresses of stores and databases: what of them may be shown, and what must not be written down."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import unquote

#: Names of query parameters whose values are secrets.
SECRET = re.compile(r"pass|pwd|secret|token|key|credential|auth|sig", re.IGNORECASE)
HIDDEN = "..."
#: A name of as many signs before the @ of a web address is a token.
TOKEN = 16
#: An address with something before an @ inside other text. (Bounded, so that long texts are searched in linear time.)
IN_TEXT = re.compile(r"(?<![\w+.-])[A-Za-z][\w+.-]{0,30}://\S{0,2000}@[^\s'\"\])}]{0,2000}")
#: A web server's address without anything that may be a secret.
WEB = re.compile(r"https?://([\w.~-]+@)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?(/[\w.~/-]*)?", re.IGNORECASE)
USER_AND_PASSWORD = re.compile(r"(^|/)[^/@:]*:[^/@]+@|;[^=]*pass[^=]*[:=]", re.IGNORECASE)
#: As in a list of settings: host=... password=...
PAIR = re.compile(r"\b(pass\w*|pwd|token|secret)=([^\s&;]+)", re.IGNORECASE)


def _parts(address: str) -> tuple[str, str, str, str]:
    """scheme and ://, what stands before the host, host and path, the query. A password may hold any sign, also a ? or a /."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    user, at, host = rest.rpartition("@")
    before_slash, slash, _ = user.partition("/")
    in_a_path = bool(slash) and (not separator or not (":" in before_slash or "?" in user))
    if not at or in_a_path:  # the @ is part of a file's name
        user, host = "", rest
    place, _, query = host.partition("?")
    return f"{scheme}{separator}", user, place, query


def _is_token(scheme: str, user: str) -> bool:
    """Whether what stands where a user's name would is a token for a web server."""
    return scheme.lower() in ("http://", "https://") and len(user) >= TOKEN and ":" not in user


def without_secrets(address: str) -> str:
    """The address with the password, everything up to the last @ in doubt, and secret query values hidden."""
    scheme, user, place, query = _parts(address)
    shown = ""
    if user:
        name, colon, _ = user.partition(":")
        shown = f"{name.partition('?')[0]}{f':{HIDDEN}' if colon or '?' in name else ''}@"
        shown = f"{HIDDEN}@" if _is_token(scheme, user) else shown
    pairs = []
    for pair in re.split(r"[&;]", query) if query else []:
        name, equals, _ = pair.partition("=")
        pairs.append(f"{name}={HIDDEN}" if equals and SECRET.search(name) else pair)
    text = f"{scheme}{shown}{place}{'?' if query else ''}{'&'.join(pairs)}"
    return PAIR.sub(rf"\1={HIDDEN}", text)


def secrets_of(address: str) -> list[str]:
    """The parts of an address that must not be shown, longest first."""
    scheme, user, _, query = _parts(address)
    found = [user.partition(":")[2] or user.partition("?")[2]] if user else []
    found += [user] if _is_token(scheme, user) else []
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


def hidden_in(text: str) -> str:
    """Any text without the secrets of the addresses in it."""
    return PAIR.sub(rf"\1={HIDDEN}", IN_TEXT.sub(lambda found: without_secrets(found.group()), text))


def secret_problems(content: object, path: str = "") -> list[tuple[str, str]]:
    """Every text of a recipe, names of keys too, that is an address with a secret: (dotted key, what is wrong)."""
    problems = []
    if isinstance(content, Mapping):
        for key, value in content.items():
            place = f"{path}.{hidden_in(str(key))}" if path else hidden_in(str(key))
            problems += [*secret_problems(str(key), place), *secret_problems(value, place)]
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            problems += secret_problems(value, f"{path}[{number}]")
    elif isinstance(content, str) and "://" in content and (problem := secret_problem(content)):
        problems.append((path, problem))
    return problems


def store_problem(address: str) -> str:
    """Why the address of a store cannot stand in a recipe; "" where it can. What is no usual form is refused as well, since nobody
    knows where in it a password stands."""
    plain = unicodedata.normalize("NFKC", unquote(address)).strip()
    if plain.lower().startswith("http") and not WEB.fullmatch(plain) and not secrets_of(plain):
        return "is not an address of the form http://HOST:PORT/PATH (a user's name before the host may be given, nothing else)"
    if not secrets_of(plain) and USER_AND_PASSWORD.search(plain):
        return "looks like an address with a password in it, of no usual form: a recipe is written to files and logs"
    return secret_problem(plain)


def secret_problem(address: str) -> str:
    """Why an address cannot stand in a recipe, which is written down and handed on; "" where it can."""
    if not secrets_of(address):
        return ""
    return (
        f"{without_secrets(address)}: a recipe is written to files and logs and must hold no password. Leave it out, and set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN or the database's own (PGPASSWORD, ~/.pgpass)"
    )
