"""What a deployment would be like at this traffic."""

from __future__ import annotations

from hotswap_proxy.control.forecasting import forecast
from hotswap_proxy.model.simulation import SimulationRequest

from ..routing import EVERYONE, Answer, Call, Endpoint


async def simulate_deployment(call: Call) -> Answer:
    return Answer(await forecast(call.body, call.context.cache))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/gateway/deployments/simulate",
        handler=simulate_deployment,
        roles=EVERYONE,
        summary="Forecast a rollout: how long, how many exposed to a fault, how likely a false alarm",
        answers={200: "SimulationAnswer"},
        errors={429: "Another forecast is being calculated."},
        body=SimulationRequest,
        example={"requestsPerSecond": 20, "errorRate": 0.5, "runs": 20},
    ),
)
