"""The oracle: programs behave with our decorators as they do without them.

`programs/` holds programs in the style of real ones.  Each is run in a process and a folder of its
own: bare (`bare/pipedeco` is first on the path, whose decorators change nothing), and with pipedeco in
each mode of `harness.MODES`.  All that can be seen of a run from outside is compared with the bare run.

How to add a program
--------------------
1. Write `programs/NAME.py`, which is run by `python NAME.py`, or a folder `programs/NAME/` whose file
   `command` says how to run it, such as `TZ=Asia/Tokyo python -m shop.report --rows 3`.  A single file
   may say so too, in a line that begins with `# command: `.  Data files lie in the folder.
2. Let it print what it computes, and use `component`, `pipeline`, `value`, `as_completed` and `File` of pipedeco alone.  It must be
   the same in each run: no times, no process ids, no addresses.  Lines may come in any order, so that
   steps may write side by side.
3. `python -m tests.parity NAME` prints for each mode what differs and is NEW to the table of differences, and which
   of its rows are GONE; `--all` prints the known differences, too, and `--keep` leaves the folders.
   Without a name it goes through all programs.
4. A difference that is meant to stay gets a row in `differences.py`, with the sentence of README's Limits that
   tells it.  A row whose difference is gone fails the test, so that the table stays true.

What is compared
----------------
end (exit code), stdout and stderr (lines, in any order; warnings with file and line are among them),
traceback (types, texts, and frames with file, line and function; the two frames of ours which call
a pipeline's body are the only ones of ours that may be there), files (the tree below the working folder, and lines
of texts), temporary (files left in TMPDIR), processes (left at the end), steps (names, states and the
run's status on record) and logs (what each step wrote, as the record has it).  For steps and logs the
bare program is run once more, with `bare/pipedeco/witness.py` looking on.
"""
