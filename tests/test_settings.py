"""Settings from the environment: what is accepted, and what the refusals say."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hotswap_proxy.settings import Settings, SettingsError, parse_address


def test_every_kind_of_value_is_read() -> None:
    settings = Settings.from_environment(
        {
            "HOTSWAP_CONFIG": "gateway.yaml",
            "HOTSWAP_PROXY": "[::1]:8443",
            "HOTSWAP_WORKERS": "3",
            "HOTSWAP_DRAIN_TIMEOUT": "1.5",
            "HOTSWAP_HTTP": "HTTPTOOLS",
            "HOTSWAP_ENVIRONMENT": "production",
            "HOTSWAP_ALLOWED_BACKEND_HOSTS": "a.internal, b.internal,",
            "HOTSWAP_MIDDLEWARE": "a=b.c:d, x-1=e:f.g",
            "HOTSWAP_NODE_ID": "",
            "UNRELATED": "x",
        }
    )
    assert settings.config == Path("gateway.yaml")
    assert settings.proxy == "[::1]:8443"
    assert settings.workers == 3
    assert settings.drain_timeout == 1.5
    assert settings.http == "httptools"
    assert settings.environment == "Production"
    assert settings.allowed_backend_hosts == ("a.internal", "b.internal")
    assert settings.middleware == ("a=b.c:d", "x-1=e:f.g")
    assert Settings.from_worker_json(settings.worker_json()).middleware == settings.middleware
    assert settings.node_id == socket.gethostname()  # an empty variable is none


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("WORKERS", "0", "less than 1"),
        ("ALERT_WEBHOOKS", "https://ann:secret@hooks.example/a", "user name"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.1/8", "bits set behind its prefix"),
        ("TRUSTED_PROXIES", "proxy.example", "not a network"),
        ("PROXY_PROTOCOL", "v2", "not one of"),
        ("MAX_CONNECTIONS_PER_CLIENT", "-1", "less than 0"),
        ("MAX_REQUESTS_PER_SECOND_PER_CLIENT", "1000001", "more than"),
        ("WORKERS", "100000", "more than"),
        ("WORKERS", "two", "not a whole number"),
        ("WORKERS", "1.5", "not a whole number"),
        ("DRAIN_TIMEOUT", "-1", "less than 0"),
        ("DRAIN_TIMEOUT", "nan", "must be finite"),
        ("DRAIN_TIMEOUT", "inf", "must be finite"),
        ("HTTP", "quic", "not one of auto, native, httptools"),
        ("ENVIRONMENT", "Prod", "not one of Development, QA, Staging, Production"),
        ("PROXY", "8000", "not HOST:PORT"),
        ("PROXY_TLS", "8443", "not HOST:PORT"),
        ("TLS_MIN_VERSION", "1.1", "not one of 1.2, 1.3"),
        ("TLS_CLIENT_AUTH", "yes", "not one of off, optional, required"),
        ("HSTS_MAX_AGE", "-1", "less than 0"),
        ("HSTS_MAX_AGE", "1y", "not a whole number"),
        ("RETRY_BUDGET", "101", "more than 100"),
        ("OUTLIER_EJECTION", "maybe", "not one of on, off"),
        ("FORWARDED", "2", "not one of on, off"),
        ("MIN_TRANSFER_RATE", "-1", "less than 0"),
        ("MAX_CONNECTIONS", "-1", "less than 0"),
        ("ADMIN", "localhost:port", "the port must be a number"),
        ("ACCESS_LOG", "a\0b", "a path cannot have"),
        ("ACCESS_LOG_SAMPLE", "1.1", "more than 1"),
        ("ACCESS_LOG_SAMPLE", "-0.1", "less than 0"),
        ("ACCESS_LOG_SAMPLE", "nan", "must be finite"),
        ("ACCESS_LOG_REDACT", "a=b", "not the name of a query parameter"),
        ("ACCESS_LOG_REDACT", "x" * 65, "not the name of a query parameter"),
        ("ACCESS_LOG_REDACT", "a\x1bb", "not the name of a query parameter"),
        ("MIDDLEWARE", "a", "not NAME=package.module:function"),
        ("MIDDLEWARE", "a=b", "not NAME=package.module:function"),
        ("MIDDLEWARE", "a=b:c;d", "not NAME=package.module:function"),
        ("MIDDLEWARE", "a b=c:d", "not NAME=package.module:function"),
        ("MIDDLEWARE", "a=b:c,a=d:e", "given twice"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({f"HOTSWAP_{name}": value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"HOTSWAP_{name}: ")
    assert reason in problem


@pytest.mark.parametrize(
    ("environ", "names", "reason"),
    [
        ({"PROXY_TLS": ":8443"}, ["PROXY_TLS"], "needs --tls-cert and --tls-key"),
        ({"HSTS_MAX_AGE": "60"}, ["HSTS_MAX_AGE"], "needs --tls-cert"),
        (
            {"TLS_CLIENT_AUTH": "required", "TLS_CLIENT_CA": "ca.pem"},
            ["TLS_CLIENT_CA", "TLS_CLIENT_AUTH"],
            "needs --tls-cert",
        ),
        ({"TLS_KEY": "k"}, ["TLS_KEY"], "needs --tls-cert"),
        (
            {"TLS_CERT": "c", "TLS_KEY": "k", "TLS_CLIENT_AUTH": "optional"},
            ["TLS_CLIENT_AUTH"],
            "optional needs --tls-client-ca",
        ),
        (
            {"TLS_CERT": "c", "TLS_KEY": "k", "TLS_CLIENT_CA": "ca.pem"},
            ["TLS_CLIENT_CA"],
            "without --tls-client-auth",
        ),
        ({"PROXY_PROTOCOL": "on"}, ["PROXY_PROTOCOL"], "needs --trusted-proxies"),
        (
            {"ACCESS_LOG": "off", "ACCESS_LOG_SAMPLE": "0.5", "ACCESS_LOG_REDACT": "ticket"},
            ["ACCESS_LOG_SAMPLE", "ACCESS_LOG_REDACT"],
            "needs --access-log",
        ),
    ],
)
def test_what_could_not_do_what_it_says_is_refused(
    environ: dict[str, str], names: list[str], reason: str
) -> None:
    settings = Settings.from_environment({f"HOTSWAP_{name}": value for name, value in environ.items()})
    with pytest.raises(SettingsError) as caught:
        settings.check_combinations()
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        f"HOTSWAP_{name}" for name in names
    ]
    assert all(reason in problem for problem in caught.value.problems)


def test_a_secure_set_of_options_is_taken() -> None:
    environ = {
        "TLS_CERT": "a.pem,b.pem",
        "TLS_KEY": "a.key,b.key",
        "TLS_CLIENT_AUTH": "required",
        "TLS_CLIENT_CA": "ca.pem",
        "TLS_MIN_VERSION": "1.3",
        "HSTS_MAX_AGE": "60",
        "PROXY_TLS": ":8443",
        "TLS_DIR": "/x",
        "GEOIP": "/g",
        "PROXY_PROTOCOL": "on",
        "TRUSTED_PROXIES": "10.0.0.0/8",
        "ACCESS_LOG": "-",
        "ACCESS_LOG_SAMPLE": "0.01",
        "ACCESS_LOG_REDACT": "ticket, sid",
    }
    settings = Settings.from_environment({f"HOTSWAP_{name}": value for name, value in environ.items()})
    settings.check_combinations()
    assert settings.tls_cert == ("a.pem", "b.pem")
    assert Settings.from_worker_json(settings.worker_json()) == settings


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"HOTSWAP_WORKERS": "0", "HOTSWAP_HTTP": "x"})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:8000", (socket.AF_INET, "0.0.0.0", 8000)),
        ("localhost:0", (socket.AF_INET, "localhost", 0)),
        (":80", (socket.AF_INET, "0.0.0.0", 80)),
        ("[::]:8000", (socket.AF_INET6, "::", 8000)),
    ],
)
def test_addresses(text: str, expected: tuple[int, str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "8000", "a:", "a:-1", "a:65536", "a:٣", "::1:80", "[::g]:80", "[a:80"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|port|IPv6|brackets"):
        parse_address(text)


def test_workers_get_every_setting_but_the_secrets() -> None:
    settings = Settings(
        admin_password="hunter2!",
        jwt_secret="s3cret",
        workers=7,
        http="native",
        data_dir=Path("/x"),
        config=Path("c"),
        database_url="postgresql://me:pg-secret@db/x",
    )
    text = settings.worker_json()
    assert b"hunter2" not in text
    assert b"s3cret" not in text
    copy = Settings.from_worker_json(text)
    assert (copy.workers, copy.http, copy.data_dir, copy.config) == (7, "native", Path("/x"), Path("c"))
    assert copy.admin_password is None
    assert "hunter2" not in repr(settings)
    assert "pg-secret" not in repr(settings)
