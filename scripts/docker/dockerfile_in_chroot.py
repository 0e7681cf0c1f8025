"""Stands in for `docker build` and `docker run` in scripts/docker/smoke_test.sh where no container engine runs.

`build` executes the Dockerfile's lines in chroots; `run` executes a command in the last of them. Only the instructions
that the Dockerfile uses are known; any other is an error.

Differences from Docker:
- Every FROM starts from the Debian tree of scripts/docker/prove_dockerfile.sh, not from NVIDIA's Ubuntu image.
- Where PROVE_RUST names a toolchain, that is mounted and the line that fetches Rust with rustup is left out.
- Processes, network and memory are not separated; --ipc and --gpus are ignored.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

WORK = Path(os.environ["PROVE_DIR"])
RUSTUP = "sh.rustup.rs"


def instructions(text):
    """Pairs of an instruction and the rest of its line. Continued lines are joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, rest = line.split(None, 1)
            yield name.upper(), rest.strip()


def substitute(text, values):
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], ""), text)


def context_files(context):
    """Names of the files that .dockerignore leaves in the build context.

    The last pattern that fits decides; `!` takes a file back in; the pattern of a folder covers all files in it.
    """
    patterns = [line.strip() for line in (context / ".dockerignore").read_text().splitlines()]
    patterns = [line for line in patterns if line and not line.startswith("#")]

    def ignored(name):
        parents = [name, *map(str, Path(name).parents)][:-1]
        result = False
        for pattern in patterns:
            wanted = pattern.removeprefix("!").rstrip("/")
            if any(fnmatch.fnmatchcase(parent, wanted) and ("/" not in parent or "/" in wanted) for parent in parents):
                result = not pattern.startswith("!")
        return result

    for top in sorted(context.iterdir()):
        # A folder that no pattern takes back is not searched: target/ and .libtorch/ are large.
        if ignored(top.name) and not any(line.startswith("!" + top.name) for line in patterns):
            continue
        for path in [top] if not top.is_dir() else sorted(top.rglob("*")):
            name = str(path.relative_to(context))
            if not path.is_dir() and not ignored(name):
                yield name


class Stage:
    """One FROM of the Dockerfile: its tree of files and its settings."""

    def __init__(self, name, base):
        self.name, self.root = name, WORK / name
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", base, self.root], check=True)
        self.env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.args, self.folder, self.user, self.entrypoint, self.command = {}, "/", "0", [], []

    def settings(self):
        return {key: getattr(self, key) for key in ("name", "env", "folder", "user", "entrypoint", "command")}

    def inside(self, path):
        """A path of the image, seen from outside."""
        return self.root / os.path.normpath(os.path.join(self.folder, path)).lstrip("/")

    def copy(self, sources, target, origin, names):
        into_folder = target.endswith("/") or len(sources) > 1 or (origin / sources[0]).is_dir()
        for source in sources:
            below = source.rstrip("/") + "/"
            found = [name for name in names if source in (".", name) or name.startswith(below)]
            if not found:
                sys.exit(f"COPY: '{source}' is not in the build context (.dockerignore)")
            for name in found:
                inner = os.path.relpath(name, source) if (origin / source).is_dir() else os.path.basename(name)
                place = self.inside(os.path.join(target, inner) if into_folder else target)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin / name, place, follow_symlinks=False)


def chroot(root, command, env, folder="/", user="0", mounts=(), check=True):
    """Runs `command` in `root`. The mounts are in a namespace of their own and end with it."""
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    lines = ["set -e", "mount --make-rprivate /"]

    def bind(source, target, options="bind"):
        place = root / target.lstrip("/")
        if not Path(source).is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch(exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
        lines.append(f"mount --{options} {shlex.quote(str(source))} {shlex.quote(str(place))}")

    for name in ("null", "zero", "full", "random", "urandom", "shm"):
        bind(f"/dev/{name}", f"/dev/{name}")
    bind("/proc", "/proc", "rbind")
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        bind(os.path.realpath(name), name)
    # The network may have a certificate authority of its own.
    bind(os.path.realpath(certificates), "/run/certificates.crt")
    for name in ("SSL_CERT_FILE", "PIP_CERT", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE"):
        env = {name: "/run/certificates.crt"} | env
    for source, target in mounts:
        bind(source, target)
    uid, _, gid = user.partition(":")
    words = ["chroot", f"--userspec={uid}:{gid or uid}", "--groups=", root]
    words += ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder, *command]
    lines.append("exec " + " ".join(shlex.quote(str(word)) for word in words))
    sys.stdout.flush()
    done = subprocess.run(["unshare", "--mount", "sh", "-c", "\n".join(lines)], env=env, check=False)
    if check and done.returncode:
        sys.exit(f"RUN failed with {done.returncode}: {command}")
    return done.returncode


def user_ids(root, name):
    """`uid:gid` of a name, a number, or `number:number`."""
    if name.replace(":", "").isdigit():
        return name
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return f"{fields[2]}:{fields[3]}"
    sys.exit(f"USER: no user '{name}' in the image")


def build(arguments):
    given = dict(arguments[i + 1].split("=", 1) for i, word in enumerate(arguments) if word == "--build-arg")
    context = Path(arguments[-1]).resolve()
    global_args, stages, rust = {}, {}, os.environ.get("PROVE_RUST")
    stage, mounts = None, []
    for name, rest in instructions((context / "Dockerfile").read_text()):
        values = global_args if stage is None else stage.env | stage.args
        print(f"prove: {name} {rest}", flush=True)
        match name:
            case "ARG":
                key, _, default = rest.partition("=")
                (global_args if stage is None else stage.args)[key] = given.get(key, default)
            case "FROM":
                base, _, alias = rest.partition(" AS ")
                print(f"prove: in place of {substitute(base, global_args)}: {WORK / 'base'}", flush=True)
                stage = stages[alias or "final"] = Stage(alias or "final", WORK / "base")
                mounts = []
            case "ENV":
                for word in shlex.split(rest):
                    key, _, value = word.partition("=")
                    stage.env[key] = substitute(value, stage.env | stage.args)
            case "WORKDIR":
                stage.folder = rest
                stage.inside(rest).mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = user_ids(stage.root, substitute(rest, values))
            case "COPY":
                words = shlex.split(rest)
                origin = words.pop(0).partition("=")[2] if words[0].startswith("--from=") else None
                if origin:
                    source = stages[origin].root / words[0].lstrip("/")
                    subprocess.run(["cp", "-a", f"{source}/.", stage.inside(words[1])], check=True)
                else:
                    stage.copy(words[:-1], words[-1], context, list(context_files(context)))
            case "RUN" if RUSTUP in rest and rust:
                print(f"prove: left out; '{rust}' is mounted instead", flush=True)
                mounts = [(rust, stage.env["CARGO_HOME"])]
                # A toolchain has cargo and rustc in bin/, as rustup's folder has.
            case "RUN":
                env = stage.env | stage.args | {"HOME": stage.env.get("HOME", "/root")}
                if mounts:
                    # cargo writes there, and must not write to the mounted toolchain.
                    env |= {"CARGO_HOME": "/opt/crates"}
                chroot(stage.root, ["/bin/sh", "-c", rest], env, stage.folder, stage.user, mounts)
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case _:
                sys.exit(f"unknown instruction {name}")
    (WORK / "image.json").write_text(json.dumps(stage.settings()))
    size = subprocess.run(
        ["du", "-sb", stage.root, WORK / "base"], check=True, capture_output=True, text=True
    ).stdout.split()
    print(
        f"prove: the final tree has {int(size[0]) / 1e9:.2f} GB, {int(size[2]) / 1e9:.2f} GB of which are the base's",
        flush=True,
    )


def run(arguments):
    image = json.loads((WORK / "image.json").read_text())
    root, user, mounts = WORK / image["name"], image["user"], []
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "--user":
            user = arguments.pop(0)
        elif option == "-v":
            mounts.append(arguments.pop(0).split(":"))
        elif option == "--gpus":
            arguments.pop(0)
        elif option not in ("--rm", "--ipc=host"):
            sys.exit(f"unknown option {option}")
    command = image["entrypoint"] + (arguments[1:] or image["command"])
    return chroot(root, command, image["env"], image["folder"], user, mounts, check=False)


if __name__ == "__main__":
    sys.exit({"build": build, "run": run}[sys.argv[1]](sys.argv[2:]))
