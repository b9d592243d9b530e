"""
Eight things that befall a circuit breaker, and what each library makes of them.

Each scenario is one function over a ``Bench``, which makes breakers of one library. It
returns nothing if all is right, else the faults in a few words. What counts is who gets
to the tool: the state that a library reports is asked for only where that cannot tell.

Nothing here knows a library. No tool has a timeout: libraries that have one to put around
a call are not given it, and neither is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from .bench import CALLERS, LONG, ROUNDS, SHORT, Bench, Call, Scenario
from .subject import THRESHOLD, IgnoredError, ListenerError, ToolDownError, Wanted


async def one_probe(bench: Bench) -> str | None:
    """
    A thousand callers at the end of the open time: one of them gets to the tool.
    """
    bench.renew(Wanted(reset=SHORT))
    await bench.trip_and_wait()
    calls = await bench.start(CALLERS)
    reached = sum(each.reached for each in calls)
    if reached != 1:
        return f"{reached:,} of {CALLERS:,} callers reached the tool"
    return None


async def cancelled_probe(bench: Bench) -> str | None:
    """
    The caller of the probe is cancelled: no verdict, and the next caller may probe.
    """
    bench.renew(Wanted(reset=SHORT))
    probe = await bench.probe()
    await probe.cancel()
    if not probe.interrupted:
        return "the tool was not cancelled"
    return await _given_back(bench)


async def ignored_on_probe(bench: Bench) -> str | None:
    """
    The probe ends with an exception that is ignored: likewise.
    """
    bench.renew(Wanted(reset=SHORT, ignores=True))
    probe = await bench.probe()
    probe.raises = IgnoredError
    await probe.release()
    return await _given_back(bench)


async def _given_back(bench: Bench) -> str | None:
    state = await bench.subject.state()
    if state == "closed":
        return "taken for a success: it closed"
    following = await bench.one()
    if not following.reached:
        if not await _is_probed_later(bench):
            return f"wedged: nobody may probe in {ROUNDS} open times"
        if state == "open":
            return "taken for a failure: it opened again"
        return "the next probe has to wait"
    await following.release()
    return None if await bench.closes() else "a good probe does not close it afterwards"


async def _is_probed_later(bench: Bench) -> bool:
    for _ in repeat(None, ROUNDS):
        await bench.subject.pass_time(SHORT * 1.1)
        if (await bench.one()).reached:
            return True
    return False


async def hung_probe(bench: Bench) -> str | None:
    """
    The probe never ends: somebody else may probe in the end.
    """
    bench.renew(Wanted(reset=SHORT))
    await bench.probe()
    if await _is_probed_later(bench):
        return None
    return f"wedged: nobody else may probe in {ROUNDS} open times"


async def late_success(bench: Bench) -> str | None:
    """
    A call from before the circuit opened ends well, while it is open or half-open.
    """
    bench.renew(Wanted(reset=LONG))
    early = await bench.one()
    await bench.trip()
    await early.release()
    faults: list[str] = []
    if await bench.subject.state() == "closed":
        faults.append("a late success closed an open circuit")

    bench.renew(Wanted(reset=SHORT))
    early = await bench.one()
    await bench.trip_and_wait()
    probe = await bench.one()
    await early.release()
    if await bench.subject.state() == "closed":
        faults.append("a late success closed a half-open circuit")
    elif not probe.reached:
        faults.append("a call from before keeps the probe out until it ends")
    return "; ".join(faults)


async def late_failure(bench: Bench) -> str | None:
    """
    Calls from before the circuit opened fail, while it is half-open or closed again.
    """
    bench.renew(Wanted(reset=SHORT))
    early = await bench.start(THRESHOLD, ToolDownError)
    await bench.trip_and_wait()
    probe = await bench.one()
    await _release(early)
    faults: list[str] = []
    if await bench.subject.state() == "open":
        faults.append("late failures opened a half-open circuit")
    elif not probe.reached:
        faults.append("calls from before keep the probe out until they end")

    bench.renew(Wanted(reset=SHORT))
    early = await bench.start(THRESHOLD, ToolDownError)
    await bench.trip_and_wait()
    closed = await bench.closes()
    await _release(early)
    if not closed:
        faults.append("calls from before keep it from closing until they end")
    elif await bench.subject.state() == "open":
        faults.append("late failures opened a circuit that had closed again")
    return "; ".join(faults)


async def _release(calls: Sequence[Call]) -> None:
    for each in calls:
        await each.release()


async def raising_listener(bench: Bench) -> str | None:
    """
    What listens to the circuit raises: nobody else notices.
    """
    heard = 0

    def listener(*args: object, **kwargs: object) -> None:
        nonlocal heard
        heard += 1
        raise ListenerError("the listener is broken")

    bench.renew(Wanted(reset=SHORT, listener=listener))
    calls = [await bench.whole()]
    # Another one, for a rate of failures would count the good call.
    bench.renew(Wanted(reset=SHORT, listener=listener))
    calls += [await bench.whole(ToolDownError) for _ in repeat(None, THRESHOLD)]
    faults: list[str] = []
    if await bench.subject.state() != "open":
        faults.append("failures do not open it")
    else:
        await bench.subject.pass_time(SHORT * 1.5)
        calls.append(await bench.whole())
        if not await bench.closes():
            faults.append("a good probe does not close it")
    if any(isinstance(each.error, ListenerError) for each in calls):
        faults.insert(0, "the caller gets the listener's error")
    if not heard:
        raise AssertionError("the listener was told of nothing")
    return "; ".join(faults)


async def cancelled_in_closed(bench: Bench) -> str | None:
    """
    Callers of a closed circuit are cancelled: neither failures nor successes.
    """
    bench.renew(Wanted(reset=LONG))
    for each in await bench.start(THRESHOLD):
        await each.cancel()
    if await bench.subject.state() == "open":
        return f"taken for failures: {THRESHOLD} cancellations opened it"

    bench.renew(Wanted(reset=LONG))
    for _ in repeat(None, THRESHOLD - 1):
        await bench.whole(ToolDownError)
    await (await bench.one()).cancel()
    await bench.whole(ToolDownError)
    if await bench.subject.state() != "open":
        return "taken for a success: the failures before it are forgotten"
    return None


SCENARIOS: dict[str, Scenario] = {
    "single probe": one_probe,
    "cancelled probe": cancelled_probe,
    "hung probe": hung_probe,
    "late success": late_success,
    "late failure": late_failure,
    "ignored on a probe": ignored_on_probe,
    "raising listener": raising_listener,
    "cancelled in closed": cancelled_in_closed,
}
