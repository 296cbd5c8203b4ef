"""The server as editors speak with it: the language server protocol, through pygls.

What an editor asks is answered here; what is true of a text, in the modules beside this one.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Final, TypeVar

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

import dlc
from dlc.frontend.server.analysis import Analysis
from dlc.frontend.server.checks import Checks, Document
from dlc.frontend.server.completion import Proposal, complete
from dlc.frontend.server.names import Names
from dlc.frontend.server.outline import Entry, outline
from dlc.frontend.server.places import Places, Point
from dlc.frontend.server.pointed import Pointed, pointed_at, references
from dlc.frontend.server.publish import Publisher, range_of
from dlc.frontend.server.told import hover
from dlc.frontend.text.format import format_source
from dlc.ir.diagnostics import SourceFile, UserError

Answer = TypeVar("Answer")
Params = TypeVar("Params")
_Pointing = types.DefinitionParams | types.ReferenceParams
_LOG: Final = logging.getLogger(__name__)
_KINDS: Final = {
    "local": types.CompletionItemKind.Variable, "parameter": types.CompletionItemKind.Variable,
    "size": types.CompletionItemKind.TypeParameter, "param": types.CompletionItemKind.Field,
    "state": types.CompletionItemKind.Field, "field": types.CompletionItemKind.Field,
    "member": types.CompletionItemKind.Field, "fn": types.CompletionItemKind.Function,
    "step": types.CompletionItemKind.Method, "model": types.CompletionItemKind.Class,
    "optimizer": types.CompletionItemKind.Function, "const": types.CompletionItemKind.Constant,
    "constant": types.CompletionItemKind.Constant, "module": types.CompletionItemKind.Module,
    "builtin": types.CompletionItemKind.Function, "keyword": types.CompletionItemKind.Keyword,
    "value": types.CompletionItemKind.Value, "type": types.CompletionItemKind.Struct,
    "argument": types.CompletionItemKind.Property, "setting": types.CompletionItemKind.Property,
    "text": types.CompletionItemKind.Text,
}
_SYMBOLS: Final = {
    "const": types.SymbolKind.Constant, "fn": types.SymbolKind.Function,
    "step": types.SymbolKind.Method, "model": types.SymbolKind.Class,
    "optimizer": types.SymbolKind.Function, "train": types.SymbolKind.Event,
    "test": types.SymbolKind.Event, "phase": types.SymbolKind.Event,
    "param": types.SymbolKind.Field, "state": types.SymbolKind.Field,
    "member": types.SymbolKind.Field,
}


class Server(LanguageServer):
    """The state of one session."""

    def __init__(self) -> None:
        super().__init__("dlc", dlc.__version__, types.TextDocumentSyncKind.Full)
        self.checks = Checks(self.publish)
        self.ended = False  # whether the editor has said that it will leave

    # Places and files

    @property
    def encoding(self) -> str:
        """How both sides count columns."""
        kind = self.workspace.position_encoding or types.PositionEncodingKind.Utf16
        return types.PositionEncodingKind(kind).value

    def uri_of(self, path: Path) -> str:
        """The name that the editor has for a file."""
        for document in self.checks.documents.values():
            if document.path == path:
                return document.uri
        return path.resolve().as_uri()

    def source(self, document: Document) -> SourceFile:
        """The text as it is now."""
        return self.checks.texts.whole(document.path)

    def point(self, document: Document, position: types.Position) -> Point:
        """A place in the text as it is now."""
        places = Places(self.source(document), self.encoding)
        return places.given(position.line, position.character)

    def publisher(self, analysis: Analysis) -> Publisher:
        """Says what was found in the editor's words."""
        told = self.client_capabilities.text_document
        shown = told.publish_diagnostics if told is not None else None
        related = bool(shown is not None and shown.related_information)
        return Publisher(analysis, self.uri_of, self.encoding, related)

    # What is said without a question

    async def watch(self) -> None:
        """Asks to be told of files that change on the disk, for a text may import them."""
        place = self.client_capabilities.workspace
        told = place.did_change_watched_files if place is not None else None
        if told is None or not told.dynamic_registration:
            return
        options = types.DidChangeWatchedFilesRegistrationOptions(
            [types.FileSystemWatcher("**/*.dl")])
        method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
        try:
            await self.client_register_capability_async(
                types.RegistrationParams([types.Registration("files", method, options)]))
        except Exception as error:  # then imported files are read again with the next change
            self.log(f"changes of files are not told: {error}")

    def publish(self, document: Document, analysis: Analysis) -> None:
        """Says what is wrong with a text."""
        if analysis.problem:
            self.log(f"{document.path}: a fault of dlc, not yours\n{analysis.problem}")
        try:
            found = self.publisher(analysis).all()
        except Exception as error:
            self.fault(error)
            return
        self.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(document.uri, found, document.version))

    def log(self, text: str) -> None:
        """A line for the editor's log."""
        self.window_log_message(types.LogMessageParams(types.MessageType.Error, text))

    def fault(self, error: BaseException) -> None:
        """A fault of ours: it is logged, and the session goes on."""
        _LOG.error("a fault of dlc", exc_info=error)
        self.log(f"a fault of dlc, not yours: {type(error).__name__}: {error}")

    def report_server_error(self, error: Exception, source: object) -> None:
        """What pygls could not make sense of."""
        self.fault(error)


def serve() -> int:
    """Speaks with an editor over standard input and output; 0 if it took its leave before."""
    server = Server()
    for register in (_texts, _questions, _listings):
        register(server)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever else prints must not stand among the messages
    try:
        server.start_io(stdin, stdout)
    finally:
        server.checks.close()
    return 0 if server.ended else 1


def _guarded(
    server: Server, answer: Callable[[Params], Awaitable[Answer]]
) -> Callable[[Params], Awaitable[Answer | None]]:
    """No answer, and a line in the log, after a fault of ours."""

    @wraps(answer)
    async def run(params: Params) -> Answer | None:
        try:
            return await answer(params)
        except Exception as error:
            server.fault(error)
            return None

    return run


def _path_of(uri: str) -> Path:
    """The file that a text is of; for one that has none yet, a name."""
    found = to_fs_path(uri)
    return Path(found or uri.partition(":")[2].replace("/", "_") or "unnamed")


def _texts(server: Server) -> None:
    """Texts are opened, changed and closed."""
    checks = server.checks

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        each = params.text_document
        checks.put(each.uri, _path_of(each.uri), each.text, each.version)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        each = params.text_document
        text = server.workspace.get_text_document(each.uri).source
        checks.put(each.uri, _path_of(each.uri), text, each.version)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        checks.drop(params.text_document.uri)
        server.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(params.text_document.uri, []))

    @server.feature(types.INITIALIZED)
    async def ready(params: types.InitializedParams) -> None:
        await server.watch()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def files_changed(params: types.DidChangeWatchedFilesParams) -> None:
        checks.again()

    @server.feature(types.SHUTDOWN)
    def ended(params: None) -> None:
        server.ended = True


def _questions(server: Server) -> None:
    """What is asked of a place."""
    checks = server.checks

    async def pointed(params: _Pointing) -> tuple[Analysis, Pointed] | None:
        uri = params.text_document.uri
        analysis = await checks.analysis(uri)
        if analysis is None or analysis.program is None or uri not in checks.documents:
            return None
        point = server.point(checks.documents[uri], params.position)
        program = analysis.program
        return analysis, pointed_at(Names(program), program.main, point)

    async def hovered(params: types.HoverParams) -> types.Hover | None:
        uri = params.text_document.uri
        analysis = await checks.analysis(uri)
        if analysis is None or uri not in checks.documents:
            return None
        found = hover(analysis, server.point(checks.documents[uri], params.position))
        if found is None:
            return None
        text = types.MarkupContent(types.MarkupKind.Markdown, found[0])
        return types.Hover(text, server.publisher(analysis).range(found[1]))

    async def defined(params: types.DefinitionParams) -> types.Location | None:
        found = await pointed(params)
        meaning = found[1].meaning if found is not None else None
        if found is None or meaning is None or meaning.span is None:
            return None
        return server.publisher(found[0]).location(meaning.span)

    async def referred(params: types.ReferenceParams) -> list[types.Location] | None:
        found = await pointed(params)
        if found is None or found[1].meaning is None:
            return None
        analysis, meaning = found[0], found[1].meaning
        assert analysis.program is not None
        publisher = server.publisher(analysis)
        spans = sorted(references(analysis.program, meaning))
        return [publisher.location(span) for span in spans
                if params.context.include_declaration or span != meaning.span]

    server.feature(types.TEXT_DOCUMENT_HOVER)(_guarded(server, hovered))
    server.feature(types.TEXT_DOCUMENT_DEFINITION)(_guarded(server, defined))
    server.feature(types.TEXT_DOCUMENT_REFERENCES)(_guarded(server, referred))


def _listings(server: Server) -> None:
    """What can be written at a place, and the whole of a text."""
    checks = server.checks

    async def completed(params: types.CompletionParams) -> types.CompletionList | None:
        document = checks.documents.get(params.text_document.uri)
        if document is None:
            return None
        point = server.point(document, params.position)
        found = await asyncio.to_thread(complete, document.path, checks.texts.copy(), point)
        items = [_item(number, each) for number, each in enumerate(found)]
        return types.CompletionList(False, items)

    async def listed(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol] | None:
        analysis = await checks.analysis(params.text_document.uri)
        if analysis is None or analysis.program is None:
            return None
        publisher = server.publisher(analysis)
        return [_symbol(publisher, each) for each in outline(analysis.program.main.tree)]

    async def formatted(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        document = checks.documents.get(params.text_document.uri)
        if document is None:
            return None
        texts = checks.texts.copy()
        try:
            source = texts.read(document.path, document.path.name)
            text = await asyncio.to_thread(format_source, source)
        except UserError:
            return None  # the diagnostics say why
        whole = Places(source, server.encoding).whole()
        return [types.TextEdit(range_of(whole), text)] if text != source.text else []

    options = types.CompletionOptions(trigger_characters=["."])
    server.feature(types.TEXT_DOCUMENT_COMPLETION, options)(_guarded(server, completed))
    server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)(_guarded(server, listed))
    server.feature(types.TEXT_DOCUMENT_FORMATTING)(_guarded(server, formatted))


def _item(number: int, each: Proposal) -> types.CompletionItem:
    document = types.MarkupContent(types.MarkupKind.Markdown, each.document)
    return types.CompletionItem(
        each.name, kind=_KINDS[each.kind], detail=each.detail or None,
        documentation=document if each.document else None, sort_text=f"{number:05}",
        insert_text=each.text or None)


def _symbol(publisher: Publisher, each: Entry) -> types.DocumentSymbol:
    inside = [_symbol(publisher, entry) for entry in each.inside]
    return types.DocumentSymbol(each.name, _SYMBOLS[each.kind], publisher.range(each.span),
                                publisher.range(each.at), children=inside)
