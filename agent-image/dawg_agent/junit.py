"""One JUnit XML file → the tries it tells of, in the order of the file.

Read as a stream, so that a file of any size needs little memory. Written by many tools, so that what counts is what is
in the cases: count attributes are ignored. No DTD, no entity, no external reference is ever followed.
"""

from __future__ import annotations

import xml.sax
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException, DTDForbidden
from defusedxml.sax import make_parser

from dawg_agent.xmltext import clean_text
from dawg_orchestrator.resources.results import Outcome

MAX_DEPTH = 64
MAX_NAME = 1024  # characters of a name, class name or file that are kept
MAX_TEXT = 16 * 1024  # characters of one failure's text or one stream's output that are kept

_ROOTS = frozenset({"testsuites", "testsuite", "testcase"})
_FAILED = frozenset({"failure", "error"})
_FLAKY = frozenset({"flakyFailure", "flakyError"})
_RERUN = frozenset({"rerunFailure", "rerunError"})
_SKIPPED = frozenset({"skipped", "skip", "disabled", "ignored"})
_OUTPUT = frozenset({"system-out", "system-err"})
_TEXTS = _FAILED | _FLAKY | _RERUN | _SKIPPED | _OUTPUT

_NOT_RUN_WORDS = frozenset({"disabled", "notrun", "skipped", "suppressed", "ignored", "pending", "todo"})
_FAILED_WORDS = frozenset({"failed", "failure", "fail", "error", "errored"})
_CUT_OFF = frozenset({"no element found", "unclosed token", "unclosed CDATA section"})
_OTHER_FORMATS = {
    "test-run": "NUnit 3 XML",
    "test-results": "NUnit 2 XML",
    "assemblies": "xUnit.net XML",
    "TestRun": "Visual Studio TRX",
    "coverage": "a coverage report",
    "checkstyle": "Checkstyle XML",
    "project": "a Maven or Ant project",
}


class ReportError(Exception):
    """The file is no test report that can be read; the message says what it is instead."""


@dataclass(frozen=True)
class Try:
    """One ``testcase`` element: a test, or one of several tries of it."""

    suite: str
    host: str  # some tools write the same suite once for each browser or machine
    classname: str
    name: str
    file: str | None
    line: int | None
    outcome: Outcome
    duration: float
    message: str
    details: str


@dataclass
class _Text:
    """The text of one element, cut while it is read."""

    kind: str
    message: str = ""
    parts: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, content: str) -> None:
        room = MAX_TEXT - self.size
        if room > 0:
            self.parts.append(content[:room])
        self.size += len(content)

    def text(self) -> str:
        left_out = self.size - MAX_TEXT
        return "".join(self.parts).strip() + (f"\n… {left_out} more characters" if left_out > 0 else "")


@dataclass
class _OpenCase:
    """A ``testcase`` (or a suite's own failure) whose end was not read yet."""

    attributes: dict[str, str]
    texts: list[_Text] = field(default_factory=list)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _seconds(text: str) -> float:
    """Some tools group digits with commas, some write a comma for the point; nonsense counts as no time."""
    text = text.strip()
    text = text.replace(",", "") if "." in text else text.replace(",", ".")
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0


def _line_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _outcome(attributes: dict[str, str], kinds: set[str]) -> Outcome:
    words = {attributes.get(name, "").lower() for name in ("status", "result")}
    if words & {"disabled", "notrun"}:  # the tool itself does not count what it found there
        return Outcome.SKIPPED
    if kinds & _FAILED:
        return Outcome.FAILED
    if kinds & _FLAKY:
        return Outcome.FLAKY
    if kinds & _RERUN:
        return Outcome.FAILED
    if kinds & _SKIPPED or words & _NOT_RUN_WORDS:
        return Outcome.SKIPPED
    return Outcome.FAILED if words & _FAILED_WORDS else Outcome.PASSED


def _closed(case: _OpenCase, suites: list[tuple[str, str]]) -> Try:
    """Turn what was read of a case into a try; output is kept only where somebody will look for a cause."""
    attributes = case.attributes
    outcome = _outcome(attributes, {text.kind for text in case.texts})
    troubles = [text for text in case.texts if text.kind not in _OUTPUT]
    first = troubles[0] if troubles else None
    blamed = outcome in (Outcome.FAILED, Outcome.FLAKY)
    sections = [text.text() or text.message for text in troubles] if blamed else []
    sections += [f"{text.kind}:\n{text.text()}" for text in case.texts if blamed and text.kind in _OUTPUT and text.size]
    return Try(
        suite=" > ".join(name for name, _ in suites if name)[:MAX_NAME],
        host=" ".join(host for _, host in suites if host)[:MAX_NAME],
        classname=attributes.get("classname", "")[:MAX_NAME],
        name=attributes.get("name", "")[:MAX_NAME],
        file=attributes.get("file", "")[:MAX_NAME] or None,
        line=_line_number(attributes.get("line", "")),
        outcome=outcome,
        duration=_seconds(attributes.get("time", attributes.get("duration", ""))),
        message=(_first_line(first.message) or _first_line(first.text()))[:MAX_TEXT] if first else "",
        details="\n\n".join(section for section in sections if section),
    )


class _Reader(ContentHandler):
    """Collects tries while the parser walks through the file."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: list[Try] = []
        self._path: list[str] = []
        self._suites: list[tuple[str, str]] = []
        self._case: _OpenCase | None = None
        self._text: _Text | None = None
        self._text_depth = 0

    def startElement(self, name: str, attrs: xml.sax.xmlreader.AttributesImpl) -> None:  # noqa: N802
        tag = name.rpartition(":")[2]
        if not self._path and tag not in _ROOTS:
            what = f", which is {_OTHER_FORMATS[tag]}" if tag in _OTHER_FORMATS else ""
            raise ReportError(
                f"is no JUnit report: its outermost element is <{tag[:80]}>{what}; expected <testsuites> or <testsuite>"
            )
        self._path.append(tag)
        if len(self._path) > MAX_DEPTH:
            raise ReportError(f"is nested deeper than {MAX_DEPTH} elements")
        if self._text is not None:
            return  # markup inside a failure: only its text counts
        if tag in ("testsuite", "testsuites") and self._case is None:
            self._suites.append((attrs.get("name", "").strip(), attrs.get("hostname", "").strip()))
        elif tag == "testcase" and self._case is None:
            self._case = _OpenCase(dict(attrs.items()))
        elif tag in _TEXTS:
            self._start_text(tag, attrs)

    def _start_text(self, tag: str, attrs: xml.sax.xmlreader.AttributesImpl) -> None:
        if self._case is None:
            if tag not in _FAILED:
                return  # output of a whole suite
            # a suite that broke before its first case: without a case of its own nobody would see it
            self._case = _OpenCase({"name": self._suites[-1][0] if self._suites else tag})
        self._case.attributes |= {
            key: attrs[key] for key in ("file", "line") if key in attrs and not self._case.attributes.get(key)
        }
        self._text = _Text(tag, attrs.get("message", "") or attrs.get("type", ""))
        self._text_depth = len(self._path)

    def characters(self, content: str) -> None:
        if self._text is not None:
            self._text.add(content)

    def endElement(self, name: str) -> None:  # noqa: N802
        tag = self._path.pop()
        inside_case = "testcase" in self._path or tag == "testcase"
        if self._text is not None:
            if len(self._path) >= self._text_depth:
                return
            if self._case is not None:
                self._case.texts.append(self._text)
            self._text = None
        if self._case is not None and (tag == "testcase" or not inside_case):
            self.tries.append(_closed(self._case, self._suites))
            self._case = None
        elif tag in ("testsuite", "testsuites") and not inside_case:
            self._suites.pop()


def parse_junit(stream: BinaryIO) -> list[Try]:
    """Read a report; raise ReportError if it is none, is malformed, or asks for something beyond itself."""
    reader = _Reader()
    parser = make_parser()
    parser.forbid_dtd = True
    parser.setContentHandler(reader)
    empty = True
    try:
        for text in clean_text(stream):
            if empty and not (text := text.lstrip()):
                continue
            empty = False
            parser.feed(text)
        if empty:
            raise ReportError("is empty: not a byte of a report was written")
        parser.close()
    except DTDForbidden as error:
        raise ReportError(
            "has a document type declaration (DTD), which is refused; write it without DOCTYPE"
        ) from error
    except DefusedXmlException as error:
        raise ReportError("declares entities or external references, which are refused") from error
    except xml.sax.SAXParseException as error:
        where = f"line {error.getLineNumber()}, column {error.getColumnNumber()}"
        hint = "; was the tool killed while it wrote?" if error.getMessage() in _CUT_OFF else ""
        raise ReportError(f"is malformed XML at {where}: {error.getMessage()}{hint}") from error
    return reader.tries
