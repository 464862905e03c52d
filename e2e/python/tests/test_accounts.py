"""Keys of which nobody said that one account owns them: answers tell, and its limits count once."""

import pytest

import crashes
import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
WORLD = """
[[provider]]
name = "lab"
dialect = "{dialect}"
limits = [{{ dimension = "requests", limit = 4, period_ms = 3600000, shape = "window" }}]
latency = {{ ttft_ms = 1, ttft_sigma = 0, per_token_ms = 0, output = {{ mean = 2, sigma = 0, max = 2 }} }}
[[provider.account]]
name = "org-a"
key = [{{ name = "lab-1", secret = "sk-test-lab-1" }}, {{ name = "lab-3", secret = "sk-test-lab-3" }}]
[[provider.account]]
name = "org-b"
key = [{{ name = "lab-2", secret = "sk-test-lab-2" }}]
"""
# What the operator knows of each account; that two keys are one's, is not known.
LIMITS = 'limits = [{ requests = 4, per = "1h", shape = "window" }]'


@pytest.fixture(params=["openai", "anthropic"])
def one_for_two(request, tmp_path):
    file = tmp_path / "world.toml"
    file.write_text(WORLD.format(dialect=request.param))
    made = harness.World(file)
    yield made, harness.provider("lab", f"{made.url}/lab/v1", dialect=request.param, more=LIMITS), request.param
    made.stop()


def ask_until_refused(front, dialect: str) -> int:
    """How many are answered before one is not."""
    path = "/v1/messages" if dialect == "anthropic" else "/v1/chat/completions"
    for n in range(20):
        # Another conversation each, or all would stay with the key that had the first.
        body = {"model": "lab:m", "max_tokens": 2, "messages": [{"role": "user", "content": f"{n}"}]}
        answer = raw.exchange(front.address, raw.request_bytes(path, body, AUTH))
        if answer.status != 200:
            assert answer.status == 429, answer.body
            return n
    raise AssertionError("nothing is limited")


def accounts(front) -> dict[str, list[str]]:
    told = crashes.admin(front, "/admin/state")["providers"][0]["accounts"]
    return {account["name"]: [key["name"] for key in account["keys"]] for account in told}


def test_keys_of_one_owner_are_one_account(one_for_two, workshop):
    world, lab, dialect = one_for_two
    front = workshop.gateway(harness.SERVER + 'max_wait = "0s"\n' + lab)
    assert accounts(front) == {"lab-1": ["lab-1"], "lab-2": ["lab-2"], "lab-3": ["lab-3"]}
    assert ask_until_refused(front, dialect) == 8, "four of each owner, whatever keys there are"
    statuses = [record["status"] for record in world.records("lab")]
    assert statuses == [200] * 8, "the provider had to refuse nothing"
    assert accounts(front) == {"lab-1": ["lab-1", "lab-3"], "lab-2": ["lab-2"]}
    told = crashes.happened(front, "one account", 1)
    assert told == ["one account: lab/lab-3 shares the limits of lab/lab-1, as its provider says"]
    assert "org-a" not in front.log(), "whose account it is, is nobody's business"


def test_accounts_that_were_given_names_stay_apart(one_for_two, workshop):
    world, lab, dialect = one_for_two
    for n in (1, 2, 3):
        lab = lab.replace(f'name = "lab-{n}"', f'name = "lab-{n}", account = "mine-{n}"')
    front = workshop.gateway(harness.SERVER + 'max_wait = "0s"\n' + lab)
    assert ask_until_refused(front, dialect) == 8, "what is declared wrongly is corrected by refusals"
    assert accounts(front) == {f"mine-{n}": [f"lab-{n}"] for n in (1, 2, 3)}
    assert 429 in [record["status"] for record in world.records("lab")]
