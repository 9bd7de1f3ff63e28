"""Tickets for flushes and deliveries."""

from __future__ import annotations

import threading

from ecolyzer_otel.worker.tickets import Tickets


def test_a_ticket_is_sent_and_then_done() -> None:
    tickets = Tickets()
    assert not tickets.to_send
    assert not tickets.waiting
    assert [tickets.take(), tickets.take()] == [1, 2]
    assert tickets.to_send
    assert tickets.waiting
    tickets.sent = tickets.taken
    assert not tickets.to_send
    assert tickets.waiting
    tickets.finish(1)
    assert tickets.waiting, "the second is not done"
    tickets.finish(2)
    assert not tickets.waiting


def test_no_ticket_is_done_before_it_is_taken_and_none_is_undone() -> None:
    tickets = Tickets()
    tickets.take()
    tickets.finish(1000)
    assert tickets.done == 1
    tickets.finish(0)
    assert tickets.done == 1
    assert tickets.take() == 2
    assert tickets.waiting


def test_a_new_connection_is_sent_again_what_is_not_done() -> None:
    tickets = Tickets()
    tickets.sent = tickets.take()
    tickets.send_again()
    assert tickets.to_send


def test_no_two_callers_share_a_ticket() -> None:
    tickets = Tickets()
    taken: list[int] = []
    threads = [
        threading.Thread(target=lambda: taken.extend([tickets.take() for _ in range(1000)])) for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(taken) == list(range(1, 4001))
