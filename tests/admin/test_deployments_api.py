"""Deployments through the API: begun, watched, steered; who may do what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswap_proxy.deploy.measurement import ArmCounts, Measurement
from hotswap_proxy.store import deployments
from tests.gateway import ROUTE, ROUTES, Gateway, problem
from tests.rollouts import DEPLOYMENTS, begin, order, staged

pytestmark = pytest.mark.anyio


async def test_a_deployment_begins_with_its_first_phase(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    assert (made["status"], made["approvalStatus"]) == ("InProgress", "NotRequired")
    assert (made["stableVersion"], made["configVersion"]) == ("1.0", "1.1")
    assert [phase["trafficPercentage"] for phase in made["phases"]] == [10, 50, 100]
    assert made["phases"][0]["status"] == "InProgress" and made["phases"][0]["startedAt"]
    assert made["trafficPercentage"] == 10 and made["createdBy"]["username"] == "admin"
    url = f"{DEPLOYMENTS}/{made['deploymentId']}"
    assert (await gateway.client.get(url)).json() == made
    assert not made.keys() & {"salt", "baseline", "before", "measured"}, "who is in an arm is not told"
    found = (await gateway.client.get(f"{ROUTES}/{made['routeId']}/versions")).json()["versions"]
    assert [each["state"] for each in found] == ["Deploying", "Live"]


async def test_a_route_may_be_given_by_its_name(gateway: Gateway) -> None:
    await staged(gateway)
    body = {"routeName": "users", "configVersion": "1.1", "strategy": "Direct"}
    answer = await gateway.client.post(DEPLOYMENTS, json=body)
    assert answer.status_code == 201 and answer.json()["routeName"] == "users"


async def test_direct_is_live_at_once_and_goes_back_as_fast(gateway: Gateway) -> None:
    route_id = await staged(gateway)
    await begin(gateway, route_id, strategy="Direct")
    assert gateway.match("/users/1") == "1.1" and gateway.pick(route_id) == "users-2"


async def test_headers_of_smoke_tests_are_masked(gateway: Gateway) -> None:
    test = {"path": "/up", "headers": {"Authorization": "Bearer abc123"}}
    made = await begin(gateway, await staged(gateway), strategy="BlueGreen", smokeTests=[test])
    assert made["smokeTests"][0]["headers"].keys() == {"Authorization"}
    texts = [str(made)]
    for url in (DEPLOYMENTS, f"{DEPLOYMENTS}/{made['deploymentId']}", "/api/v1/audit-logs"):
        texts.append((await gateway.client.get(url)).text)
    assert not any("abc123" in text for text in texts)


async def test_a_dry_run_answers_the_plan_and_begins_nothing(gateway: Gateway) -> None:
    route_id = await staged(gateway)
    phases = [{"trafficPercentage": 5, "duration": "PT1M"}, {"trafficPercentage": 100}]
    body = {"routeId": route_id, "configVersion": "1.1", "strategy": "Canary", "phases": phases}
    answer = await gateway.client.post(f"{DEPLOYMENTS}?dryRun=true", json=body)
    told = answer.json()
    assert answer.status_code == 200 and told["dryRun"] is True
    assert [phase["duration"] for phase in told["phases"]] == ["PT1M", None]
    assert (await gateway.client.get(DEPLOYMENTS)).json()["total"] == 0
    assert (await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 1})).is_success


def _asked_with(headers: dict[str, str]) -> dict[str, Any]:
    return {"strategy": "BlueGreen", "smokeTests": [{"headers": headers}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"routeName": "users"}, ""),
        ({"routeId": None}, ""),
        ({"strategy": "Fast"}, "strategy"),
        ({"canaryPercentage": 0}, "canaryPercentage"),
        ({"canaryPercentage": 12.345}, "canaryPercentage"),
        ({"canaryPercentage": "10"}, "canaryPercentage"),
        ({"phases": []}, "phases"),
        ({"phases": [{"trafficPercentage": 101}]}, "phases[0].trafficPercentage"),
        ({"phases": [{"trafficPercentage": 10, "duration": "soon"}]}, "phases[0].duration"),
        ({"phases": [{"trafficPercentage": 50}, {"trafficPercentage": 10}]}, "phases[1].trafficPercentage"),
        ({"phases": [{"trafficPercentage": 100}], "canaryPercentage": 5}, ""),
        ({"assignment": "Header:a b"}, "assignment"),
        ({"assignment": "Cookie:"}, "assignment"),
        ({"strategy": "Direct", "assignment": "ClientIP"}, ""),
        ({"smokeTests": [{"path": "/up"}]}, ""),
        ({"strategy": "BlueGreen", "smokeTests": [{"path": "up"}]}, "smokeTests[0].path"),
        (_asked_with({"X-A": "1\r\nContent-Length: 5"}), "smokeTests[0].headers"),
        (_asked_with({"X A": "1"}), "smokeTests[0].headers"),
        (_asked_with({"Transfer-Encoding": "chunked"}), "smokeTests[0].headers"),
        (_asked_with({f"X-{number}": "1" for number in range(33)}), "smokeTests[0].headers"),
        ({"thresholds": {"confidence": 1}}, "thresholds.confidence"),
        ({"thresholds": {"minimum_requests": 9}}, "thresholds.minimum_requests"),
        ({"speed": 1}, "speed"),
        ({"configVersion": "7"}, "configVersion"),
    ],
)
async def test_what_makes_no_sense_is_named(gateway: Gateway, body: dict[str, Any], field: str) -> None:
    given = {"routeId": await staged(gateway), "configVersion": "1.1", "strategy": "Canary"} | body
    status, code, details = problem(await gateway.client.post(DEPLOYMENTS, json=given))
    assert (status, code) == (400, "VALIDATION_ERROR")
    assert [name for name, _ in details] == [field]


async def test_there_is_one_deployment_at_a_time(gateway: Gateway) -> None:
    route_id = await staged(gateway)
    made = await begin(gateway, route_id)
    body = {"routeId": route_id, "configVersion": "1.1", "strategy": "Direct"}
    for query in ("", "?dryRun=true"):
        answer = await gateway.client.post(DEPLOYMENTS + query, json=body)
        assert problem(answer)[:2] == (409, "CONFLICT") and made["deploymentId"] in answer.text
    put = await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 2})
    assert problem(put)[0] == 409 and made["deploymentId"] in put.text
    assert problem(await gateway.client.delete(f"{ROUTES}/{route_id}"))[0] == 409
    assert (await order(gateway, made, "rollback", {"reason": "no"})).is_success
    assert (await gateway.client.put(f"{ROUTES}/{route_id}", json={"priority": 2})).is_success


async def test_a_change_and_a_deployment_at_the_same_time_do_not_mix(gateway: Gateway) -> None:
    """Whichever is first, the deployment starts from what is live, and nothing changes under it."""
    for number in range(5):
        fields = {"name": f"r{number}", "pathPattern": f"/r{number}"}
        route_id = await staged(gateway, **fields)
        body = {"routeId": route_id, "configVersion": "1.1", "strategy": "Canary"}
        url = f"{ROUTES}/{route_id}"
        calls = [
            gateway.client.post(DEPLOYMENTS, json=body),
            gateway.client.put(url, json={"priority": 7}),
        ]
        made, put = await asyncio.gather(*calls)
        live = (await gateway.client.get(url)).json()
        assert put.status_code in (200, 409) and (live["priority"] == 7) is put.is_success
        if made.is_success:
            assert made.json()["stableVersion"] == live["version"]
        else:
            # Another priority matches other requests: only Direct could deploy over that.
            assert made.status_code in (400, 409) and put.is_success


async def test_the_live_version_and_unknown_routes_are_no_targets(gateway: Gateway) -> None:
    route_id = await staged(gateway)
    body = {"routeId": route_id, "configVersion": "1.0", "strategy": "Canary"}
    assert problem(await gateway.client.post(DEPLOYMENTS, json=body))[0] == 409
    assert problem(await gateway.client.post(DEPLOYMENTS, json=body | {"routeId": "nix"}))[0] == 404
    for url in (f"{DEPLOYMENTS}/nix", f"{DEPLOYMENTS}/nix/metrics"):
        assert problem(await gateway.client.get(url))[:2] == (404, "NOT_FOUND")
    assert problem(await gateway.client.post(f"{DEPLOYMENTS}/nix/pause"))[0] == 404


async def test_it_is_steered_by_hand(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    assert (await order(gateway, made, "pause")).json()["status"] == "Paused"
    again = await order(gateway, made, "pause")
    assert problem(again)[:2] == (409, "CONFLICT") and "Paused" in again.text
    assert (await order(gateway, made, "resume")).json()["status"] == "InProgress"
    url = f"{DEPLOYMENTS}/{made['deploymentId']}/promote"
    told = (await gateway.client.post(url)).json()  # without any body
    assert told["trafficPercentage"] == 50
    assert (await order(gateway, made, "promote", {"targetPercentage": 70})).json()["trafficPercentage"] == 70
    dry = await gateway.client.post(f"{url}?dryRun=true", json={})
    assert dry.json()["dryRun"] is True and dry.json()["trafficPercentage"] == 100
    back = (await order(gateway, made, "rollback", {"reason": "slow"})).json()
    assert back["status"] == "RolledBack" and "slow" in back["message"]
    assert gateway.match("/users/1") == "1.0"
    for name, body in (("promote", {}), ("rollback", {"reason": "x"}), ("pause", None), ("approve", None)):
        assert problem(await order(gateway, made, name, body))[:2] == (409, "CONFLICT")
    events = (await gateway.client.get(f"{DEPLOYMENTS}/{made['deploymentId']}")).json()["events"]
    assert [event["event"] for event in events][-2:] == ["promote", "roll_back"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("rollback", {}),
        ("rollback", {"reason": ""}),
        ("promote", {"targetPercentage": 0}),
        ("promote", {"percentage": 5}),
        ("reject", {"reason": 7}),
    ],
)
async def test_orders_are_checked(gateway: Gateway, name: str, body: Any) -> None:
    made = await begin(gateway, await staged(gateway))
    assert problem(await order(gateway, made, name, body))[:2] == (400, "VALIDATION_ERROR")


async def test_a_promotion_out_of_the_last_phase_completes(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    await order(gateway, made, "promote", {"targetPercentage": 100})
    done = (await order(gateway, made, "promote")).json()
    assert done["status"] == "Completed" and done["trafficPercentage"] == 100
    assert gateway.match("/users/1") == "1.1"
    found = (await gateway.client.get(f"{ROUTES}/{made['routeId']}/versions")).json()["versions"]
    assert [(each["version"], each["state"]) for each in found] == [("1.1", "Live"), ("1.0", "Previous")]
    live = (await gateway.client.get(f"{ROUTES}/{made['routeId']}")).json()
    assert live["version"] == "1.1" and live["backends"][0]["name"] == "users-2"


async def test_lists_are_filtered_and_paged(gateway: Gateway) -> None:
    first = await begin(gateway, await staged(gateway))
    await order(gateway, first, "rollback", {"reason": "no"})
    second = await begin(gateway, first["routeId"])
    third = await begin(gateway, await staged(gateway, name="other", pathPattern="/o", environment="Staging"))

    async def ids(query: str) -> list[str]:
        found = (await gateway.client.get(f"{DEPLOYMENTS}?{query}")).json()["deployments"]
        return [each["deploymentId"] for each in found]

    everything = [each["deploymentId"] for each in (third, second, first)]
    assert await ids("") == everything
    assert await ids("limit=1&offset=1") == everything[1:2]
    assert await ids(f"routeId={first['routeId']}") == everything[1:]
    assert await ids("status=RolledBack") == everything[2:]
    assert await ids("environment=Staging") == everything[:1]
    assert problem(await gateway.client.get(f"{DEPLOYMENTS}?status=Done"))[0] == 400


def measured(requests: int, failed: int, latency: int) -> ArmCounts:
    return ArmCounts(requests, failed, 0, {"limited": 2, "aborted": 0, "refused": 0}, {latency: requests})


async def test_metrics_have_both_arms_and_every_node(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    url = f"{DEPLOYMENTS}/{made['deploymentId']}"
    empty = (await gateway.client.get(f"{url}/metrics")).json()
    assert empty["stable"]["requestCount"] == 0 and empty["stable"]["errorRate"] is None
    assert empty["comparison"]["verdict"] is None and empty["comparison"]["shouldRollback"] is False
    for node, boot, share in (("n1", "a", 1), ("n1", "b", 2), ("n2", "a", 3)):
        counts = Measurement(measured(90 * share, 0, 2_000), measured(10 * share, share, 64_000))
        document = counts.document() | {"active": {"stable": share, "canary": 0}}
        await gateway.store.write(deployments.measure, made["deploymentId"], node, boot, document)
    told = (await gateway.client.get(f"{url}/metrics")).json()
    assert told["stable"] == {
        "requestCount": 540,
        "failed": 0,
        "errorRate": 0.0,
        "unavailable": 0,
        "excluded": {"limited": 6},
        "p50Latency": 2.0,
        "p95Latency": 2.0,
        "p99Latency": 2.0,
    }
    assert told["canary"]["requestCount"] == 60 and told["canary"]["errorRate"] == 0.1
    assert told["canary"]["p99Latency"] == 64.0 and told["measuredPercentage"] == 10
    assert [(row["nodeId"], row["stable"]["requestCount"]) for row in told["nodes"]] == [
        ("n1", 270),
        ("n2", 270),
    ]
    assert told["nodes"][0]["stable"]["active"] == 3 and told["nodes"][0]["measuredAt"].endswith("Z")
    assert (await gateway.client.get(f"{url}?include=metrics")).json()["metrics"] == told
    # A phase is judged by what came in it; the total goes on.
    await order(gateway, made, "promote")
    later = (await gateway.client.get(f"{url}/metrics")).json()
    assert later["stable"]["requestCount"] == 0 and later["total"]["stable"]["requestCount"] == 540
    await order(gateway, made, "rollback", {"reason": "no"})
    ended = (await gateway.client.get(f"{url}/metrics")).json()
    assert ended["total"]["canary"]["requestCount"] == 60


# --- roles ----------------------------------------------------------------------------------------

WRITES = [
    ("POST", "", {"routeId": "r", "configVersion": "1.1", "strategy": "Canary"}),
    ("POST", "/{id}/promote", {}),
    ("POST", "/{id}/rollback", {"reason": "x"}),
    ("POST", "/{id}/pause", None),
    ("POST", "/{id}/resume", None),
    ("POST", "/{id}/approve", None),
    ("POST", "/{id}/reject", {}),
]


@pytest.mark.parametrize("role", ["Viewer", "Developer"])
async def test_who_only_reads_changes_nothing(gateway: Gateway, role: str) -> None:
    made = await begin(gateway, await staged(gateway))
    headers = await gateway.as_role(role)
    url = f"{DEPLOYMENTS}/{made['deploymentId']}"
    for method, path, body in WRITES:
        target = DEPLOYMENTS + path.format(id=made["deploymentId"])
        for query in ("", "?dryRun=true"):
            answer = await gateway.client.request(method, target + query, json=body, headers=headers)
            assert problem(answer)[:2] == (403, "FORBIDDEN"), path
    version = f"{ROUTES}/{made['routeId']}/versions"
    assert problem(await gateway.client.post(version, json=ROUTE, headers=headers))[0] == 403
    for readable in (DEPLOYMENTS, url, f"{url}/metrics", version, f"{version}/1.0/diff/1.1"):
        assert (await gateway.client.get(readable, headers=headers)).status_code == 200
    assert (await gateway.client.get(url)).json() == made


async def test_nobody_is_let_in_without_a_token(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    nobody = {"authorization": ""}
    for method, path, body in WRITES:
        target = DEPLOYMENTS + path.format(id=made["deploymentId"])
        answer = await gateway.client.request(method, target, json=body, headers=nobody)
        assert problem(answer)[:2] == (401, "UNAUTHORIZED")
    for readable in (DEPLOYMENTS, f"{DEPLOYMENTS}/{made['deploymentId']}/metrics"):
        assert (await gateway.client.get(readable, headers=nobody)).status_code == 401


async def test_an_operator_steers_but_does_not_approve(gateway: Gateway) -> None:
    route_id = await staged(gateway)
    operator = await gateway.as_role("Operator")
    made = await begin(gateway, route_id, headers=operator)
    for name, body in (("pause", None), ("resume", None), ("promote", {}), ("rollback", {"reason": "x"})):
        assert (await order(gateway, made, name, body, headers=operator)).is_success, name
    for name in ("approve", "reject"):
        assert problem(await order(gateway, made, name, {}, headers=operator))[0] == 403


async def test_the_audit_log_says_who_did_what(gateway: Gateway) -> None:
    made = await begin(gateway, await staged(gateway))
    operator = await gateway.as_role("Operator")
    await order(gateway, made, "rollback", {"reason": "too slow"}, headers=operator)
    query = f"?entityId={made['deploymentId']}"
    found = (await gateway.client.get(f"/api/v1/audit-logs{query}")).json()["auditLogs"]
    assert found[0]["username"] == "operator-user" and "too slow" in str(found[0]["details"])
    assert found[-1]["username"] == "admin" and found[-1]["entityType"] == "deployment"
