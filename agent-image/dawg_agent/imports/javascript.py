"""Imports of JavaScript and TypeScript: a lexer that knows strings, comments, templates and regular expressions.

It follows `import`, `export … from`, `import()` and `require()` with a literal. Names are resolved as bundlers do:
relative paths with endings and index files, `paths` and `baseUrl` of tsconfig.json, packages of the workspace.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SUFFIXES = (".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".vue", ".svelte")
MANIFESTS = ("package.json", "tsconfig.json", "jsconfig.json")
_ENDINGS = ("", *SUFFIXES, ".d.ts", ".json")
_WRITTEN_AS = {".js": (".ts", ".tsx", ".jsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
_FARTHEST = 4000  # tokens between `import` and its `from`
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+')|(?P<open>["'](?:[^"'\\\n]|\\.)*+)
    |(?P<word>[\w$]+)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_TEMPLATE = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*", re.DOTALL)
_EXPRESSION = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.){0,300}+\]){1,300}+/\w*")
_BEFORE_EXPRESSION = frozenset("(,=:[!&|?{};+-*%~^<>")
_WORDS_BEFORE_EXPRESSION = frozenset({"return", "typeof", "case", "in", "of", "do", "else", "void", "delete", "yield"})
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # text, word or other
    value: str


def _tokens(source: str) -> Iterator[_Token]:
    """One pass; a template that holds expressions gives their tokens, one without them is a text."""
    at, before = 0, _Token("other", ";")
    braces: list[int] = []  # open braces within each ${ that is open
    while at < len(source):
        char = source[at]
        if char == "`" or (char == "}" and braces and braces[-1] == 0):
            if char == "}":
                braces.pop()
            inside = _TEMPLATE.match(source, at + 1)
            end = inside.end() if inside else len(source)
            whole = char == "`" and source[end : end + 1] == "`"
            if source[end : end + 2] == "${":
                braces.append(0)
                before, at = _Token("other", "{"), end + 2
            else:
                before, at = _Token("text" if whole else "other", source[at + 1 : end] if whole else "`"), end + 1
            yield before
            continue
        literal = _EXPRESSION.match(source, at) if char == "/" and _may_be_expression(before) else None
        if literal is not None and source[at + 1] not in "/*":
            before, at = _Token("other", "/"), literal.end()
            continue
        found = _TOKEN.match(source, at)
        assert found is not None  # noqa: S101 - whatever comes is at least `other`
        at = found.end()
        if found.lastgroup == "space":
            continue
        if braces and char in "{}":
            braces[-1] += 1 if char == "{" else -1
        value = _BACKSLASH.sub(r"\1", found[0][1:-1]) if found.lastgroup == "text" else found[0]
        before = _Token(found.lastgroup or "other", value)
        yield before


def _may_be_expression(before: _Token) -> bool:
    if before.kind == "other":
        return before.value in _BEFORE_EXPRESSION
    return before.kind == "word" and before.value in _WORDS_BEFORE_EXPRESSION


def javascript_imports(source: bytes) -> list[str]:
    """What a file imports, as it is written there."""
    found: dict[str, None] = {}
    tokens = list(_tokens(source.decode("utf-8", "replace")))
    for place, token in enumerate(tokens):
        if token.kind != "word" or token.value not in ("import", "export", "require"):
            continue
        if place and tokens[place - 1] == _Token("other", "."):
            continue  # a member of something
        wanted = _called(tokens, place) if token.value != "export" else None
        if wanted is None and token.value != "require":
            wanted = _stated(tokens, place)
        if wanted:
            found[wanted] = None
    return list(found)


def _called(tokens: list[_Token], place: int) -> str | None:
    after = tokens[place + 1 : place + 4]
    closed = len(after) == 3 and after[0].value == "(" and after[1].kind == "text" and after[2].value in (")", ",")
    return after[1].value if closed else None


def _stated(tokens: list[_Token], place: int) -> str | None:
    """`import "x"`, `import … from "x"`, `export … from "x"`: what stands between are names, commas, braces and *."""
    if tokens[place].value == "import" and place + 1 < len(tokens) and tokens[place + 1].kind == "text":
        return tokens[place + 1].value
    for here in range(place + 1, min(place + _FARTHEST, len(tokens) - 1)):
        token = tokens[here]
        if token == _Token("word", "from") and tokens[here + 1].kind == "text":
            return tokens[here + 1].value
        if token.value in ("import", "export", "require") or (token.kind == "other" and token.value not in "{},*"):
            return None
    return None


def lenient_json(content: bytes) -> dict[str, Any]:
    """An object of JSON with comments and commas at ends, as tsconfig.json has it; empty when it is none."""
    text = content.decode("utf-8-sig", "replace")
    plain = re.sub(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', lambda found: found[1] or "", text, flags=re.DOTALL)
    plain = re.sub(r'("(?:[^"\\\n]|\\.)*")|,(?=\s*[}\]])', lambda found: found[1] or "", plain)
    try:
        value = json.loads(plain)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass
class JavaScriptTree:
    """The files of a tree, and what its manifests say, by their paths."""

    files: frozenset[str]
    manifests: Mapping[str, Mapping[str, Any]]
    _packages: dict[str, str] = field(init=False, default_factory=dict)  # name → folder

    def __post_init__(self) -> None:
        for path, content in self.manifests.items():
            name = content.get("name")
            if path.rpartition("/")[2] == "package.json" and isinstance(name, str) and name:
                self._packages.setdefault(name, path.rpartition("/")[0])

    def resolve(self, path: str, imports: Iterable[str]) -> set[str]:
        """The files that a file imports."""
        found = {file for wanted in imports if (file := self._resolve(path, wanted)) is not None}
        found.discard(path)
        return found

    def _resolve(self, path: str, wanted: str) -> str | None:
        folder = path.rpartition("/")[0]
        wanted = wanted.partition("?")[0]
        if wanted.startswith((".", "/")):
            return self._file(posixpath.join(folder, wanted) if wanted.startswith(".") else wanted.lstrip("/"))
        return self._by_configuration(folder, wanted) or self._by_package(wanted)

    def _file(self, place: str) -> str | None:
        place = posixpath.normpath(place) if place else ""
        if place.startswith(".."):
            return None
        place = "" if place == "." else place
        stem, ending = posixpath.splitext(place)
        candidates = [f"{place}{suffix}" for suffix in _ENDINGS]
        candidates += [f"{stem}{suffix}" for suffix in _WRITTEN_AS.get(ending, ())]
        candidates += [posixpath.join(place, f"index{suffix}") for suffix in _ENDINGS[1:]]
        return next((one for one in candidates if one in self.files), None)

    def _by_configuration(self, folder: str, wanted: str) -> str | None:
        """By the nearest tsconfig.json or jsconfig.json above the file."""
        while True:
            for name in ("tsconfig.json", "jsconfig.json"):
                content = self.manifests.get(posixpath.join(folder, name))
                if content is not None:
                    return self._by_paths(folder, content.get("compilerOptions"), wanted)
            if not folder:
                return None
            folder = folder.rpartition("/")[0]

    def _by_paths(self, folder: str, options: object, wanted: str) -> str | None:
        if not isinstance(options, dict):
            return None
        base, paths = options.get("baseUrl"), options.get("paths")
        start = posixpath.join(folder, base) if isinstance(base, str) else folder
        for pattern, targets in paths.items() if isinstance(paths, dict) else ():
            before, star, after = str(pattern).partition("*")
            fits = wanted.startswith(before) and wanted.endswith(after) and len(wanted) >= len(before) + len(after)
            if not (fits if star else wanted == pattern) or not isinstance(targets, list):
                continue
            middle = wanted[len(before) : len(wanted) - len(after)] if star else ""
            for target in targets:
                if isinstance(target, str) and (file := self._file(posixpath.join(start, target.replace("*", middle)))):
                    return file
        return self._file(posixpath.join(start, wanted)) if isinstance(base, str) else None

    def _by_package(self, wanted: str) -> str | None:
        parts = wanted.split("/")
        length = 2 if wanted.startswith("@") else 1
        folder = self._packages.get("/".join(parts[:length]))
        if folder is None:
            return None
        below = "/".join(parts[length:])
        manifest = self.manifests.get(posixpath.join(folder, "package.json"), {})
        named = _entries(manifest, f"./{below}" if below else ".")
        if not below:
            named = [*named, *(manifest.get(name) for name in ("source", "module", "main", "types")), "src", "."]
        else:
            named = [*named, below, f"src/{below}"]
        places = (posixpath.join(folder, name) for name in named if isinstance(name, str))
        return next((file for place in places if (file := self._file(place)) is not None), None)


def _entries(manifest: Mapping[str, Any], name: str) -> list[Any]:
    """What `exports` of a package gives for a name, under whichever condition."""
    exports = manifest.get("exports")
    if isinstance(exports, dict) and any(str(key).startswith(".") for key in exports):
        exports = exports.get(name)
    elif name != ".":
        return []
    waiting: list[Any] = [exports]
    found: list[Any] = []
    while waiting and len(found) < 20:
        one = waiting.pop(0)
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        else:
            found.append(one)
    return found
