"""Where a shared state is kept, as a URL says it."""

from __future__ import annotations

import pytest

from gateway.core.state_url import WrongUrl, read_state_url


@pytest.mark.parametrize(
    ("text", "kind", "hosts", "address"),
    [
        ("redis://h", "single", (("h", 6379),), "redis://h:6379/0"),
        ("rediss://u:p@h:1/3", "single", (("h", 1),), "rediss://u:p@h:1/3"),
        ("redis://[::1]:7/", "single", (("::1", 7),), "redis://[::1]:7/0"),
        (
            "redis+cluster://a:1,b,[::1]:3",
            "cluster",
            (("a", 1), ("b", 6379), ("::1", 3)),
            "redis://a:1/0",
        ),
        (
            "rediss+cluster://u:p%40@a:1,b:2/?ssl_ca_certs=/ca.pem",
            "cluster",
            (("a", 1), ("b", 2)),
            "rediss://u:p%40@a:1/0?ssl_ca_certs=/ca.pem",
        ),
        (
            "redis+sentinel://:p@a,b:2/main/5?sentinel_password=x&client_name=c",
            "sentinel",
            (("a", 26379), ("b", 2)),
            "redis://:p@a:26379/5?client_name=c",
        ),
    ],
)
def test_what_a_url_names(
    text: str, kind: str, hosts: tuple[tuple[str, int], ...], address: str
) -> None:
    url = read_state_url(text)
    assert (url.kind, url.hosts) == (kind, hosts)
    assert url.at(*url.hosts[0]) == address


def test_the_service_and_what_is_for_sentinels_alone() -> None:
    url = read_state_url("redis+sentinel://a/ma%20in?sentinel_username=u&sentinel_password=p%25")
    assert (url.service, url.database) == ("ma in", 0)
    assert dict(url.options) == {"sentinel_username": "u", "sentinel_password": "p%"}
    assert url.query == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://h", "one that begins with 'http'"),
        ("redis+other://h", "one that begins with 'redis+other'"),
        ("rediss", "one that begins with ''"),
        ("redis://", "one without a host"),
        ("redis://[::1", "a host or port that cannot be read"),
        ("redis://a,b", "several hosts"),
        ("redis+cluster://a,,b", "a host or port that cannot be read"),
        ("redis+cluster://a:0", "a host or port that cannot be read"),
        ("redis+cluster://a:65536", "a host or port that cannot be read"),
        ("redis://user:secret/x@h", "a host or port that cannot be read"),
        ("redis://h/x", "a path that is no database's number"),
        ("redis://h/1/2", "a path that is no database's number"),
        ("redis+cluster://h/1", "another database than 0"),
        ("redis+sentinel://h", "one without the name of the service"),
        ("redis+sentinel://h/main/x", "a path that is no database's number"),
        ("redis://h?ssl_ca_certs=/x", "an option of TLS"),
        ("rediss://h?ssl_ca=/x", "an option that is not known"),
        ("redis://h?retry_on_timeout=1", "an option that is not known"),
        ("redis://h?secret", "an option that is not known"),
        ("redis://h?sentinel_password=x", "an option of Sentinels"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_not_what_it_was(text: str, found: str) -> None:
    with pytest.raises(WrongUrl) as caught:
        read_state_url(text)
    assert caught.value.found == found
    assert "secret" not in f"{caught.value} {caught.value.hint}"
