"""Scenarios of how the target is found and reached: TLS, credentials, proxies, redirects, discovery."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.differential.scenario import CIRCLE, ORDINARY, Scenario, shown, target_rules
from tests.differential.targets import Page

_ONE = shown(ORDINARY)
_JSON = "application/json"


def connections() -> dict[str, Scenario]:
    parts = (_tls(), _credentials(), _oauth2(), _proxies(), _redirects(), _headers(), _discovered())
    return {name: one for part in parts for name, one in part.items()}


def _tls() -> dict[str, Scenario]:
    """Whom a connection trusts, who it says it is, and which versions it speaks."""
    trusting = {"ca_file": "<folder>/ca.pem"}
    mine = {"cert_file": "<folder>/me.pem", "key_file": "<folder>/me.pem"}

    def check(address: str, settings: Mapping[str, str | bool], *, reached: bool = True) -> Scenario:
        return Scenario(_ONE, {"scheme": "https", "tls_config": settings}, address=address, reached=reached)

    return {
        "tls": check("<tls>", trusting),
        "tls_unknown_authority": check("<tls>", {}, reached=False),
        "tls_other_authority": check("<tls>", {"ca_file": "<folder>/stranger/ca.pem"}, reached=False),
        "tls_wrong_name": check("localhost:<tls_port>", trusting, reached=False),
        "tls_server_name": check("localhost:<tls_port>", {**trusting, "server_name": "a.target.example"}),
        "tls_server_name_wrong": check(
            "<tls>", {**trusting, "server_name": "b.a.target.example"}, reached=False
        ),
        "tls_no_host": check(":<tls_port>", trusting, reached=False),
        "tls_no_host_named": check(":<tls_port>", {**trusting, "server_name": "a.target.example"}),
        "tls_no_host_unverified": check(":<tls_port>", {"insecure_skip_verify": True}),
        "tls_skip_verify": check("<stranger>", {"insecure_skip_verify": True}),
        "tls_skip_verify_named": check(
            "<stranger>", {"insecure_skip_verify": True, "server_name": "nobody.example"}
        ),
        "tls_mutual": check("<mutual>", {**trusting, **mine}),
        "tls_mutual_unverified": check("<mutual>", {**mine, "insecure_skip_verify": True}),
        "tls_mutual_without": check("<mutual>", trusting, reached=False),
        "tls_mutual_stranger": check(
            "<mutual>",
            {
                **trusting,
                "cert_file": "<folder>/stranger/me.pem",
                "key_file": "<folder>/stranger/me.pem",
            },
            reached=False,
        ),
        "tls_12": check("<tls_12>", trusting),
        "tls_12_min_version": check("<tls_12>", {**trusting, "min_version": "TLS13"}, reached=False),
        "tls_13_max_version": check("<tls_13>", {**trusting, "max_version": "TLS12"}, reached=False),
        "tls_13_min_version": check("<tls_13>", {**trusting, "min_version": "TLS13"}),
        "tls_11": check("<tls_11>", trusting, reached=False),
        "tls_11_min_version": check("<tls_11>", {**trusting, "min_version": "TLS11"}),
        "tls_common_name": check("localhost:<nameless_port>", trusting, reached=False),
        "tls_pinned": check("<pinned>", {"ca_file": "<folder>/pinned.pem"}),
        "tls_intermediate": check("<below>", {"ca_file": "<folder>/middle/ca.pem"}),
        "tls_labelled": Scenario(
            _ONE, {"tls_config": trusting}, address="<tls>", labels={"__scheme__": "https"}
        ),
        "https_to_plain": check("<address>", trusting, reached=False),
        "http_to_tls": Scenario(_ONE, address="<tls>", reached=False),
    }


def _credentials() -> dict[str, Scenario]:
    """What stands in `Authorization`."""
    return {
        "basic_auth": Scenario(_ONE, {"basic_auth": {"username": "me", "password": "sesame"}}),
        "basic_auth_odd": Scenario(_ONE, {"basic_auth": {"username": "é:", "password": ":\\ü"}}),
        "basic_auth_spaces": Scenario(
            _ONE, {"basic_auth": {"username": " me ", "password": " sesame\t"}}, (3, 0)
        ),
        "basic_auth_no_password": Scenario(_ONE, {"basic_auth": {"username": "me"}}),
        "basic_auth_file": Scenario(
            _ONE, {"basic_auth": {"username": "me", "password_file": "<folder>/secret"}}
        ),
        "basic_auth_files": Scenario(
            _ONE,
            {"basic_auth": {"username_file": "<folder>/secret", "password_file": "<folder>/secret"}},
            (3, 0),
        ),
        "bearer": Scenario(_ONE, {"authorization": {"credentials": "sesame"}}),
        "bearer_token": Scenario(_ONE, {"bearer_token": "sesame"}),
        "bearer_token_file": Scenario(_ONE, {"bearer_token_file": "<folder>/secret"}),
        "authorization_type": Scenario(_ONE, {"authorization": {"type": "Token", "credentials": "sesame"}}),
        "authorization_spaces": Scenario(
            _ONE, {"authorization": {"type": " Token  ", "credentials": " ses ame "}}
        ),
        "authorization_file": Scenario(_ONE, {"authorization": {"credentials_file": "<folder>/secret"}}),
        "authorization_refused": Scenario(
            [Page(ORDINARY), Page(ORDINARY, status=401), Page(ORDINARY, status=403), Page(ORDINARY)],
            {"authorization": {"credentials": "sesame"}},
        ),
    }


def _oauth2() -> dict[str, Scenario]:
    """Tokens of client credentials, from a server that wants them in a header, in the body, or not at all."""

    def check(
        answer: Mapping[str, Any],
        status: int = 200,
        *,
        reached: bool = True,
        headerless: bool = False,
        **settings: Any,
    ) -> Scenario:
        secret = {} if "client_secret_file" in settings else {"client_secret": "ses äme"}
        wanted = {"client_id": "m&e", "token_url": "http://<aside>", **secret, **settings}
        aside = Page(json.dumps(answer), status, _JSON, headerless=headerless)
        return Scenario(_ONE, {"oauth2": wanted}, aside=aside, reached=reached)

    token = {"access_token": "to+ken", "token_type": "bearer", "expires_in": 3600}
    return {
        "oauth2": check(
            token, scopes=["read:a", "b c"], endpoint_params={"audience": "x y", "resource": "&="}
        ),
        "oauth2_brief": check({**token, "expires_in": 2}),
        "oauth2_type": check({"access_token": "x", "token_type": "Odd"}),
        "oauth2_in_body": check(token, headerless=True),
        "oauth2_refused": check({"error": "invalid_client"}, 401, reached=False),
        "oauth2_no_token": check({"token_type": "bearer"}, reached=False),
        "oauth2_file": check(token, client_secret_file="<folder>/secret"),
        "oauth2_tls": check(
            token, token_url="https://<tls>/<path>", tls_config={"ca_file": "<folder>/ca.pem"}
        ),
        "oauth2_proxy": check(
            token, token_url="http://tokens.target.example/<path>", proxy_url="http://<address>"
        ),
    }


def _proxies() -> dict[str, Scenario]:
    """Requests through a proxy. Its targets have names that nobody but the proxy could resolve."""
    proxy, trusting = "http://<address>", {"ca_file": "<folder>/ca.pem"}

    def plain(name: str, url: str = proxy, pages: Sequence[Page] = _ONE, **job: Any) -> Scenario:
        return Scenario(pages, {"proxy_url": url, **job}, address=f"{name}.target.example:80")

    def encrypted(
        name: str, port: int = 443, *, reached: bool = True, since: tuple[int, int] = (2, 42), **job: Any
    ) -> Scenario:
        settings = {"scheme": "https", "proxy_url": proxy, "tls_config": trusting, **job}
        address = f"{name}.target.example:{port}"
        return Scenario(_ONE, settings, since, address=address, reached=reached)

    return {
        "proxy": plain("proxy"),
        "proxy_credentials": plain("proxy", "http://m%40e:ses%20ame@<address>"),
        "proxy_wants_credentials": plain("proxy", pages=[Page(ORDINARY), Page(status=407), Page(ORDINARY)]),
        "proxy_and_basic_auth": plain("proxy", basic_auth={"username": "me", "password": "sesame"}),
        "proxy_of_an_address": Scenario(_ONE, {"proxy_url": proxy}),
        "proxy_over_tls": plain("proxy", "https://<tls>", tls_config=trusting),
        "proxy_over_tls_unknown": Scenario(_ONE, {"proxy_url": "https://<tls>"}, reached=False),
        "proxy_down": Scenario(_ONE, {"proxy_url": "http://<nobody>"}, reached=False),
        "proxy_connects": encrypted("proxy-connects"),
        "proxy_connects_credentials": encrypted(
            "proxy-connects-credentials", proxy_url="http://m%40e:ses%20ame@<address>"
        ),
        "proxy_connects_over_tls": encrypted("proxy-connects-over-tls", proxy_url="https://<tls>"),
        "proxy_refuses": encrypted("proxy-refuses", 8443, reached=False),
        "proxy_connect_header": encrypted(
            "proxy-connect-header", since=(2, 43), proxy_connect_header={"X-Extra": ["a", "b"]}
        ),
        "proxy_from_environment": Scenario(
            _ONE, {"proxy_from_environment": True}, (2, 43), "proxy.target.example:80"
        ),
        "proxy_from_environment_local": Scenario(_ONE, {"proxy_from_environment": True}, (2, 43)),
        "no_proxy": Scenario(_ONE, {"proxy_url": "http://<nobody>", "no_proxy": "other.example"}, (2, 43)),
        "no_proxy_others": Scenario(
            _ONE, {"proxy_url": proxy, "no_proxy": "127.0.0.1"}, (2, 43), "proxy.target.example:80"
        ),
    }


def _redirects() -> dict[str, Scenario]:
    """Where the target sends the scraper: `?again` is the target itself, whose next page answers."""

    def moved(where: str = "?again", status: int = 302) -> Page:
        return Page("moved 1\n", status, headers={"Location": where})

    def check(*pages: Page, **job: Any) -> Scenario:
        return Scenario([Page(ORDINARY), *pages, Page(ORDINARY)], job)

    good = Page("a 2\n")
    secrets = {"basic_auth": {"username": "me", "password": "sesame"}}
    return {
        "redirect": Scenario([Page(ORDINARY), moved("/elsewhere")]),
        "redirect_refused": check(moved("/elsewhere"), follow_redirects=False),
        "redirect_circle": check(moved(CIRCLE)),
        "redirect_kinds": check(
            *(page for status in (301, 303, 307, 308) for page in (moved(status=status), good))
        ),
        "redirect_no_kinds": check(*(moved(status=status) for status in (300, 304, 305, 306))),
        "redirect_nowhere": check(Page("moved 1\n", 302)),
        "redirect_just_long_enough": check(*[moved()] * 9, good),
        "redirect_too_long": check(*[moved()] * 10),
        "redirect_with_credentials": check(moved(), good, **secrets),
        "redirect_to_another_host": check(
            moved("http://localhost:<port>/redirect_to_another_host?again"), good, **secrets
        ),
        "redirect_to_tls": check(
            moved("https://<tls>/redirect_to_tls?again"),
            good,
            tls_config={"ca_file": "<folder>/ca.pem"},
            **secrets,
        ),
        "redirect_spelled_oddly": check(
            moved("//<address>/redirect_spelled_oddly"),
            good,
            moved("./x/../redirect_spelled_oddly?a b#part"),
            good,
            moved("redirect_spelled_oddly?é=%e9"),
            good,
        ),
        "redirect_to_nothing": check(
            moved("ftp://<address>/"), moved("http://[::1"), moved("http:///"), moved("http://<nobody>/")
        ),
        "elsewhere": Scenario(shown("elsewhere 9\n")),
    }


def _headers() -> dict[str, Scenario]:
    def check(*pages: Page, **values: Sequence[str]) -> Scenario:
        return Scenario([*pages, Page(ORDINARY)], {"http_headers": {"x-extra": values}}, (3, 0))

    moved = Page(status=302, headers={"Location": "http://localhost:<port>/http_headers_redirected"})
    return {
        "http_headers": Scenario(_ONE, {"http_headers": {"X-Extra": {"values": ["b", "a"]}}}, (3, 0)),
        "http_headers_secret": check(values=["a"], secrets=["b c"], files=["<folder>/secret"]),
        "http_headers_odd": check(values=["a", "", "é", "b,c"]),
        "http_headers_redirected": check(Page(ORDINARY), moved, values=["a"]),
    }


def _discovered() -> dict[str, Scenario]:
    """Targets that are listed by a server, in a file, or in DNS, with what is said about each."""
    told = {"regex": "__meta_(.*)", "replacement": "m_$1", "action": "labelmap"}
    listed = [{"targets": ["<address>"], "labels": {"env": "x", "__meta_own": "1", "__param_p": "q"}}]
    # Where the answer came from has a port that is another one in each run.
    portless = {"source_labels": ["m_url"], "regex": ".*/(.*)", "target_label": "m_url"}

    def from_server(section: Mapping[str, Any], answer: Any = listed) -> Scenario:
        job = {
            "http_sd_configs": [{"url": "http://<aside>", "refresh_interval": "1s", **section}],
            **target_rules(told, portless),
        }
        return Scenario(_ONE, job, aside=Page(json.dumps(answer), content_type=_JSON))

    def from_names(name: str, kind: str, **section: Any) -> Scenario:
        found = {"names": [name], "type": kind, "refresh_interval": "1s", **section}
        job = {"dns_sd_configs": [found], **target_rules(told)}
        return Scenario(_ONE, job, by_name=True)

    return {
        "http_sd": from_server({}),
        "http_sd_authorized": from_server({"basic_auth": {"username": "me", "password": "sesame"}}),
        "http_sd_tls": from_server(
            {"url": "https://<tls>/<path>", "tls_config": {"ca_file": "<folder>/ca.pem"}}
        ),
        "http_sd_proxy": from_server(
            {"url": "http://lists.target.example/<path>", "proxy_url": "http://<address>"}
        ),
        "http_sd_labels": from_server(
            {},
            [
                {"targets": [], "labels": {"a": "b"}},
                {"targets": None, "labels": None},
                {
                    "Targets": ["<address>", None],
                    "LABELS": {
                        "job": "mine",
                        "instance": "me",
                        "empty": "",
                        "nothing": None,
                        "__scheme__": "http",
                    },
                },
            ],
        ),
        "file_sd_yaml": Scenario(
            _ONE, {"file_sd_configs": [{"files": ["<folder>/targets.y*.yml"]}], **target_rules(told)}
        ),
        "dns_sd_a": from_names("a.names.example", "A", port="<port>"),
        "dns_sd_srv": from_names("_metrics._tcp.names.example", "SRV"),
        "dns_sd_mx": from_names("names.example", "MX", port="<port>"),
    }
