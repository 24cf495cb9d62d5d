"""The command `pingdata-async`; it starts in `pingdata_async.__main__`.

account  Commands that ask the API a single question: datasources, limits, usage, enhance-one
base     What every command needs, at the least cost: exit codes, and messages on standard error
console  What commands print: results, the progress of a run, side files
enhance  The commands `enhance` and `plan`
execute  Opens a client, works on a run and reports it; how to resume it
inspect  The command `inspect`
main     Runs a command, and turns every error into one line and an exit code
options  Options that several commands share
runs     The commands `resume`, `retry` and `export`
sandbox  The command `sandbox`
screen   The progress bar and tables on a terminal; loads rich
signals  Stops cleanly on a signal
status   The command `status`
"""
