"""Why a recent request went where it went, as operators are told: without its body, and only to them."""

import json
import urllib.error
import urllib.request

import openai
import pytest

import harness

SECRET = "the dog's name is Rex"


def told(front, path: str, token: str = harness.ADMIN_TOKEN) -> dict:
    request = urllib.request.Request(front.admin + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=harness.PATIENCE_S) as response:
        return json.load(response)


def test_a_request_is_explained_by_its_id(world, workshop):
    bad = harness.provider("openai", f"{world.url}/openai/v1", n=2).replace("sk-test-openai-1", "sk-test-revoked")
    front = workshop.gateway(harness.SERVER + bad)
    asked = [{"role": "user", "content": SECRET}]
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        ids = []
        # Until the dead key was the first to be asked.
        for i in range(20):
            # Another conversation each time, or all would stay with the key that had the first.
            another = [{"role": "user", "content": f"{SECRET} {i}"}]
            answer = client.chat.completions.with_raw_response.create(model="openai:m", messages=another)
            ids.append(answer.headers["x-request-id"])
            if answer.headers["x-keymux-attempts"] == "2":
                break
        with pytest.raises(openai.NotFoundError) as nowhere:
            client.chat.completions.create(model="openai:", messages=asked)

    story = told(front, f"/admin/requests/{ids[-1]}")
    first, second = story["steps"]
    assert (first["key"], first["outcome"]) == ("openai-1", "key") and first["detail"].startswith("401: ")
    assert (second["key"], second["outcome"], story["key"]) == ("openai-2", "answered", "openai-2")
    assert first["ended_ms"] <= second["begun_ms"] <= second["ended_ms"] == story["total_ms"]
    assert [s["why"] for s in second["passed_over"]] == ["benched: refused, or out of money"]
    assert second["passed_over"][0]["key"].endswith("/openai-1") and second["passed_over"][0]["until_ms"] > 1000

    refused = told(front, f"/admin/requests/{nowhere.value.response.headers['x-request-id']}")
    assert refused["steps"] == [] and refused["refusal"]["code"] == "model_not_found"

    listed = told(front, "/admin/requests?outcome=answered&limit=1")["requests"]
    assert [r["id"] for r in listed] == [ids[-1]], "the newest first, and no more than asked for"
    assert SECRET not in json.dumps([story, refused, told(front, "/admin/requests")])

    for path, token, status in [
        (f"/admin/requests/{ids[-1]}", harness.TOKEN, 401),
        ("/admin/requests", "wrong", 401),
        ("/admin/requests/km-never", harness.ADMIN_TOKEN, 404),
        ("/admin/requests?outcom=x", harness.ADMIN_TOKEN, 400),
    ]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            told(front, path, token)
        assert caught.value.code == status, path
