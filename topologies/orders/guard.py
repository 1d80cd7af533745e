"""The guard of outgoing webhooks: which addresses a subscriber's URL may lead to.

The one rule: an address is judged when it is about to be connected to, whatever the URL calls it, and every time anew.

After OWASP's Server-Side Request Forgery Prevention Cheat Sheet and the registries of special-purpose addresses of IANA.
"""

import socket
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from streams.errors import SetupError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LONGEST: Final = 2048  # characters of a URL
_SPECIAL: Final[Sequence[tuple[Network, str]]] = [
    (ip_network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "link-local, where clouds have their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b:1::/48", "a NAT64 of its own network"),
        ("2001::/23", "reserved for protocols, Teredo among them"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
]
_UNICAST: Final = IPv6Network("2000::/3")  # all of IPv6 that is given out
_MAPPED: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))  # an IPv4 address is in their last 32 bits


class Refused(OSError):
    """An address or URL that nothing is sent to. The message says why."""


class Guard:
    """Lets connections through to public addresses and to those in `allow`; with `public=False` only to the latter."""

    def __init__(self, allow: Sequence[Network] = (), *, public: bool = True) -> None:
        self._allow = allow
        self._public = public

    def check(self, address: str) -> None:
        """Raise `Refused` unless this IP address may be connected to."""
        found = _plain(ip_address(address))
        if any(found in network for network in self._allow):
            return
        if why := _special(found):
            raise Refused(f"{address} is no public address: {why}")
        if not self._public:
            raise Refused(f"{address} is not in TOWPATH_WEBHOOK_ALLOW, and to others only https goes")

    def connector(self) -> aiohttp.TCPConnector:
        """What makes an HTTP client's connections; it must not be told of a proxy."""
        return aiohttp.TCPConnector(limit=64, resolver=_Resolver(self), socket_factory=self._socket)

    def _socket(self, info: tuple[int, int, int, str, tuple[str | int | bytes, ...]]) -> socket.socket:
        """A socket for this very address: a literal one has passed no resolver."""
        family, kind, protocol, _, address = info
        self.check(str(address[0]))
        return socket.socket(family, kind, protocol)


class _Resolver(ThreadedResolver):
    """Finds addresses as the system does. One that is refused spoils the whole name: an honest one has none."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        for one in found:
            self._guard.check(one["host"])
        return found


def webhook_url(text: str) -> URL:
    """A subscriber's URL. Raises `Refused` for what cannot be one; where it leads is not looked at."""
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise Refused(f"this is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not host or not port:
        raise Refused("a webhook's URL begins with https:// and a host")
    if url.user is not None or url.password is not None:
        raise Refused("a webhook's URL has no user and no password")
    if _disguised(host):
        raise Refused(f"{host} is an address in disguise: it is written with four numbers from 0 to 255")
    if len(text) > _LONGEST:
        raise Refused(f"a webhook's URL has at most {_LONGEST} characters")
    return url


def allowed(text: str) -> Sequence[Network]:
    """The networks in TOWPATH_WEBHOOK_ALLOW: addresses or networks, separated by commas. Raises `SetupError`."""
    try:
        return [ip_network(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SetupError(str(error), where="TOWPATH_WEBHOOK_ALLOW", fix="write it as 127.0.0.1,10.1.0.0/16") from None


def _disguised(host: str) -> bool:
    """Whether some would read a host as an IPv4 address that is not written as one (as WHATWG's URL standard, 3.5: `127.1`)."""
    if ":" in host:
        return False
    last = host.rstrip(".").rpartition(".")[2]
    try:
        int(last, 16 if last.startswith("0x") else 10)
        IPv4Address(host)
    except AddressValueError:
        return True
    except ValueError:
        return False
    return False


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address is another spelling of, or the address itself."""
    if isinstance(address, IPv6Address) and any(address in network for network in _MAPPED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _special(address: Address) -> str:
    """What an address is if it is not a public one."""
    for network, name in _SPECIAL:
        if address in network:
            return name
    return "" if isinstance(address, IPv4Address) or address in _UNICAST else "not given out"
