"""What lies in a run directory.

directory   A run directory: its lock, its files, how runs are found
frame_file  Files of zstd frames with a footer, each frame readable by itself
input_copy  `input`: the input's own rows, all columns, as they came
plan        `plan`: the chunks of a run, a frame each
reused      `reused`: which answers are those of earlier runs
settings    Settings and options of a run, and what differs between two runs
spool       `spool/`: each chunk's output as it came, in segments
"""
