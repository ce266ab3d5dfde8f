"""``pycontain images``: the list of images, in Docker's columns."""

from __future__ import annotations

import time

from .arguments import Command, Option, Values, count, read
from .filters import Filters, check, labels_match, parse_filters, reference_matches, truth, until
from .formats import FORMAT_HELP
from .output import complain, one_for_errors, write
from .table import align
from .units import UNSAID, ago, human_size, instant, local_time, unix_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..image.records import ImageInfo
    from ..runtime.roots import Roots
    from .gotemplate import Row

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images, the newest first. REPOSITORY[:TAG] may have *, ? and [a-z] in it.",
    (
        Option("-a --all", "", "all images (they always are: there are none that only others are made of)"),
        Option("--digests", "", "show the digests by which registries know them"),
        Option("-f --filter", "KEY=VALUE", "dangling=true, label=K[=V], before/since=IMAGE, reference=PATTERN, until=TIME", repeat=True),
        Option("--format", "FORMAT", FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("--no-trunc", "", "print ids and digests in full"),
        Option("-q --quiet", "", "print only ids"),
    ),
    later={"--tree": "`pycontain image tree IMAGE` draws the layers of one image"},
    interspersed=True,
)  # fmt: skip

_FILTERS = ("before", "dangling", "label", "reference", "since", "until")
_HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip
_NONE = "<none>"
# what people write who mean `image ls`: Docker says so too, since 28
_SUBCOMMANDS = frozenset(
    ("history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag", "tree")
)

Line = tuple["ImageInfo", str, str, str]  # and its repository, tag and digest


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    filters = parse_filters(values.filter)
    return one_for_errors(lambda: _images(values, words, filters, command, roots.data_root))


def _images(values: Values, words: list[str], filters: Filters, command: Command, data_root: str) -> int:
    count(command, words, 0, 1)
    check(filters, _FILTERS)
    if words:
        filters.setdefault("reference", []).append(words[0])
    from ..engine import images as engine

    found = _filtered(engine.list_images(data_root), filters, data_root)
    write(_listed(found, values))
    if not found and words and words[0] in _SUBCOMMANDS and command.prog == COMMAND.prog:
        complain(f"pycontain: no images found matching {words[0]}: did you mean `pycontain image {words[0]}`?")
    return 0


# --- which ------------------------------------------------------------------------------------------------------------


def _filtered(infos: list[ImageInfo], filters: Filters, data_root: str) -> list[Line]:
    dangling = truth(filters, "dangling")
    before, since = _bounds(filters, data_root)
    labels = filters.get("label", ())
    patterns = filters.get("reference")
    lines: list[Line] = []
    for info in infos:
        if before is not None and instant(info.created) >= before:
            continue
        if since is not None and instant(info.created) <= since:
            continue
        if labels and not labels_match(labels, info.labels):
            continue
        names, digests = info.names, info.digests
        if patterns is not None:
            names = tuple(name for name in names if reference_matches(patterns, name))
            digests = tuple(digest for digest in digests if reference_matches(patterns, digest))
            if not names and not digests:
                continue
        if names if dangling else dangling is False and not names and not digests:
            continue
        lines += _lines(info, names, digests)
    return lines


def _bounds(filters: Filters, data_root: str) -> tuple[tuple[int, str] | None, tuple[int, str] | None]:
    """Of several the narrowest, as if all had to be met."""
    from ..engine import images as engine

    before = [instant(engine.find_image(data_root, name).created) for name in filters.get("before", ())]
    for text in filters.get("until", ()):
        at = until(text, time.time())
        before.append((int(at // 1), f"{at % 1:.9f}"[2:]))
    since = [instant(engine.find_image(data_root, name).created) for name in filters.get("since", ())]
    return min(before, default=None), max(since, default=None)


def _lines(info: ImageInfo, names: tuple[str, ...], digests: tuple[str, ...]) -> list[Line]:
    """A line for each name and each digest of its repository; one for what has none."""
    if not digests:
        if not names:
            return [(info, _NONE, _NONE, _NONE)]
        return [(info, *_split(name), _NONE) for name in names]
    by_repository: dict[str, list[str]] = {}
    for each in digests:
        repository, _, digest = each.partition("@")
        by_repository.setdefault(repository, []).append(digest)
    lines: list[Line] = []
    for name in names:
        repository, tag = _split(name)
        lines += [(info, repository, tag, digest) for digest in by_repository.get(repository, (_NONE,))]
    tagged = {_split(name)[0] for name in names}
    for repository, of_it in by_repository.items():
        if repository not in tagged:
            lines += [(info, repository, _NONE, digest) for digest in of_it]
    return lines


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    return repository, tag


def _once(lines: Iterable[Line]) -> list[Line]:
    """Without digests, a repository and tag is one line, however many digests it has."""
    seen: set[tuple[str, str, str]] = set()
    found = []
    for line in lines:
        key = (line[0].id, line[1], line[2])
        if key not in seen or line[1] == _NONE:
            seen.add(key)
            found.append(line)
    return found


# --- how --------------------------------------------------------------------------------------------------------------


def _listed(lines: list[Line], values: Values) -> str:
    form, digests = values.format or "table", values.digests
    wants_digest = digests or "{{.Digest}}" in form
    if not wants_digest:
        # {{json .}} has no digest either unless it is asked for, as in Docker
        lines = [(info, repository, tag, _NONE) for info, repository, tag, _ in _once(lines)]
    if form == "table":
        if values.quiet:
            return "".join([f"{_id(info, values.no_trunc)}\n" for info, *_ in lines])
        return _table(lines, digests, values.no_trunc)
    from .formats import formatted

    if form == "raw":
        form = _raw(values.quiet, digests)
    elif form.startswith("table") and digests and "{{.Digest}}" not in form:
        form += "\t{{.Digest}}"
    return formatted(form, _HEADERS, [_row(line, values.no_trunc) for line in lines])


def _id(info: ImageInfo, whole: bool) -> str:
    return info.id if whole else info.id[7:19]


def _table(lines: list[Line], digests: bool, whole: bool) -> str:
    """The usual list, without a template: it is to stay quick with a thousand images."""
    now = time.time()
    rows: list[tuple[str, ...]] = []
    for info, repository, tag, digest in lines:
        created = unix_time(info.created)
        since = "N/A" if created == UNSAID else ago(created, now)
        cells = (_id(info, whole), since, human_size(info.size, 3))
        rows.append((repository, tag, digest, *cells) if digests else (repository, tag, *cells))
    header = ("REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE")
    return align([header if digests else (*header[:2], *header[3:]), *rows])


def _raw(quiet: bool, digests: bool) -> str:
    if quiet:
        return "image_id: {{.ID}}"
    digest = "digest: {{.Digest}}\n" if digests else ""
    return (
        f"repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\n"
        "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
    )


def _row(line: Line, whole: bool) -> Row:
    from .gotemplate import Row

    info, repository, tag, digest = line
    created = unix_time(info.created)
    return Row(
        "*formatter.imageContext",
        {
            "ID": _id(info, whole), "Repository": repository, "Tag": tag, "Digest": digest,
            "CreatedSince": "" if created == UNSAID else ago(created, time.time()), "CreatedAt": local_time(created),
            "Size": human_size(info.size, 3), "Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A",
            "VirtualSize": human_size(info.size),
        },
    )  # fmt: skip
