"""Full and failing disks, deaths at every step, and many at once: a version is absent or complete."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelmill.errors import StorageError, UnknownModel
from modelmill.registry.registry import Registry
from modelmill.signature import Signature
from modelmill.store.blobs import digest_of
from modelmill.store.home import Home
from modelmill.store.sqlite import SqliteConnection

FILES = {"model.onnx": b"m" * 30_000, "body.safetensors": b"b" * 3000}

COMMON = '''
import os, sys
from modelmill.errors import MillError, StorageError
from modelmill.registry.registry import Registry
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

SIGNATURE = Signature("regress", (Field("x", "FP32"),), (Field("value", "FP32"),))

def opened(folder):
    home = Home(folder)
    return home, Registry(home.database, home.blobs)

def files(n):
    return {"model.onnx": b"model %d" % n + b"m" * 30_000, "body": b"body %d" % n + b"b" * 3000}

def check(folder):
    "Every version there is is complete; the numbers."
    home, registry = opened(folder)
    found = registry.versions("m") if registry.names() else []
    for version in found:
        assert set(version.files) == {"model.onnx", "body", "report.json"}, version
        assert registry.verify(version.reference) == []
        assert registry.report(version).version == version.number
    assert not found or "live" in {alias for version in found for alias in version.aliases}
    home.database.close()
    return [version.number for version in found]

REPORT = b"""{"name": "", "version": 0, "live": false, "task": "regress",
"data": {"digest": "", "rows": 1, "features": 1}, "metrics": {}, "costs": {},
"baseline": {"metrics": {}, "costs": {}}, "limits": {}, "pareto": [], "trials": {},
"seconds": 0, "spec": {}, "lineage": {}}"""
'''


def run(body: str, *arguments: str | Path, **environment: str) -> str:
    """What a child process with the common lines above prints."""
    code = COMMON + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class Faults:
    """Lets the first `spared` calls of the operating system pass, and fails the next one."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self.number = number
        self.spared = 0
        self.struck = False
        for owner, name in ((os, "open"), (os, "write"), (os, "fsync"), (Path, "replace"), (Path, "mkdir")):
            patch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.spared == 0 and not self.struck:
                self.struck = True
                raise OSError(self.number, os.strerror(self.number))
            self.spared -= 1
            return real(*arguments, **named)

        return call


def faults(number: int) -> Iterator[tuple[Faults, pytest.MonkeyPatch]]:
    """Fail the first call, the second, and so on, until one run comes through unharmed."""
    for spared in range(200):
        with pytest.MonkeyPatch.context() as patch:
            fault = Faults(patch, number)
            fault.spared = spared
            yield fault, patch
        if not fault.struck:
            assert spared > 5, "the faults were never reached"
            return
    raise AssertionError("publishing never came through")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_whichever_call_fails_a_version_is_absent_and_the_next_try_is_whole(
    registry: Registry, home: Home, signature: Signature, number: int
) -> None:
    registry.publish("digits", {"model.onnx": b"first"}, signature)
    for fault, patch in faults(number):
        published = _try(registry, signature)
        patch.undo()
        assert published is not fault.struck
        assert [version.number for version in registry.versions("digits")] == [1, 2][: 1 + published]
        assert registry.verify("digits@1") == []
        assert not [path for path in home.blobs.folder.iterdir() if path.name.endswith(".part")]
        if not published:
            shutil.rmtree(home.blobs.folder)
            home.blobs.put(b"first")
    assert registry.verify("digits@2") == []


def _try(registry: Registry, signature: Signature) -> bool:
    try:
        registry.publish("digits", {**FILES, "late": lambda number, live: b"late" * 100}, signature)
    except StorageError:
        return False
    return True


def test_whichever_call_fails_a_new_home_can_be_opened_afterwards(tmp_path: Path, signature: Signature) -> None:
    for fault, patch in faults(errno.EIO):
        home = Home(tmp_path / f"{fault.spared}" / "home")
        published = _try(Registry(home.database, home.blobs), signature)
        patch.undo()
        home.database.close()
        again = Home(home.path)
        registry = Registry(again.database, again.blobs)
        assert registry.names() == ["digits"][:published]
        assert registry.publish("digits", FILES, signature).number == 1 + published
        again.database.close()


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/types.h>
static long left = -1; static int number, struck, torn;
void fault_arm(long spared, int error, int half) { left = spared; number = error; struck = 0; torn = half; }
int fault_disarm(void) { left = -1; return struck; }
static int strikes(void) { if (left < 0) return 0; if (left-- > 0) return 0; struck = 1; errno = number; return 1; }
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
ssize_t write(int f, const void *b, size_t n);
ssize_t pwrite64(int f, const void *b, size_t n, off_t at);
int fsync(int f); int fdatasync(int f); int rename(const char *a, const char *b); int ftruncate64(int f, off_t n);
ssize_t write(int f, const void *b, size_t n) {
  REAL(write); if (strikes()) { if (torn && n > 1) { real(f, b, n / 2); errno = number; } return -1; }
  return real(f, b, n); }
ssize_t pwrite64(int f, const void *b, size_t n, off_t at) {
  REAL(pwrite64); if (strikes()) { if (torn && n > 1) { real(f, b, n / 2, at); errno = number; } return -1; }
  return real(f, b, n, at); }
ssize_t pwrite(int f, const void *b, size_t n, off_t at) { return pwrite64(f, b, n, at); }
int fsync(int f) { REAL(fsync); return strikes() ? -1 : real(f); }
int fdatasync(int f) { REAL(fdatasync); return strikes() ? -1 : real(f); }
int rename(const char *a, const char *b) { REAL(rename); return strikes() ? -1 : real(a, b); }
int ftruncate64(int f, off_t n) { REAL(ftruncate64); return strikes() ? -1 : real(f, n); }
int ftruncate(int f, off_t n) { return ftruncate64(f, n); }
"""


@pytest.mark.parametrize(("number", "torn"), [(errno.ENOSPC, 0), (errno.EIO, 1)])
def test_whichever_system_call_fails_even_the_databases_own_nothing_is_half_done(
    tmp_path: Path, number: int, torn: int
) -> None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    (tmp_path / "shim.c").write_text(SHIM)
    built = [compiler, "-w", "-shared", "-fPIC", "-o", tmp_path / "shim.so", tmp_path / "shim.c", "-ldl"]
    subprocess.run(built, check=True)
    body = """
    import ctypes, pathlib
    shim = ctypes.CDLL(None)
    folder, number, torn = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    home, registry = opened(folder)
    registry.publish("m", files(1), SIGNATURE, REPORT)
    home.database.close()
    refused = database = 0
    for spared in range(300):
        last = check(folder)[-1]
        home, registry = opened(folder)
        live = registry.find("m").number
        shim.fault_arm(ctypes.c_long(spared), number, torn)
        done = []
        try:
            done.append(registry.publish("m", files(last + 1), SIGNATURE, REPORT, promote=False).number)
            registry.promote("m", last + 1)
            done.append("promoted")
        except StorageError as error:
            refused += 1
            database += "the database refuses" in str(error)
        struck = shim.fault_disarm()
        home.database.close()
        home, registry = opened(folder)
        numbers = check(folder)
        assert set(numbers) - set(range(1, last + 1)) <= {last + 1}, numbers
        assert not done or numbers[-1] == done[0], "what was acknowledged is there"
        assert registry.find("m").number == (last + 1 if "promoted" in done else live), (spared, done)
        assert not list(pathlib.Path(folder, "blobs").glob(".*.part"))
        home.database.close()
        if not struck:
            break
        known = {digest[7:] for version in registry.versions("m") for digest in version.files.values()}
        for path in pathlib.Path(folder, "blobs").iterdir():
            if path.name.removesuffix(".packed") not in known:
                path.unlink()
    else:
        raise AssertionError("publishing never came through")
    home.database.close()
    print(refused, database)
    """
    printed = run(body, tmp_path / "home", str(number), str(torn), LD_PRELOAD=str(tmp_path / "shim.so"))
    refused, database = map(int, printed.split())
    assert refused > 15
    assert database > 2


def test_files_are_synced_before_they_are_named_and_named_before_the_row_is_committed(
    registry: Registry, home: Home, signature: Signature, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish("digits", {"model.onnx": b"first"}, signature)
    steps: list[str] = []
    fsync, replace, execute = os.fsync, Path.replace, SqliteConnection.execute

    def traced_fsync(number: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "sync file")
        fsync(number)

    def traced_replace(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    def traced_execute(self: SqliteConnection, sql: str, parameters: Any = None) -> int:
        steps.append(sql.split(" (")[0])
        return execute(self, sql, parameters)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    monkeypatch.setattr(SqliteConnection, "execute", traced_execute)
    registry.publish("digits", {"model.onnx": b"x"}, signature)
    assert steps[:4] == ["sync file", "rename", "sync folder", "PRAGMA synchronous = FULL"]
    assert steps.index("BEGIN IMMEDIATE") < steps.index("INSERT INTO versions") < steps.index("COMMIT")


def test_bytes_that_a_delete_takes_while_they_are_published_are_put_again(
    registry: Registry, home: Home, signature: Signature
) -> None:
    def meanwhile(number: int, live: bool) -> bytes:
        home.blobs.delete(digest_of(b"shared"))
        return b"page"

    registry.publish("digits", {"model.onnx": b"shared", "report.html": meanwhile}, signature)
    assert registry.verify("digits") == []


@pytest.mark.parametrize("base", [0, 2])
def test_killed_at_every_step_a_version_is_absent_or_complete(tmp_path: Path, base: int) -> None:
    body = """
    import pathlib, shutil, signal, sqlite3
    from modelmill.store import sqlite

    class Killer:
        "Kills this process at the chosen one of its steps: system calls before and after, SQL statements before."
        def __init__(self, at):
            self.at, self.seen = at, 0
        def step(self, label):
            self.seen += 1
            if self.seen == self.at:
                os.write(labels, label.encode() + b"\\n")
                os.kill(os.getpid(), signal.SIGKILL)
        def around(self, owner, name):
            real = getattr(owner, name)
            def call(*a, **k):
                self.step("before " + name)
                result = real(*a, **k)
                self.step("after " + name)
                return result
            setattr(owner, name, call)

    def child(at):
        killer = Killer(at)
        connect = sqlite3.connect
        def traced(*a, **k):
            raw = connect(*a, **k)
            raw.set_trace_callback(lambda sql: killer.step("before " + " ".join(sql.split()[:3])))
            return raw
        write = os.write
        for owner, name in ((os, "fsync"), (pathlib.Path, "replace"), (pathlib.Path, "unlink")):
            killer.around(owner, name)
        sqlite.sqlite3.connect = traced
        home, registry = opened(folder)
        number = registry.publish("m", files(base + 1), SIGNATURE, REPORT).number
        write(acks, b"published %d\\n" % number)
        registry.promote("m", number)
        write(acks, b"promoted %d\\n" % number)
        if base:
            registry.delete(f"m@{base}")
            write(acks, b"deleted %d\\n" % base)
        write(acks, b"finished 0\\n")
        os._exit(0)

    template, folder, base = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.makedirs(template)
    home, registry = opened(template)
    for n in range(base):
        registry.publish("m", files(n + 1), SIGNATURE, REPORT)
    home.database.close()
    said, labels = os.pipe()
    for at in range(1, 400):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        told, acks = os.pipe()
        pid = os.fork()
        if not pid:
            child(at)
        os.close(acks)
        os.waitpid(pid, 0)
        acknowledged = dict(line.split() for line in os.read(told, 4096).decode().splitlines())
        os.close(told)
        numbers = check(folder)
        home, registry = opened(folder)
        assert "published" not in acknowledged or int(acknowledged["published"]) in numbers
        assert "promoted" not in acknowledged or registry.find("m").number == int(acknowledged["promoted"])
        assert "deleted" not in acknowledged or int(acknowledged["deleted"]) not in numbers
        assert set(numbers) | {base, base + 1} - {0} <= set(range(1, base + 2))
        home.database.close()
        if "finished" in acknowledged:
            break
    else:
        raise AssertionError("no run came through")
    os.close(labels)
    print(at)
    print(os.read(said, 65536).decode())
    """
    steps, *labels = run(body, tmp_path / "template", tmp_path / "home", str(base)).split("\n")
    assert int(steps) > 40
    always = {"before replace", "after replace", "after fsync", "before COMMIT", "before INSERT INTO versions"}
    wanted = {"before UPDATE aliases SET", "before DELETE FROM versions", "before unlink", "after unlink"}
    assert always | (wanted if base else {"before CREATE TABLE names"}) <= set(labels)


def test_two_processes_that_publish_at_once_get_distinct_numbers(tmp_path: Path) -> None:
    body = """
    home, registry = opened(sys.argv[1])
    sys.stdin.read(1)
    for n in range(15):
        print(registry.publish("m", files(n), SIGNATURE, REPORT).number)
    """
    code = COMMON + textwrap.dedent(body)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "home")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go")
        child.stdin.flush()
    taken = [list(map(int, child.communicate(timeout=300)[0].split())) for child in children]
    assert sorted(taken[0] + taken[1]) == list(range(1, 31))
    assert all(numbers == sorted(numbers) for numbers in taken)
    assert len(run("print(*check(sys.argv[1]))", tmp_path / "home").split()) == 30


def test_readers_never_see_a_half_version_nor_a_missing_one_while_the_alias_flips(
    registry: Registry, home: Home, signature: Signature
) -> None:
    registry.publish("m", {"model.onnx": b"model 0", "body": b"body 0"}, signature, notes="0")
    body = """
    home, registry = opened(sys.argv[1])
    for n in range(1, 25):
        late = {"body": (lambda number, live, n=n: b"body %d" % n)}
        registry.publish("m", {"model.onnx": b"model %d" % n, **late}, SIGNATURE, promote=True, notes=str(n))
        registry.rollback("m")
        registry.promote("m", n + 1)
        if n > 2:
            registry.delete(f"m@{n - 2}")
    """
    writer = subprocess.Popen([sys.executable, "-c", COMMON + textwrap.dedent(body), str(home.path)])
    stamps = [registry.stamp()]
    while writer.poll() is None:
        version = registry.find("m")
        try:
            read = (registry.file(version, "model.onnx"), registry.file(version, "body"))
        except UnknownModel:
            # Only a version deleted meanwhile may be gone, and by then another one is live.
            assert registry.find("m").number != version.number
            continue
        assert read == (b"model " + version.notes.encode(), b"body " + version.notes.encode())
        stamps.append(registry.stamp())
    assert writer.returncode == 0
    assert stamps == sorted(stamps)
    assert registry.find("m").number == 25
