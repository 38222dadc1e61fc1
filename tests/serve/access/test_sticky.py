"""A sticky route by key: a key meets one version, whichever header it comes in."""

from __future__ import annotations

from patience import eventually

from modelmill.serve.traffic.start import route


def test_a_key_meets_one_version_whichever_header_it_comes_in(start, keys, ask, shelf, publish_flowers):
    publish_flowers(shelf)
    route(shelf, "flowers", {"method": "sticky", "candidate": "2", "percent": 50, "by": "key"})
    secrets = [keys.create(f"k{number}")[0] for number in range(16)]
    service = start()
    assert eventually(lambda: service.server.traffic.watches)

    def met(**how):
        return ask(service, "POST", "/predict/flowers", [[3, 1]], **how).headers["modelmill-version"]

    as_bearer = [met(key=secret) for secret in secrets]
    assert [met(headers={"X-API-Key": secret}) for secret in secrets] == as_bearer
    assert set(as_bearer) == {"flowers@1", "flowers@2"}
