"""By what a cluster is recognized: the authority of its API server's certificate, or its address."""

import pytest

from embedding_operator.api_access.access import Access


def pem(content: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----"


ONE = Access("https://one", authority=pem("b25l"))


@pytest.mark.parametrize(
    "same",
    [
        Access("https://other.address", authority=pem("b25l")),
        Access("https://one", "namespace", pem("b2\r\n5l") + "\n", authorization="Bearer t"),
        Access("https://one", authority="# the authority\n" + pem("b25l")),
    ],
)
def test_a_cluster_is_the_same_by_its_certificate_authority_however_it_is_reached(same: Access) -> None:
    assert same.cluster == ONE.cluster


@pytest.mark.parametrize(
    "other", [Access("https://one", authority=pem("dHdv")), Access("https://one"), Access("https://two")]
)
def test_another_authority_or_without_one_another_address_is_another_cluster(other: Access) -> None:
    assert other.cluster != ONE.cluster
    assert len(other.cluster) == 16


def test_the_order_of_several_authorities_does_not_matter() -> None:
    both = [
        Access("https://one", authority=f"{first}\n{second}").cluster
        for first, second in ((pem("b25l"), pem("dHdv")), (pem("dHdv"), pem("b25l")))
    ]
    assert both[0] == both[1] != ONE.cluster


def test_without_an_authority_the_address_counts_but_not_its_last_slash() -> None:
    assert Access("https://one").cluster == Access("https://one/").cluster != Access("https://two").cluster
