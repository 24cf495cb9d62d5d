"""The HTTP client of the Ping.Data API.

account      Limits, usage and data sources of an account
client       PingDataClient: one method an endpoint, and its opening and closing
client_task  ClientTask: the task in which an open client's connections and streams live
config       Environments, tokens, urls and settings of a client; loads no HTTP library
connections  Connections: TLS, proxies, and how long an answer is waited for
job          Job: a bulk job by hand; read_output()
outputs      A job's output: the urls that may lead to it, the file it is written to
transport    HTTP by aiohttp: sessions, redirects, bodies, errors
wire         Requests to bytes, answers to models, error answers to exceptions
"""
