"""The rule for files from strangers, and the processes in which one case after the other is held against it.

A reader returns a value or raises UserError with a message that commands print as at most two lines and MAX_MESSAGE
characters, without control characters. Nothing is executed, nothing is written outside the case's folder, it takes at
most SECONDS of CPU time, and memory grows by at most MAX_GROWTH plus GROWTH_PER_BYTE for each byte of the case's files.

Cases run in a child process, one after the other. If one of them ends or blocks the child, the next child goes on with
the case after it. The children are forked from a process that has MXNet loaded and has not used it.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
import unicodedata
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Sequence

from insightface_mx.base.errors import UserError, printable
from insightface_mx.base.limits import MAX_MESSAGE

SECONDS = 20.0  # of CPU time: three times what the slowest case takes on one core
HANG = 60.0  # seconds after which a case is killed; other programs may run on the machine
MAX_GROWTH = 256 << 20  # bytes
GROWTH_PER_BYTE = 20
MAX_MEMORY = 2 << 30  # bytes that a child may allocate

EITHER, ERROR, VALUE = "either", "error", "value"

_RUNS_CODE = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "exec")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Case(NamedTuple):
    """A hostile input: make(folder) writes its files; expect: EITHER, ERROR or VALUE."""

    name: str
    make: Callable[[Path], object]
    expect: str = EITHER


class Group(NamedTuple):
    """The cases of a format.

    Attributes:
        name: Of the format.
        prepare: Writes good files of the project's own writers into a folder, once.
        cases: Yields the cases, given that folder; the same ones at every call.
        read: Reads the files of a case, given its folder, as the project does.
        alone: Whether each case has a process of its own.
        compiles: Whether the reader may start a compiler.
    """

    name: str
    prepare: Callable[[Path], object]
    cases: Callable[[Path], Iterator[Case]]
    read: Callable[[Path], object]
    alone: bool = False
    compiles: bool = False


Problems = List[str]


def prepared(group: Group, folder: Path) -> list[Case]:
    """Write a group's good files into a folder, unless it exists, in a child process; returns the group's cases."""
    if not folder.exists():
        _prepare(group, folder)
    cases = list(group.cases(folder))
    names = collections.Counter(case.name for case in cases)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"{group.name}: two cases are called {twice[0]}")
    return cases


def _prepare(group: Group, folder: Path) -> None:
    folder.mkdir(parents=True)
    log = folder.parent / "prepare.log"
    child = os.fork()
    if not child:
        _silence(log)
        status = 1
        try:
            group.prepare(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"{group.name}: no good files: {log.read_text()[-2000:]}")


def failures(group: Group, cases: Sequence[Case], good: Path) -> dict[str, Problems]:
    """Hold cases against the rule, and return the names of those that do not hold, with what happened."""
    found: dict[str, Problems] = {}
    first = 0
    while first < len(cases):
        last = first + 1 if group.alone else len(cases)
        first = _run_child(group, cases, range(first, last), good, found)
    return found


def _run_child(group: Group, cases: Sequence[Case], indices: range, good: Path, found: dict[str, Problems]) -> int:
    """Run cases in a child until it ends, add what went wrong to `found`, and return the index of the next case."""
    base = Path(tempfile.mkdtemp(prefix="child", dir=good.parent))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(group, cases, indices, base, writing)
    os.close(writing)
    messages = _messages(reading, child)
    index, is_running, killed = indices.start, False, False
    for message in messages:
        if message is None:
            killed = True
        elif "start" in message:
            index, is_running = message["start"], True
        else:
            is_running = False
            if message["problems"]:
                found[cases[message["end"]].name] = message["problems"]
    _, status = os.waitpid(child, 0)
    os.close(reading)
    shutil.rmtree(base, ignore_errors=True)
    if is_running:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        end = f"ended by {signal.Signals(number).name}" if number else f"ended with status {os.WEXITSTATUS(status)}"
        found[cases[index].name] = [f"no end after {HANG:g} s" if killed else end]
    elif status:
        raise RuntimeError(f"{group.name}: the child ended with {status} after case {cases[index].name}")
    return index + 1


def _messages(pipe: int, child: int) -> Iterator[dict[str, Any] | None]:
    """Yield what a child tells; None where it was killed because it told nothing for too long."""
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], HANG)
        if not ready:
            os.killpg(child, signal.SIGKILL)  # and a compiler that it waits for
            yield None
            return
        block = os.read(pipe, 1 << 16)
        if not block:
            return
        *lines, rest = (rest + block).split(b"\n")
        yield from map(json.loads, lines)


def _child(group: Group, cases: Sequence[Case], indices: range, base: Path, pipe: int) -> None:
    """Run cases and tell the parent of each before and after; does not return."""
    status = 1
    try:
        os.setpgrp()
        faulthandler.disable()  # pytest's would write to its own standard error
        log = base / "log"
        _silence(log)
        guard = _Guard(group.compiles)
        for name in ("home", "cache", "tmp", "cases"):
            (base / name).mkdir()
        os.environ.update(HOME=str(base / "home"), XDG_CACHE_HOME=str(base / "cache"), TMPDIR=str(base / "tmp"))
        tempfile.tempdir = None
        limit = _status("VmSize") + MAX_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for index in indices:
            folder = base / "cases" / f"{index:04d}"
            folder.mkdir()
            _tell(pipe, start=index)
            _tell(pipe, end=index, problems=_problems(group, cases[index], folder, guard, log))
            shutil.rmtree(folder, ignore_errors=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _problems(group: Group, case: Case, folder: Path, guard: _Guard, log: Path) -> Problems:
    """Run a case, and return what breaks the rule."""
    case.make(folder)
    size = sum(path.lstat().st_size for path in folder.rglob("*"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts again
    before, cpu = _status("VmRSS"), _cpu_seconds()
    os.ftruncate(2, 0)
    os.chdir(folder)
    guard.begin(folder)
    try:
        group.read(folder)
        error: BaseException | None = None
    except BaseException as raised:
        error = raised
    problems = guard.end()
    growth, seconds = _status("VmHWM") - before, _cpu_seconds() - cpu
    sys.stderr.flush()
    said = log.read_text("utf-8", "replace")
    message = _message(error, said)
    if message is None and error is not None:
        problems.append(_first_lines(error))
    elif message is not None:
        problems += [f"{problem}: {message[:300]!r}" for problem in _faults(message)]
    if case.expect != EITHER and (message is None) != (case.expect == VALUE):
        problems.append(f"it should be {'a value, not ' + repr(message)[:300] if message else 'an error'}")
    if "Traceback" in said:
        problems.append(f"a traceback on standard error: {said.strip().splitlines()[-1][:300]}")
    if growth > MAX_GROWTH + GROWTH_PER_BYTE * size:
        problems.append(f"memory grew by {growth >> 20} MB for {size} bytes")
    if seconds > SECONDS:
        problems.append(f"{seconds:.1f} s of CPU time")
    return problems


def _message(error: BaseException | None, said: str) -> str | None:
    """Return the message for the user: of a UserError as commands print it, or what a command printed as it ended."""
    if isinstance(error, UserError):
        return printable(str(error), MAX_MESSAGE)
    if isinstance(error, SystemExit) and error.code == 2:
        return said[said.rfind("error: ") :].strip()
    return None


def _faults(message: str) -> Iterator[str]:
    """Yield what is wrong with a message for the user."""
    if not message.strip():
        yield "an empty message"
    if len(message.splitlines()) > 2:
        yield f"a message of {len(message.splitlines())} lines"
    if len(message) > MAX_MESSAGE:
        yield f"a message of {len(message)} characters"
    if any(unicodedata.category(character) == "Cc" and character != "\n" for character in message):
        yield "a message with control characters"


def _first_lines(error: BaseException) -> str:
    """Return type, text and place of an error that is not for users."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    own = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "hostile" not in frame.filename]
    return f"{type(error).__name__} at {own[0] if own else '?'} .. {place}: {str(error)[:200]}"


class _Guard:
    """Notes what a reader executes, and what it changes outside the case's folder."""

    def __init__(self, compiles: bool) -> None:
        self._runs_code = () if compiles else _RUNS_CODE
        self._folder, self._found, self._is_on = "", [], False
        sys.addaudithook(self._hook)

    def begin(self, folder: Path) -> None:
        self._folder, self._found, self._is_on = str(folder.parent.parent), [], True

    def end(self) -> Problems:
        self._is_on = False
        return sorted(set(self._found))

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self._is_on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and self._is_outside(path):
                self._found.append(f"opened {path} to write")
        elif event in _CHANGES and not (event == "os.mkdir" and os.path.isdir(arguments[0])):
            self._found += [f"{event} {path}" for path in arguments[:2] if self._is_outside(path)]
        elif event in self._runs_code and not (event == "exec" and self._is_own(arguments[0])):
            self._found.append(f"{event} {str(arguments)[:200]}")

    def _is_outside(self, path: object) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        path = os.path.realpath(os.fsdecode(path))
        return not path.startswith((self._folder + "/", "/dev/", "/proc/self"))

    def _is_own(self, code: Any) -> bool:
        """Return whether code comes from a module that is installed, which may be imported late."""
        return not getattr(code, "co_filename", "").startswith(self._folder)


def _silence(log: Path) -> None:
    """Send standard output and standard error to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


def _tell(pipe: int, **message: object) -> None:
    os.write(pipe, (json.dumps(message) + "\n").encode())


def _status(key: str) -> int:
    """Return a size of this process in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(f"{key}:"))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
