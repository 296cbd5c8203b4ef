"""The language server, over its protocol: a process that is asked what an editor asks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlc.frontend.elaborate.modules import LIBRARY
from tests.frontend.language_client import NET, TRAIN, Client

pytest.importorskip("pygls")

@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path)
    yield made
    made.kill()


# What is wrong


def test_an_error_is_told_at_its_place_and_goes_when_it_is_mended(client: Client) -> None:
    found = client.open(NET.replace("double(h) @ w", "double(x) @ w"))
    assert [(d["code"], d["source"], d["severity"]) for d in found] == [
        ("shape-mismatch", "dlc", 1)]
    assert client.written(found[0]["range"]) == "@"
    assert "784" in found[0]["message"]
    client.change(NET)
    assert client.diagnostics() == []
    assert client.leave() == 0
    assert client.logged == []


@pytest.mark.parametrize(("encoding", "column"), [("utf-16", 24), ("utf-8", 29), ("utf-32", 22)])
def test_columns_are_units_of_the_encoding(tmp_path: Path, encoding: str, column: int) -> None:
    client = Client(tmp_path, encodings=(encoding,))
    assert client.server["capabilities"]["positionEncoding"] == encoding
    text = '# 𝒳 é\nfn f(x: f32) -> f32 {\n    y = einsum("𝒳𝒴é", wrong)\n    return y\n}\n'
    (found,) = client.open(text)
    assert found["code"] == "unknown-name"
    assert found["range"]["start"] == {"line": 2, "character": column}
    assert found["range"]["end"] == {"line": 2, "character": column + 5}
    client.kill()


def test_all_errors_are_told_with_help_explanations_and_places(client: Client) -> None:
    found = client.open('''fn f(x: f32[3]) -> f32[3] = x + y
fn f(x: f32[3]) -> f32[3] = x
fn g(x: f32[3]) -> f32[3] = rellu(x)
''')
    by_code = {d["code"]: d for d in found}
    assert set(by_code) == {"unknown-name", "defined-twice"}
    assert len(found) == 3
    twice = by_code["defined-twice"]
    (place,) = twice["relatedInformation"]
    assert place["location"]["uri"] == client.uri
    assert place["location"]["range"]["start"] == {"line": 0, "character": 3}
    assert any("help: did you mean `relu`?" in d["message"] for d in found)
    file, _, line = twice["codeDescription"]["href"].removeprefix("file://").partition("#L")
    assert Path(file).read_text().split("\n")[int(line) - 1].startswith("## defined-twice:")
    assert twice["data"] == {"explain": "dlc explain defined-twice"}


def test_places_of_notes_are_in_the_message_where_an_editor_shows_no_others(tmp_path: Path) -> None:
    client = Client(tmp_path, related=False)
    (found,) = client.open("const A: int = 1\nconst A: int = 2\n")
    assert "relatedInformation" not in found
    assert "first at net.dl:1:7" in found["message"]
    client.kill()


def test_what_only_a_built_model_shows_is_told_as_dlc_check_does(client: Client) -> None:
    found = client.open(TRAIN.replace("step = fit", "step = fitt"))
    assert [d["code"] for d in found] == ["setting-function"]
    assert client.written(found[0]["range"]) == "fitt"


def test_imports_are_read_from_open_texts_and_their_errors_told_at_the_import(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "other.dl").write_text("fn one(x: f32) -> f32 = x\n")
    assert client.open('import "other.dl"\nfn two(x: f32) -> f32 = one(x) + more(x)\n')[0][
        "code"] == "unknown-name"
    other = (tmp_path / "other.dl").as_uri()
    assert client.open("fn one(x: f32) -> f32 = x\nfn more(x: f32) -> f32 = x\n", other) == []
    assert client.diagnostics() == []
    client.tell("textDocument/didChange", {
        "textDocument": {"uri": other, "version": 2},
        "contentChanges": [{"text": "fn one(x: f32) -> f32 = x\nfn more(x: f32) -> f32 = z\n"}]})
    (found,) = client.diagnostics()
    assert client.written(found["range"]) == 'import "other.dl"'
    assert found["relatedInformation"][0]["location"] == {"uri": other, "range": {
        "start": {"line": 1, "character": 25}, "end": {"line": 1, "character": 26}}}
    client.tell("textDocument/didClose", {"textDocument": {"uri": other}})
    assert [d["code"] for d in client.diagnostics()] == ["unknown-name"]  # the file on the disk
    assert client.registered == ["workspace/didChangeWatchedFiles"]
    (tmp_path / "other.dl").write_text("fn one(x: f32) -> f32 = x\nfn more(x: f32) -> f32 = x\n")
    client.tell("workspace/didChangeWatchedFiles", {"changes": [{"uri": other, "type": 2}]})
    assert client.diagnostics() == []


# What stands at a place


def hovered(client: Client, mark: str, ahead: int = 0) -> str:
    """The text that is shown at a place."""
    found = client.ask("textDocument/hover", client.at(mark, ahead))
    return "" if found is None else str(found["contents"]["value"])


def test_hover_tells_types_signatures_and_documentation(client: Client) -> None:
    assert client.open(NET) == []
    assert "h: f32[N, hidden]" in hovered(client, "h = relu")
    assert "h: f32[N, hidden]" in hovered(client, "double(h)", 7)
    assert "x: f32[N, 784]" in hovered(client, "first(x)", 6)
    assert "param w: f32[hidden, 10]" in hovered(client, "@ w", 2)
    assert "state seen: i32" in hovered(client, "seen += 1")
    assert "f32[N, 10]" in hovered(client, "@ w")
    double = hovered(client, "double(h)")
    assert "fn double(x: f32[*S]) -> f32[*S]" in double
    assert "Twice as much." in double
    assert "`f32[N, hidden]`" in double
    assert "2.0 * x" not in double
    dense = hovered(client, "nn.Dense", 3)
    assert "model Dense(inputs: int, outputs: int)" in dense
    assert "A product with a matrix" in dense
    assert "first = nn.Dense(784, hidden)" in hovered(client, "first(x)")
    assert "loss: f32" in hovered(client, "return loss", 8)
    assert "hyperbolic tangent" in hovered(client, "tanh(")
    assert "gradients and one step" in hovered(client, "minimize loss")
    assert "32 bits" in hovered(client, "f32[hidden, 10]")
    assert hovered(client, "# Twice", 3) == ""
    assert hovered(client, "One layer and a", 11) == ""  # no word of the language, in a text
    wide = client.ask("textDocument/hover", client.at("softmax_cross", 3))
    assert client.written(wide["range"]) == "softmax_cross_entropy"


def test_a_dim_for_any_number_of_dims_is_shown_as_it_is_declared(client: Client) -> None:
    text = "fn f(x: f32[*S, 3]) -> f32[*S, 3] {\n    y = x + 1.0\n    return y\n}\n"
    assert client.open(text) == []
    assert "y: f32[*S, 3]" in hovered(client, "y = x")


def test_hover_in_the_text_of_a_print(client: Client) -> None:
    text = 'fn f(x: f32[3]) -> f32[3] {\n    print("é {x * 2.0}!")\n    return x\n}\n'
    assert client.open(text) == []
    assert "x: f32[3]" in hovered(client, "{x * 2", 1)
    assert "x * 2.0: f32[3]" in hovered(client, "{x * 2", 3)
    assert hovered(client, "}!", 1) == ""


def defined(client: Client, mark: str, ahead: int = 0) -> tuple[str, dict[str, int]]:
    """The file and the place that a name leads to."""
    found = client.ask("textDocument/definition", client.at(mark, ahead))
    return found["uri"], found["range"]["start"]


def test_definitions_here_in_other_files_and_in_the_library(client: Client, tmp_path: Path) -> None:
    (tmp_path / "other.dl").write_text("\nfn one(x: f32) -> f32 = x\n")
    text = NET.replace("import nn", 'import nn\nimport "other.dl"').replace(
        "return loss", "return one(loss)")
    assert client.open(text) == []
    for mark, ahead, target in [
        ("double(h)", 0, "double(x"), ("first(x)", 0, "first = "), ("@ w", 2, "w: f32"),
        ("sgd(lr=lr)", 7, "lr: f32"), ("scores(x),", 0, "scores(x: "), ("(layer(h", 1, "layer in"),
        ("hidden, 10", 0, "hidden: int"), ("minimize loss", 10, "loss = "),
    ]:
        assert defined(client, mark, ahead) == (client.uri, client.at(target)["position"]), mark
    uri, place = defined(client, "nn.Dense", 4)
    library = LIBRARY / "nn.dl"
    assert uri == library.resolve().as_uri()
    line = library.read_text().split("\n")[place["line"]]
    assert line[place["character"] :].startswith("Dense(inputs: int")
    assert defined(client, "import nn", 8) == (uri, {"line": 0, "character": 0})
    assert defined(client, "relu(first")[0] == (LIBRARY / "prelude.dl").resolve().as_uri()
    assert defined(client, "one(loss)") == (
        (tmp_path / "other.dl").as_uri(), {"line": 1, "character": 3})


def test_references_of_a_local_name_stay_in_its_function(client: Client) -> None:
    assert client.open(NET) == []
    found = client.ask("textDocument/references", {
        **client.at("h = relu"), "context": {"includeDeclaration": True}})
    lines = [(r["range"]["start"]["line"], client.written(r["range"])) for r in found]
    assert lines == [(15, "h"), (17, "h"), (17, "h"), (19, "h")]
    found = client.ask("textDocument/references", {
        **client.at("scores(x:"), "context": {"includeDeclaration": False}})
    assert [r["range"]["start"]["line"] for r in found] == [23]


def test_the_outline(client: Client) -> None:
    assert client.open(TRAIN) == []
    found = client.ask("textDocument/documentSymbol", {"textDocument": {"uri": client.uri}})
    assert [each["name"] for each in found] == ["double", "Net", "train Net"]
    assert [each["name"] for each in found[1]["children"]] == [
        "first", "layers", "w", "seen", "scores", "fit"]
    assert client.written(found[1]["selectionRange"]) == "Net"


# What can be written


def proposed(client: Client, mark: str, ahead: int = 0) -> list[str]:
    """The names that are proposed at a place, in their order."""
    found = client.ask("textDocument/completion", client.at(mark, ahead))
    items = sorted(found["items"], key=lambda item: str(item["sortText"]))
    return [str(item["label"]) for item in items]


@pytest.mark.parametrize(("before", "typed", "first", "others", "never"), [
    ("first = nn.Dense(784, hidden)", "first = nn.", ["Identity"], ["Dense", "Conv2d"], ["relu"]),
    ("h = relu(first(x))", "h = first.", ["w"], ["b", "forward", "inputs"], ["relu", "fn"]),
    ("h = relu(first(x))", "h = layers[0].", ["w"], ["b", "forward"], ["relu"]),
    ("h = relu(first(x))", "h = x.", ["T"], ["shape"], ["relu"]),
    ("first = nn.Dense(784, hidden)", "first = nn.Dense(", ["inputs="], ["outputs=", "hidden"], []),
    ("sgd(lr=lr)", "sgd(lr=lr, ", ["momentum="], ["loss"], ["lr="]),
    ("return double(h) @ w", "return ", ["h", "x"], ["first", "w", "scores", "hidden", "N",
     "double", "nn", "relu", "tanh", "if", "f32", "pi"], ["layer", "loss", "lr"]),
    ("batch = 8", "", ["test"], ["batch", "length", "lr"], ["step", "epochs"]),
    ('data = "arrays"', 'data = "', ["arrays"], ["mnist"], ["relu"]),
    ("# Twice as much.", "# Twice nn.", [], [], ["Dense"]),
])
def test_completion(
    client: Client, before: str, typed: str, first: list[str], others: list[str], never: list[str]
) -> None:
    text = TRAIN.replace(before, f"{typed}§", 1)
    client.open(text.replace("§", ""))
    client.text = text
    place = client.at("§")
    client.text = text.replace("§", "")
    found = client.ask("textDocument/completion", place)
    names = [item["label"] for item in sorted(found["items"], key=lambda i: i["sortText"])]
    assert names[: len(first)] == first
    if never == ["step", "epochs"]:  # as settings; they are words of the language, too
        names = [i["label"] for i in found["items"] if i.get("insertText", "").endswith(" = ")]
    assert set(others) <= set(names)
    assert not set(never) & set(names)
    assert "." in client.server["capabilities"]["completionProvider"]["triggerCharacters"]


# The layout


def test_formatting_changes_the_layout_and_leaves_what_is_no_program(client: Client) -> None:
    question = {"textDocument": {"uri": client.uri}, "options": {"tabSize": 4,
                                                                  "insertSpaces": True}}
    client.open("fn f( x:f32 )->f32   =  x+1.0 # 𝒳")
    (edit,) = client.ask("textDocument/formatting", question)
    assert edit["newText"] == "fn f(x: f32) -> f32 = x + 1.0  # 𝒳\n"
    assert edit["range"] == {"start": {"line": 0, "character": 0},
                             "end": {"line": 0, "character": 34}}
    client.change(edit["newText"])
    assert client.ask("textDocument/formatting", question) == []
    client.change("fn f(")
    assert client.ask("textDocument/formatting", question) is None


# Whatever comes


def broken(text: str, chance: random.Random) -> str:
    """A text as somebody types it who has a cat on the keyboard."""
    at, end = sorted(chance.sample(range(len(text)), 2))
    garbage = chance.choice(["{", "(((", '"""', "\0", "𝒳", "\r", "\ufeff", "\ud800", "}" * 40])
    return chance.choice([text[:at] + garbage + text[at:], text[:at], text[:at] + text[end:]])


def test_two_hundred_changes_with_garbage_between_them(client: Client) -> None:
    chance = random.Random(7)
    client.open(TRAIN)
    methods = ["hover", "definition", "completion", "documentSymbol"]
    for turn in range(200):
        client.change(broken(TRAIN, chance))
        if turn % 20 == 0:
            line = {"line": chance.randrange(60), "character": chance.randrange(200)}
            client.ask(f"textDocument/{chance.choice(methods)}", {
                "textDocument": {"uri": client.uri}, "position": line})
    client.send(b"no JSON")
    client.tell("textDocument/didChange", {"textDocument": 3})
    client.tell("textDocument/didOpen", {})
    client.change(TRAIN)
    assert client.diagnostics() == []
    assert "x: f32[N, 784]" in hovered(client, "first(x)", 6)
    assert not [line for line in client.logged if "Traceback" in line]
    assert client.leave() == 0


SLOW = """fn f(x: f32[4]) -> f32[4] {
    y = x
    for i in range(200) {
        for j in range(100) {
            y = y * 2.0
        }
    }
    return y
}
"""


def test_a_slow_check_stops_neither_questions_nor_the_next_version(client: Client) -> None:
    document = {"uri": client.uri, "languageId": "dl", "version": 1, "text": SLOW}
    client.tell("textDocument/didOpen", {"textDocument": document})
    client.text, client.version = SLOW, 1
    assert "y" in proposed(client, "return ", 7)
    assert client.published == []
    client.change(NET)
    assert client.diagnostics() == []
    assert client.published == [(client.uri, 2)]  # the first version was given up


def test_questions_about_texts_that_are_not_open_have_no_answer(client: Client) -> None:
    nowhere: dict[str, Any] = {"textDocument": {"uri": "file:///nowhere.dl"},
                               "position": {"line": 3, "character": 1}}
    for method in ("hover", "definition", "completion"):
        assert client.ask(f"textDocument/{method}", nowhere) is None
    assert client.logged == []


def test_a_text_without_a_file_and_an_empty_one(client: Client) -> None:
    assert client.open("fn f(x: f32) -> f32 = x\n", "untitled:Untitled-1") == []
    (found,) = client.open("")
    assert found["code"] == "empty"


def test_an_editor_that_goes_without_a_word(client: Client) -> None:
    client.open(TRAIN)
    assert client.hang_up() == 1
