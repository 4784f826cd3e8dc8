"""Listening sockets: one per worker, and clear words when there can be none."""

from __future__ import annotations

import socket

import pytest

from hotswap_proxy.control.listeners import ListenError, listen_admin, listen_proxy, shown


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_all_sockets_share_the_port_the_kernel_chose() -> None:
    sockets = listen_proxy("127.0.0.1:0", 3)
    assert len({sock.getsockname() for sock in sockets}) == 1
    assert sockets[0].getsockname()[1] != 0
    close(sockets)


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(
            ListenError, match=rf"cannot listen on {address} \(--proxy\): the address is in use"
        ):
            listen_proxy(address, 2)
        with pytest.raises(
            ListenError, match=rf"cannot listen on {address} \(--admin\): the address is in use"
        ):
            listen_admin(address)


def test_a_second_node_is_refused_though_the_kernel_would_share() -> None:
    first = listen_proxy("127.0.0.1:0", 1)
    address = f"127.0.0.1:{first[0].getsockname()[1]}"
    with pytest.raises(ListenError, match="in use"):
        listen_proxy(address, 1)
    close(listen_proxy(address, 1, lambda _fits, _enough: []))  # but the successor of a dead node may
    close(first)


def test_a_port_with_connections_that_have_just_ended_can_be_had_again() -> None:
    sockets = listen_proxy("127.0.0.1:0", 1)
    where = sockets[0].getsockname()
    client = socket.create_connection(where)
    sockets[0].setblocking(True)
    served, _ = sockets[0].accept()
    served.close()  # the server's side closes first: TIME_WAIT stays on its port
    client.close()
    close(sockets)
    close(listen_proxy(f"127.0.0.1:{where[1]}", 2))


def test_every_ipv6_address_means_ipv4_too() -> None:
    try:
        sockets = listen_proxy("[::]:0", 1)
    except ListenError:
        pytest.skip("this machine has no IPv6")
    port = sockets[0].getsockname()[1]
    socket.create_connection(("127.0.0.1", port)).close()
    assert shown(sockets[0]) == f"http://[::]:{port}"
    close(sockets)


def test_a_host_that_does_not_resolve_is_named() -> None:
    with pytest.raises(ListenError, match=r"no\.such\.host\.invalid:80 \(--admin\)"):
        listen_admin("no.such.host.invalid:80")


def test_backlog_takes_connections_before_anybody_accepts() -> None:
    sockets = listen_proxy("127.0.0.1:0", 1)
    clients = [socket.create_connection(sockets[0].getsockname(), timeout=5) for _ in range(300)]
    assert len(clients) == 300
    close(clients)
    close(sockets)
