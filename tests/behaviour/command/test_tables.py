"""Tables through the command: from pipes, to standard output, to disks that are full."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import openpyxl
import pyarrow as pa
import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, in_shell, run, sandbox
from tests.support.runs import enhancer, read_addresses
from tests.support.sweeps import sampled
from tests.support.table_forms import INPUTS, OUTPUTS, Table

__all__ = ["sandbox"]  # a fixture


def addresses() -> Table:
    """The 100 addresses."""
    rows = read_addresses()
    return Table(list(rows[0]), [pa.string()] * len(rows[0]), [list(row.values()) for row in rows])


@pytest.mark.parametrize(
    ("form", "words"),
    sampled(
        [
            ("tabs in utf-16", "cat {path} | pingdata-async enhance -"),
            ("xlsx", "pingdata-async enhance <(cat {path})"),
            ("parquet", "cat {path} | pingdata-async enhance -"),
            ("csv.gz", "pingdata-async enhance <(cat {path})"),
        ],
        2,
    ),
)
async def test_a_table_from_a_pipe(
    sandbox: SandboxServer, tmp_path: Path, form: str, words: str
) -> None:
    """Whatever it is, on standard input or as a pipe with a name."""
    path = await anyio.to_thread.run_sync(INPUTS[form].make, tmp_path, addresses())
    output = tmp_path / "out.csv"
    done = await in_shell(f"{words.format(path=path)} -o {output} -s PG -u {sandbox.url}")
    assert done.code == 0, done.err
    read = OUTPUTS["csv"].read(output.read_bytes())
    assert [row[:8] for row in read.rows] == addresses().rows


@pytest.fixture
async def run_dir(sandbox: SandboxServer, tmp_path: Path) -> Path:
    """That of a finished run."""
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="right") as client:
        await enhancer(client, sources=["PG", "PH"]).run(ADDRESSES, tmp_path / "o.jsonl")
    return tmp_path / "o.jsonl.run"


@pytest.mark.parametrize("form", sampled(["parquet", "csv", "xlsx"], 1))
async def test_a_table_on_standard_output(run_dir: Path, tmp_path: Path, form: str) -> None:
    """It is whole, in a pipe as in a file; and who stops reading it is no error."""
    export = f"pingdata-async export {run_dir} -o - --output-format {form}"
    output = tmp_path / f"piped.{form}"
    done = await in_shell(f"{export} | cat > {output}; exit ${{PIPESTATUS[0]}}")
    assert (done.code, done.err) == (0, "100 rows written.\n")
    rows = [row[:8] for row in OUTPUTS[form].read(output.read_bytes()).rows]
    nothing = None if form == "xlsx" else ""
    assert rows == [[cell or nothing for cell in row] for row in addresses().rows]
    done = await in_shell(f"{export} | head -c 4 | wc -c; exit ${{PIPESTATUS[0]}}")
    assert (done.code, done.out.strip()) == (0, "4")
    assert done.err in {"", "100 rows written.\n"}  # all of it may be in the pipe already


@pytest.mark.parametrize("ending", sampled(["parquet", "csv.gz", "xlsx"], 1))
async def test_a_table_and_a_full_disk(run_dir: Path, tmp_path: Path, ending: str) -> None:
    """One line, and neither the output nor a part of it is left."""
    before = sorted(tmp_path.iterdir())
    done = await run("export", run_dir, "-o", tmp_path / f"x.{ending}", limit="ulimit -f 16")
    said = f"Error: {tmp_path / f'x.{ending}'} cannot be written: File too large\n"
    assert (done.code, done.err) == (5, said)
    assert sorted(tmp_path.iterdir()) == before


async def test_what_cannot_be_read_is_shown_beforehand(tmp_path: Path) -> None:
    """What is no number is named; why a row cannot be sent stands last."""
    source = tmp_path / "in.csv"
    source.write_text("City;State;Yr Built;Stories\n;MA;;\nBoston;MA;1950s;2-3\n")
    done = await run("inspect", source)
    assert '1 value of "Yr Built" left out as unreadable: "1950s" (row 2)\n' in done.out
    assert "2 rows, 1 of which cannot be sent.\n  1 row (row 1): nothing to look up" in done.out
    source.write_text("City;State\n")
    assert (await run("inspect", source)).out.endswith("There are no rows.\n")


SOV = """\
Loc #,Street Address,City,ST,Zip,Yr Built,Remarks of the broker,State Name
1,600 Dexter Avenue in the very long and winding name of a street,Montgomery,AL,36130,1851,,AL
2,Main Street,Boston,MA,2134,1900-1910,a note,MA
3,,,,,,,
4,Elm Avenue,Salem,MA,01970,0,,MA
"""


async def test_inspect_fits_80_columns(tmp_path: Path, sandbox: SandboxServer) -> None:
    """A line a field, as in `plan`; then what is not used, not sent and left out, and why."""
    source = tmp_path / "sov.csv"
    source.write_text(SOV, encoding="utf-8")
    words = (source, "--map", "state=ST")
    out = (await run("inspect", *words)).out
    assert max(map(len, out.splitlines())) <= 80
    said = " ".join(out.split())
    fields = out[out.index("Columns sent:\n") : out.index("Columns not used:")]
    assert 'state                  <- "ST": AL | MA\n' in fields
    assert len(fields.splitlines()) == 7
    assert '"Remarks of the broker": the header means no field of the API' in said
    assert '"State Name": state is read from "ST"' in said
    assert '1 value of "Yr Built" left out as unreadable: "1900-1910" (row 2)' in said
    assert "4 rows, 1 of which cannot be sent. 1 row (row 3): nothing to look up" in said
    assert "2 rows with a street that has no house number, such as 'Main Street'." in said
    planned = (await run("plan", *words, "-s", "PG", "-u", sandbox.url)).out
    assert fields in planned
    assert "Columns not used: 'Remarks of the broker', 'State Name'.\n" in planned
    told = msgspec.json.decode((await run("inspect", *words, "--json")).out)
    assert told["unused_because"]["State Name"] == 'state is read from "ST"'
    assert [(each["rows"], each["row"]) for each in told["refused"]] == [(1, 2)]
    assert told["without_house_number"] == 2


async def test_words_for_nothing_are_not_sent_nor_charged(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Said before anything is sent; and they come back as they were."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    words = ("nan", "NULL", "N/A", "None", "TBD", "k.A.", "n\u00e9ant", "sin datos", "\u2014")
    rows = [f"{n},{word},{word},{word},{word}" for n, word in enumerate(words)]
    rows.append("9,1 Main St,unknown,MA,02134")
    source.write_text("\n".join(["id,address,city,state,zip", *rows, ""]), encoding="utf-8")
    summary = tmp_path / "summary.json"
    words_of = f"-o {output} -s PG -u {sandbox.url} --summary {summary}"
    done = await in_shell(f"pingdata-async enhance {source} {words_of}")
    assert done.code == 3, done.err
    assert '10 values of "city" say nothing, such as "nan" (row 1), "NULL", "N/A"\n' in done.err
    told = msgspec.json.decode(summary.read_bytes())
    assert (told["locations_charged"], told["reasons"]) == (1, {"invalid_input": 9})
    assert told["values_left_out"] == 0
    assert {(note["column"], note["values"]) for note in told["value_notes"]} == {
        ("address", 9), ("city", 10), ("state", 9), ("zip", 9),
    }  # fmt: skip
    read = OUTPUTS["csv"].read(output.read_bytes())
    assert [",".join(row[:5]) for row in read.rows] == rows


async def test_columns_with_commas_in_their_names(tmp_path: Path) -> None:
    """They can be asked for in quotes, with others beside them."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('"Street, No",City,"say ""hi"""\n1 Main St,Boston,x\n')
    settings = ["--map", "address_line_1=Street, No", "-s", "PG", "-e", "sandbox", "-o", output]
    columns = 'City, "Street, No","say ""hi""",enhance_status'
    done = await run("enhance", source, *settings, "--columns", columns)
    assert done.code == 0, done.err
    header = 'City,"Street, No","say ""hi""",enhance_status'
    assert output.read_text() == f"{header}\nBoston,1 Main St,x,ok\n"


async def test_without_the_extras(sandbox: SandboxServer, tmp_path: Path, home: Path) -> None:
    """Exit 2, what to install, no request, and nothing is left behind."""
    blocked = (
        "import sys; sys.modules |= {'pyarrow': None, 'python_calamine': None}; "
        "from pingdata_async.__main__ import main; main()"
    )
    plain = f"{shlex.quote(sys.executable)} -c {shlex.quote(blocked)}"
    workbook = home / "in.xlsx"
    openpyxl.Workbook().save(workbook)
    for source, ending, extra in (
        (ADDRESSES, "parquet", "parquet"),
        (workbook, "xlsx", "excel"),
    ):
        words = f"enhance {source} -o {tmp_path}/o.{ending} -s PG -u {sandbox.url}"
        done = await in_shell(f"{plain} {words}")
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert f'pip install "pingdata-async[{extra}]"' in done.err
        assert not sandbox.stats.requests
        assert [path.name for path in tmp_path.iterdir()] == ["home"]


async def test_hidden_rows_of_a_workbook(sandbox: SandboxServer, tmp_path: Path) -> None:
    """They are sent, and that is said; `--hidden-rows skip` leaves them out, unsent."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for cell in ("address", *(f"{number} Main St, Boston, MA" for number in range(1, 6))):
        sheet.append([cell])
    sheet.row_dimensions[3].hidden = sheet.row_dimensions[5].hidden = True
    book.save(tmp_path / "in.xlsx")
    words = ("enhance", tmp_path / "in.xlsx", "-s", "PG", "-u", sandbox.url)
    done = await run(*words, "-o", tmp_path / "all.jsonl")
    assert done.code == 0, done.err
    assert "2 hidden rows sent like the others; leave them out" in done.err
    assert len((tmp_path / "all.jsonl").read_bytes().splitlines()) == 5
    assert sandbox.stats.locations_accepted == 5
    done = await run(*words, "-o", tmp_path / "some.jsonl", "--hidden-rows", "skip")
    assert done.code == 0, done.err
    assert "2 hidden rows left out" in done.err
    assert len((tmp_path / "some.jsonl").read_bytes().splitlines()) == 3
    assert sandbox.stats.locations_accepted == 8


async def test_values_that_a_workbook_lacks(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Nothing is sent where they carry the address, unless `--allow-missing-values` is given."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Street Address", "City", "State", "TIV"])
    sheet.append(["1 Main St", "Boston", "MA", 5])
    sheet.append(['="2 "&"Oak Ave"', "Reno", "NV", 6])  # nothing has calculated it
    book.save(tmp_path / "in.xlsx")
    output = tmp_path / "out.jsonl"
    words = ("enhance", tmp_path / "in.xlsx", "-o", output, "-s", "PG", "-u", sandbox.url)
    done = await run(*words)
    assert (done.code, output.exists(), sandbox.stats.jobs_accepted) == (2, False, 0)
    assert '"Street Address" (1, first A3)' in done.err
    assert "--allow-missing-values" in done.err
    summary = tmp_path / "summary.json"
    done = await run(*words, "--allow-missing-values", "--summary", summary)
    assert done.code == 0, done.err
    assert "1 row sent without a part of the address" in done.err
    assert done.err.count('"Street Address" (1, first A3)') == 1
    assert 'of "Street Address" left out' not in done.err  # which would say it once more
    [told] = msgspec.json.decode(summary.read_bytes())["value_notes"]
    assert (told["column"], told["kind"], told["values"]) == ("Street Address", "no_value", 1)
    assert len(output.read_bytes().splitlines()) == sandbox.stats.locations_accepted == 2
