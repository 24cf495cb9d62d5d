"""The command `pingdata-async`; it starts in `pingdata_async.__main__`.

account  Commands that ask the API a single question: datasources, limits, usage, enhance-one
base     What every command needs, at the least cost: exit codes, and messages on standard error
console  What is said of a run: to people, to pipes and to side files
enhance  The commands `enhance` and `plan`
execute  What all commands that work on a run have in common, and an open client
inspect  The command `inspect`: how an input is understood, before anything is sent
main     Runs a command, and turns whatever comes of it into one line and an exit code
options  Options that several commands share
runs     The commands `resume`, `retry` and `export`
sandbox  The command `sandbox`: the imitation of the API as a server
screen   The status line and tables on a terminal; loads rich
signals  Stops cleanly when a signal asks for it
status   The command `status`
"""
