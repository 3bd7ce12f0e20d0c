"""Whole configurations of the receiver, read as the collector reads them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from trunkline import components
from trunkline.aws.task_metadata import ADDRESSES, addresses_of
from trunkline.collector.config import read
from trunkline.component.contract import ComponentId
from trunkline.errors import ConfigError
from trunkline.model import Resource, Series, is_stale, make_labels
from trunkline.net.settings import HttpSettings
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.config import PrometheusConfig
from trunkline.receivers.prometheus.job import Job, accept_header, is_openmetrics, jobs_of
from trunkline.receivers.prometheus.loop import note_failure
from trunkline.receivers.prometheus.receiver import PrometheusReceiver
from trunkline.receivers.prometheus.target import Target, discovered_labels, make_target, own_hosts
from trunkline.testing import Recorder, context_for


def read_config(config: str, receiver: str = "") -> PrometheusConfig:
    """The receiver's settings when `config` is Prometheus' part in YAML, indented by nothing."""
    lines = "\n".join(f"      {line}" for line in config.strip().splitlines())
    own = "\n".join(f"    {line}" for line in receiver.strip().splitlines())
    text = (
        f"receivers:\n  prometheus:\n{own}\n    config:\n{lines}\n"
        "exporters: {debug: }\n"
        "service: {pipelines: {metrics: {receivers: [prometheus], exporters: [debug]}}}\n"
    )
    declared = read([f"yaml:{text}"], {}, components).receivers[ComponentId("prometheus")]
    assert isinstance(declared.config, PrometheusConfig)
    return declared.config


def jobs(config: str, receiver: str = "") -> list[Job]:
    return list(jobs_of(read_config(config, receiver)))


def problems(config: str, receiver: str = "") -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_config(config, receiver)
    return [
        f"{problem.path.removeprefix('receivers::prometheus::')}: {problem.message}"
        for problem in raised.value.problems
    ]


def the_target(job: Job, address: str = "h:1", **labels: str) -> Target:
    found = make_target(job, {"__address__": address}, labels)
    assert found is not None
    return found


def test_global_settings_are_the_defaults_of_jobs() -> None:
    one, two = jobs("""
global:
  scrape_interval: 30s
  scrape_timeout: 20s
  body_size_limit: 1MiB
  sample_limit: 10
  label_limit: 5
  label_name_length_limit: 6
  label_value_length_limit: 7
  target_limit: 8
  extra_scrape_metrics: true
  scrape_failure_log_file: /tmp/all
  scrape_protocols: [PrometheusText0.0.4]
  metric_name_validation_scheme: legacy
  external_labels: {zone: 1}
scrape_configs:
  - job_name: one
  - job_name: two
    scrape_interval: 10s
    sample_limit: 1
    label_limit: 2
    extra_scrape_metrics: false
    metric_name_validation_scheme: utf8
    scrape_protocols: [OpenMetricsText1.0.0]
""")
    assert (one.interval_s, one.timeout_s, two.interval_s, two.timeout_s) == (30, 20, 10, 10)
    assert (one.sample_limit, two.sample_limit, two.target_limit) == (10, 1, 8)
    assert (tuple(one.label_limits), tuple(two.label_limits)) == ((5, 6, 7), (2, 6, 7))
    assert (one.extra_metrics, two.extra_metrics, one.failure_log) == (True, False, "/tmp/all")
    assert one.body_limit == 1024 * 1024
    assert one.body_limit < one.max_body_bytes(2**30) < 1.01 * one.body_limit
    assert (one.validation, two.validation) == ("legacy", "utf8")
    assert one.accept == "text/plain;version=0.0.4;q=0.6,*/*;q=0.5"
    assert two.accept == "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5"
    assert one.external_labels == {"zone": "1"}


def test_the_default_time_out_is_never_longer_than_the_interval() -> None:
    def check(config: str, *timeouts_s: float) -> None:
        assert tuple(job.timeout_s for job in jobs(config)) == timeouts_s

    check(
        "global: {scrape_interval: 5s}\nscrape_configs: [{job_name: a}, {job_name: b, scrape_interval: 2s}]",
        5,
        2,
    )
    check("global: {scrape_interval: 5s}\nscrape_configs: [{job_name: a, scrape_interval: 1m}]", 5)
    check("global: {scrape_timeout: 0s}\nscrape_configs: [{job_name: a, scrape_timeout: 0s}]", 10)
    [wrong] = problems("global: {scrape_interval: 5s, scrape_timeout: 10s}\nscrape_configs: [{job_name: a}]")
    assert wrong == (
        "config::global::scrape_timeout: global scrape timeout greater than scrape interval; leave it out, or make it no "
        "longer than scrape_interval"
    )


def test_the_receivers_own_durations_are_those_of_the_collector() -> None:
    assert (
        read_config("scrape_configs: [{job_name: a}]", "initial_scrape_offset: 1.5s").initial_scrape_offset
        == 1.5
    )


def test_external_labels_may_refer_to_the_environment() -> None:
    config = read_config("""
global: {external_labels: {a: $$ZONE, b: "x-$${ZONE}-$$$$", c: $$UNSET}}
scrape_configs: [{job_name: a}]
""")
    [job] = jobs_of(config, {"ZONE": "eu"})
    assert job.external_labels == {"a": "eu", "b": "x-eu-$", "c": ""}


def test_the_default_accept_header_is_that_of_prometheus_3() -> None:
    [job] = jobs("scrape_configs: [{job_name: a}]")
    assert job.accept == (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    assert (
        accept_header(["PrometheusText1.0.0"], "dots")
        == "text/plain;version=1.0.0;escaping=dots;q=0.6,*/*;q=0.5"
    )


@pytest.mark.parametrize("written", ["'$1-$2'", "$$1-$$2", "'$${1}-$${2}'"])
def test_dollars_of_rules_survive_the_expansion_of_references(written: str) -> None:
    [job] = jobs(f"""
scrape_configs:
  - job_name: a
    relabel_configs:
      - source_labels: [__address__]
        regex: '(.*):(.*)'
        target_label: node
        replacement: {written}
""")
    assert the_target(job, "host:80").labels["node"] == "host-80"


def test_http_settings_are_those_of_prometheus(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s\n")
    one, two, three = jobs(f"""
scrape_configs:
  - job_name: one
    basic_auth: {{username: u, password_file: {secret}}}
    tls_config: {{server_name: n, insecure_skip_verify: true, min_version: TLS13}}
    follow_redirects: false
    http_headers: {{X-One: {{values: [a, 1], files: [{secret}]}}}}
  - job_name: two
    authorization: {{type: Custom, credentials_file: {secret}}}
  - job_name: three
    oauth2:
      client_id: c
      client_secret_file: {secret}
      token_url: http://127.0.0.1:1/token
      scopes: [a]
      endpoint_params: {{x: 1}}
""")
    basic, custom, oauth2 = one.http.basic_auth, two.http.authorization, three.http.oauth2
    assert basic is not None
    assert custom is not None
    assert oauth2 is not None
    assert (basic.username.read(), basic.password.read()) == ("u", "s")
    assert (one.http.tls.server_name, one.http.tls.min_version, one.http.follow_redirects) == (
        "n",
        "TLS13",
        False,
    )
    assert (one.http.http_headers[0].values, one.http.http_headers[0].files[0].read()) == (("a", "1"), "s")
    assert (custom.type, custom.credentials.read()) == ("Custom", "s")
    assert (oauth2.client_secret.read(), oauth2.scopes, oauth2.endpoint_params) == (
        "s",
        ("a",),
        (("x", "1"),),
    )


def test_jobs_with_equal_http_settings_share_a_client() -> None:
    config = read_config("""
scrape_configs:
  - {job_name: a, basic_auth: {username: u, password: p}}
  - {job_name: b, basic_auth: {username: u, password: p}}
  - {job_name: c}
""")
    assert len({job.http for job in jobs_of(config)}) == 2
    assert HttpSettings() in {job.http for job in jobs_of(config)}
    assert len(PrometheusReceiver(config, context_for("prometheus"), Recorder())._clients) == 2


def test_what_is_not_supported_is_refused_by_name_with_a_remedy() -> None:
    def check(config: str, *expected: str, receiver: str = "") -> None:
        found = problems(config, receiver)
        assert len(found) == len(expected), found
        for one, start in zip(found, expected, strict=True):
            assert one.startswith(start), one

    job = "scrape_configs: [{job_name: a}]"
    base = "config::scrape_configs::0"
    check(
        "scrape_configs: [{job_name: a, ec2_sd_configs: [{region: x}]}]",
        f"{base}::ec2_sd_configs: ec2_sd_configs is not supported; EC2 discovery is not built yet; list the",
    )
    check(
        "scrape_configs: [{job_name: a, consul_sd_configs: [{}]}]",
        f"{base}::consul_sd_configs: consul_sd_configs is not supported; ask Consul's DNS",
    )
    check(
        f"rule_files: [x]\nremote_write: [{{url: x}}]\nalerting: {{alertmanagers: [{{}}]}}\n{job}",
        "config: unsupported features:\n\talert_config.alertmanagers\n\tremote_write\n\trule_files\n"
        "alerts are sent by the workspace, or a Prometheus that reads it: take out alerting; samples are sent by an",
    )
    check(
        "scrape_config_files: [x]\n" + job, "config::scrape_config_files: is not supported; include the jobs"
    )
    check(
        "scrape_configs: [{job_name: a, scrape_native_histograms: true}]",
        f"{base}::scrape_native_histograms: native histograms are not supported yet",
    )
    check(
        "scrape_configs: [{job_name: a, scrape_protocols: [PrometheusProto]}]",
        f"{base}::scrape_protocols: PrometheusProto is not supported",
    )
    check(job, "target_allocator: is not supported", receiver="target_allocator: {endpoint: x}")
    check(job, "api_server: is not supported", receiver="api_server: {enabled: true}")
    check(job, "trim_metric_suffixes: is not supported", receiver="trim_metric_suffixes: true")
    check(
        "scrape_configs: [{job_name: a, scrape_intervall: 5s}]",
        f"{base}: 'receivers' error reading configuration",
    )


def test_what_is_wrong_is_said_in_prometheus_words() -> None:
    def check(job: str, key: str, message: str, global_: str = "{}") -> None:
        found = problems(f"global: {global_}\nscrape_configs: [{{job_name: a, {job}}}]")
        assert found == [f"config::scrape_configs::0{key}: {message}"]

    check(
        "basic_auth: {username: u}, authorization: {credentials: c}",
        "",
        "at most one of basic_auth, oauth2 & authorization must be configured",
    )
    check(
        "tls_config: {ca_file: /nonexistent}",
        "::tls_config::ca_file",
        "error checking ca_file '/nonexistent': there is no such file",
    )
    check(
        "metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8",
        "::metric_name_escaping_scheme",
        "utf8 metric names requested but validation scheme is not set to UTF8; write underscores here",
    )
    check(
        "metric_relabel_configs: [{action: hashmod, target_label: x}]",
        "::metric_relabel_configs::0::modulus",
        "relabel configuration for hashmod requires non-zero modulus",
    )
    check(
        "dns_sd_configs: [{names: [x], type: A}]",
        "::dns_sd_configs::0::port",
        "a port is required in DNS-SD configs for all record types except SRV",
    )
    check("sample_limit: -1", "::sample_limit", "must not be negative; 0 is no limit")
    check(
        "scrape_timeout: 20s",
        "::scrape_timeout",
        'scrape timeout greater than scrape interval for scrape config with job name "a"; leave it out, or make it no '
        "longer than scrape_interval",
        "{scrape_interval: 15s}",
    )


def test_a_target_is_what_relabelling_makes_of_its_labels() -> None:
    [job] = jobs("""
scrape_configs:
  - job_name: a
    scrape_interval: 90s
    params: {module: [one, two]}
    relabel_configs:
      - {source_labels: [__meta_scheme], regex: (.+), target_label: __scheme__}
      - {source_labels: [__meta_every], regex: (.+), target_label: __scrape_interval__}
      - {source_labels: [__meta_address], regex: (.+), target_label: __address__}
      - {source_labels: [drop], regex: 'yes', action: drop}
""")
    assert discovered_labels(job, {"__address__": "h:1"}, {"x": "", "job": "own"}) == {
        "__address__": "h:1",
        "job": "own",
        "__scrape_interval__": "1m30s",
        "__scrape_timeout__": "10s",
        "__metrics_path__": "/metrics",
        "__scheme__": "http",
        "__param_module": "one",
    }
    found = the_target(
        job, "h:1", __meta_scheme="https", __param_module="x y", __metrics_path__="m", zone="z"
    )
    assert found.url == "https://h:1/m?module=x+y&module=two"
    assert found.labels == {"instance": "h:1", "job": "a", "zone": "z"}
    assert the_target(job, "h:1", __meta_every="20s").interval_s == 20
    assert the_target(job, "host").labels["instance"] == "host"
    assert make_target(job, {"__address__": "h:1"}, {"drop": "yes"}) is None
    for address, labels, message in [
        ("", {}, "no address"),
        ("h/m", {}, '"h/m" is not a valid hostname'),
        ("h", {"__meta_every": "0s"}, "scrape interval cannot be 0"),
        ("h", {"__meta_every": "x"}, "error parsing scrape interval: not a valid duration"),
        (
            "h",
            {"__meta_every": "5s"},
            'scrape timeout cannot be greater than scrape interval \\("10s" > "5s"\\)',
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            make_target(job, {"__address__": address}, labels)


def test_the_tasks_own_addresses_are_local() -> None:
    network = {"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.61"], "IPv6Addresses": ["fd00::61"]}
    own = frozenset(addresses_of({"Containers": [{"Networks": [network]}, {"Networks": [network]}, {}]}))
    assert own == {"10.0.2.61", "fd00::61"}
    [job] = jobs("scrape_configs: [{job_name: a}]")
    for address in own:
        shown = f"[{address}]:80" if ":" in address else f"{address}:80"
        found = make_target(job, {"__address__": shown}, {}, own)
        assert found is not None
        assert found.local
        assert found.attributes["server.address"] == address
    assert not the_target(job, "10.254.254.254:80").local
    shared = {"Containers": [{"Networks": [{"NetworkMode": "host", "IPv4Addresses": ["10.0.0.1"]}]}]}
    assert addresses_of(shared) == []


def test_names_that_the_hosts_file_gives_to_the_tasks_addresses_are_local(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "127.0.0.1\tlocalhost\n# 172.17.0.3 commented\n\n172.17.0.3\tapp 5f3e ecs-App-1 # 172.17.0.4 tail\n"
        "172.17.0.9 other\n172.17.0.4 sidecar\n"
    )
    own = own_hosts(frozenset({"172.17.0.3", "172.17.0.4"}), hosts)
    [job] = jobs("scrape_configs: [{job_name: a}]")

    def local(host: str) -> bool:
        found = make_target(job, {"__address__": f"{host}:80"}, {}, own)
        assert found is not None
        return found.local

    assert [name for name in ("app", "APP", "ecs-app-1", "sidecar", "172.17.0.3") if not local(name)] == []
    assert [name for name in ("other", "tail", "commented", "172.17.0.9") if local(name)] == []
    assert own_hosts(frozenset(), hosts) == frozenset()
    assert own_hosts(frozenset({"10.0.0.1"}), tmp_path / "missing") == {"10.0.0.1"}


async def test_a_container_reached_by_its_link_is_of_the_own_task(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("172.17.0.3 app\n172.17.0.9 db\n")
    identity = Resource({ADDRESSES: "172.17.0.3,172.17.0.4"}, {"aws_ecs_task_id": "t1"})
    config = read_config("""
scrape_configs: [{job_name: a, static_configs: [{targets: ["app:8000", "db:9187"]}]}]
""")
    seen = Recorder()
    context = context_for("prometheus", identity=identity)
    receiver = PrometheusReceiver(config, context, seen, hosts_file=hosts)
    task = asyncio.create_task(receiver.run())
    await asyncio.sleep(0)  # static targets are there at once
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    found = {}
    for table in seen.opened:
        first = table.series[0]
        assert first is not None
        found[dict(first.labels)["instance"]] = dict(first.resource.identity)
    assert found == {"app:8000": {"aws_ecs_task_id": "t1"}, "db:9187": {}}


async def test_identity_goes_to_what_the_own_task_exposes_and_nowhere_else() -> None:
    identity = Resource({ADDRESSES: "10.9.8.7,fd00::1"}, {"aws_ecs_task_id": "t1"})
    config = read_config("""
scrape_configs:
  - job_name: a
    static_configs: [{targets: ["10.9.8.7:1", "[fd00::1]:1", "127.0.0.1:1", "10.9.8.6:1"]}]
""")
    seen = Recorder()
    receiver = PrometheusReceiver(config, context_for("prometheus", identity=identity), seen)
    found = {}
    for pool, scrape in receiver._static:
        for group in scrape.static_configs:
            for address in group.targets:
                target = make_target(pool._job, {"__address__": address}, {}, pool._own_addresses)
                assert target is not None
                found[address] = target.local
    assert found == {"10.9.8.7:1": True, "[fd00::1]:1": True, "127.0.0.1:1": True, "10.9.8.6:1": False}


def test_the_format_is_that_of_the_content_type_or_the_fallback() -> None:
    assert is_openmetrics("application/openmetrics-text; version=1.0.0; charset=utf-8", "")
    assert not is_openmetrics("text/plain; version=1.0.0; escaping=allow-utf-8", "")
    assert not is_openmetrics("", "PrometheusText0.0.4")
    assert is_openmetrics("text/html", "OpenMetricsText1.0.0")
    for content_type, fallback in (
        ("", ""),
        ("text/html", ""),
        ("application/vnd.google.protobuf", "PrometheusText0.0.4"),
    ):
        with pytest.raises(ValueError, match="received"):
            is_openmetrics(content_type, fallback)


def scraped(job: Job, *bodies: str) -> list[list[tuple[str, float, dict[str, str]]]]:
    """What each scrape hands on beside `up` and its like: name, value, labels."""
    columns = TargetColumns(the_target(job), Resource())
    batches = []
    for number, body in enumerate(bodies):
        seen = Recorder()
        batch, _ = columns.scraped(body.encode(), openmetrics=False, timestamp_s=1000.0 + number)
        seen.consume(batch)
        columns.handed_on()
        batches.append(
            [
                (one.series.name, one.value, dict(one.series.labels))
                for one in seen.batches[0].samples
                if not one.series.name.startswith("scrape_") and one.series.name != "up"
            ]
        )
    return batches


def test_a_renamed_series_is_a_part_of_a_family_of_its_new_name() -> None:
    [job] = jobs("""
scrape_configs:
  - job_name: a
    metric_relabel_configs:
      - {source_labels: [__name__], regex: 'h(_.*)', target_label: __name__, replacement: new$1}
      - {source_labels: [__name__], regex: s_sum, target_label: __name__, replacement: total_of_s}
""")
    columns = TargetColumns(the_target(job), Resource())
    body = (
        b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\n# TYPE s summary\ns_sum 1\n# TYPE c counter\nc 1\n'
    )
    columns.scraped(body, openmetrics=False, timestamp_s=1.0)
    found = {
        one.name: (one.family.name, str(one.family.kind))
        for one in columns.table.series
        if isinstance(one, Series)
    }
    assert found["new_bucket"] == found["new_sum"] == ("new", "histogram")
    assert found["total_of_s"] == ("total_of_s", "unknown")
    assert found["c"] == ("c", "counter")


def test_utf8_names_pass_and_the_legacy_scheme_refuses_them() -> None:
    utf8, legacy = jobs("""
scrape_configs:
  - {job_name: a}
  - {job_name: a2, metric_name_validation_scheme: legacy}
""")
    body = '{"http.größe","service.name"="ä"} 1\n'
    [[(name, value, labels)]] = scraped(utf8, body)
    assert (name, value, labels["service.name"]) == ("http.größe", 1, "ä")
    with pytest.raises(Exception, match="invalid metric name or label names"):
        scraped(legacy, body)
    assert "escaping=underscores" in legacy.accept


def test_relabelling_is_decided_once_per_series() -> None:
    [job] = jobs("""
scrape_configs:
  - job_name: a
    metric_relabel_configs: [{source_labels: [__name__], regex: drop.*, action: drop}]
""")
    first, second = scraped(job, "keep 1\ndropped 1\n", "keep 2\ndropped 2\n")
    assert [one[:2] for one in first] == [("keep", 1)]
    assert [one[:2] for one in second] == [("keep", 2)]
    columns = TargetColumns(the_target(job), Resource())
    columns.scraped(b"keep 1\ndropped 1\n", openmetrics=False, timestamp_s=1.0)
    columns._rules = None  # type: ignore[assignment]
    columns.scraped(b"keep 2\ndropped 2\n", openmetrics=False, timestamp_s=2.0)


def test_an_exceeded_limit_leaves_no_more_behind_than_the_limit() -> None:
    [job] = jobs("scrape_configs: [{job_name: a, sample_limit: 10}]")
    columns = TargetColumns(the_target(job), Resource())
    for number in range(5):
        body = "".join(f'x{{n="{number}-{n}"}} 1\n' for n in range(5000)).encode()
        with pytest.raises(Exception, match="sample limit exceeded: 5000 samples, sample_limit is 10"):
            columns.scraped(body, openmetrics=False, timestamp_s=1.0 + number)
        batch = columns.failed(1.0 + number)
        assert list(batch.values[2:5]) == [5000, 5000, 10 if number == 0 else 0]
        columns.handed_on()
    assert len(columns.table) <= 16
    [batch, _] = columns.scraped(b"a 1\n", openmetrics=False, timestamp_s=9.0)
    assert list(batch.values[:5:2]) == [1, 1, 1]


def test_failures_are_noted_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "failures"
    note_failure(str(file), "http://h:1/metrics", "no")
    note_failure(str(file), "http://h:1/metrics", "again")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["msg"], line["target"]) for line in lines] == [
        ("no", "http://h:1/metrics"),
        ("again", "http://h:1/metrics"),
    ]
    note_failure("/nonexistent/x", "u", "no")


def test_markers_keep_their_bits() -> None:
    [job] = jobs("scrape_configs: [{job_name: a}]")
    first, second = scraped(job, "a NaN\nb 1\n", "c 1\n")
    assert [is_stale(value) for _, value, _ in first] == [False, False]
    assert sorted(name for name, value, _ in second if is_stale(value)) == ["a", "b"]


def test_deciding_makes_the_labels_of_the_reference() -> None:
    [job] = jobs("""
global: {external_labels: {zone: out}}
scrape_configs:
  - job_name: a
    metric_relabel_configs: [{regex: instance, action: labeldrop}, {source_labels: [zone], target_label: was}]
""")
    [[(_, _, labels)]] = scraped(job, 'm{zone="in",job="x"} 1\n')
    assert make_labels(labels) == make_labels(
        {"__name__": "m", "job": "a", "exported_job": "x", "zone": "out", "was": "in"}
    )


@pytest.mark.parametrize(("memory_mib", "body_mib"), [(64, 16), (512, 32), (2048, 128), (65536, 256)])
def test_without_a_limit_a_body_may_have_a_share_of_the_memory(memory_mib: int, body_mib: int) -> None:
    [one] = jobs("scrape_configs: [{job_name: a}]")
    assert one.max_body_bytes(memory_mib * 2**20) == body_mib * 2**20
