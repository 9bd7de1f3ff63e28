"""The books of a worker: after every course of events each request stands in them once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecolyzer_otel.worker.accounts import Accounts
from ecolyzer_otel.worker.state import State

pytestmark = pytest.mark.slow


def books(served: int, life: str = "a") -> Accounts:
    accounts = Accounts(State())
    accounts.welcomed(life, 0)
    accounts.drained = accounts.sent = served
    return accounts


def test_what_a_meter_has_settled_is_accounted_and_the_rest_pending():
    accounts = books(10)
    accounts.account_for(7)
    assert accounts.counts() == {"served": 10, "accounted": 7, "dropped": 0, "pending": 3}


def test_with_another_meter_what_was_on_its_way_is_lost():
    accounts = books(10)
    accounts.account_for(7)
    accounts.disconnected()
    assert accounts.counts() == {"served": 10, "accounted": 7, "dropped": 3, "pending": 0}
    assert accounts.welcomed("b", 0) == 0
    assert accounts.dropped() == {"meter_lost": 3}
    assert accounts.served == 3, "the new meter need not know of the seven"


def test_with_the_same_meter_only_what_it_did_not_receive_is_lost():
    accounts = books(10)
    accounts.account_for(4)
    accounts.disconnected()
    assert accounts.welcomed("a", 8) == 8
    assert accounts.dropped() == {"meter_lost": 2}
    accounts.account_for(8)
    assert accounts.counts() == {"served": 10, "accounted": 8, "dropped": 2, "pending": 0}


def test_a_meter_that_dies_before_its_first_word_has_nothing():
    accounts = Accounts(State())
    accounts.drained = accounts.sent = 5
    accounts.disconnected()
    assert accounts.welcomed("a", 0) == 0
    assert accounts.dropped() == {"meter_lost": 5}


def test_a_meter_that_claims_more_than_it_was_sent_is_not_believed():
    accounts = books(10)
    accounts.account_for(1000)
    assert accounts.accounted == 10
    accounts.disconnected()
    assert accounts.welcomed("a", 1000) == 10


events = st.one_of(
    st.tuples(st.just("serve"), st.integers(1, 5)),
    st.tuples(st.just("settle"), st.integers(0, 5)),
    st.tuples(st.just("break"), st.integers(0, 5)),
    st.tuples(st.just("die"), st.just(0)),
)


@given(st.lists(events, max_size=40))
def test_worker_and_meters_agree_on_every_request(course):
    """A meter model beside the accounts: received, settled, and what the worker says that it dropped."""
    accounts, life, received, settled, before = Accounts(State()), 0, 0, 0, 0
    accounts.welcomed("0", 0)
    for what, count in course:
        if what == "serve":
            accounts.drained += count
            accounts.sent += count
            received += count
        elif what == "settle":
            settled = min(received, settled + count)
            accounts.account_for(settled)
        elif what == "break":  # the last few sent do not arrive
            received = max(settled, received - count)
            accounts.disconnected()
            accounts.welcomed(str(life), received)
        else:
            before += settled
            life, received, settled = life + 1, 0, 0
            accounts.disconnected()
            accounts.welcomed(str(life), 0)
        told = accounts.counts()
        assert told["served"] == told["accounted"] + told["dropped"] + told["pending"]
        assert told["accounted"] == before + settled
        assert told["pending"] == received - settled
        dropped = sum(accounts.dropped().values())
        assert accounts.served == settled + dropped + told["pending"], "the meter's books close too"
