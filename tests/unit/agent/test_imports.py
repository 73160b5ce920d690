"""Which files import which, against what the languages' own tools say, and with sources that mean harm."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_agent.imports.golang import GoTree, go_imports, module_path
from dawg_agent.imports.javascript import JavaScriptTree, javascript_imports, lenient_json
from dawg_agent.imports.python import PythonTree, python_imports
from dawg_agent.imports.reading import Language, imports_in, language_of


def written(folder: Path, files: dict[str, str]) -> dict[str, str]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return files


def python_graph(files: dict[str, str]) -> dict[str, set[str]]:
    tree = PythonTree(files)
    return {
        path: tree.resolve(path, python_imports(textwrap.dedent(text).encode()) or ()) for path, text in files.items()
    }


# Python

SHOP = {
    "src/shop/__init__.py": "",
    "src/shop/cart.py": "from shop.money import Money\nimport json, shop.pay.card\n",
    "src/shop/money.py": "from decimal import Decimal\nclass Money: ...\n",
    "src/shop/pay/__init__.py": "from . import card\nfrom .card import *\n",
    "src/shop/pay/card.py": "from .. import money\nfrom ..money import Money\n\ndef late():\n    import shop.report\n",
    "src/shop/report.py": "import importlib\nplugin = importlib.import_module('shop.cart')\n",
    "src/spaced/deep/one.py": "from spaced.deep import two\n",
    "src/spaced/deep/two.py": "",
    "tests/test_cart.py": "import helpers\nfrom shop import cart\n",
    "tests/helpers.py": "from spaced.deep.one import two\n",
    "tests/json.py": "",
    "tools/run.py": "import json\n",
}


def test_python_imports_are_found_in_src_layouts_packages_namespaces_and_beside_tests() -> None:
    assert python_graph(SHOP) == {
        "src/shop/__init__.py": set(),
        "src/shop/cart.py": {
            "src/shop/__init__.py", "src/shop/money.py", "src/shop/pay/__init__.py", "src/shop/pay/card.py",
        },
        "src/shop/money.py": set(),
        "src/shop/pay/__init__.py": {"src/shop/pay/card.py"},
        "src/shop/pay/card.py": {
            "src/shop/__init__.py", "src/shop/money.py", "src/shop/report.py",
        },
        "src/shop/report.py": {"src/shop/__init__.py", "src/shop/cart.py"},
        "src/spaced/deep/one.py": {"src/spaced/deep/two.py"},
        "src/spaced/deep/two.py": set(),
        "tests/test_cart.py": {"src/shop/__init__.py", "src/shop/cart.py", "tests/helpers.py"},
        "tests/helpers.py": {"src/spaced/deep/one.py"},
        "tests/json.py": set(),
        "tools/run.py": set(),
    }  # fmt: skip


def test_python_reaches_the_files_that_modulefinder_reaches(tmp_path: Path) -> None:
    files = {
        "main.py": "import app.views\n",
        "app/__init__.py": "from app import settings\n",
        "app/settings.py": "",
        "app/views/__init__.py": "from .home import page\nfrom . import admin\n",
        "app/views/home.py": "from ..models import user\n",
        "app/views/admin.py": "import app.models.user as u\nfrom app.models import base\n",
        "app/models/__init__.py": "",
        "app/models/user.py": "from .base import Base\n",
        "app/models/base.py": "class Base: ...\n",
        "app/unused.py": "import app.views\n",
    }
    written(tmp_path, files)
    finder = ModuleFinder(path=[str(tmp_path)])
    finder.run_script(str(tmp_path / "main.py"))
    theirs = {str(Path(module.__file__).relative_to(tmp_path)) for module in finder.modules.values() if module.__file__}

    graph, ours, waiting = python_graph(files), {"main.py"}, ["main.py"]
    while waiting:
        new = graph[waiting.pop()] - ours
        ours |= new
        waiting += new

    assert ours == theirs


@pytest.mark.parametrize(
    "source",
    [
        b"(" * 100_000, b"[" * 5000 + b"]" * 5000, b"-" * 100_000 + b"1", b"x" + b".a" * 50_000, b"a" + b"+1" * 50_000,
        b"not " * 50_000 + b"x", b"lambda:" * 20_000 + b"0", b"x" + b"[0]" * 50_000, b"f" + b"()" * 50_000,
        b"if x:\n" + b"".join(b" " * depth + b"if x:\n" for depth in range(1, 200)), b"\0", b"\xff\xfe", b"'\\N{x}'",
        b"# coding: nothing\n", b"1" * 100_000, b"'\\d'", b"f'" + b"{" * 1000 + b"'", b"x=1\n" * 50_000,
        b"print 'python 2'",
    ],
)  # fmt: skip
def test_a_python_source_that_nests_without_end_or_is_none_crashes_nothing(source: bytes) -> None:
    program = "import sys; from dawg_agent.imports.python import python_imports as p; print(p(sys.stdin.buffer.read()))"
    done = subprocess.run([sys.executable, "-c", program], input=source, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout.strip() in (b"None", b"[]")) == (0, True), done.stderr


def test_dots_that_lead_out_of_the_repository_lead_nowhere() -> None:
    assert python_graph({"a/b.py": "from .... import x\nfrom ..c import y\n", "c.py": ""}) == {
        "a/b.py": {"c.py"},
        "c.py": set(),
    }


# JavaScript and TypeScript

WEB = {
    "package.json": '{"name": "root", "workspaces": ["packages/*"]}',
    "tsconfig.json": """{ // comment
        "compilerOptions": {"baseUrl": ".", "paths": {"@app/*": ["web/src/*"], "exact": ["web/src/a.ts"],}}
    }""",
    "packages/ui/package.json": """{
        "name": "@org/ui", "exports": {".": {"import": "./src/main.ts"}, "./x": "./src/x.ts"}
    }""",
    "packages/ui/src/main.ts": "",
    "packages/ui/src/x.ts": "",
    "packages/log/package.json": '{"name": "log", "main": "lib/log.js"}',
    "packages/log/lib/log.js": "",
    "web/src/a.ts": "",
    "web/src/b.tsx": "",
    "web/src/c/index.ts": "",
    "web/src/d.js": "",
    "web/src/main.ts": """
        import a, { type T } from './a'
        import * as b from "./b.js"
        export * from './c'
        const d = require('./d');
        const late = () => import(`./late`)
        import '@app/side'
        import exact = require("exact")
        import ui from '@org/ui'; import x from '@org/ui/x'
        import log from 'log'; import react from 'react'
        // import no1 from './no'
        /* require('./no') */
        const s = "import x from './no'", t = `require('./no') ${`${require('./inner')}`} import './no'`
        const r = /import '.\\/no'/.test(s) ? a / 2 : b / "require('./no')".length
        thing.require('./no'); obj.import('./no')
        import meta from '../../outside'
    """,
    "web/src/late.ts": "",
    "web/src/side.ts": "",
    "web/src/inner.ts": "",
    "web/src/no.ts": "",
}


def test_javascript_imports_are_resolved_as_bundlers_do() -> None:
    manifests = {path: lenient_json(text.encode()) for path, text in WEB.items() if path.endswith(".json")}
    tree = JavaScriptTree(frozenset(WEB), manifests)

    found = tree.resolve("web/src/main.ts", javascript_imports(WEB["web/src/main.ts"].encode()))

    assert found == {
        "web/src/a.ts", "web/src/b.tsx", "web/src/c/index.ts", "web/src/d.js", "web/src/late.ts", "web/src/side.ts",
        "web/src/inner.ts", "packages/ui/src/main.ts", "packages/ui/src/x.ts", "packages/log/lib/log.js",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import{a}from'x'", ["x"]),
        ("export{a}from'x';export const from = 'y'", ["x"]),
        ("import type { A } from 'x'", ["x"]),
        ("import a, * as b from 'x'", ["x"]),
        ("import(/* webpackChunkName: 'c' */ 'x')", ["x"]),
        ("import('x', { with: {type: 'json'} })", ["x"]),
        ("import('x' + y); require(name)", []),
        ("import data from 'x' with { type: 'json' }", ["x"]),
        ("const from = 1; export default from; 'x'", []),
        ("a = b / c; require('x'); d = e / f", ["x"]),
        ("return /['\"`]/; require('x')", ["x"]),
        ("`${ {a: `}`} }`; require('x')", ["x"]),
        ("import 'x\\u002f'", ["xu002f"]),
        ("#!/usr/bin/env node\nrequire('x')", ["x"]),
        ("<p>don't</p>\nimport x from 'x'", ["x"]),
        ("import", []),
        ("export", []),
        ("require(", []),
    ],
)
def test_what_javascript_imports_is_told_from_what_looks_like_it(source: str, found: list[str]) -> None:
    assert javascript_imports(source.encode()) == found


# Go


def test_go_imports_stand_in_the_head_and_nowhere_else() -> None:
    source = b"""// import "no1"
    /* import "no2" */ package shop; import "fmt"
    import (
        "a.org/x/cart"  // one
        . "a.org/x/dot"; _ `a.org/x/raw`
        alias "a.org/x/named"
    )
    import single "a.org/x/single"
    var s = "text"
    func f() { print(`import "no3"`) }
    import "no4"
    """

    assert go_imports(source) == [
        "fmt", "a.org/x/cart", "a.org/x/dot", "a.org/x/raw", "a.org/x/named", "a.org/x/single",
    ]  # fmt: skip


def test_go_needs_the_packages_that_go_list_names(tmp_path: Path) -> None:
    files = {
        "go.mod": "module example.org/shop // the shop\n\ngo 1.21\n",
        "main.go": """
            package main

            import (
            \t"fmt"

            \tpay "example.org/shop/internal/pay"
            )

            func main() { fmt.Println(pay.Sum()) }
        """,
        "internal/pay/pay.go": """
            package pay

            import "example.org/shop/money"

            func Sum() int { return money.One + extra }
        """,
        "internal/pay/extra.go": "package pay\n\nconst extra = 1\n",
        "internal/pay/pay_test.go": 'package pay\n\nimport "example.org/shop/unused"\n\nvar _ = unused.X\n',
        "money/money.go": "package money\n\nconst One = 1\n",
        "unused/unused.go": "package unused\n\nconst X = 1\n",
    }
    written(tmp_path, files)
    quiet = {"PATH": "/usr/local/go/bin:/usr/bin:/bin", "HOME": str(tmp_path), "GOFLAGS": "-mod=mod", "GOPROXY": "off",
             "GOTOOLCHAIN": "local", "GOCACHE": str(tmp_path / "cache")}  # fmt: skip
    try:
        done = subprocess.run(
            ["go", "list", "-deps", "-f", "{{if .Module}}{{.ImportPath}}{{end}}", "."],
            cwd=tmp_path, env=quiet, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs Go")
    theirs = {line.removeprefix("example.org/shop").strip("/") + "/" for line in done.stdout.split()}

    module = module_path(files["go.mod"].encode())
    tree = GoTree(files, {"": module or ""})
    graph = {
        path: tree.resolve(path, go_imports(text.encode())) for path, text in files.items() if path.endswith(".go")
    }
    graph |= tree.packages()
    ours, waiting = set(), ["main.go"]
    while waiting:
        new = {one for one in graph.get(waiting.pop(), ()) if one not in ours}
        ours |= new
        waiting += new

    assert {one for one in ours if one.endswith("/")} == theirs
    assert tree.resolve("internal/pay/pay_test.go", ["example.org/shop/unused"]) == {"internal/pay/", "unused/"}


# Whatever comes


@given(st.binary(max_size=400), st.sampled_from(["python", "javascript", "go"]))
def test_whatever_stands_in_a_source_is_read_or_refused(content: bytes, language: Language) -> None:
    found = imports_in(language, content)

    assert found is None or isinstance(found, list)


_HARMFUL = st.lists(
    st.sampled_from(["`", "${", "}", "{", "/", "'", '"', "\\", "\n", "import", "from", "(", "/*", "*/", "//"])
)


@given(_HARMFUL.map("".join))
def test_javascript_that_opens_what_it_does_not_close_is_read(source: str) -> None:
    assert isinstance(javascript_imports(source.encode()), list)


@pytest.mark.parametrize("piece", [b"import {", b"`${", b"/[", b"import a, ", b"'\\", b"export * ", b"/*"])
def test_a_large_source_takes_no_long_time(piece: bytes) -> None:
    began = time.process_time()
    javascript_imports(piece * (256 * 1024 // len(piece)))
    go_imports(piece * (256 * 1024 // len(piece)))

    assert time.process_time() - began < 10


def test_generated_and_foreign_sources_are_not_read() -> None:
    assert [language_of(path) for path in ("vendor/x/a.go", "node_modules/x.js", "a_pb2.py", "a.min.js", "x.rb")] == [
        None
    ] * 5
    assert [language_of(path) for path in ("a.go", "a.tsx", "a.pyi")] == ["go", "javascript", "python"]
