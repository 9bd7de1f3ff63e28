"""The wrapper factory: what is a request, what only passes through, and exact un-wrapping.

The framework here is a plain class, as a third party's would be.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ecolyzer_otel.worker.call import current_call
from ecolyzer_otel.worker.nesting import lending
from ecolyzer_otel.worker.patches import Patches
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts, batch_of
from ecolyzer_otel.worker.state import State, replace_state
from ecolyzer_otel.worker.training import training
from ecolyzer_otel.worker.wrap import leaf

SPEC = CallSpec("engine", "infer", describe=lambda model: ModelFacts(type(model).__name__))


class Engine:
    def infer(self, batch: Any, *, fail: BaseException | None = None, inner: Any = None) -> Any:
        """Infer something."""
        if fail is not None:
            raise fail
        return batch if inner is None else inner()

    def learn(self, batch: Any, inner: Any = None) -> Any:
        return batch if inner is None else inner()

    def __getstate__(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def calls() -> Iterator[State]:
    """The state of a process that measures; its calls stay in the queue."""
    yield replace_state(lambda state: None)
    replace_state(None)


@pytest.fixture
def engine(calls: State) -> Iterator[Engine]:
    patches = Patches()
    patches.replace(Engine, "infer", leaf(Engine.infer, SPEC))
    patches.replace(Engine, "learn", training(Engine.learn))
    yield Engine()
    patches.undo()


def test_a_call_is_one_request_with_its_clocks_and_batch(engine: Engine, calls: State) -> None:
    batch = [1, 2, 3]
    assert engine.infer(batch) is batch
    (call,) = calls.done
    assert (call.model, call.items, call.error, call.open) == (engine, 3, None, False)
    assert 0 < call.start_ns <= call.end_ns
    assert 0 <= call.cpu_ns <= call.end_ns - call.start_ns + 1_000_000
    assert calls.open == {}


def test_an_inner_call_is_part_of_the_outer_one(engine: Engine, calls: State) -> None:
    engine.infer(1, inner=lambda: engine.infer(2, inner=lambda: Engine().infer(3)))
    assert len(calls.done) == 1


def test_calls_one_after_the_other_are_requests_each(engine: Engine, calls: State) -> None:
    for _ in range(3):
        engine.infer(1)
    assert len(calls.done) == 3
    assert current_call.get() is None


def test_a_copied_context_that_outlives_the_call_guards_nothing(engine: Engine, calls: State) -> None:
    context = engine.infer(1, inner=contextvars.copy_context)
    context.run(engine.infer, 2)
    assert len(calls.done) == 2


def test_a_copied_context_guards_while_the_call_is_open(engine: Engine, calls: State) -> None:
    engine.infer(1, inner=lambda: contextvars.copy_context().run(engine.infer, 2))
    assert len(calls.done) == 1


def test_a_task_that_outlives_its_parent_makes_requests_of_its_own(engine: Engine, calls: State) -> None:
    async def later() -> None:
        await asyncio.sleep(0)
        engine.infer(2)

    async def main() -> None:
        await engine.infer(1, inner=lambda: asyncio.ensure_future(later()))

    asyncio.run(main())
    assert len(calls.done) == 2


def test_another_thread_makes_requests_of_its_own(engine: Engine, calls: State) -> None:
    def in_a_thread() -> None:
        thread = threading.Thread(target=engine.infer, args=(2,))
        thread.start()
        thread.join()

    engine.infer(1, inner=in_a_thread)
    assert len(calls.done) == 2


def test_a_helper_thread_to_which_the_call_is_lent_works_for_it(engine: Engine, calls: State) -> None:
    def with_a_helper() -> None:
        owner = current_call.get()
        assert owner is not None
        owner.share()

        def work() -> None:
            with lending(owner):
                engine.infer(2)
                sum(range(300_000))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    engine.infer(1, inner=with_a_helper)
    (call,) = calls.done
    assert call.extra_cpu is not None
    assert sum(call.extra_cpu) > 500_000, "the helper's CPU time belongs to the call"


class Stop(BaseException):
    """Nothing that ``except Exception`` would see."""


@pytest.mark.parametrize("error", [ValueError("x"), Stop(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_exception_passes_through_as_the_same_object(engine: Engine, calls: State, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        engine.infer(1, fail=error)
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    (call,) = calls.done
    assert call.error is type(error)
    assert current_call.get() is None
    assert calls.open == {}


def test_the_record_keeps_no_frames_of_the_caller_alive(engine: Engine, calls: State) -> None:
    error = ValueError("x")
    with pytest.raises(ValueError, match="x"):
        engine.infer(1, fail=error)
    assert not isinstance(calls.done[0].error, BaseException)


def test_a_wrapped_method_looks_like_the_original(engine: Engine) -> None:
    assert Engine.infer.__doc__ == "Infer something."
    assert Engine.infer.__qualname__ == "Engine.infer"
    assert list(inspect.signature(engine.infer).parameters) == ["batch", "fail", "inner"]


def test_an_argument_may_have_any_name(calls: State) -> None:
    class Odd:
        def infer(self, /, **kwargs: Any) -> dict[str, Any]:
            return kwargs

    patches = Patches()
    patches.replace(Odd, "infer", leaf(Odd.infer, SPEC))
    given = {"self": 1, "args": 2, "call": 3}
    assert Odd().infer(**given) == given
    assert len(calls.done) == 1


def test_a_fault_of_ours_leaves_the_call_alone_and_is_counted(calls: State) -> None:
    class Shy(Engine):
        pass

    def items(args: Any, kwargs: Any) -> Any:
        raise RuntimeError("ours")

    patches = Patches()
    patches.replace(Shy, "infer", leaf(Shy.infer, CallSpec("engine", "infer", SPEC.describe, items)))
    assert Shy().infer(5) == 5
    assert (len(calls.done), calls.dropped, calls.open) == (0, 1, {})
    assert current_call.get() is None


def test_a_bypassed_call_is_none_of_ours(calls: State) -> None:
    class Traced(Engine):
        pass

    tracing = [True]
    patches = Patches()
    patches.replace(Traced, "infer", leaf(Traced.infer, SPEC, bypass=lambda: tracing[0]))
    Traced().infer(1)
    assert len(calls.done) == 0
    tracing[0] = False
    Traced().infer(1)
    assert len(calls.done) == 1


def test_a_call_with_a_bypass_guards_and_raises_like_any_other(calls: State) -> None:
    class Traced(Engine):
        pass

    patches = Patches()
    patches.replace(Traced, "infer", leaf(Traced.infer, SPEC, bypass=lambda: False))
    error = Stop()
    with pytest.raises(Stop) as caught:
        Traced().infer(1, inner=lambda: Traced().infer(1, fail=error))
    assert caught.value is error
    assert [call.error for call in calls.done] == [Stop]


# Training.


def test_calls_inside_training_are_no_requests(engine: Engine, calls: State) -> None:
    engine.learn(1, inner=lambda: engine.infer(2))
    assert len(calls.done) == 0
    engine.infer(3)
    assert len(calls.done) == 1


def test_a_context_copied_inside_training_guards_nothing_afterwards(engine: Engine, calls: State) -> None:
    context = engine.learn(1, inner=contextvars.copy_context)
    context.run(engine.infer, 2)
    assert len(calls.done) == 1


def test_training_that_fails_raises_the_same_object_and_guards_nothing_more(engine: Engine, calls: State) -> None:
    error = Stop()

    def fail() -> None:
        raise error

    with pytest.raises(Stop) as caught:
        engine.learn(1, inner=fail)
    assert caught.value is error
    engine.infer(1)
    assert len(calls.done) == 1


def test_training_tells_of_every_model_it_changed_the_nested_ones_too() -> None:
    class Learner:
        def learn(self, inner: Any = None) -> None:
            if inner is not None:
                inner.learn()

    told: list[Any] = []
    patches = Patches()
    patches.replace(Learner, "learn", training(Learner.learn, after=told.append))
    outer, inner = Learner(), Learner()
    outer.learn(inner)
    assert told == [inner, outer]


# Batches.


class Shaped:
    def __init__(self, *shape: Any) -> None:
        self.shape = shape


@pytest.mark.parametrize(
    ("value", "items"),
    [(Shaped(7, 2), 7), (Shaped(), 1), ([1, 2], 2), ((), 0), ("text", 1), (None, 1), ({"a": 1}, 1), (3.5, 1)],
)
def test_the_batch_size_is_the_first_dimension(value: Any, items: int) -> None:
    assert batch_of(value) == items


# Un-wrapping.


class Base:
    def infer(self) -> str:
        return "base"

    @staticmethod
    def still() -> str:
        return "static"

    @classmethod
    def klass(cls) -> str:
        return cls.__name__


class Child(Base):
    pass


@pytest.mark.parametrize("name", ["infer", "still", "klass"])
def test_undo_restores_the_very_objects_of_a_class(name: str) -> None:
    before = dict(vars(Base))
    patches = Patches()
    patches.replace(Base, name, leaf(getattr(Base, name), SPEC))
    assert vars(Base)[name] is not before[name]
    patches.undo()
    after = dict(vars(Base))
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)


def test_undo_deletes_what_was_inherited() -> None:
    patches = Patches()
    patches.replace(Child, "infer", leaf(Child.infer, SPEC))
    assert "infer" in vars(Child)
    patches.undo()
    assert "infer" not in vars(Child)
    assert Child().infer() == "base"


def test_undo_takes_the_last_first() -> None:
    before = vars(Base)["infer"]
    patches = Patches()
    patches.replace(Base, "infer", leaf(Base.infer, SPEC))
    patches.replace(Base, "infer", leaf(Base.infer, SPEC))
    patches.undo()
    assert vars(Base)["infer"] is before


def test_undo_twice_does_nothing() -> None:
    patches = Patches()
    patches.replace(Base, "infer", leaf(Base.infer, SPEC))
    patches.undo()
    now = vars(Base)["infer"]
    patches.undo()
    assert vars(Base)["infer"] is now


def test_undo_takes_ours_out_of_a_wrapper_put_around_it(calls: State) -> None:
    class Owner:
        def infer(self) -> int:
            return 1

    def theirs(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(self: Any) -> Any:
            return function(self) + 1

        return wrapper

    original = Owner.infer
    patches = Patches()
    patches.replace(Owner, "infer", leaf(original, SPEC))
    Owner.infer = outer = theirs(theirs(Owner.infer))  # type: ignore[method-assign]
    patches.undo()
    assert Owner.infer is outer
    assert inspect.unwrap(outer) is original
    assert Owner().infer() == 3
    assert len(calls.done) == 0


def test_a_foreign_wrapper_that_cannot_be_opened_goes_on_working(calls: State) -> None:
    class Owner:
        def infer(self) -> int:
            return 1

    patches = Patches()
    patches.replace(Owner, "infer", leaf(Owner.infer, SPEC))
    theirs = functools.partialmethod(Owner.infer)
    Owner.infer = theirs  # type: ignore[assignment]
    patches.undo()
    assert vars(Owner)["infer"] is theirs
    assert Owner().infer() == 1


def test_an_owner_that_refuses_leaves_nothing_to_undo() -> None:
    patches = Patches()
    with pytest.raises(TypeError):
        patches.replace(int, "bit_length", lambda self: 0)
    patches.undo()
    assert (5).bit_length() == 3
