"""What the sandbox must let through: files that are read again and adapters that come while it is on, in the
program as it is built here and in the static one, whose libc asks the kernel with other calls."""
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import BUILD, ROOT, SANITIZED, Client, Server, Skip, run, scratch  # noqa: E402

TINY = ROOT / "tests/models/tiny"


def sandboxed(program, *flags):
    """Each test's server; builds with sanitizers have no sandbox, so the plain one is taken."""
    if not program.exists():
        raise Skip(f"no {program}")
    return Server("--model", TINY, *flags, program=program)


def on(c):
    if c.ok("stats")["sandbox"] == "off":
        raise Skip("no sandbox here")


def reads_again(program):
    with scratch() as d:
        (d / "token").write_text("sesame\n")
        (d / "config").write_text("allow-origin = http://one.example\n")
        (d / "etc").mkdir()
        for name in ("token", "config"):
            (d / "etc" / name).symlink_to(d / name)
        shutil.copytree(TINY / "adapters/qv", d / "blobs")
        (d / "snapshot").mkdir()
        for file in (d / "blobs").iterdir():
            (d / "snapshot" / file.name).symlink_to(f"../blobs/{file.name}")    # as in Hugging Face's cache
        for flags, what in ((["--token-file", d / "token"], "origins"), (["--config", d / "config"], "origins"),
                            (["--token-file", d / "etc/token"], "origins"), (["--config", d / "etc/config"], "origins"),
                            (["--adapter", f"a={d}/blobs"], "adapter a"), (["--adapter", f"a={d}/snapshot"], "adapter a")):
            with sandboxed(program, *flags) as s, Client(s.inference, headers=["Authorization: Bearer sesame"]) as c:
                on(c)
                s.process.send_signal(signal.SIGHUP)
                for _ in range(500):
                    if f"{what} read again" in s.log() or s.process.poll() is not None:
                        break
                    time.sleep(0.01)
                assert f"{what} read again" in s.log() and s.process.poll() is None, (flags, s.process.poll(), s.log())
                assert c.ok("embeddings", {"text": "a"})["count"] == 1 and "stays as it was" not in s.log(), s.log()


def loads_adapters(program):
    with scratch() as d:
        shutil.copytree(TINY / "adapters/qv", d / "qv")
        (d / "bin").mkdir()
        shutil.copy(d / "qv/adapter_config.json", d / "bin")
        (d / "bin/adapter_model.bin").write_bytes(b"a pickle")
        (d / "empty").mkdir()
        with sandboxed(program, "--adapter-dir", d) as s, Client(s.inference) as c:
            on(c)
            c.ok("load_adapter", {"name": "a", "path": "qv"})
            assert c.ok("embeddings", {"text": "a", "adapter": "a"})["adapter"] == "a"
            for path, why in (("bin", "adapter_model.bin"), ("empty", "adapter_config.json"), ("none", "no such directory inside")):
                assert why in c.fails("bad_adapter", "load_adapter", {"name": "b", "path": path}), path


def native():
    return (BUILD.parent if SANITIZED else BUILD) / "recalld"


def static():
    if not shutil.which("musl-gcc"):
        raise Skip("no musl-gcc")
    subprocess.run(["make", "-s", "static"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return ROOT / "build/static/recalld"


def test_sighup_reads_files_again():
    reads_again(native())


def test_adapters_are_loaded_and_refused():
    loads_adapters(native())


def test_sighup_reads_files_again_in_the_static_program():
    reads_again(static())


def test_adapters_are_loaded_and_refused_in_the_static_program():
    loads_adapters(static())


run(globals())
