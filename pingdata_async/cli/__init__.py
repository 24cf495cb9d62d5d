"""The command `pingdata-async`; it starts in `pingdata_async.__main__`.

account  Commands that ask the API a single question: datasources, limits, usage, enhance-one
compare  The commands that compare: diff (two runs), reconcile (a run and the account)
config   The configuration file with profiles, and the command `config`
console  What commands print: results, what happens in a run, side files
execute  Opens a client, works on a run and reports it; how to resume it
help     Help pages: options in panels, examples, exit codes
inspect  The command `inspect`
main     Runs a command; exit codes, messages, and a clean stop on a signal
metrics  Serves the metrics of a run to Prometheus
options  Options that several commands share
manual   The commands `completion` and `man`
report   The command `report`, and the option of that name
runs     The commands that work on a run: enhance, plan, resume, retry, export
sandbox  The command `sandbox`
screen   The display of a run, and tables, on a terminal; loads rich
status   The commands that look at runs: status, runs
"""
