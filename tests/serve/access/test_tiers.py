"""What a tenant's own models may take: of memory in a running service, and of the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from patience import eventually

from modelmill import tiers
from modelmill.errors import RegistryError
from modelmill.serve.models.residents import LEAST_BYTES

FLOWER = [{"length": 3, "width": 1}]


@pytest.fixture
def shrink(monkeypatch):
    """Makes a tier smaller."""

    def call(name, **settings):
        monkeypatch.setitem(tiers.TIERS, name, replace(tiers.TIERS[name], **settings))

    return call


def loaded(service):
    return sorted(name for name, _ in service.server.catalogue.residents.held)


def test_the_models_of_a_tenant_stay_within_its_memory(start, ask, keys, shelf, publish_flowers, shrink):
    """Of two that it claims one fits at a time; what is not its own is not touched."""
    publish_flowers(shelf, "acme-cost")
    shrink("standard", memory_bytes=int(1.5 * LEAST_BYTES) + 50_000)
    keys.tenant("acme", "standard", ("acme-*",))
    key, _ = keys.create("phone", tenant="acme")
    service = start()
    assert ask(service, "POST", "/predict/flowers", FLOWER, key).code == 200
    for name in ("acme-risk", "acme-cost", "acme-risk"):
        assert ask(service, "POST", f"/predict/{name}", FLOWER, key).code == 200
        assert [found for found in loaded(service) if found.startswith("acme-")] == [name]
    assert {"flowers", "blue-risk"} <= set(loaded(service))
    keys.tenant("acme", "advanced")
    assert eventually(
        lambda: (
            {ask(service, "POST", f"/predict/acme-{which}", FLOWER, key).code for which in ("risk", "cost")} == {200}
            and len(loaded(service)) == 4
        )
    )


def test_a_model_that_is_larger_than_its_tenants_memory_is_refused_in_words(start, ask, keys, shrink):
    shrink("standard", memory_bytes=LEAST_BYTES // 2)
    keys.tenant("acme", "standard", ("acme-*",))
    key, _ = keys.create("phone", tenant="acme")
    answer = ask(start(), "POST", "/predict/acme-risk", FLOWER, key)
    assert answer.code == 503
    assert "models of tenant acme may take" in answer.json["error"]
    assert "modelmill keys tenant acme --tier" in answer.json["error"]


def test_a_version_that_would_fill_a_tenants_storage_is_not_published(keys, shelf, publish_flowers, shrink):
    keys.tenant("acme", "standard", ("acme-*",))
    size = sum(shelf.find("acme-risk").sizes.values())
    shrink("standard", storage_bytes=int(2.5 * size))
    publish_flowers(shelf, "acme-cost")
    with pytest.raises(RegistryError, match=r"models of tenant acme have are above .* tier standard"):
        publish_flowers(shelf, "acme-risk", -1)
    assert [version.number for version in shelf.versions("acme-risk")] == [1]
    publish_flowers(shelf, "flowers", -1)
    shelf.delete("acme-cost@1", force=True)
    assert publish_flowers(shelf, "acme-risk", -1).reference == "acme-risk@2"


def test_a_quota_that_is_changed_in_part_keeps_the_rest(tmp_path):
    from modelmill.serve.access.keys import Keys
    from modelmill.serve.access.quota import NONE, Quota
    from modelmill.store.home import Home

    keys = Keys(Home(tmp_path).database)
    keys.tenant("acme", quota=Quota(100, 20, 1000))
    assert keys.tenant("acme", quota=Quota(50)).quota == Quota(50, 0, 1000)
    assert keys.tenant("acme", quota=Quota(rows_per_day=500)).quota == Quota(50, 0, 500)
    assert keys.tenant("acme", quota=NONE).quota == NONE
