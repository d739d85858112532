"""The command that erases an identity."""

from __future__ import annotations

import sys
from http import HTTPStatus

import click

from flagledger.cli.faults import Fault
from flagledger.cli.options import Server, server_options
from flagledger.cli.reading import ReadingError, visible
from flagledger.cli.watch import print_json


@click.command("delete-identity")
@server_options
@click.argument("identifier", help="Exact identifier of the identity.")
@click.option("--yes", is_flag=True, help="Erase without asking first. Needed where there is no terminal to ask on.")
def delete_identity(*, server: Server, identifier: str, yes: bool) -> None:
    """
    Erase what was recorded of an identity.

    Needs a token of the role admin. It cannot be undone. What is sent for the identity later is recorded anew, and
    copies made before, backups and exports among them, are not reached. Where pseudonyms are kept, give the identity as it
    was sent: what is kept under its pseudonym goes with it.
    """
    if not identifier:
        raise click.UsageError("IDENTIFIER must not be empty.")
    if not yes:
        _confirm(server, identifier)
    try:
        answer = server.reader.delete_identity(identifier, server.query())
    except ReadingError as error:
        raise Fault(f"{error}{_what_helps(error)}") from None
    if server.as_json:
        print_json([answer])
        return
    erased = int(answer.get("deleted_evaluation_count", 0))
    if not erased:
        click.echo(f"Nothing was recorded of {visible(identifier)}.")
        return
    click.echo(f"Erased {erased:,} {'entry' if erased == 1 else 'entries'} of {visible(identifier)}.")


def _what_helps(error: ReadingError) -> str:
    if error.status != HTTPStatus.FORBIDDEN:
        return ""
    return '\nAdd [[tokens]] with role = "admin" to the environments file, or to flagledger.toml (docs/operating.md).'


def _confirm(server: Server, identifier: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: give --yes to erase without being asked.")
    where = (
        f"{server.reader.url}, environment {visible(server.environment)}" if server.environment else server.reader.url
    )
    question = f"Erase everything that was recorded of {visible(identifier)} at {where}? It cannot be undone."
    if not click.confirm(question, err=True):
        raise Fault("Nothing was erased.")
