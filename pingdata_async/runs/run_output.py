"""The files that a run writes at its end, in whatever form was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from pingdata_async.bulk.tally import Tally
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.one_thread import OneThread
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswers
from pingdata_async.runs.kept_input import INPUT_NAME, KeptInput
from pingdata_async.runs.ledger import EarlyOutput
from pingdata_async.runs.lines_with_input import LinesWithInput
from pingdata_async.runs.output_files import STDOUT, BeforeMove, OutputFile, opened_output
from pingdata_async.runs.output_form import OutputForm
from pingdata_async.runs.output_writer import OutputWriter
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.table_output import TableOutput
from pingdata_async.tables.flat_table import impossible_columns, least_columns, undeclared_columns
from pingdata_async.tables.outputs import OutputFormat, check_format, load_package_for
from pingdata_async.tables.packing import packing
from pingdata_async.tables.shown_headers import shown_headers


class RunOutput(EarlyOutput, Protocol):
    """Takes the chunks of a run.

    Attributes:
        counts: How the rows ended that are written.
    """

    counts: Tally

    async def write_rest(
        self,
        plan: Plan,
        answers: Answers,
        *,
        on_rows: Callable[[int], None],
        finished_only: bool = False,
    ) -> None:
        """Write every chunk that is not written yet.

        Args:
            plan: What was planned, inside its `with` block.
            answers: What was answered.
            on_rows: Told of the number of rows after each chunk.
            finished_only: Leave out rows without an outcome, instead of refusing them.

        Raises:
            ConfigurationError: When the form cannot hold it.
            RunError: When it cannot be written, or a row has no outcome.
            BrokenPipeError: When nobody reads standard output any more.
        """
        ...


def check_run_output(form: OutputForm, plan: Plan) -> None:
    """Refuse an output that could not be written of a run, before anything is sent. Blocks.

    Raises:
        ConfigurationError: When a package is missing or broken, there are too many rows or columns,
            or a column is wanted that neither the input has nor an answer can bring.
        RunError: When the run has not kept the input's columns that the output needs.
    """
    check_format(form.kind, plan.rows)
    load_package_for(form.kind)
    if form.kind is not OutputFormat.JSONL or form.options.columns:
        headers = KeptInput(plan.path.with_name(INPUT_NAME)).headers
        check_format(form.kind, columns=least_columns(headers, form.options.columns))
        impossible = impossible_columns(headers, form.options.columns)
        if impossible:
            raise ConfigurationError(
                f"there is no column {shown_headers(impossible)} to be written; name others with "
                f"--columns. The input has: {shown_headers(headers)}"
            )


def undeclared(form: OutputForm, plan: Plan) -> list[str]:
    """Columns that are wanted and that no answer brings, as far as the API tells. Blocks.

    None where it does not tell of every source that is asked.
    """
    asked = plan.asked or dict.fromkeys(form.sources)
    told = {code.casefold() for code, fields in form.declared.items() if fields}
    if form.kind is OutputFormat.JSONL or not {code.casefold() for code in asked} <= told:
        return []
    headers = KeptInput(plan.path.with_name(INPUT_NAME)).headers
    return undeclared_columns(headers, form.declared, form.options.columns)


@contextlib.asynccontextmanager
async def opened_run_output(
    output: str | Path,
    form: OutputForm,
    *,
    on_note: Callable[[str], None],
    failures: Path | None = None,
    before_move: BeforeMove | None = None,
    scratch: Path | None = None,
) -> AsyncIterator[RunOutput]:
    """The files take their names when this is left without an error, whole and on the disk.

    Args:
        output: A path, or "-" for standard output.
        form: What is to be written.
        on_note: Told what the user should know of it, a sentence each.
        failures: Where the rows without an answer are written, as an input for another run;
            None for nowhere. Without such rows there is no such file afterwards.
        before_move: Told of each file's name and where it is until then, when it is whole.
        scratch: A folder for what is kept meanwhile, under no name; None for the system's own.

    Raises:
        RunError: When they cannot be opened or moved into place.
    """
    async with contextlib.AsyncExitStack() as stack:
        file = await stack.enter_async_context(opened_output(output, before_move=before_move))
        failed = None
        if failures is not None:
            opened = opened_output(failures, keep_empty=False, before_move=before_move)
            failed = await stack.enter_async_context(opened)
        carried = stack.enter_context(CarriedAnswers(scratch))
        thread = stack.enter_context(OneThread("pingdata_async export"))
        if form.kind is not OutputFormat.JSONL:
            yield TableOutput(file, failed, thread, form, carried=carried, on_note=on_note)
            return
        if form.options.columns:
            yield LinesWithInput(file, failed, thread, form, carried=carried, on_note=on_note)
            return
        packed = _PackedFile(file, form.compression) if form.compression else None
        # On standard output nothing can be taken back when the run stops.
        is_file = str(output) != STDOUT
        yield OutputWriter(packed or file, failed, thread, carried=carried, may_begin_early=is_file)
        if packed is not None:
            await thread.run(packed.end)


class _PackedFile:
    """A file whose content is compressed on its way."""

    def __init__(self, file: OutputFile, compression: str) -> None:
        self._file = file
        self._compression = compression
        self._stack = contextlib.ExitStack()
        self._packed: BinaryIO | None = None

    def write(self, pieces: Sequence[bytes | memoryview], /) -> None:
        self._begun().writelines(pieces)

    def empty(self) -> None:
        # Whatever the compressor still holds is forgotten with it.
        self._stack.pop_all()
        self._packed = None
        self._file.empty()

    def end(self) -> None:
        """Write what the compressor still holds; also of nothing, which is compressed as well."""
        self._begun()
        self._stack.close()

    def opened(self) -> contextlib.AbstractContextManager[BinaryIO]:
        return packing(self._begun(), "")

    def _begun(self) -> BinaryIO:
        if self._packed is None:
            file = self._stack.enter_context(self._file.opened())
            self._packed = self._stack.enter_context(packing(file, self._compression))
        return self._packed
