"""Which URLs may be a backend."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from hotswap_proxy.model import UrlRules, parse_url
from hotswap_proxy.model.urls import check_url, forbidden_address


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("http://users.internal:9001", "http://users.internal:9001"),
        ("http://Users.Internal", "http://users.internal:80"),
        ("http://users.internal.:81/", "http://users.internal:81"),
        ("HTTP://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://[2001:DB8:0:0::1]", "http://[2001:db8::1]:80"),
        ("https://a", "https://a:443"),
        ("http://my_service:80", "http://my_service:80"),
    ],
)
def test_one_backend_has_one_spelling(url: str, identity: str) -> None:
    assert parse_url(url).url == identity


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("users:9001", "url"),
        ("", "url"),
        ("http//a", "url"),
        ("http://a b", "url_host"),
        ("http://", "url_host"),
        ("ftp://a", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("http://user@a", "url_userinfo"),
        ("http://user:secret@a", "url_userinfo"),
        ("http://@a", "url_userinfo"),
        ("http://a/path", "url_path"),
        ("http://a?q", "url_path"),
        ("http://a#f", "url_path"),
        ("http://a:0", "url_port"),
        ("http://a:65536", "url_port"),
        ("http://a:x", "url"),
        ("http://-a", "url_host"),
        ("http://a..b", "url_host"),
        ("http://metadata.google.internal..", "url_host"),
        ("http://metadata.google.internal...", "url_host"),
        ("http://.", "url_host"),
        ("http://[1.2.3.4]", "url_host"),
        ("http://[::g]", "url"),
        ("http://1.2.3", "url_host"),
        ("http://1.2.3.256", "url_host"),
        ("http://2852039166", "url_host"),
        ("http://0xa9fea9fe", "url_host"),
        ("http://0251.0376.0251.0376", "url_host"),
        ("http://a\r\nb", "url_host"),
        ("http://a\x00", "url_host"),
        ("http://bücher.example", "url_host"),
    ],
)
def test_what_is_wrong_is_named(url: str, rule: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        parse_url(url)
    assert caught.value.type == rule


FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "224.0.0.1",
    "ff02::1",
    "0.0.0.0",
    "0.0.0.1",
    "0.1.2.3",
    "::",
    "::2",
    "fd00:ec2::1",
    "fd00:ec2:1::254",
    "fd20:ce::254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_link_local_and_metadata_addresses_are_refused_unless_allowed(address: str) -> None:
    url = f"http://[{address}]:80" if ":" in address else f"http://{address}:80"
    with pytest.raises(PydanticCustomError) as caught:
        check_url(url, UrlRules())
    assert caught.value.type == "url_forbidden"
    host = parse_url(url).host
    assert check_url(url, UrlRules(allowed_hosts=frozenset({host}))).host == host


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "2001:db8::1", "fd00::1", "::10.0.0.1"]
)
def test_other_addresses_are_fine(address: str) -> None:
    assert forbidden_address(address) is None


def test_a_metadata_service_is_known_by_name_too() -> None:
    with pytest.raises(PydanticCustomError, match="metadata"):
        check_url("http://Metadata.Google.Internal", UrlRules())


def test_scoped_link_local_addresses_are_understood() -> None:
    assert forbidden_address("fe80::1%eth0") is not None


def test_https_is_a_backend_like_any_other() -> None:
    assert check_url("https://users.internal", UrlRules(production=True)).port == 443


def test_production_wants_https_unless_the_host_is_allowed() -> None:
    with pytest.raises(PydanticCustomError) as caught:
        check_url("http://users.internal", UrlRules(production=True))
    assert caught.value.type == "url_https"
    allowed = UrlRules(production=True, allowed_hosts=frozenset({"users.internal"}))
    assert check_url("http://Users.internal", allowed).host == "users.internal"


@pytest.mark.parametrize(
    ("admin", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.0.0.1:5000", "http://[::ffff:127.0.0.1]:5000"),
        (":80", "http://127.0.0.1"),
        ("0.0.0.0:5000", "http://127.0.0.9:5000"),
        ("[::]:5000", "http://127.0.0.1:5000"),
        ("[::]:5000", "http://[::1]:5000"),
        ("Gateway.internal:5000", "http://gateway.internal.:5000"),
    ],
)
def test_the_nodes_own_admin_api_is_no_backend(admin: str, url: str) -> None:
    allowed = frozenset({parse_url(url).host})
    with pytest.raises(PydanticCustomError, match="admin API") as caught:
        check_url(url, UrlRules(allowed_hosts=allowed, admin=admin))
    assert caught.value.type == "url_admin"


@pytest.mark.parametrize("url", ["http://127.0.0.1:5001", "http://10.0.0.1:5000", "http://[::1]:5000"])
def test_neighbours_of_the_admin_api_may_be(url: str) -> None:
    assert check_url(url, UrlRules(admin="127.0.0.1:5000"))
