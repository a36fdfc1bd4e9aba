"""`hack/py -m hack.images`: wheels, base, build, list, prune."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from hack.images import archive, report, wheels
from hack.images.base import base
from hack.images.engines import Buildah, choose
from hack.images.errors import ImageError
from hack.images.layout import RECIPES, cache
from hack.images.pipeline import build
from hack.images.running import run, say

ENGINES = ("auto", "docker", "buildah")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"images: {error}: is the disk full? SOMA_CACHE names another place for what is built", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("images: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/py -m hack.images", description="Builds the project's wheels and container images."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=function)
        return one

    for name, function, text in (
        ("wheels", _wheels, "build our wheel and collect the locked ones for the base's Python; prints their folder"),
        ("build", _build, "build the images where anything that goes into them has changed, and report their sizes"),
    ):
        one = command(name, function, text)
        one.add_argument(
            "--engine", choices=ENGINES, help="docker where its engine answers, else buildah (default: auto)"
        )
        if name == "build":
            one.add_argument(
                "image",
                nargs="*",
                choices=[*RECIPES, []],
                metavar="IMAGE",
                help=f"one of {', '.join(RECIPES)} (default: all)",
            )
            one.add_argument("--load", metavar="CLUSTER", help="load the images into the node of this cluster")
            one.add_argument("--json", action="store_true", help="print archives, references, ids and sizes as JSON")
    refresh = command("base", _base, "make the base image of a machine without a container engine")
    refresh.add_argument("--refresh", action="store_true", help="make it anew, with today's security updates")
    export = command("export", _export, "build, and copy the archives to a folder")
    export.add_argument("folder", type=Path)
    command("list", _list, "list the archives in the cache")
    command("prune", _prune, "remove archives, buildah's store and wheels from the cache")
    return parser


def _wheels(options: argparse.Namespace) -> None:
    print(wheels.collect(choose(options.engine).target()))


def _build(options: argparse.Namespace) -> None:
    images = build(options.image, engine=options.engine)
    if options.load:
        for image in images.values():
            say(f"loading {image.ref} into the node of '{options.load}'")
            run(
                [sys.executable, "-m", "hack.cluster", "load-image", image.archive, "--name", options.load],
                "the image could not be loaded",
            )
    if options.json:
        facts = {
            name: {key: value for key, value in asdict(image).items() if key != "config"}
            for name, image in images.items()
        }
        print(json.dumps(facts, indent=2, default=str))
    else:
        print(report.table(images.values()))


def _base(options: argparse.Namespace) -> None:
    made = base(refresh=options.refresh)
    print(f"{made.archive}  {made.archive.stat().st_size / 1e6:.0f} MB  {made.image}")


def _export(options: argparse.Namespace) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    for image in build().values():
        copy = options.folder / f"{image.name}.tar"
        copy.write_bytes(image.archive.read_bytes())
        print(copy)


def _list(_: argparse.Namespace) -> None:
    found = [
        archive.read(name, path) for name in RECIPES for path in sorted((cache() / "images").glob(f"{name}-*.tar"))
    ]
    print(report.table(found) if found else "no images built yet: make images")


def _prune(_: argparse.Namespace) -> None:
    for path in (cache() / "images").glob("*soma-memory-*.tar"):
        path.unlink()
    shutil.rmtree(cache() / "wheels", ignore_errors=True)
    Buildah().clear()


if __name__ == "__main__":
    sys.exit(main())
