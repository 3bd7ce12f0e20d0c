import pytest

from trunkline.errors import ConnectError, UsageError
from trunkline.net.resolve import Resolve
from trunkline.net.target import Target, parse_target


def test_the_most_exact_rule_leads() -> None:
    resolve = Resolve.parse(
        "aps.example:443=127.0.0.1:8443, *:443=[::1]:9443,[2001:db8::1]:80=10.0.0.1:81,*:*=gate:*,aps.example:*=all:1"
    )

    def check(host: str, port: int, expected: tuple[str, int]) -> None:
        assert resolve.lookup(host, port) == expected

    check("aps.example", 443, ("127.0.0.1", 8443))
    check("APS.example", 443, ("127.0.0.1", 8443))
    check("aps.example", 80, ("all", 1))
    check("other.example", 443, ("::1", 9443))
    check("2001:db8::1", 80, ("10.0.0.1", 81))
    check("other.example", 81, ("gate", 81))
    assert Resolve.parse("").lookup("a", 1) == ("a", 1)
    assert Resolve.parse("a:1=b:2").lookup("c", 1) == ("c", 1)


def test_wrong_rules_are_named() -> None:
    def check(text: str, expected: str) -> None:
        with pytest.raises(UsageError, match=expected):
            Resolve.parse(text)

    check("a:1", r"--resolve 'a:1': there is no '=' in it \(write host:port=address:port\)")
    check("a=b:1", "'a' is not host:port")
    check("a:1=b", "'b' is not host:port")
    check("a:1=:2", "':2' is not host:port")
    check("a:http=b:1", r"'http' is not a port \(1 to 65535, or \*\)")
    check("a:0=b:1", "'0' is not a port")
    check("a:1=b:65536", "'65536' is not a port")
    check("::1:80=b:1", r"write the IPv6 address '::1' in brackets, \[::1\]:80")
    check("a:1=*:1", r"the address must be one host, not \*")
    check("a:1=b:1,a:1=c:1", "a:1 is led elsewhere by an earlier rule")


def test_urls_are_taken_apart_and_sent_as_given() -> None:
    def check(url: str, expected: Target) -> None:
        assert parse_target(url) == expected

    check("http://h", Target("http", "h", 80, "h", "/"))
    check("http://H:80/a%2Fb?x=%20", Target("http", "h", 80, "h", "/a%2Fb?x=%20"))
    check("https://h:8443?q", Target("https", "h", 8443, "h:8443", "/?q"))
    check("https://[::1]:443/#part", Target("https", "::1", 443, "[::1]", "/"))
    check("http://[::1]:81/", Target("http", "::1", 81, "[::1]:81", "/"))
    check("http://h/ä b", Target("http", "h", 80, "h", "/%C3%A4%20b"))
    check("http://:8080/", Target("http", "127.0.0.1", 8080, ":8080", "/"))
    check("http://:80/", Target("http", "127.0.0.1", 80, ":80", "/"))
    assert str(parse_target("https://[::1]/x")) == "https://[::1]:443"


def test_urls_that_cannot_be_used() -> None:
    def check(url: str, expected: str) -> None:
        with pytest.raises(ConnectError, match=expected) as caught:
            parse_target(url)
        assert "secret" not in str(caught.value)

    check("ftp://h/", "must start with http:// or https:// and a host")
    check("/metrics", "must start with")
    check("http://", "must start with")
    check("http://:", "must start with")
    check("http:///x", "must start with")
    check("http://h:port/", "cannot use the URL 'http://h:port/'")
    check("http://[::1/", "cannot use the URL")
    check("http://me:secret@h/", "put user name and password under basic_auth")
