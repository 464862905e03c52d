"""What tests share: one world and one gateway for all that only talk, and a workshop for those that need their own."""

import anthropic
import openai
import pytest

import harness
import raw


@pytest.fixture(scope="session")
def world():
    process = harness.World(harness.SPECS / "world.toml")
    yield process
    assert process.alive(), f"the simulated provider died:\n{process.log()}"
    process.stop()


@pytest.fixture(scope="session")
def gateway(world, tmp_path_factory):
    """The gateway in front of every provider of the world, three keys each, as e2e/specs/gateway.toml says."""
    process = harness.Gateway(harness.spec("gateway.toml", WORLD=world.url), tmp_path_factory.mktemp("gateway"))
    yield process
    assert process.alive(), f"the gateway died:\n{process.log()}"
    assert process.stop() == 0
    assert "panicked" not in process.log()


@pytest.fixture
def workshop(tmp_path):
    """Makes gateways and upstreams for one test, and puts them away."""

    class Workshop:
        def __init__(self):
            self.made = []

        def gateway(self, config: str, **options) -> harness.Gateway:
            made = harness.Gateway(config, tmp_path / f"gateway-{len(self.made)}", **options)
            self.made.append(made)
            return made

        def upstream(self, answer) -> raw.Upstream:
            made = raw.Upstream(answer)
            self.made.append(made)
            return made

        def in_front_of(self, answer, *, dialect="openai", n=1, server="", more="") -> tuple:
            """A gateway whose only provider is an upstream with this answer."""
            upstream = self.upstream(answer)
            given = harness.provider("lab", f"{upstream.url}/v1", dialect=dialect, n=n, more=more)
            return self.gateway(harness.SERVER + server + given), upstream

    shop = Workshop()
    yield shop
    for made in reversed(shop.made):
        if isinstance(made, harness.Gateway):
            assert made.stopped or made.alive(), f"the gateway died:\n{made.log()}"
            made.stop()
            assert "panicked" not in made.log(), made.log()
        else:
            made.close()


@pytest.fixture
def client(gateway):
    """The official OpenAI SDK as a user sets it up, but that it must not hide a failure by trying again."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=harness.TOKEN, max_retries=0) as made:
        yield made


@pytest.fixture
def claude(gateway):
    """The official Anthropic SDK, likewise."""
    with anthropic.Anthropic(base_url=gateway.url, api_key=harness.TOKEN, max_retries=0) as made:
        yield made
