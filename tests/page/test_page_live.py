"""The page of a real demo in a real browser."""

from __future__ import annotations

import http.client
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.page.conftest import Site, prometheus, stopped
from tests.page.scale import write_once

from trunkline.dashboards.queries import variables
from trunkline.dashboards.rendering import dashboards
from trunkline.errors import SimulatorError
from trunkline.page.asking import Simulator, open_questions
from trunkline.page.browser import Tab
from trunkline.page.filling import Choices
from trunkline.page.pictures import DRAWN, FILLED, pictures

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
DATA_S = 15.0
DASHBOARDS = {each["uid"]: each["title"].partition(": ")[2] for each in dashboards()}

EMPTY = (
    "[...document.querySelectorAll('.panel')].filter(e => e.querySelector('.loading, .nothing, .failed'))"
    ".map(e => e.innerText)"
)
PANELS = "document.querySelectorAll('.panel')"
TABLES = "[...document.querySelectorAll('.panel.table tbody')].map(e => e.innerText).join()"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def count(selector: str) -> str:
    return f"document.querySelectorAll({selector!r}).length"


def stat(title: str) -> str:
    return (
        f"[...document.querySelectorAll('.panel.stat')].find(e => e.querySelector('h3').innerText === {title!r})"
        "?.querySelector('.number')?.innerText"
    )


def picture(tab: Tab, name: str) -> None:
    """Only when asked, as every run would change the files."""
    if os.environ.get("TRUNKLINE_PICTURES"):
        tab.picture(PICTURES / f"{name}.png", DRAWN)


def fits(tab: Tab, width: int) -> None:
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def press(tab: Tab, selector: str) -> None:
    tab.click(f"document.querySelector({selector!r})")


def choose(tab: Tab, select: str, option: str) -> None:
    """Open a list of choices and take one, with the mouse."""
    press(tab, f"{select} .q-field__control")
    found = f"[...document.querySelectorAll('.q-menu .q-item')].find(e => e.innerText.trim() === {option!r})"
    tab.wait_for(f"{found}?.offsetHeight > 0")
    tab.click(found)


def test_the_map_shows_every_task_and_how_it_is(site: Site) -> None:
    with site.tab() as tab:
        tab.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)
        assert tab.evaluate("document.querySelector('.summary').innerText") == "4 tasks: 4 healthy"
        shown = tab.evaluate("document.querySelector('.map').innerText")
        for word in ("222222222222", "333333333333", "eu-west-1", "us-east-1", "role/ecs-xaccount-task-role"):
            assert word in shown
        assert "ECS-AMP-Central-Role" in shown
        assert "trusts 2 roles" in shown
        assert "ws-" in shown
        picture(tab, "map")


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_panel_of_a_dashboard_shows_data(site: Site, uid: str) -> None:
    with site.tab(f"/d/{uid}") as tab:
        assert tab.evaluate("document.querySelector('h1').innerText") == DASHBOARDS[uid]
        try:
            tab.wait_for(FILLED, DATA_S)
        except TimeoutError:
            pytest.fail(f"these panels show nothing: {tab.evaluate(EMPTY)}")
        picture(tab, uid.removeprefix("trunkline-"))


def test_a_chart_is_drawn_when_it_comes_into_sight(site: Site) -> None:
    drawn = count(".chart svg path[stroke]")
    with site.tab("/d/trunkline-collectors") as tab:
        tab.wait_for(FILLED, DATA_S)
        tab.wait_for(f"{drawn} > 0")
        assert not tab.evaluate(DRAWN)
        before = tab.evaluate(drawn)
        tab.look_like(1280, 9000)
        tab.wait_for(DRAWN)
        tab.wait_for(f"{drawn} > {2 * before}")


async def test_a_variable_offers_what_the_workspace_has(site: Site) -> None:
    service = next(each for each in dashboards() if each["uid"] == "trunkline-service")
    choices = Choices.of(service, [("var-region", "us-east-1")])
    offered = {}
    async with open_questions(await Simulator(site.state_dir).workspace()) as questions:
        for each in variables(service):
            offered[each.name] = await questions.offered(each, choices.filled(each.selector), choices.span)
    assert offered["account"] == ["222222222222", "333333333333"]
    assert offered["cluster"] == ["ecs-xaccount-metrics-demo"]
    assert len(offered["task"]) == 2
    assert offered["requests"]
    assert all(name.endswith("_seconds") for name in offered["duration"])
    assert set(offered["requests"]) < set(offered["metric"])


def test_choosing_an_account_changes_the_panels(site: Site) -> None:
    with site.tab("/d/trunkline-fleet") as tab:
        tab.wait_for(f"{stat('Tasks')} === '4'", DATA_S)
        tab.wait_for(f"{count('.var-account')} === 1")
        choose(tab, ".var-account", "222222222222")
        tab.wait_for(f"{stat('Tasks')} === '2'", DATA_S)
        tab.wait_for("location.search.includes('var-account=222222222222')")
        assert "var-account=222222222222" in tab.evaluate(
            "[...document.querySelectorAll('nav a')].find(e => e.innerText === 'ECS tasks').href"
        )


def test_a_table_leads_to_the_details_with_everything_chosen(site: Site) -> None:
    with site.tab("/d/trunkline-fleet?var-region=us-east-1") as tab:
        tab.wait_for(FILLED, DATA_S)
        press(tab, ".panel.table td a")
        tab.wait_for("location.pathname === '/d/trunkline-service'")
        chosen = tab.evaluate("location.search")
        for each in (
            "var-account=333333333333",
            "var-region=us-east-1",
            "var-service=web-shop",
            "from=now-5m",
        ):
            assert each in chosen
        tab.wait_for(FILLED, DATA_S)


def test_the_keyboard_is_enough(site: Site) -> None:
    with site.tab() as tab:
        tab.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)
        for _ in range(20):
            tab.press("Tab", 9)
            if tab.evaluate("document.activeElement.classList.contains('task')"):
                break
        task = tab.evaluate("document.activeElement.dataset.task")
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.evaluate("document.querySelector('button.stop').focus()")
        looks = "(e => [e.color, e.outlineStyle, e.outlineWidth])(getComputedStyle(document.activeElement))"
        assert tab.evaluate(looks) == ["rgb(31, 95, 174)", "solid", "3px"]
        tab.evaluate(f"document.querySelector('[data-task=\"{task}\"]').focus()")
        tab.press("Enter", 13)
        tab.wait_for("location.pathname === '/d/trunkline-ecs-tasks'")
        assert f"var-task={task}" in tab.evaluate("location.search")
        tab.wait_for(f"{stat('Tasks')} === '1'", DATA_S)


def test_the_focus_stays_where_it_is_when_what_is_shown_changes(site: Site) -> None:
    """The map is new every 3 s, tables every 5 s."""
    focused = "[document.activeElement.href, document.activeElement.offsetHeight > 0]"
    with site.tab() as plan, site.tab("/d/trunkline-fleet") as fleet:
        plan.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)
        fleet.wait_for(FILLED, DATA_S)
        plan.evaluate("[...document.querySelectorAll('a.task')].at(-1).focus()")
        fleet.evaluate("[...document.querySelectorAll('.panel.table td a')].at(-1).focus()")
        before = [(tab, tab.evaluate(focused)) for tab in (plan, fleet)]
        shown = [plan.evaluate("document.querySelector('.map').innerText"), fleet.evaluate(TABLES)]
        time.sleep(7)
        for tab, where in before:
            assert tab.evaluate(focused) == where
            assert where[0]
        now = [plan.evaluate("document.querySelector('.map').innerText"), fleet.evaluate(TABLES)]
        assert all(one != other for one, other in zip(shown, now, strict=True))


def test_a_workspace_that_does_not_answer_is_not_healthy(site: Site) -> None:
    with site.tab() as seen_before, stopped(prometheus(site)), site.tab() as opened_since:
        for tab in (seen_before, opened_since):
            tab.wait_for(
                "document.querySelector('.workspace.down')?.innerText.includes('cannot be asked')", 15
            )
            assert "gave no answer" in tab.evaluate("document.querySelector('.failed').innerText")
            assert not tab.evaluate(count(".healthy .state, .workspace.healthy"))
    with site.tab() as tab:
        tab.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)


def test_a_url_may_ask_for_what_there_is_not(site: Site) -> None:
    with site.tab("/d/trunkline-service?var-status=foo&var-account=All&var-nonsense=1") as tab:
        tab.wait_for(FILLED, DATA_S)
        assert "foo" not in tab.evaluate("document.body.innerText")
    with site.tab("/d/trunkline-collectors?var-task=a%0Ab%22%5C") as tab:
        tab.wait_for(f"{count('.panel .nothing')} > 0 && !{count('.panel .loading')}", DATA_S)
        assert not tab.evaluate(count(".panel .failed"))


@pytest.mark.parametrize("path", ["/", "/d/trunkline-fleet"])
def test_it_fits_a_phone(site: Site, path: str) -> None:
    with site.tab(path, width=390, height=844) as tab:
        tab.wait_for(f"{count('a.task, .panel .number')} >= 4", DATA_S)
        fits(tab, 390)
        if path != "/":
            tab.wait_for(FILLED, DATA_S)
        picture(tab, "map-phone" if path == "/" else "fleet-phone")


def test_both_themes_by_the_system_and_by_choice(site: Site) -> None:
    with site.tab("/d/trunkline-fleet", theme="dark") as tab:
        tab.wait_for(FILLED, DATA_S)
        dark = tab.evaluate(BACKGROUND)
        picture(tab, "fleet-dark")
        tab.look_like(1280, 900, "light")
        tab.wait_for(f"{BACKGROUND} !== {dark!r}")
        choose(tab, ".theme", "dark")
        tab.wait_for(f"{BACKGROUND} === {dark!r}")
        tab.open(site.url)
        tab.wait_for(f"{BACKGROUND} === {dark!r}")  # it is remembered
        tab.evaluate("document.cookie = 'theme=auto; path=/'")


def test_a_throttled_workspace_shows_and_the_doctor_says_it(site: Site) -> None:
    said = "document.querySelector('.diagnosis').innerText"
    with site.tab() as tab:
        tab.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)
        press(tab, "button.throttle")
        tab.wait_for("document.querySelector('.workspace.down')?.innerText.includes('429')", DATA_S)
        tab.wait_for(f"{said}.includes('answered 429')", DATA_S)
        press(tab, "button.throttle")
        tab.wait_for(f"{count('.workspace.healthy')} === 1", DATA_S)


def test_withdrawn_trust_says_when_it_bites_and_a_deny_bites_at_once(site: Site) -> None:
    said = "document.querySelector('.diagnosis').innerText"
    switch = "document.querySelector('button.withdraw').closest('.switch').innerText"
    with site.tab() as tab:
        tab.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)
        press(tab, "button.withdraw")
        tab.wait_for(f"{said}.includes('cannot assume')", DATA_S)
        tab.wait_for(
            f"/bites at the next refresh .* between \\d\\d:\\d\\d:\\d\\d and/.test({switch})", DATA_S
        )
        press(tab, "button.revoke")
        tab.wait_for(f"{switch}.includes('It bites now')", DATA_S)
        tab.wait_for(f"{said}.includes('the way ends at: role')", DATA_S)
        picture(tab, "map-broken")
        press(tab, "button.withdraw")
        tab.wait_for(f"{switch}.includes('in 40 to 50 minutes')", DATA_S)
        press(tab, "button.revoke")
        tab.wait_for(f"{count('.role.healthy')} === 1", DATA_S)
        assert "trusts 2 roles" in tab.evaluate("document.querySelector('.role').innerText")


def test_pictures_of_the_dashboards(site: Site, tmp_path: Path) -> None:
    path = next(pictures(site.state_dir, tmp_path / "png"))
    assert path.name == "trunkline-fleet.png"
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20]) == 1280
    assert int.from_bytes(header[20:24]) > 2000
    with pytest.raises(SimulatorError, match="no demo with a page runs"):
        next(pictures(tmp_path, tmp_path / "png"))


def test_only_this_computer_by_its_own_names_gets_an_answer(site: Site) -> None:
    address = urlsplit(site.url).netloc

    def answered(host: str) -> int:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/", headers={"Host": host})
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    assert answered(address) == 200
    assert answered("rebound.example") == 400


def test_a_stopped_task_turns_stale(site: Site) -> None:
    """It leaves one task more on the map, so all tests that count them come before."""
    said = "document.querySelector('.diagnosis').innerText"
    with site.tab() as tab:
        tab.wait_for(f"{count('a.task.healthy')} === 4", DATA_S)
        press(tab, "button.stop")
        tab.wait_for(f"{count('a.task.stale')} === 1", 2 * DATA_S)
        assert "stale" in tab.evaluate("document.querySelector('a.task.stale').innerText")
        tab.wait_for("document.querySelector('.summary').innerText.includes('1 stale')")
        assert "has ended" in tab.evaluate(
            "document.querySelector('button.stop').closest('.switch').innerText"
        )
        tab.wait_for(f"{said}.includes('was stopped, and its service has started this one')", 2 * DATA_S)
        assert "workspace" in tab.evaluate(said)


async def test_what_labels_say_is_text(site: Site) -> None:
    """The last of these tests: what it writes stays on the map."""
    script = "<img src=x onerror='window.ran=1'>"
    names = ("cloud_account_id", "cloud_region", "aws_ecs_service_name", "aws_ecs_task_id", "job", "instance")
    labels = {"__name__": "up", **dict.fromkeys(names, script)}
    await write_once(site.state_dir, [(labels, 1.0)])
    with site.tab() as tab:
        tab.wait_for("document.querySelector('.map')?.innerText.includes('Account <img')", DATA_S)
        assert not tab.evaluate("window.ran")
    for uid in ("trunkline-fleet", "trunkline-service"):
        with site.tab(f"/d/{uid}") as tab:
            tab.wait_for(FILLED, DATA_S)
            tab.wait_for(f"[...{PANELS}].some(e => e.textContent.includes('<img src=x onerror'))")
            assert not tab.evaluate("window.ran")
