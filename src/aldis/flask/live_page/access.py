"""Decide which clients may see the live page: this machine, and the hosts in ``ALDIS_PAGE_HOSTS``.

The page is for the developer at this machine. A request is refused when any address that it may come from, or any host
name that it may be for, is not allowed. So a proxy's headers can only make the check stricter, and a page of another
site cannot read this one by a name that resolves to this machine (DNS rebinding).
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from werkzeug.wrappers import Request

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+?))\.?(?::\d{1,5})?", re.IGNORECASE)


_CLIENT: Final = (
    "The live page answers this machine only. To open it to other clients, list their addresses or networks in"
    " ALDIS_PAGE_HOSTS.\n"
)
_NAME: Final = (
    "The live page answers as localhost only. If the application has another name, list that in ALDIS_PAGE_HOSTS.\n"
)
_OTHER_SITE: Final = "The live page does not answer other sites.\n"


def refusal_of(request: Request, hosts: Iterable[Any] | str) -> str | None:
    """Return why this request may not see the page; ``None`` if it may.

    :param request: the request.
    :param hosts: names of the application, and addresses and networks of clients, that are allowed as well.
    """
    hosts = [hosts] if isinstance(hosts, str) else [str(host) for host in hosts]

    if not all(_is_allowed_address(address, hosts) for address in _clients(request)):
        return _CLIENT

    if not all(_is_allowed_host(name, hosts) for name in _names(request)):
        return _NAME

    is_from_other_site = request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}

    # A link on another site may lead to the page; no other request may come from there.
    if is_from_other_site and request.headers.get("Sec-Fetch-Mode") != "navigate":
        return _OTHER_SITE

    return None


def _clients(request: Request) -> Iterator[str]:
    """Yield all addresses that the request may come from.

    A header of a proxy proves nothing, so it cannot allow a client. But it can cause a refusal.
    """
    yield request.remote_addr or ""
    original = request.environ.get("werkzeug.proxy_fix.orig")

    if original is not None:
        yield original.get("REMOTE_ADDR") or ""

    for header in ("X-Forwarded-For", "X-Real-Ip"):
        yield from _parts(request.headers.get(header))

    yield from _forwarded(request, "for", r"\[?([^\];,\"]*)")


def _names(request: Request) -> Iterator[str]:
    """Yield all host names that the request may be for. A page of another site may send any header of a proxy."""
    yield request.headers.get("Host", "")
    original = request.environ.get("werkzeug.proxy_fix.orig")

    if original is not None:
        yield original.get("HTTP_HOST") or ""

    yield from _parts(request.headers.get("X-Forwarded-Host"))
    yield from _forwarded(request, "host", r"([^;,\"]*)")


def _parts(header: str | None) -> Iterator[str]:
    if header is not None:
        yield from (part.strip() for part in header.split(","))


def _forwarded(request: Request, key: str, value: str) -> Iterator[str]:
    header = request.headers.get("Forwarded", "")
    yield from (part.strip() for part in re.findall(rf"{key}=\"?{value}", header, re.IGNORECASE))


def _is_allowed_address(text: str, hosts: list[str]) -> bool:
    try:
        address: Any = ip_address(text)
    except ValueError:
        return False

    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or any(address in network for network in _networks(hosts))


def _networks(hosts: list[str]) -> Iterator[Any]:
    for host in hosts:
        try:
            yield ip_network(host, strict=False)
        except ValueError:
            continue  # It is a name.


def _is_allowed_host(header: str, hosts: list[str]) -> bool:
    match = _HOST.fullmatch(header)

    if match is None:
        return False

    name = (match[1] or match[2]).lower()
    names = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
    return name in names or name.endswith(".localhost") or _is_allowed_address(name, hosts)
