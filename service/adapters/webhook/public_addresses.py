"""Addresses that a webhook may be at: those of the internet, unless the settings allow private ones."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

_NAT64 = IPv6Network("64:ff9b::/96")


NOT_PUBLIC = "is no address of the internet"


class PrivateAddressError(OSError):
    """The address is not one of the internet."""


def is_public(text: str) -> bool:
    """True for an address of the internet: not private, loopback, link-local, multicast or reserved.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged as well, as it is the one that is
    reached.
    """
    address = ip_address(text.partition("%")[0])
    return all(map(_is_public, _addresses_in(address)))


def names_private_address(host: str) -> bool:
    """True for an address that is not one of the internet, and for `localhost`; False for any other name.

    A number in another notation, such as 2130706433 or 0x7f.1, counts as private: a proxy may take it for an
    address.
    """
    host = host.rstrip(".").lower()
    try:
        return not is_public(host)
    except ValueError:
        last = host.rpartition(".")[2]
        return last == "localhost" or last.isdigit() or last.startswith("0x")


def public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for aiohttp, which is about to connect it to this address. Raises PrivateAddressError.

    Here the address is the one that is really connected to, whatever a name was resolved to before.
    """
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise PrivateAddressError(f"{place[0]} {NOT_PUBLIC}")
    return socket.socket(family, kind, protocol)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    is_site_local = isinstance(address, IPv6Address) and address.is_site_local
    is_special = address.is_multicast or address.is_reserved or is_site_local
    return address.is_global and not is_special


def _addresses_in(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [address]
