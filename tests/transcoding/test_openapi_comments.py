from __future__ import annotations

from pathlib import Path

import pytest
from flagledger.transcoding.openapi_comments import Comments
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

PROTO = """\
syntax = "proto3";
package library.v1;

// Lends books.
//
//  * to readers
service Library {
  // Lends one.
  // buf:lint:ignore RPC_RESPONSE_STANDARD_NAME
  rpc Lend(Book) returns (Book);
  rpc Silent(Book) returns (Book);
}

// A book. (-- Not for
// readers. --)
message Book {
  // Its title.
  string title = 1;
  string isbn = 2;  // Behind it.

  // How it is bound.
  oneof binding {
    // In paper.
    bool paper = 3;
    bool cloth = 4;
  }

  // A page.
  message Page {
    // Its number.
    int32 number = 1;
    // What it is.
    enum Kind {
      // Nothing.
      KIND_UNSPECIFIED = 0;
    }
  }
}

// A shelf.
enum Shelf {
  // Nowhere.
  SHELF_UNSPECIFIED = 0;
}
"""


@pytest.fixture(scope="module")
def comments(tmp_path_factory: pytest.TempPathFactory) -> Comments:
    """Return the comments of the file above."""
    folder = tmp_path_factory.mktemp("comments")
    (folder / "library.proto").write_text(PROTO)
    out = folder / "library.binpb"
    assert 0 == protoc.main(
        ["protoc", f"-I{folder}", f"--descriptor_set_out={out}", "--include_source_info", "library.proto"]
    )
    return Comments(FileDescriptorSet.FromString(out.read_bytes()))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Library", "Lends books.\n\n * to readers"),
        ("Library.Lend", "Lends one."),
        ("Library.Silent", ""),
        ("Book", "A book."),
        ("Book.title", "Its title."),
        ("Book.isbn", "Behind it."),
        ("Book.binding", "How it is bound."),
        ("Book.paper", "In paper."),
        ("Book.cloth", ""),
        ("Book.Page", "A page."),
        ("Book.Page.number", "Its number."),
        ("Book.Page.Kind", "What it is."),
        ("Book.Page.Kind.KIND_UNSPECIFIED", "Nothing."),
        ("Shelf", "A shelf."),
        ("Shelf.SHELF_UNSPECIFIED", "Nowhere."),
        ("Missing", ""),
    ],
)
def test_comments(comments: Comments, name: str, text: str) -> None:
    """Everything that can have a comment has its own, without what is meant for linters and for insiders."""
    assert text == comments.of(f"library.v1.{name}")


def test_no_files() -> None:
    """Where there are no files nothing has a comment."""
    assert "" == Comments().of("library.v1.Book")


def test_the_contract_has_them() -> None:
    """The descriptors that ship in the package have the comments of the contract."""
    contract = Path(__file__).parents[2] / "gen" / "flagledger" / "v1" / "contract.binpb"
    comments = Comments(FileDescriptorSet.FromString(contract.read_bytes()))

    assert comments.of("flagledger.v1.EvaluationService.RecordEvaluations").startswith("Records one batch.")
    assert "Not known." == comments.of("flagledger.v1.Origin.ORIGIN_UNSPECIFIED")
