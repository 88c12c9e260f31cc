"""Where was it measured? Tools from Debian, and the facts of machine and versions.

Invariant: installing starts no service and leaves none behind: a policy-rc.d
that forbids it stands for the time of the installation, unless one is there.
Must not know what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")  # exit 101 in it means: start nothing
LUA_MODULE = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
PACKAGES = {  # what is needed: Debian's package
    "nginx": "nginx",
    "nginx-lua": "libnginx-mod-http-lua",
    "caddy": "caddy",
    "wrk": "wrk",
}
LIBRARIES = ("aiohttp", "uvloop", "httptools", "orjson", "multidict", "yarl")


def have(tool: str) -> bool:
    """Whether a tool of PACKAGES is there."""
    if tool == "nginx-lua":
        return LUA_MODULE.exists()
    return find(tool) is not None


def find(tool: str) -> str | None:
    """The path of a program; /usr/sbin is searched too, where Debian has nginx."""
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def install(tools: Iterable[str]) -> list[str]:
    """Install what is missing where that is possible; returns what is missing still."""
    missing = [tool for tool in tools if not have(tool)]
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return missing
    packages = [PACKAGES[tool] for tool in missing]
    print("installing with apt-get:", " ".join(packages), flush=True)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        subprocess.run(["apt-get", "update", "-q"], env=quiet, capture_output=True, check=False)
        run = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print("apt-get failed:", run.stderr.strip()[-500:], flush=True)
    return [tool for tool in missing if not have(tool)]


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    if POLICY.exists():
        yield  # the machine has a policy of its own, which is not ours to change
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def facts(python: str) -> dict[str, object]:
    """Machine, kernel and versions, for the record beside the figures."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000,
        "kernel": platform.release(),
        "system": _system(),
        "load_before": os.getloadavg()[0],
        "python": _python_build(python),
        "tools": {
            "nginx": _first_line("nginx", "-v"),
            "caddy": _first_line("caddy", "version"),
            "wrk": _first_line("wrk", "-v"),
            "libnginx-mod-http-lua": _package_version("libnginx-mod-http-lua"),
        },
    }


def _python_build(python: str) -> dict[str, object]:
    """Asked of the interpreter that runs the contestants, which may be another one.

    PGO and LTO are "not recorded" where sysconfig does not show them: they were
    not asked for at build time, or (Debian) switched on behind configure's back.
    """
    program = (
        "import importlib.metadata as m, json, platform, sqlite3, sysconfig\n"
        "def version(name):\n"
        "    try: return m.version(name)\n"
        "    except m.PackageNotFoundError: return None\n"
        "flags = ' '.join(str(sysconfig.get_config_var(v) or '')"
        " for v in ('CONFIG_ARGS', 'PY_CFLAGS', 'PY_CFLAGS_NODIST', 'PY_CORE_LDFLAGS'))\n"
        "print(json.dumps({'version': platform.python_version(), 'build': platform.python_build(),"
        " 'compiler': platform.python_compiler(),"
        " 'pgo': '--enable-optimizations' in flags or '-fprofile-use' in flags or 'not recorded',"
        " 'lto': '--with-lto' in flags or '-flto' in flags or 'not recorded',"
        " 'sqlite': sqlite3.sqlite_version,"
        f" 'libraries': {{name: version(name) for name in {LIBRARIES!r}}}}}))"
    )
    output = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    build: dict[str, object] = json.loads(output.stdout)
    return build


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.system()


def _first_line(tool: str, option: str) -> str | None:
    path = find(tool)
    if path is None:
        return None
    run = subprocess.run([path, option], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0] if lines else ""


def _package_version(package: str) -> str | None:
    if shutil.which("dpkg-query") is None:
        return None
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() or None
