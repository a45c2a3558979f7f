"""The scheduler as a state machine, with a session that performs nothing by itself."""

import itertools
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipedeco.graph import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    PENDING,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCESS,
    Called,
    Outcome,
    Step,
)
from pipedeco.options import ComponentOptions
from pipedeco.scheduler import Scheduler, unread_failures

LEGAL = {
    PENDING: {QUEUED, SKIPPED, CANCELLED, FAILED},  # failed: by who was asked before it
    QUEUED: {RUNNING, PENDING, COMPLETED, FAILED, CANCELLED},  # pending: undone, or tried again
    RUNNING: {PENDING, COMPLETED, FAILED, CANCELLED},
}

DONE = Outcome(COMPLETED, 0.0, 0.0)
BROKEN = Outcome(FAILED, 0.0, 0.0, retryable=True)
HOPELESS = Outcome(FAILED, 0.0, 0.0)


class WatchedStep(Step):
    """A step that checks each change of its state."""

    __slots__ = ("_state",)

    @property
    def state(self):
        return self._state

    @state.setter
    def state(self, new):
        old = getattr(self, "_state", None)
        if old is not None and old != new:
            assert new in LEGAL.get(old, ()), f"{old} -> {new}"
        self._state = new


class FakeSession:
    """Keeps calls until the test performs them."""

    def __init__(self):
        self.queued = []
        self.timers = []
        self.stopped = False
        self._posted = deque()

    def post(self, action, *args):
        self._posted.append((action, args))

    def later(self, seconds, action, *args):
        self.timers.append((seconds, action, args))

    def submit(self, call):
        assert not self.stopped
        assert call.step.state == QUEUED
        self.queued.append(call)

    def withdraw(self, call):
        if call in self.queued:
            self.queued.remove(call)
            return True
        return False

    def stop(self):
        self.stopped = True
        queued, self.queued = self.queued, []
        return queued

    def drain(self):
        while self._posted:
            action, args = self._posted.popleft()
            action(*args)

    def ring(self, number=0):
        """A timer is over."""
        _, action, args = self.timers.pop(number)
        action(*args)


class Lab:
    """A scheduler, its session, and what it told the store."""

    def __init__(self, **options):
        self.session = FakeSession()
        self.recorded = []
        self.attempts = []
        self.children = []
        self.steps = []
        abort = options.pop("abort", False)
        self.scheduler = Scheduler(
            self.session,
            self.recorded.append,
            lambda step, number, outcome: self.attempts.append((step, number)),
            self.children.append,
            (lambda why: self.session.post(self.scheduler.cancel, why)) if abort else None,
        )

    def step(self, *inputs, after=(), is_pipeline=False, **options):
        called = Called(None, "s", ComponentOptions(**options), is_pipeline=is_pipeline)
        step = WatchedStep(None, called, len(self.steps), len(self.steps) + 1)
        step.inputs = inputs
        step.after = tuple(after)
        self.steps.append(step)
        self.scheduler.add(step)
        return step

    def begin(self, step):
        """A worker takes the call of a step."""
        call = self.scheduler.active[step]
        self.session.queued.remove(call)
        call.started(call)
        return call

    def end(self, step, outcome=DONE):
        """A worker performs a step."""
        call = self.begin(step)
        call.done(call, outcome)
        self.session.drain()
        return call

    @property
    def states(self):
        return [step.state for step in self.steps]


@pytest.fixture
def lab():
    return Lab()


# -- order -----------------------------------------------------------------------------------


def test_a_step_is_submitted_when_its_inputs_are_there(lab):
    """Both inputs count, a repeated one once."""
    a, b = lab.step(), lab.step()
    c = lab.step(a, b, a)
    assert lab.states == [QUEUED, QUEUED, PENDING]
    lab.end(a)
    assert c.state == PENDING
    lab.end(b)
    assert c.state == QUEUED
    lab.end(c)
    assert lab.states == [COMPLETED] * 3
    assert lab.recorded == [a, b, c]


def test_a_step_of_ended_inputs_is_submitted_at_once(lab):
    """What is added late waits for nothing."""
    a = lab.step()
    lab.end(a)
    assert lab.step(a, after=[a]).state == QUEUED


def test_a_child_pipeline_is_started_and_not_submitted(lab):
    """A step that is a pipeline goes to its own starter, and ends as others do."""
    a = lab.step(is_pipeline=True)
    b = lab.step(a)
    (call,) = lab.children
    assert (call.step, lab.session.queued) == (a, [])
    call.started(call)
    call.done(call, DONE)
    assert b.state == QUEUED


def test_idle_is_told_once_when_nothing_is_under_way(lab):
    """At once where nothing is, else at the end of the last step."""
    told = []
    lab.scheduler.when_idle(lambda: told.append("now"))
    assert told == ["now"]
    a = lab.step()
    b = lab.step(a)
    lab.scheduler.when_idle(lambda: told.append("later"))
    lab.end(a)
    assert told == ["now"]
    lab.end(b)
    assert told == ["now", "later"]


# -- failures --------------------------------------------------------------------------------


def test_a_failure_skips_what_needs_it_and_nothing_else(lab):
    """The reason is the step before; the first failure is found behind it."""
    a, other = lab.step(), lab.step()
    b = lab.step(a, other)
    c = lab.step(b)
    lab.end(a, HOPELESS)
    late = lab.step(a)
    assert lab.states == [FAILED, QUEUED, SKIPPED, SKIPPED, SKIPPED]
    assert (b.reason, c.reason, late.reason) == (a, b, a)
    assert c.root_failure is a
    lab.end(other)
    assert b.state == SKIPPED


@pytest.mark.parametrize("late", [False, True])
def test_allow_failure_lets_depends_on_run_and_not_who_needs_the_value(lab, late):
    """An order edge from an allowed failure holds nothing up; a data edge beside it does."""
    a = lab.step(allow_failure=True)
    if late:
        lab.end(a, HOPELESS)
    after, both = lab.step(after=[a]), lab.step(a, after=[a])
    if not late:
        lab.end(a, HOPELESS)
    assert (after.state, both.state) == (QUEUED, SKIPPED)


def test_depends_on_a_failure_that_is_not_allowed_is_skipped(lab):
    """So is what depends on a skipped step."""
    a = lab.step()
    b = lab.step(after=[a])
    c = lab.step(after=[b])
    lab.end(a, HOPELESS)
    assert (b.state, c.state) == (SKIPPED, SKIPPED)


@pytest.mark.parametrize("first", ["chain", "failure"])
def test_a_chain_of_10_000_is_skipped_without_recursion(lab, first):
    """Whether the failure comes before the chain or after it."""
    a = last = lab.step()
    if first == "failure":
        lab.end(a, HOPELESS)
    for _ in range(10_000):
        last = lab.step(last)
    if first == "chain":
        lab.end(a, HOPELESS)
    assert set(lab.states[1:]) == {SKIPPED}
    assert last.root_failure is a
    assert lab.scheduler.ended == len(lab.recorded) == 10_001


def test_unread_failures(lab):
    """A failure that was read, or is allowed, fails no run; a skipped step is none."""
    read, allowed, unread = lab.step(), lab.step(allow_failure=True), lab.step()
    lab.step(unread)
    for step in (read, allowed, unread):
        lab.end(step, HOPELESS)
    read.read = True
    assert unread_failures(lab.steps) == [unread]


# -- retries ---------------------------------------------------------------------------------


def test_retries(lab):
    """Each attempt but the last is recorded as one; dependants wait for the last."""
    a = lab.step(retries=2)
    b = lab.step(a)
    lab.end(a, BROKEN)
    lab.end(a, BROKEN)
    assert (a.state, a.attempt, b.state) == (QUEUED, 3, PENDING)
    lab.end(a, DONE)
    assert (a.state, b.state) == (COMPLETED, QUEUED)
    assert lab.attempts == [(a, 1), (a, 2)]
    assert [attempt.number for attempt in a.attempts] == [1, 2]
    assert lab.recorded == [a]


def test_the_last_failure_is_final(lab):
    """After all its attempts a step is failed."""
    a = lab.step(retries=1)
    lab.end(a, BROKEN)
    lab.end(a, BROKEN)
    assert (a.state, a.attempt, lab.session.queued) == (FAILED, 2, [])


def test_what_retry_on_forbids_is_not_tried_again(lab):
    """An outcome that is not retryable ends the step at its first attempt."""
    a = lab.step(retries=5)
    lab.end(a, HOPELESS)
    assert (a.state, a.attempt) == (FAILED, 1)


def test_a_delay_goes_through_the_session(lab):
    """A number, or a function of the attempt; meanwhile the step is pending."""
    a = lab.step(retries=2, retry_delay=lambda attempt: attempt * 1.5)
    lab.end(a, BROKEN)
    assert (a.state, lab.session.timers[0][0]) == (PENDING, 1.5)
    lab.session.ring()
    lab.end(a, BROKEN)
    assert lab.session.timers[0][0] == 3.0


# -- cancelling ------------------------------------------------------------------------------


def test_cancel_ends_what_has_not_begun(lab):
    """What runs is the session's to stop; what is added later is cancelled at once."""
    a, b = lab.step(), lab.step()
    c = lab.step(a)
    call = lab.begin(a)
    lab.scheduler.cancel("because")
    assert (a.state, b.state, c.state) == (RUNNING, CANCELLED, CANCELLED)
    assert (b.reason, c.reason) == ("because", "because")
    assert lab.step().state == CANCELLED
    call.done(call, Outcome(CANCELLED, 0.0, 0.0))
    assert a.state == CANCELLED
    assert not lab.scheduler.active


def test_nothing_is_tried_again_after_a_cancel(lab):
    """Neither a failure of what ran, nor a retry that waits for its time."""
    a, b = lab.step(retries=3), lab.step(retries=3, retry_delay=9)
    lab.end(b, BROKEN)
    call = lab.begin(a)
    lab.scheduler.cancel("because")
    call.done(call, BROKEN)
    lab.session.drain()
    lab.session.ring()
    assert (a.state, b.state) == (FAILED, CANCELLED)


@pytest.mark.parametrize("when", ["pending", "queued", "running", "completed", "delayed"])
def test_cancel_step(lab, when):
    """One step can be cancelled until a worker has it; the answer is true."""
    answers = []
    a = lab.step(retries=1, retry_delay=9)
    b = lab.step(a)
    if when == "running":
        lab.begin(a)
    elif when in ("completed", "delayed"):
        lab.end(a, DONE if when == "completed" else BROKEN)
    step = b if when == "pending" else a
    lab.scheduler.cancel_step(step, answers.append)
    cancelled = when in ("pending", "queued", "delayed")
    assert answers == [cancelled]
    assert (step.state == CANCELLED) is cancelled
    if step is a and cancelled:
        assert b.state == SKIPPED


def test_abort_cancels_the_rest_at_the_first_failure():
    """With on_failure="abort" what has not begun is cancelled, and says why."""
    lab = Lab(abort=True)
    a, b = lab.step(), lab.step()
    lab.end(a, HOPELESS)
    assert b.state == CANCELLED
    assert b.reason == "step s failed and on_failure is 'abort'"


def test_abort_does_not_mind_an_allowed_failure():
    """allow_failure=True is stronger."""
    lab = Lab(abort=True)
    a, b = lab.step(allow_failure=True), lab.step()
    lab.end(a, HOPELESS)
    assert b.state == QUEUED


# -- late words ------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [DONE, BROKEN, HOPELESS])
def test_a_late_outcome_is_ignored(lab, late):
    """A second word of an attempt that has ended, or was given up, changes nothing."""
    a = lab.step(retries=1)
    first = lab.end(a, BROKEN)
    first.done(first, late)
    assert a.state == QUEUED
    second = lab.end(a, DONE)
    second.done(second, late)
    first.done(first, late)
    assert (a.state, a.outcome, lab.recorded) == (COMPLETED, DONE, [a])


def test_a_late_beginning_is_ignored(lab):
    """A step that was ended meanwhile (the recorder failed) does not run again."""
    a = lab.step()
    call = lab.scheduler.active[a]
    a.state = CANCELLED
    call.started(call)
    assert a.state == CANCELLED


# -- following -------------------------------------------------------------------------------


def follow(lab, call, step):
    following = call.follow(call, step)
    assert following.follows is call
    assert (step.state, step.attempt) == (QUEUED, 1)
    return following


def test_a_step_may_follow_the_one_it_waits_for(lab):
    """It is queued ahead of that one's end, submitted to nobody else, and ends as others do."""
    a = lab.step()
    b = lab.step(a)
    c = lab.step(b)
    call = lab.begin(a)
    following = follow(lab, call, b)
    call.done(call, DONE)
    assert lab.session.queued == []
    following.started(following)
    following.done(following, DONE)
    assert lab.states == [COMPLETED, COMPLETED, QUEUED]
    assert lab.session.queued == [lab.scheduler.active[c]]


@pytest.mark.parametrize("first", ["undone", "outcome"])
@pytest.mark.parametrize("outcome", [DONE, HOPELESS, BROKEN], ids=["done", "failed", "retried"])
def test_a_follower_that_was_not_begun_waits_again_or_is_ready(lab, outcome, first):
    """Whichever of the two words comes first, and it is charged no attempt."""
    a = lab.step(retries=1)
    b = lab.step(a)
    call = lab.begin(a)
    following = follow(lab, call, b)
    words = [lambda: following.undone(following), lambda: call.done(call, outcome)]
    for word in words if first == "undone" else reversed(words):
        word()
        lab.session.drain()
    expected = {DONE: (QUEUED, 1), HOPELESS: (SKIPPED, 0), BROKEN: (PENDING, 0)}[outcome]
    assert (b.state, b.attempt) == expected
    if outcome is BROKEN:
        lab.end(a, DONE)
        assert b.state == QUEUED


def test_a_follower_of_a_cancelled_run_is_cancelled(lab):
    """An undone call is not ready again after a cancel."""
    a = lab.step()
    b = lab.step(a)
    call = lab.begin(a)
    following = follow(lab, call, b)
    lab.scheduler.cancel("because")
    following.undone(following)
    assert (b.state, b.reason) == (CANCELLED, "because")


def test_a_follower_that_died_before_the_other_s_outcome_came_waits_for_it(lab):
    """A worker dies in the second step with the first one's outcome unsent.

    The first is performed again; the second, tried again, needs its value.
    """
    a = lab.step()
    b = lab.step(a, retries=1)
    call = lab.begin(a)
    following = follow(lab, call, b)
    following.started(following)
    lab.session.queued.append(call)  # the runner performs it again
    following.done(following, BROKEN)
    lab.session.drain()
    assert lab.session.queued == [call]
    assert b.state == PENDING
    lab.session.queued.remove(call)
    call.done(call, DONE)
    assert (b.state, b.attempt) == (QUEUED, 2)
    assert len(lab.session.queued) == 1


# -- everything in any order -----------------------------------------------------------------


class RandomHooks:
    """Holds steps at their start and end, now and then, until it is made to answer."""

    busy = False

    def __init__(self, machine):
        self.machine = machine
        self.starts, self.ends = [], []
        self.passed = set()

    def covers(self, step):
        return step.position % 2 == 0

    def holds_start(self, step):
        assert step.state == PENDING
        held = self.covers(step) and self.machine.draw(st.booleans())
        if held:
            self.starts.append(step)
        return held

    def holds_end(self, step, state):
        if step in self.passed or state == CANCELLED or not self.covers(step):
            self.passed.discard(step)
            return False
        outcome, step.outcome = step.outcome, None
        self.ends.append((step, state, outcome))
        return True

    def changed(self, step):
        pass

    def stop(self):
        pass

    def answer(self):
        """A verdict, maybe on a step that was cancelled meanwhile."""
        scheduler = self.machine.scheduler
        if self.starts and (not self.ends or self.machine.draw(st.booleans())):
            step = self.starts.pop(0)
            verdicts = [
                lambda: scheduler.start(step),
                lambda: scheduler.skip(step, "somebody said no"),
                lambda: scheduler.settle(step, FAILED, HOPELESS, "somebody raised"),
            ]
            self.machine.one_of(verdicts)()
            return
        step, state, outcome = self.ends.pop(0)
        if step.state not in ENDED:
            self.passed.add(step)
            if self.machine.draw(st.booleans()):
                state, outcome = FAILED, HOPELESS
            scheduler.settle(step, state, outcome)


class Machine:
    """Random words in a random order: a worker's, a timer's, the body's, a person's."""

    def __init__(self, draw):
        self.draw = draw
        self.lab = Lab(abort=draw(st.booleans()))
        self.scheduler, self.session = self.lab.scheduler, self.lab.session
        self.hooks = RandomHooks(self)
        if draw(st.booleans()):
            self.scheduler.hooks = self.hooks
        self.chains = []  # calls that a worker has: the first runs, the others follow
        self.stranded = []  # calls that follow no more, of which the scheduler is told later

    def one_of(self, things):
        return things[self.draw(st.integers(0, len(things) - 1))]

    def add(self):
        steps = self.lab.steps
        picks = st.lists(st.integers(0, max(0, len(steps) - 1)), max_size=2 if steps else 0)
        self.lab.step(
            *[steps[i] for i in self.draw(picks)],
            after=[steps[i] for i in self.draw(picks)],
            retries=self.draw(st.integers(0, 2)),
            retry_delay=self.draw(st.integers(0, 1)),
            allow_failure=self.draw(st.booleans()),
        )

    def take(self):
        call = self.one_of(self.session.queued)
        self.session.queued.remove(call)
        chain = [call]
        while self.draw(st.booleans()):
            step = chain[-1].step
            if not step.dependants or len(step.dependants) != 1:
                break
            (next_one,) = step.dependants
            if next_one.waiting != 1 or next_one.state != PENDING or step not in next_one.inputs:
                break
            following = chain[-1].follow(chain[-1], next_one)
            if following is None:
                break
            chain.append(following)
        self.start(chain)

    def start(self, chain):
        call = chain[0]
        assert all(dep.state in SUCCESS for dep in call.step.inputs)
        call.started(call)
        self.chains.append(chain)

    def finish(self):
        chain = self.one_of(self.chains)
        self.chains.remove(chain)
        call, *rest = chain
        outcome = self.one_of([DONE, DONE, BROKEN, HOPELESS])
        if outcome is not DONE and self.draw(st.booleans()):
            self.give_back(rest)
            rest = []
        call.done(call, outcome)
        if outcome is not DONE:
            self.stranded += rest
        elif rest:
            self.start(rest)

    def give_back(self, calls):
        for call in reversed(calls):
            call.undone(call)

    def strand(self):
        self.give_back([self.stranded.pop(self.draw(st.integers(0, len(self.stranded) - 1)))])

    def cancel_step(self):
        step = self.one_of(self.lab.steps)
        answers = []
        self.scheduler.cancel_step(step, answers.append)
        assert answers == [step.state == CANCELLED]

    def cancel(self):
        self.scheduler.cancel("a person said so")

    def possible(self, *, adding):
        found = [self.session.drain]
        if adding:
            found += [self.add] * 4
        if self.session.queued:
            found += [self.take] * 3
        if self.chains:
            found += [self.finish] * 3
        if self.stranded:
            found.append(self.strand)
        if self.session.timers:
            found.append(self.session.ring)
        if self.hooks.starts or self.hooks.ends:
            found += [self.hooks.answer] * 2
        if adding and self.lab.steps:
            found += [self.cancel_step]
        return found

    def check(self):
        lab = self.lab
        ended = [step for step in lab.steps if step.state in ENDED]
        assert sorted(s.position for s in lab.recorded) == [s.position for s in ended]
        assert self.scheduler.ended == len(ended)
        assert set(self.scheduler.active) == set(lab.steps) - set(ended)
        under_way = itertools.chain(self.session.queued, *self.chains, self.stranded)
        positions = [call.step.position for call in under_way]
        assert len(positions) == len(set(positions))


@pytest.mark.timeout(400)  # for five minutes Hypothesis makes a counterexample small, then tells it
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_order_of_words_keeps_the_rules(data):
    """Legal changes of state only, one record a step, no step begun before its inputs, an end."""
    machine = Machine(data.draw)
    for _ in range(data.draw(st.integers(1, 30))):
        machine.one_of(machine.possible(adding=True))()
        machine.check()
    if data.draw(st.integers(0, 3)) == 0:
        machine.cancel()
        machine.check()
    idle = []
    machine.scheduler.when_idle(lambda: idle.append(1))
    for _ in range(1000):
        machine.session.drain()
        machine.check()
        if not machine.scheduler.active:
            break
        possible = machine.possible(adding=False)[1:]
        assert possible, "no step can go on"
        possible[0]()
    assert idle == [1]
    for step in machine.lab.steps:
        if step.state == SKIPPED and step.reason != "somebody said no":
            assert step.reason.state in ENDED - SUCCESS
        if step.state == COMPLETED:
            assert all(dep.state in SUCCESS for dep in step.inputs)


class Teller:
    """Hooks that tell of skipped and cancelled steps, which end when that is over."""

    busy = False

    def __init__(self):
        self.told = []

    def covers(self, step):
        return True

    def holds_start(self, step):
        return False

    def holds_end(self, step, state):
        if state not in (SKIPPED, CANCELLED) or (step, state) in self.told:
            return False
        self.told.append((step, state))
        return True

    def changed(self, step):
        pass

    def stop(self):
        pass


def test_a_step_that_is_to_be_skipped_is_not_performed():
    """Though its other input completes while somebody is told of the skipping."""
    lab = Lab()
    lab.scheduler.hooks = teller = Teller()
    first, second = lab.step(), lab.step()
    lab.end(second, HOPELESS)
    third = lab.step(first, second)
    assert teller.told == [(third, SKIPPED)]
    lab.end(first)
    assert not lab.session.queued
    lab.scheduler.settle(third, SKIPPED, None)
    assert third.state == SKIPPED


def test_a_step_that_is_to_be_cancelled_is_not_performed():
    """The same of a run that is cancelled while an input of the step is under way."""
    lab = Lab()
    lab.scheduler.hooks = teller = Teller()
    first = lab.step()
    call = lab.begin(first)
    second = lab.step(first)
    lab.scheduler.cancel("enough")
    assert (second, CANCELLED) in teller.told
    call.done(call, DONE)
    assert not lab.session.queued
