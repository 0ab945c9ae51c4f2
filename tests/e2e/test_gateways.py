"""Two gateways, processes apart on one NATS log: one order of one own id, and what was told is read on both."""

from concurrent.futures import ThreadPoolExecutor

import requests

from stand.ports import free_port
from stand.process import wait_until
from support import deepay


def another(shop):
    """A second gateway; answers a client of it."""
    tally = shop.tally
    ports = (free_port(), free_port(), free_port())
    path = tally.home / "api-2.toml"
    tally.write(path, data=tally.home / "data-api-2", ports=ports)
    tally._spawn("api-2", ["api"], path)
    base = f"http://127.0.0.1:{ports[0]}"
    wait_until(
        "the second gateway", lambda: requests.get(f"{base}/readyz", timeout=5).status_code == 200, 30, log=tally.tail
    )
    return deepay.Client(base, shop.merchant, shop.key)


def test_two_gateways(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="gateways")
    shop.wait_rate("LTC")
    gateways = [shop.client, another(shop)]

    # 64 requests at once for each of some own ids, half of them here and half there
    with ThreadPoolExecutor(64) as threads:
        for own_id in ("G1", "G2", "G3"):
            made = threads.map(
                lambda n, own_id=own_id: gateways[n % 2].create(own_id, "10.00", notify_url=shop.sink.url), range(64)
            )
            assert len({answer["transaction_id"] for answer in made}) == 1, own_id
        # and for checkouts of one order: one address
        order = str(gateways[0].create("G1", "10.00", notify_url=shop.sink.url)["transaction_id"])
        quoted = threads.map(lambda n: gateways[n % 2].checkout(order, "LTC"), range(64))
        assert len({answer["payment_address"] for answer in quoted}) == 1

    # whoever is told a version reads it, or a later one, at once and on each gateway; 503 promises nothing
    behind, read = [], []

    def answer(received):
        fields = received.fields
        for client in gateways:
            try:
                known = client.query(fields["transaction_id"])
            except deepay.Refused as refused:
                if refused.status != 503:
                    behind.append((fields["version"], refused.status, refused.text))
                continue
            read.append(known["version"])
            if known["version"] < int(fields["version"]):
                behind.append((fields["version"], known))
        return 200, "ok"

    shop.sink.answer = answer
    orders = [shop.order("ltc").checkout() for _ in range(12)]
    for order in orders:
        order.node.pay(order.target, order.amount)
    for _ in range(6):
        orders[0].node.mine(1)
    for order in orders:
        order.wait("complete")
        shop.sink.wait_status(order.id, "complete", log=shop.tally.tail)
    assert behind == []
    assert len(read) > 4 * len(orders), "it was asked"
