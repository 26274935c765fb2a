"""Worker: receivers end in time, and so does the worker, in one process or in several."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="no-limit",
        what="A receiver is not interrupted at its time limit.",
        at="ReceiverJob.interrupt",
        old="_raise_in(ctypes.c_ulong(self._thread or 0), ctypes.py_object(ReceiverTimeoutError))",
        new="pass",
        tests=("test_time_limits.py",),
    ),
    Break(
        name="limits-late",
        what="A time limit takes effect only at the next renewal of leases.",
        at="ReceiverJob.guard",
        old="self._limited()",
        new="self._limited",
        tests=("test_time_limits.py",),
    ),
    Break(
        name="stops-late",
        what="A worker that is asked to stop does so only at the next renewal of leases.",
        at="Worker.run",
        old="0 if self._is_over() else self._rest_s()",
        new="self._rest_s()",
        tests=("test_stop.py",),
    ),
    Break(
        name="nothing-released",
        what="A worker that stops does not release the rows whose receivers have not begun.",
        at="Worker._release_unbegun",
        old="self.settler.pending.extend(self._executor.take_back())",
        new="self._executor.take_back()",
        tests=("test_stop.py",),
    ),
    Break(
        name="drains-for-ever",
        what="Ctrl-C does not end a drain.",
        at="Consumer._attempt",
        old="current_thread() is main_thread()",
        new="current_thread() is not main_thread()",
        tests=("test_drain.py",),
    ),
    Break(
        name="drains-in-batches",
        what="A drain claims several rows at once, which then wait for those before them.",
        at="Relay.drain",
        old="Settings(concurrency=1, batch=1, lease_s=_DRAIN_S, drains=True)",
        new="Settings(concurrency=1, lease_s=_DRAIN_S, drains=True)",
        tests=("test_drain.py",),
    ),
    Break(
        name="exits-end-the-loop",
        what="An async receiver that exits ends the event loop of all receivers.",
        at="_run",
        beside="Portal",
        old="BaseException",
        new="Exception",
        tests=("test_receiving.py",),
    ),
    Break(
        name="forked-portal",
        what="A forked child waits for the event loop of its parent.",
        at="Portal.__init__",
        old="os.register_at_fork(after_in_child=self._start_anew)",
        new="pass",
        tests=("test_portal.py",),
    ),
    Break(
        name="starting-is-failing",
        what="A worker process that is stopped while it starts counts as failed.",
        at="_exit_of",
        old="-signal.SIGTERM",
        new="signal.SIGTERM",
        tests=("test_supervisor.py",),
    ),
    Break(
        name="started-after-the-stop",
        what="A worker process that starts while all are being stopped goes on.",
        at="Supervisor._start",
        old="if self._stops: ...",
        new="if not self._stops: ...",
        tests=("test_supervisor.py",),
    ),
    Break(
        name="all-report",
        what="Every worker process reports to systemd, not only the first.",
        at="Supervisor._start",
        old='environment.pop("NOTIFY_SOCKET", None)',
        new='environment.get("NOTIFY_SOCKET")',
        tests=("test_worker_command.py",),
    ),
)
